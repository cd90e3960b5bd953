-- Each change of a subscription's status, with the event that led to it (R-9, I-23).
--
-- Stop the servers of the version before first: they change statuses and write no history.

create table subscription_statuses (
    tenant_id uuid not null,
    subscription_id uuid not null,
    -- 0 for the status that it was made with.
    position integer not null check (position >= 0),
    from_status text,
    to_status text not null,
    -- `created`, or `kept` for the status of before there was a history; else an event of the state machine.
    cause text not null,
    changed_at timestamptz not null,
    primary key (tenant_id, subscription_id, position),
    foreign key (tenant_id, subscription_id) references subscriptions,
    -- The allowed edges once more: what has ended has no way out.
    constraint an_edge_of_the_machine check (case
        when position = 0 then from_status is null
            and (cause = 'created' and to_status = 'incomplete' or cause = 'kept')
        else coalesce((from_status, cause, to_status) in (
            ('incomplete', 'first_paid', 'active'), ('incomplete', 'purchase_ended', 'expired'),
            ('incomplete', 'canceled_at_once', 'expired'),
            ('active', 'renewal_failed', 'past_due'), ('past_due', 'renewal_paid', 'active'),
            ('active', 'suspended', 'suspended'), ('past_due', 'suspended', 'suspended'),
            ('suspended', 'lifted', 'active'),
            ('active', 'ended_for_good', 'canceled'), ('active', 'canceled_at_once', 'canceled'),
            ('past_due', 'ended_for_good', 'canceled'), ('past_due', 'canceled_at_once', 'canceled'),
            ('suspended', 'ended_for_good', 'canceled'), ('suspended', 'canceled_at_once', 'canceled')), false) end)
);
call wall_in('subscription_statuses', 'select, insert');
create trigger append_only_rows before update or delete on subscription_statuses
    for each row execute function refuse_change();
create trigger append_only_table before truncate on subscription_statuses
    for each statement execute function refuse_change();

do $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    insert into subscription_statuses
        (tenant_id, subscription_id, position, from_status, to_status, cause, changed_at)
    select tenant_id, subscription_id, 0, null, status, 'kept', coalesce(ended_at, created_at) from subscriptions;
    perform set_config('tollgate.all_tenants', '', true);
end
$$;
