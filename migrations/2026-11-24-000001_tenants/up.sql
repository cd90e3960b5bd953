-- Tenants, their API keys and their customers, and the two walls between tenants.
--
-- The first wall is the query API: every store function takes the tenant first. The second is row
-- level security: a transaction sees the rows of the tenant that it set, and no others. The
-- application connects as a member of tollgate_app and takes on that role, which owns nothing.

-- Where the role is there, as deploy/roles.sql makes it, none has to be made: then the role that
-- migrates needs no right to make roles.
do $$
begin
    if not exists (select from pg_roles where rolname = 'tollgate_app') then
        create role tollgate_app nologin;
    end if;
exception
    when duplicate_object or unique_violation then null;
end
$$;

do $$
begin
    execute format('grant tollgate_app to %I', current_user);
exception
    when duplicate_object or unique_violation then null;
end
$$;

grant usage on schema public to tollgate_app;

-- After a transaction, a setting made with set_config(.., true) is '' and not null: hence nullif.
create function tenant_is_visible(tenant uuid) returns boolean
    language sql stable parallel safe
    return tenant = nullif(current_setting('tollgate.tenant', true), '')::uuid
        or current_setting('tollgate.all_tenants', true) = 'on';

-- Puts a tenant's table behind the second wall and gives the application just these privileges.
create procedure wall_in(table_name text, privileges text)
    language plpgsql as $$
begin
    execute format('alter table %I enable row level security', table_name);
    execute format('alter table %I force row level security', table_name);
    execute format('create policy tenant_only on %I using (tenant_is_visible(tenant_id))', table_name);
    execute format('grant %s on %I to tollgate_app', privileges, table_name);
end
$$;

create table tenants (
    tenant_id uuid primary key,
    name text not null check (char_length(name) between 1 and 200),
    mode text not null check (mode in ('live', 'test')),
    -- IANA name; cuts calendar days and cycles only (R-4).
    zone text not null,
    policies jsonb not null default '{}',
    -- The test clock; live tenants have none (R-38).
    clock_at timestamptz,
    created_at timestamptz not null,
    check (mode = 'test' or clock_at is null)
);
call wall_in('tenants', 'select, insert, update');

create table api_keys (
    tenant_id uuid not null references tenants,
    api_key_id uuid not null,
    -- The public part of the key, by which it is found. Made by us at random, so unique over all
    -- tenants without telling any of them anything.
    prefix text not null unique,
    secret_sha256 bytea not null check (octet_length(secret_sha256) = 32),
    name text not null,
    scopes text[] not null check (scopes <@ array['read', 'usage', 'billing', 'admin']),
    created_at timestamptz not null,
    revoked_at timestamptz,
    primary key (tenant_id, api_key_id)
);
call wall_in('api_keys', 'select, insert, update');

create table customers (
    tenant_id uuid not null references tenants,
    customer_id uuid not null,
    external_id text not null check (external_id ~ '^[A-Za-z0-9._:-]{1,128}$'),
    name text check (char_length(name) between 1 and 200),
    created_at timestamptz not null,
    primary key (tenant_id, customer_id),
    unique (tenant_id, external_id)
);
call wall_in('customers', 'select, insert, update');

-- The answer to a request that changes subscriptions, payments or grants, kept for its retries
-- (R-35b). Written in the transaction of the effect; the answer is added when it is known.
create table idempotency_keys (
    tenant_id uuid not null references tenants,
    key text not null check (octet_length(key) between 1 and 255),
    -- SHA-256 over the method, the path and the canonical body.
    fingerprint bytea not null check (octet_length(fingerprint) = 32),
    -- What the request made: the retry of a request that died half way goes on from here.
    fact_id uuid not null,
    answer_status smallint,
    answer_body jsonb,
    created_at timestamptz not null,
    primary key (tenant_id, key),
    check ((answer_status is null) = (answer_body is null))
);
create index idempotency_keys_by_age on idempotency_keys (created_at);
call wall_in('idempotency_keys', 'select, insert, update, delete');
