-- Usage that was reported in a vendor's format and is not understood: never billed, and never dropped.
--
-- An entry is open as long as nothing was counted under its identity. So there is nothing to update here:
-- what a replay or a corrected event counts is in usage_identities, once, as all usage is.

create table usage_quarantined (
    tenant_id uuid not null,
    -- The event's: what is counted under it resolves the entry.
    identity uuid not null,
    -- Digest of what was sent, which tells a repeat from other content under the same id.
    content uuid not null,
    customer_id uuid not null,
    source text not null,
    event_id text not null,
    model text not null,
    usage_format text not null check (
        usage_format in ('tollgate', 'openai.chat', 'openai.responses', 'anthropic.messages', 'gemini')),
    -- As it was received: not jsonb, which would not give back the numbers as they were written.
    usage text not null check (usage <> ''),
    outcome text not null check (outcome in ('completed', 'aborted', 'failed')),
    usage_source text not null check (usage_source in ('provider', 'estimate')),
    -- Only where the client sent it.
    sent_time timestamptz,
    hold_id text,
    -- Why it was not understood when it was received: a stable code, and a sentence with field and numbers.
    reason text not null check (reason ~ '^[a-z-]+$'),
    message text not null,
    received_at timestamptz not null,
    -- The customer's own key that the request was made with.
    api_key text,
    primary key (tenant_id, identity),
    foreign key (tenant_id, customer_id) references credit_accounts
);
call wall_in('usage_quarantined', 'select, insert');
