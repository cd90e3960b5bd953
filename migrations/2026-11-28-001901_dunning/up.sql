-- Dunning (R-22): a row a renewal whose payment has failed. An expansion: the version before does not know it, and ends
-- an unpaid subscription with its cycle.

create table dunnings (
    tenant_id uuid not null,
    -- The renewal.
    purchase_id uuid not null,
    subscription_id uuid not null,
    stage text not null check (stage in ('waiting', 'trying', 'recovered', 'lost')),
    -- Payments of the renewal that have failed.
    failed_tries integer not null check (failed_tries > 0),
    -- When it is tried again; null while a try is with the provider, and after the last one.
    next_try_at timestamptz,
    started_at timestamptz not null,
    ended_at timestamptz,
    primary key (tenant_id, purchase_id),
    foreign key (tenant_id, purchase_id) references purchases,
    foreign key (tenant_id, subscription_id) references subscriptions,
    check (next_try_at is null or stage = 'waiting'),
    check ((stage in ('recovered', 'lost')) = (ended_at is not null))
);
-- A subscription has one unpaid renewal at a time.
create unique index dunnings_open on dunnings (tenant_id, subscription_id) where stage in ('waiting', 'trying');
create index dunnings_due on dunnings (next_try_at) where next_try_at is not null;
call wall_in('dunnings', 'select, insert, update');

-- Renewals that are unpaid already: they can be paid until their cycle's end, as they could before.
do $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    insert into dunnings (tenant_id, purchase_id, subscription_id, stage, failed_tries, started_at)
    select p.tenant_id, p.purchase_id, p.subscription_id,
        case when bool_or(y.status in ('created', 'pending')) then 'trying' else 'waiting' end,
        count(*) filter (where y.status in ('failed', 'canceled')), min(y.created_at)
    from purchases p
    join payments y on y.tenant_id = p.tenant_id and y.invoice_id = p.invoice_id
    where p.kind = 'renewal' and p.status = 'pending'
    group by p.tenant_id, p.purchase_id, p.subscription_id
    having bool_or(y.status in ('failed', 'canceled'));
    perform set_config('tollgate.all_tenants', '', true);
end
$$;
