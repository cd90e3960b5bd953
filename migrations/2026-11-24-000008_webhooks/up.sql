-- Outgoing webhooks: where a tenant wants its events sent, and how each sending went.

create table webhook_endpoints (
    tenant_id uuid not null references tenants,
    endpoint_id uuid not null,
    url text not null,
    -- The signing secret (Standard Webhooks), shown once when it is made.
    secret text not null,
    created_at timestamptz not null,
    disabled_at timestamptz,
    primary key (tenant_id, endpoint_id)
);
call wall_in('webhook_endpoints', 'select, insert, update');

create table webhook_deliveries (
    tenant_id uuid not null,
    event_id uuid not null,
    endpoint_id uuid not null,
    state text not null check (state in ('waiting', 'delivered', 'dead')),
    attempts integer not null default 0,
    last_status smallint,
    last_error text,
    created_at timestamptz not null,
    settled_at timestamptz,
    primary key (tenant_id, event_id, endpoint_id),
    foreign key (tenant_id, event_id) references outbox,
    foreign key (tenant_id, endpoint_id) references webhook_endpoints,
    check ((state = 'waiting') = (settled_at is null))
);
call wall_in('webhook_deliveries', 'select, insert, update');
