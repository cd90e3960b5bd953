-- Outgoing webhooks: where a tenant wants its events sent, and how each sending went. All instants
-- here are real ones, a test clock's tenant's too: other people's servers live in real time.

create table webhook_endpoints (
    tenant_id uuid not null references tenants,
    endpoint_id uuid not null,
    url text not null check (char_length(url) between 1 and 2048),
    -- The 32 bytes of the signing secret, sealed with a key that is not in the database: 12 bytes
    -- of nonce, the ciphertext, 16 of tag. Whoever has a dump cannot sign.
    sealed_secret bytea not null check (octet_length(sealed_secret) = 60),
    created_at timestamptz not null,
    disabled_at timestamptz,
    -- One job at a time sends to an endpoint, and owns it until then.
    leased_until timestamptz,
    primary key (tenant_id, endpoint_id)
);
call wall_in('webhook_endpoints', 'select, insert, update');

-- One row an event and endpoint: it is planned once, whoever plans.
create table webhook_deliveries (
    tenant_id uuid not null,
    event_id uuid not null,
    endpoint_id uuid not null,
    state text not null check (state in ('waiting', 'delivered', 'dead')),
    attempts integer not null default 0 check (attempts >= 0),
    -- When the next attempt is due.
    due_at timestamptz,
    -- What the last attempt was answered, if it was.
    last_status smallint,
    last_error text,
    created_at timestamptz not null,
    settled_at timestamptz,
    primary key (tenant_id, event_id, endpoint_id),
    foreign key (tenant_id, event_id) references outbox,
    foreign key (tenant_id, endpoint_id) references webhook_endpoints,
    check ((state = 'waiting') = (settled_at is null)),
    check ((state = 'waiting') = (due_at is not null))
);
create index webhook_deliveries_due on webhook_deliveries (tenant_id, endpoint_id, due_at)
    where state = 'waiting';
call wall_in('webhook_deliveries', 'select, insert, update');

-- Deliveries are planned a tenant at a time.
drop index outbox_waiting;
create index outbox_waiting on outbox (tenant_id, event_id) where dispatched_at is null;
