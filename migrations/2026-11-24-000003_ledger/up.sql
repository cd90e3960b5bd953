-- The ledger: append-only double entry (R-26). One credit account a customer, with one version and
-- its own books, so that no row is shared by two customers.

create table credit_accounts (
    tenant_id uuid not null,
    customer_id uuid not null,
    -- The version of the last transfer; versions are 1..n without a hole.
    version bigint not null default 0 check (version >= 0),
    last_recorded_at timestamptz not null,
    -- When the pool fills again; null where no refill is ahead (R-33a).
    refills_at timestamptz,
    -- Balances of the books, credits less debits. `available` is the sum over the grants.
    issued bigint not null default 0 check (issued <= 0),
    available bigint not null default 0 check (available >= 0),
    spent bigint not null default 0 check (spent >= 0),
    expired bigint not null default 0 check (expired >= 0),
    revoked bigint not null default 0 check (revoked >= 0),
    overage bigint not null default 0 check (overage <= 0),
    primary key (tenant_id, customer_id),
    foreign key (tenant_id, customer_id) references customers,
    constraint books_sum_to_zero check (issued + available + spent + expired + revoked + overage = 0)
);
call wall_in('credit_accounts', 'select, insert, update');

create table grants (
    tenant_id uuid not null,
    grant_id uuid not null,
    customer_id uuid not null,
    source text not null check (source in ('plan', 'upgrade', 'top_up', 'promotion', 'rollover', 'adjustment')),
    priority smallint not null,
    amount bigint not null check (amount > 0),
    spent bigint not null default 0 check (spent >= 0),
    expired bigint not null default 0 check (expired >= 0),
    revoked bigint not null default 0 check (revoked >= 0),
    -- R-24, by the database's own hand.
    remaining bigint not null generated always as (amount - spent - expired - revoked) stored check (remaining >= 0),
    effective_at timestamptz not null,
    expires_at timestamptz check (expires_at > effective_at),
    -- What it was issued for: one grant a purchase (I-20).
    purchase_id uuid not null,
    created_at timestamptz not null,
    primary key (tenant_id, grant_id),
    unique (tenant_id, purchase_id),
    foreign key (tenant_id, customer_id) references credit_accounts
);
create index grants_with_credits on grants (tenant_id, customer_id) where remaining > 0;
create index grants_by_expiry on grants (expires_at) where remaining > 0;
call wall_in('grants', 'select, insert, update');

create table transfers (
    tenant_id uuid not null,
    customer_id uuid not null,
    version bigint not null check (version > 0),
    debit text not null check (debit in ('issued', 'available', 'spent', 'expired', 'revoked', 'overage')),
    credit text not null check (credit in ('issued', 'available', 'spent', 'expired', 'revoked', 'overage')),
    grant_id uuid,
    credits bigint not null check (credits > 0),
    cause_kind text not null check (cause_kind in ('purchase', 'usage', 'expiry', 'cancel')),
    cause_id uuid not null,
    event_time timestamptz not null,
    recorded_at timestamptz not null,
    primary key (tenant_id, customer_id, version),
    foreign key (tenant_id, customer_id) references credit_accounts,
    check (debit <> credit),
    -- A grant is named exactly where its available book is a side.
    check ((grant_id is not null) = ('available' in (debit, credit)))
);
call wall_in('transfers', 'select, insert');

create function refuse_change() returns trigger
    language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'restrict_violation';
end
$$;
create trigger append_only_rows before update or delete on transfers
    for each row execute function refuse_change();
create trigger append_only_table before truncate on transfers
    for each statement execute function refuse_change();

-- Who decides about holds: Redis while it is up, else PostgreSQL. One row, which every server reads
-- again and again; whoever finds the store in charge away, back, or restarted, starts the next epoch.
create table hot_state (
    is_only boolean primary key default true check (is_only),
    epoch bigint not null check (epoch > 0),
    is_up boolean not null,
    -- The run of Redis that this epoch is about: after a restart it may be empty, or hold old balances.
    run_id text,
    changed_at timestamptz not null
);
insert into hot_state (epoch, is_up, changed_at) values (1, true, '-infinity');
grant select, update on hot_state to tollgate_app;

-- Holds (R-28): live in Redis, recorded here a moment after they are granted, or in the deciding
-- transaction while Redis is away. A hold that expired has no end here: its time says it.
create table holds (
    tenant_id uuid not null,
    customer_id uuid not null,
    hold_id text not null,
    credits bigint not null check (credits >= 0),
    -- Tells the request that made it from another one under the same id.
    fingerprint text not null,
    granted_at timestamptz not null,
    expires_at timestamptz not null check (expires_at > granted_at),
    -- A hold of an ended cycle no longer reduces what is available (R-19a).
    counts_until timestamptz not null check (counts_until <= expires_at),
    ended_as text check (ended_as in ('captured', 'released')),
    ended_at timestamptz,
    primary key (tenant_id, customer_id, hold_id),
    check ((ended_as is null) = (ended_at is null))
);
create index holds_live on holds (tenant_id, customer_id, counts_until) where ended_as is null;
create index holds_by_id on holds (tenant_id, hold_id);
call wall_in('holds', 'select, insert, update');
