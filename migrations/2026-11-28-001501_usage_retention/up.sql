-- Usage that is old enough is dropped, a month at a time. An expansion: the version before works on as it did, as long as
-- no month is dropped.

-- From when on usage is kept: all events before it are gone, with what they were counted under. Their transfers
-- and the sums by the hour stay.
create table usage_retention (
    is_only boolean primary key default true check (is_only),
    kept_from timestamptz not null
);
insert into usage_retention (kept_from) values ('-infinity');
grant select on usage_retention to tollgate_app;

create function usage_kept_from() returns timestamptz
    language sql stable
    return (select kept_from from usage_retention);

-- The months, by their first days, that end at or before `kept_from` and in which usage lies.
create function usage_months_before(kept_from timestamptz) returns setof date
    language plpgsql security definer set search_path = public as $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    return query
        select distinct month from (
            select to_date(substring(inhrelid::regclass::text from '^usage_events_(\d{4}_\d{2})$'), 'YYYY_MM') as month
            from pg_inherits where inhparent = 'usage_events'::regclass
            union all
            select date_trunc('month', event_time at time zone 'UTC')::date from usage_events_other
            where event_time < kept_from) as months
        where (month + interval '1 month') at time zone 'UTC' <= kept_from
        order by month;
    perform set_config('tollgate.all_tenants', '', true);
end
$$;

-- Takes a month out of usage, and says whether it did: not while an event of it waits for its charge (R-31). What was
-- in it is forgotten by `forget_usage_month`.
create function close_usage_month(first_day date) returns boolean
    language plpgsql security definer set search_path = public as $$
declare
    name text := 'usage_events_' || to_char(first_day, 'YYYY_MM');
    ends timestamptz := (first_day + interval '1 month') at time zone 'UTC';
    waits boolean;
begin
    if ends > now() - interval '35 days' then
        raise exception '% is too recent to be dropped', first_day;
    end if;
    perform open_usage_month(first_day);
    -- Batches with usage of that age hold it shared until they have committed.
    lock table usage_events in access exclusive mode;
    perform set_config('tollgate.all_tenants', 'on', true);
    execute format('select exists (select from %I e where unrated_reason is not null and not exists (
        select from usage_voids v where v.tenant_id = e.tenant_id and v.identity = e.identity))', name) into waits;
    if not waits then
        execute format('alter table usage_events detach partition %I', name);
        execute format('alter table %I rename to %I', name, 'usage_gone_' || to_char(first_day, 'YYYY_MM'));
        update usage_retention set kept_from = greatest(kept_from, ends);
    end if;
    perform set_config('tollgate.all_tenants', '', true);
    return not waits;
end
$$;

-- Forgets at most `events_max` events of the months that were taken out, with their identities, and says how many that
-- were. A month of which nothing is left is dropped.
create function forget_usage(events_max bigint) returns bigint
    language plpgsql security definer set search_path = public as $$
declare
    name text;
    forgotten bigint := 0;
begin
    perform pg_advisory_xact_lock(hashtext('open_usage_month'));
    select min(relname) into name from pg_class where relname ~ '^usage_gone_\d{4}_\d{2}$' and relkind = 'r';
    if name is null then
        return 0;
    end if;
    perform set_config('tollgate.all_tenants', 'on', true);
    execute format('with gone as (
            delete from %I where ctid = any (array(select ctid from %1$I limit %s)) returning tenant_id, identity),
        identities as (delete from usage_identities i using gone
            where i.tenant_id = gone.tenant_id and i.identity = gone.identity)
        select count(*) from gone', name, events_max) into forgotten;
    if forgotten = 0 then
        execute format('drop table %I', name);
    end if;
    perform set_config('tollgate.all_tenants', '', true);
    return forgotten;
end
$$;

do $$
declare
    signature text;
begin
    foreach signature in array array['usage_months_before(timestamptz)', 'close_usage_month(date)', 'forget_usage(bigint)'] loop
        execute format('revoke all on function %s from public', signature);
        execute format('grant execute on function %s to tollgate_app', signature);
    end loop;
end
$$;
