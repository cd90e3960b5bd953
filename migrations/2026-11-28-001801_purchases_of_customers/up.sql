-- Purchases that need no subscription: a top-up, and the invoice of pay-as-you-go usage.
--
-- Stop the servers of the version before first: they store purchases without their customer.

alter table subscriptions add unique (tenant_id, subscription_id, customer_id);

alter table purchases
    alter column subscription_id drop not null,
    alter column cycle_number drop not null,
    alter column plan_code drop not null,
    alter column catalog_version drop not null,
    alter column expires_at drop not null,
    add column customer_id uuid,
    -- What a top-up is called in the catalogue version that it was bought from.
    add column top_up_code text,
    -- How many days of 24 hours its Credits last; null for ever.
    add column lasts_days integer check (lasts_days > 0),
    -- Bought by itself because the Credits ran out (R-30 `topup`).
    add column is_automatic boolean not null default false,
    drop constraint purchases_kind_check,
    add constraint purchases_kind_check
        check (kind in ('first_cycle', 'upgrade', 'renewal', 'top_up', 'usage'));

do $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    update purchases p set customer_id = s.customer_id from subscriptions s
    where s.tenant_id = p.tenant_id and s.subscription_id = p.subscription_id;
    perform set_config('tollgate.all_tenants', '', true);
end
$$;

alter table purchases
    alter column customer_id set not null,
    add foreign key (tenant_id, customer_id) references customers,
    -- A subscription's purchase is its customer's.
    add foreign key (tenant_id, subscription_id, customer_id)
        references subscriptions (tenant_id, subscription_id, customer_id),
    add constraint what_a_purchase_is_of check (case kind
        when 'top_up' then subscription_id is null and cycle_number is null and plan_code is null
            and top_up_code is not null and catalog_version is not null and credits > 0
            and expires_at is not null
        -- What was used is owed for ever.
        when 'usage' then subscription_id is null and cycle_number is null and plan_code is null
            and top_up_code is null and catalog_version is null and credits = 0 and expires_at is null
            and lasts_days is null and not is_automatic
        else subscription_id is not null and cycle_number is not null and plan_code is not null
            and top_up_code is null and catalog_version is not null and expires_at is not null
            and lasts_days is null and not is_automatic end);
-- One automatic top-up in flight a customer, whoever buys it.
create unique index purchases_automatic on purchases (tenant_id, customer_id)
    where is_automatic and status = 'pending';
create index purchases_by_customer on purchases (tenant_id, customer_id, purchase_id)
    where subscription_id is null;

alter table invoice_lines
    drop constraint invoice_lines_kind_check,
    add constraint invoice_lines_kind_check
        check (kind in ('plan', 'upgrade', 'discount', 'tax', 'top_up', 'usage'));
