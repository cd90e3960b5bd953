-- What operators give and take by hand: adjustments, promotions, revokes, and campaigns that give many
-- customers the same. Each has its row, which says who and why; the ledger names it as the cause.

-- The causes of before, and this one.
do $$
declare
    listed text := (select pg_get_constraintdef(oid) from pg_constraint
        where conrelid = 'transfers'::regclass and conname = 'transfers_cause_kind_check');
begin
    alter table transfers drop constraint transfers_cause_kind_check;
    execute 'alter table transfers add constraint transfers_cause_kind_check '
        || replace(listed, 'ARRAY[', 'ARRAY[''adjustment''::text, ');
end
$$;

-- What a tag gives, whoever runs a campaign with it: once to each customer.
create table campaign_tags (
    tenant_id uuid not null references tenants,
    tag text not null check (tag ~ '^[A-Za-z0-9._:-]{1,128}$'),
    credits bigint not null check (credits > 0),
    expires_at timestamptz,
    primary key (tenant_id, tag)
);
call wall_in('campaign_tags', 'select, insert');

-- A run of a campaign, for those who watch it.
create table campaigns (
    tenant_id uuid not null,
    campaign_id uuid not null,
    tag text not null,
    reason text not null check (char_length(reason) between 1 and 500),
    -- The API key of whoever asked for it.
    made_by uuid not null,
    -- Whom it is for: these, where they are named, of those that all conditions hold for.
    customers uuid[],
    plan_code text,
    status text,
    used_from timestamptz,
    used_to timestamptz check (used_to > used_from),
    state text not null check (state in ('queued', 'running', 'done')),
    -- Customers up to this one have been looked at.
    done_to uuid not null default '00000000-0000-0000-0000-000000000000',
    granted bigint not null default 0 check (granted >= 0),
    -- Those that the tag had been given to before.
    skipped bigint not null default 0 check (skipped >= 0),
    requested_at timestamptz not null,
    finished_at timestamptz,
    primary key (tenant_id, campaign_id),
    foreign key (tenant_id, tag) references campaign_tags,
    foreign key (tenant_id, made_by) references api_keys,
    check ((used_from is null) = (used_to is null)),
    check ((state = 'done') = (finished_at is not null))
);
call wall_in('campaigns', 'select, insert, update');

create table adjustments (
    tenant_id uuid not null,
    adjustment_id uuid not null,
    customer_id uuid not null,
    kind text not null check (kind in ('grant', 'revoke')),
    -- What it made or took from: a grant is made under the adjustment's own id.
    grant_id uuid not null,
    credits bigint not null check (credits > 0),
    reason text not null check (char_length(reason) between 1 and 500),
    made_by uuid not null,
    made_at timestamptz not null,
    campaign_tag text,
    primary key (tenant_id, adjustment_id),
    -- A tag gives a customer once, however many campaigns carry it.
    unique (tenant_id, campaign_tag, customer_id),
    foreign key (tenant_id, customer_id) references credit_accounts,
    foreign key (tenant_id, made_by) references api_keys,
    foreign key (tenant_id, campaign_tag) references campaign_tags,
    -- The grant is written in the same transaction, after it.
    foreign key (tenant_id, grant_id) references grants deferrable initially deferred,
    check ((kind = 'grant') = (grant_id = adjustment_id)),
    check (campaign_tag is null or kind = 'grant')
);
call wall_in('adjustments', 'select, insert');
