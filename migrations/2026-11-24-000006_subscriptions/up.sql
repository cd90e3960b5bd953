-- Subscriptions, their cycles, and what was bought for them.

create table subscriptions (
    tenant_id uuid not null,
    subscription_id uuid not null,
    customer_id uuid not null,
    status text not null
        check (status in ('incomplete', 'active', 'past_due', 'suspended', 'canceled', 'expired')),
    plan_code text not null,
    -- The catalogue version it was bought from: it stays on it (R-5).
    catalog_version integer not null,
    -- Fixed for life (R-9).
    currency text not null check (currency in ('USD', 'CNY')),
    payment_method text not null,
    -- Off this cycle's price, in basis points.
    discount_bps smallint not null check (discount_bps between 0 and 10000),
    -- All cycle bounds come from these two (R-18); null until the first payment.
    anchor_at timestamptz,
    anchor_zone text,
    cycle_number integer check (cycle_number >= 0),
    cycle_start timestamptz,
    cycle_end timestamptz check (cycle_end > cycle_start),
    cancel_at_cycle_end boolean not null default false,
    -- A lower plan from the next cycle on (R-15).
    scheduled_plan_code text,
    created_at timestamptz not null,
    ended_at timestamptz,
    primary key (tenant_id, subscription_id),
    foreign key (tenant_id, customer_id) references customers,
    foreign key (tenant_id, catalog_version) references catalog_versions,
    check (status in ('incomplete', 'expired') or (anchor_at is not null and anchor_zone is not null
        and cycle_number is not null and cycle_start is not null and cycle_end is not null)),
    check ((status in ('canceled', 'expired')) = (ended_at is not null))
);
-- R-9 and R-12, whoever comes first.
create unique index subscriptions_live on subscriptions (tenant_id, customer_id)
    where status in ('incomplete', 'active', 'past_due', 'suspended');
create index subscriptions_by_customer on subscriptions (tenant_id, customer_id, subscription_id);
create index subscriptions_due on subscriptions (cycle_end) where status in ('active', 'past_due', 'suspended');
call wall_in('subscriptions', 'select, insert, update');

-- One row a cycle: its key is what makes a rollover once-only (R-23).
create table cycles (
    tenant_id uuid not null,
    subscription_id uuid not null,
    number integer not null check (number >= 0),
    state text not null check (state in ('open', 'closed', 'skipped')),
    starts_at timestamptz not null,
    ends_at timestamptz not null check (ends_at > starts_at),
    plan_code text not null,
    opened_at timestamptz not null,
    closed_at timestamptz,
    primary key (tenant_id, subscription_id, number),
    foreign key (tenant_id, subscription_id) references subscriptions,
    check ((state = 'open') = (closed_at is null))
);
create unique index cycles_open on cycles (tenant_id, subscription_id) where state = 'open';
call wall_in('cycles', 'select, insert, update');

-- Something bought. It takes effect once, when its invoice is paid.
create table purchases (
    tenant_id uuid not null,
    purchase_id uuid not null,
    kind text not null check (kind in ('first_cycle', 'upgrade', 'renewal')),
    subscription_id uuid not null,
    -- The cycle it was bought for.
    cycle_number integer not null check (cycle_number >= 0),
    plan_code text not null,
    catalog_version integer not null,
    credits bigint not null check (credits >= 0),
    invoice_id uuid not null,
    status text not null check (status in ('pending', 'applied', 'ended')),
    -- When its Credits were granted: with the payment, or before it where the tenant trusts its
    -- customers with a renewal (R-21, policy `renewal_grant`).
    granted_at timestamptz,
    -- When a pending one is given up, if the provider agrees (R-10a); a renewal waits for its cycle's end.
    expires_at timestamptz not null,
    created_at timestamptz not null,
    primary key (tenant_id, purchase_id),
    unique (tenant_id, invoice_id),
    foreign key (tenant_id, subscription_id) references subscriptions,
    foreign key (tenant_id, invoice_id) references invoices,
    check (status <> 'applied' or granted_at is not null)
);
create unique index purchases_pending_upgrade on purchases (tenant_id, subscription_id)
    where kind = 'upgrade' and status = 'pending';
create unique index purchases_of_a_cycle on purchases (tenant_id, subscription_id, cycle_number)
    where kind in ('first_cycle', 'renewal');
create index purchases_pending on purchases (tenant_id, subscription_id) where status = 'pending';
create index purchases_by_expiry on purchases (expires_at) where status = 'pending';
call wall_in('purchases', 'select, insert, update');

-- A locked upgrade price (R-14a).
create table quotes (
    tenant_id uuid not null,
    quote_id uuid not null,
    subscription_id uuid not null,
    -- What it was computed from; anything else than the present makes it outdated.
    cycle_number integer not null,
    from_plan_code text not null,
    to_plan_code text not null,
    catalog_version integer not null,
    amount_minor bigint not null check (amount_minor >= 0),
    currency text not null,
    credits bigint not null check (credits >= 0),
    created_at timestamptz not null,
    expires_at timestamptz not null,
    primary key (tenant_id, quote_id),
    foreign key (tenant_id, subscription_id) references subscriptions
);
call wall_in('quotes', 'select, insert');

-- The first-cycle promotion, once per customer and per card (R-11): reserved before charging,
-- released when the purchase expires.
create table promotion_uses (
    tenant_id uuid not null,
    customer_id uuid not null,
    promotion_code text not null,
    subscription_id uuid not null,
    fingerprint text,
    used_at timestamptz not null,
    primary key (tenant_id, customer_id),
    unique (tenant_id, fingerprint),
    foreign key (tenant_id, customer_id) references customers,
    foreign key (tenant_id, subscription_id) references subscriptions
);
call wall_in('promotion_uses', 'select, insert, delete');

-- A run of the rollover, for those who watch it.
create table rollovers (
    tenant_id uuid not null references tenants,
    rollover_id uuid not null,
    state text not null check (state in ('queued', 'running', 'done')),
    cycles_closed bigint not null default 0,
    cycles_opened bigint not null default 0,
    cycles_skipped bigint not null default 0,
    subscriptions_ended bigint not null default 0,
    credits_expired bigint not null default 0,
    requested_at timestamptz not null,
    finished_at timestamptz,
    primary key (tenant_id, rollover_id),
    check ((state = 'done') = (finished_at is not null))
);
call wall_in('rollovers', 'select, insert, update');
