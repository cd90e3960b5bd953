-- What has to happen later, and what has happened.

-- The job queue. A job is enqueued in the transaction that caused it, once per (kind, key).
create table jobs (
    job_id uuid primary key,
    kind text not null,
    key text not null,
    payload jsonb not null,
    run_at timestamptz not null,
    state text not null default 'queued' check (state in ('queued', 'done', 'parked')),
    attempts integer not null default 0,
    -- A worker owns the job until then; a worker that died loses it by time.
    leased_until timestamptz,
    last_error text,
    created_at timestamptz not null,
    finished_at timestamptz,
    unique (kind, key)
);
create index jobs_due on jobs (run_at) where state = 'queued';
grant select, insert, update, delete on jobs to tollgate_app;

-- Domain events, stored in the transaction that caused them (I-26).
create table outbox (
    tenant_id uuid not null references tenants,
    event_id uuid not null,
    kind text not null,
    subject text not null,
    payload jsonb not null,
    occurred_at timestamptz not null,
    -- When its deliveries were planned.
    dispatched_at timestamptz,
    primary key (tenant_id, event_id)
);
create index outbox_waiting on outbox (event_id) where dispatched_at is null;
call wall_in('outbox', 'select, insert, update');
