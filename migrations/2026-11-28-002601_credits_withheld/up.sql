-- What a cycle of a year did not grant of its pool, because money that had paid for it had gone back (R-22a, R-22b): a
-- refund within the cycle does not take that again. An expansion: the version before works on, and does not say.

alter table cycles
    add column credits_withheld bigint not null default 0 check (credits_withheld >= 0);

-- Of the cycles that run: what each payment of the year had lost when the cycle was opened, in parts.
do $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    update cycles c set credits_withheld = w.credits
    from (
        select s.tenant_id, s.subscription_id, s.cycle_number,
            sum(div(p.credits::numeric * b.back, y.amount_minor))::bigint as credits
        from subscriptions s
        join cycles k on k.tenant_id = s.tenant_id and k.subscription_id = s.subscription_id
            and k.number = s.cycle_number
        join purchases p on p.tenant_id = s.tenant_id and p.subscription_id = s.subscription_id
            and p.cycle_number >= s.annual_from and p.cycle_number < s.cycle_number and p.status = 'applied'
        join payments y on y.tenant_id = p.tenant_id and y.invoice_id = p.invoice_id
            and y.status = 'succeeded' and y.amount_minor > 0
        cross join lateral (
            select sum(r.amount_minor) as back from refunds r
            where r.tenant_id = y.tenant_id and r.payment_id = y.payment_id and r.status <> 'failed'
                and r.created_at <= k.opened_at) b
        where s.annual_from < s.cycle_number and b.back > 0
        group by 1, 2, 3) w
    where c.tenant_id = w.tenant_id and c.subscription_id = w.subscription_id and c.number = w.cycle_number;
    perform set_config('tollgate.all_tenants', '', true);
end
$$;
