-- Invoices and the payments that try to settle them.

create table invoices (
    tenant_id uuid not null,
    invoice_id uuid not null,
    customer_id uuid not null,
    status text not null check (status in ('open', 'paid', 'void')),
    currency text not null check (currency in ('USD', 'CNY')),
    total_minor bigint not null check (total_minor >= 0),
    created_at timestamptz not null,
    paid_at timestamptz,
    primary key (tenant_id, invoice_id),
    foreign key (tenant_id, customer_id) references customers,
    check ((status = 'paid') = (paid_at is not null))
);
create index invoices_by_customer on invoices (tenant_id, customer_id, invoice_id);
call wall_in('invoices', 'select, insert, update');

-- Lines are written with their invoice and never change.
create table invoice_lines (
    tenant_id uuid not null,
    invoice_id uuid not null,
    position smallint not null check (position >= 0),
    kind text not null check (kind in ('plan', 'upgrade', 'discount')),
    description text not null,
    -- Negative for a discount.
    amount_minor bigint not null,
    primary key (tenant_id, invoice_id, position),
    foreign key (tenant_id, invoice_id) references invoices,
    check ((kind = 'discount') = (amount_minor < 0) or amount_minor = 0)
);
call wall_in('invoice_lines', 'select, insert');

-- One attempt to collect an invoice. Its id is the idempotency key towards the provider.
create table payments (
    tenant_id uuid not null,
    payment_id uuid not null,
    invoice_id uuid not null,
    status text not null check (status in ('created', 'pending', 'succeeded', 'failed', 'canceled', 'refunded')),
    amount_minor bigint not null check (amount_minor >= 0),
    currency text not null check (currency in ('USD', 'CNY')),
    method text not null,
    failure_code text,
    created_at timestamptz not null,
    succeeded_at timestamptz,
    primary key (tenant_id, payment_id),
    foreign key (tenant_id, invoice_id) references invoices,
    check ((status in ('succeeded', 'refunded')) = (succeeded_at is not null))
);
create index payments_by_invoice on payments (tenant_id, invoice_id, payment_id);
create index payments_uncollected on payments (tenant_id, payment_id) where status = 'created';
-- One payment in flight an invoice, one that counts.
create unique index payments_in_flight on payments (tenant_id, invoice_id) where status in ('created', 'pending');
create unique index payments_that_paid on payments (tenant_id, invoice_id) where status = 'succeeded';
call wall_in('payments', 'select, insert, update');
