-- A cycle of a year has a grant for each purchase that has paid for a part of its pool, the year and its upgrades (R-22b), and
-- not one for all of them: what goes back of a payment takes from that payment's own grant, in each cycle (R-22a). No release
-- has known the column that goes.

create table cycle_grants (
    tenant_id uuid not null,
    subscription_id uuid not null,
    cycle_number integer not null check (cycle_number > 0),
    -- What has paid for it, in an earlier cycle.
    purchase_id uuid not null,
    grant_id uuid not null,
    primary key (tenant_id, subscription_id, cycle_number, purchase_id),
    unique (tenant_id, grant_id),
    foreign key (tenant_id, subscription_id, cycle_number) references cycles,
    foreign key (tenant_id, purchase_id) references purchases,
    foreign key (tenant_id, grant_id) references grants deferrable initially deferred
);
call wall_in('cycle_grants', 'select, insert');

-- The pools that are there are the years' own.
do $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    insert into cycle_grants (tenant_id, subscription_id, cycle_number, purchase_id, grant_id)
    select c.tenant_id, c.subscription_id, c.number, p.purchase_id, c.grant_id
    from cycles c
    cross join lateral (select p.purchase_id from purchases p
        where p.tenant_id = c.tenant_id and p.subscription_id = c.subscription_id
            and p.kind in ('first_cycle', 'renewal') and p.status = 'applied' and p.cycle_number < c.number
        order by p.cycle_number desc limit 1) p
    where c.grant_id is not null;
    perform set_config('tollgate.all_tenants', '', true);
end
$$;

alter table cycles drop column grant_id;
