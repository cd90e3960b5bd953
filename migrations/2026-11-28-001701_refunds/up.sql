-- Refunds: money of a payment that goes back, a row each (R-10a, R-14b, R-17, R-22a). A refund's id is the idempotency
-- key towards the provider.
--
-- The version before runs on with this: what it gives back as too late has no row here until it is replaced.

alter table payments
    -- What has gone back or is on its way back: all refunds that have not failed, added up.
    add column refunded_minor bigint not null default 0,
    add constraint refunds_within_the_payment check (refunded_minor between 0 and amount_minor);

create table refunds (
    tenant_id uuid not null,
    refund_id uuid not null,
    payment_id uuid not null,
    invoice_id uuid not null,
    amount_minor bigint not null check (amount_minor > 0),
    currency text not null check (currency in ('USD', 'CNY')),
    status text not null check (status in ('created', 'succeeded', 'failed')),
    origin text not null check (origin in ('too_late', 'operator', 'cancel', 'provider')),
    -- The operator's words.
    reason text check (reason <> ''),
    -- The provider's code, where it failed.
    failure_code text,
    -- What it took back of the Credits that the payment had paid for, and what of them was not there any more, all
    -- refunds of the payment so far together (R-22a).
    credits_revoked bigint not null default 0 check (credits_revoked >= 0),
    credits_short bigint not null default 0 check (credits_short >= 0),
    created_at timestamptz not null,
    settled_at timestamptz,
    primary key (tenant_id, refund_id),
    foreign key (tenant_id, payment_id) references payments,
    foreign key (tenant_id, invoice_id) references invoices,
    check ((status = 'created') = (settled_at is null)),
    check ((status = 'failed') = (failure_code is not null))
);
create index refunds_by_payment on refunds (tenant_id, payment_id, refund_id);
create index refunds_by_invoice on refunds (tenant_id, invoice_id, refund_id);
call wall_in('refunds', 'select, insert, update');

-- What was given back before gets its row, named as its payment, and its job finds it.
do $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    insert into refunds (tenant_id, refund_id, payment_id, invoice_id, amount_minor, currency, status, origin,
        created_at, settled_at)
    select p.tenant_id, p.payment_id, p.payment_id, p.invoice_id, p.amount_minor, p.currency,
        case when j.job_id is null then 'succeeded' else 'created' end, 'too_late',
        p.succeeded_at, case when j.job_id is null then p.succeeded_at end
    from payments p
    left join jobs j on j.kind = 'refund_payment' and j.state <> 'done'
        and j.key = 'pay_' || translate(p.payment_id::text, '-', '')
    where p.status = 'refunded' and p.amount_minor > 0;
    update payments set refunded_minor = amount_minor where status = 'refunded';
    update jobs set payload = payload || jsonb_build_object('refund', replace(payload ->> 'payment', 'pay_', 'ref_'))
    where kind = 'refund_payment';
    perform set_config('tollgate.all_tenants', '', true);
end
$$;

alter table transfers
    drop constraint transfers_cause_kind_check,
    add constraint transfers_cause_kind_check
        check (cause_kind in ('purchase', 'usage', 'expiry', 'cancel', 'void', 'refund', 'dispute'));
