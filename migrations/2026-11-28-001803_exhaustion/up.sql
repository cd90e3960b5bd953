-- What pays once the grants do not (R-30, R-30a): nobody, a top-up that buys itself, or money by the token.

alter table credit_accounts
    -- As set for the customer; the tenant's policy where null.
    add column exhaustion text check (exhaustion in ('absorb', 'payg', 'topup')),
    add column payg_currency text not null default 'USD' check (payg_currency in ('USD', 'CNY')),
    -- The most that a period's pay-as-you-go may come to; the tenant's policy where null.
    add column spend_cap_minor bigint check (spend_cap_minor >= 0),
    -- What is accrued and not invoiced yet, exact: 1 of the major unit is 1,000,000,000,000.
    add column payg_accrued_pico numeric(38, 0) not null default 0 check (payg_accrued_pico >= 0),
    -- When it is invoiced, unless a subscription's cycle ends before.
    add column payg_due_at timestamptz,
    -- With so many Credits left a top-up buys itself.
    add column top_up_at bigint check (top_up_at >= 0),
    -- None buys itself before: one has failed lately, or the period has had its number.
    add column top_up_blocked_until timestamptz,
    add constraint accrued_is_due check ((payg_accrued_pico > 0) = (payg_due_at is not null));
create index credit_accounts_payg_due on credit_accounts (payg_due_at) where payg_due_at is not null;
create index credit_accounts_topping_up on credit_accounts (tenant_id, customer_id) where exhaustion = 'topup';

-- The rest of a customer's settings: what is not needed to charge an event.
create table exhaustion_settings (
    tenant_id uuid not null,
    customer_id uuid not null,
    -- Pays top-ups and usage; the live subscription's method where null.
    payment_method text,
    top_up_code text,
    top_up_currency text check (top_up_currency in ('USD', 'CNY')),
    per_cycle_max integer check (per_cycle_max between 1 and 1000),
    cool_off_minutes integer check (cool_off_minutes between 0 and 44640),
    updated_at timestamptz not null,
    primary key (tenant_id, customer_id),
    foreign key (tenant_id, customer_id) references credit_accounts,
    check (num_nulls(top_up_code, top_up_currency, per_cycle_max, cool_off_minutes) in (0, 4))
);
call wall_in('exhaustion_settings', 'select, insert, update');

-- The money part of an event: written with its charge, for those events alone that have one.
create table usage_payg (
    tenant_id uuid not null,
    -- The event's.
    identity uuid not null,
    customer_id uuid not null,
    event_time timestamptz not null,
    model text not null,
    currency text not null check (currency in ('USD', 'CNY')),
    -- The part of the event's overage that is billed in money, or has no price yet; 0 of a model without a Credit rate.
    credits bigint not null check (credits >= 0),
    -- What it comes to: the sum of the lines.
    pico numeric(38, 0) not null check (pico >= 0),
    -- What the spend cap kept from being billed.
    past_cap_pico numeric(38, 0) not null check (past_cap_pico >= 0),
    -- [[kind, tokens, micro-units per 1M tokens, pico-units], ...]
    lines jsonb not null,
    -- Why the part has no price.
    unrated_reason text,
    recorded_at timestamptz not null,
    voided_at timestamptz,
    invoice_id uuid,
    primary key (tenant_id, identity),
    foreign key (tenant_id, customer_id) references credit_accounts,
    foreign key (tenant_id, invoice_id) references invoices,
    check (unrated_reason is null or pico = 0),
    -- What was invoiced is not taken back by a void.
    check (invoice_id is null or voided_at is null)
);
create index usage_payg_open on usage_payg (tenant_id, customer_id)
    where invoice_id is null and voided_at is null;
create index usage_payg_by_time on usage_payg (tenant_id, customer_id, event_time);
call wall_in('usage_payg', 'select, insert, update');
