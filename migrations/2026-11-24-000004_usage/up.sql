-- Usage: identity in one table, so that an event counts once whatever time it is sent with (R-31);
-- the event and its receipt in another.

create table usage_identities (
    tenant_id uuid not null,
    -- Digest of (tenant, source, id): 16 bytes, kept in a uuid because that is fixed-width.
    identity uuid not null,
    -- Digest of the content, which tells a duplicate from a conflict.
    content uuid not null,
    -- Where the event lies.
    customer_id uuid not null,
    event_time timestamptz not null,
    primary key (tenant_id, identity)
);
call wall_in('usage_identities', 'select, insert');

create table usage_events (
    tenant_id uuid not null,
    identity uuid not null,
    customer_id uuid not null,
    source text not null,
    event_id text not null,
    model text not null,
    input_tokens bigint not null check (input_tokens >= 0),
    cache_read_tokens bigint not null check (cache_read_tokens >= 0),
    cache_write_tokens bigint not null check (cache_write_tokens >= 0),
    output_tokens bigint not null check (output_tokens >= 0),
    reasoning_tokens bigint not null check (reasoning_tokens between 0 and output_tokens),
    outcome text not null check (outcome in ('completed', 'aborted', 'failed')),
    usage_source text not null check (usage_source in ('provider', 'estimate')),
    event_time timestamptz not null,
    recorded_at timestamptz not null,
    hold_id text,
    -- An event charged without a hold says why (R-29).
    hold text not null check (hold in ('captured', 'none')),
    hold_reason text,
    -- Null while the event is charged; else why it has no price yet (R-31).
    unrated_reason text,
    credits bigint not null check (credits >= 0),
    overage bigint not null check (overage between 0 and credits),
    catalog_version integer,
    band_prompt_tokens_max bigint,
    -- [[kind, milli-Credits per token], ...] of the kinds that were charged.
    rates jsonb not null,
    -- [[grant, Credits], ...] in the order drawn.
    draws jsonb not null,
    balance_after bigint not null,
    account_version bigint not null,
    foreign key (tenant_id, customer_id) references credit_accounts,
    check ((hold = 'none') = (hold_reason is not null)),
    check (unrated_reason is null or credits = 0),
    check ((unrated_reason is null) = (catalog_version is not null))
);
create index usage_events_unrated on usage_events (tenant_id, identity) where unrated_reason is not null;
create index usage_events_by_time on usage_events (tenant_id, customer_id, event_time);
call wall_in('usage_events', 'select, insert');
