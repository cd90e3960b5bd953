-- A tenant's account at the payment provider, and what that knows of the tenant's customers.

create table provider_accounts (
    tenant_id uuid primary key references tenants,
    provider text not null check (provider in ('stripe')),
    -- The provider's id of the account; events of any other one are turned away where it is set.
    account text check (account ~ '^acct_[A-Za-z0-9]{1,100}$'),
    is_live boolean not null,
    -- Sealed with a key that is not in the database, each for its place in this row: whoever has a dump
    -- can neither charge nor sign. 12 bytes of nonce, the ciphertext, 16 of tag.
    sealed_secret_key bytea not null check (octet_length(sealed_secret_key) between 37 and 1024),
    -- What incoming webhooks may be signed with: several while a secret is being rotated.
    sealed_signing_secrets bytea[] not null check (cardinality(sealed_signing_secrets) between 1 and 3),
    created_at timestamptz not null,
    changed_at timestamptz not null,
    -- Up to when, in real time, the provider's list of events was looked through.
    reread_until timestamptz not null
);
call wall_in('provider_accounts', 'select, insert, update');

-- The provider's customer of each of ours.
create table provider_customers (
    tenant_id uuid not null,
    customer_id uuid not null,
    provider_customer text not null check (char_length(provider_customer) between 1 and 255),
    -- What the provider says the customer pays with by default, as of the event that said so.
    default_method text,
    default_event_at timestamptz,
    default_event_id text,
    created_at timestamptz not null,
    -- Deleted there: the next payment makes another.
    deleted_at timestamptz,
    primary key (tenant_id, customer_id),
    unique (tenant_id, provider_customer),
    foreign key (tenant_id, customer_id) references customers,
    check ((default_event_at is null) = (default_event_id is null))
);
call wall_in('provider_customers', 'select, insert, update');

-- Payment methods that are saved for a customer: names, no card data. One that was detached is never
-- attached again, at the provider as here.
create table saved_methods (
    tenant_id uuid not null,
    method text not null check (char_length(method) between 1 and 255),
    customer_id uuid not null,
    fingerprint text,
    brand text,
    last4 text check (last4 ~ '^[0-9]{4}$'),
    saved_at timestamptz not null,
    detached_at timestamptz,
    primary key (tenant_id, method),
    foreign key (tenant_id, customer_id) references customers
);
create index saved_methods_by_customer on saved_methods (tenant_id, customer_id, method);
call wall_in('saved_methods', 'select, insert, update');
