-- What the payment provider has told: stored with its signature checked and before it is answered,
-- applied by a job. One row an event, however often and by whichever way it comes.

create table provider_events (
    tenant_id uuid not null references tenants,
    -- The provider's own; a signed body that is no event has the hash of itself.
    event_id text not null check (char_length(event_id) between 1 and 255),
    kind text not null check (char_length(kind) between 1 and 255),
    state text not null check (state in ('received', 'applied', 'ignored', 'rejected', 'parked')),
    -- Why it was ignored, rejected or parked.
    reason text check (char_length(reason) between 1 and 200),
    -- As it came in.
    body bytea not null,
    -- Whether a webhook brought it, or the look through the provider's list.
    came_by text not null check (came_by in ('webhook', 'reread')),
    -- The payment that it was about, once that is known.
    payment_id uuid,
    -- In the provider's time; none for what is no event.
    told_at timestamptz,
    received_at timestamptz not null,
    settled_at timestamptz,
    primary key (tenant_id, event_id),
    foreign key (tenant_id, payment_id) references payments,
    check ((state = 'received') = (settled_at is null)),
    check (state in ('received', 'applied') = (reason is null))
);
create index provider_events_by_time on provider_events (tenant_id, received_at, event_id);
call wall_in('provider_events', 'select, insert, update');
