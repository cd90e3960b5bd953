-- Disputes, and accounts whose subscription is suspended (R-9, R-22a).
--
-- An expansion: the version before works on, and authorizes on a suspended account until it is replaced.

-- A payment that the customer's bank wants back.
create table disputes (
    tenant_id uuid not null,
    dispute_id uuid not null,
    -- The provider's own id.
    provider_ref text not null check (char_length(provider_ref) between 1 and 255),
    payment_id uuid not null,
    invoice_id uuid not null,
    amount_minor bigint not null check (amount_minor >= 0),
    currency text not null check (currency in ('USD', 'CNY')),
    state text not null check (state in ('open', 'lost', 'won')),
    -- What losing it took of the Credits that the payment had paid for.
    credits_revoked bigint not null default 0 check (credits_revoked >= 0),
    opened_at timestamptz not null,
    closed_at timestamptz,
    primary key (tenant_id, dispute_id),
    unique (tenant_id, provider_ref),
    foreign key (tenant_id, payment_id) references payments,
    foreign key (tenant_id, invoice_id) references invoices,
    check ((state = 'open') = (closed_at is null)),
    check (state <> 'open' or credits_revoked = 0)
);
create index disputes_by_payment on disputes (tenant_id, payment_id, dispute_id);
create index disputes_by_invoice on disputes (tenant_id, invoice_id, dispute_id);
call wall_in('disputes', 'select, insert, update');

-- Authorizes nothing while its customer's subscription is suspended; its usage is recorded and charged.
alter table credit_accounts add column suspended_at timestamptz;
