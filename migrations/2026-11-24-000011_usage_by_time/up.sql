-- Usage by time: a partition a month, so that old usage is dropped and not deleted; and sums by the hour,
-- kept by the transaction that charges, so that a month is read without its events.
--
-- Stop the servers of the version before first: they write events without sums.

alter table usage_events rename to usage_events_before;
create table usage_events (like usage_events_before including defaults including constraints)
    partition by range (event_time);
alter table usage_events
    -- The customer's own key that the request was made with, where the gateway tells.
    add column api_key text,
    -- Of an event without a rate: the catalogue's latest version when one was last looked for.
    add column tried_version integer,
    add check ((tried_version is null) = (unrated_reason is null)),
    add foreign key (tenant_id, customer_id) references credit_accounts;
call wall_in('usage_events', 'select, insert, update');
-- The application reaches a partition through its table alone: walled in, and without any privilege.
create procedure wall_in_partition(table_name text)
    language plpgsql as $$
begin
    execute format('alter table %I enable row level security', table_name);
    execute format('alter table %I force row level security', table_name);
    execute format('create policy tenant_only on %I using (tenant_is_visible(tenant_id))', table_name);
end
$$;
-- Whatever lies in no month that was opened: the years of test clocks.
create table usage_events_other partition of usage_events default;
call wall_in_partition('usage_events_other');
do $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    insert into usage_events
    select *, null, case when unrated_reason is not null then 0 end from usage_events_before;
    perform set_config('tollgate.all_tenants', '', true);
end
$$;
drop table usage_events_before;
create index usage_events_unrated on usage_events (tenant_id, identity) where unrated_reason is not null;
create index usage_events_by_time on usage_events (tenant_id, customer_id, event_time);

-- Opens the partition of a month in UTC, named by its first day, and says whether it had to. What was in
-- `usage_events_other` of it moves. The application owns no table, so the owner does it for it.
create function open_usage_month(first_day date) returns boolean
    language plpgsql security definer set search_path = public as $$
declare
    name text := 'usage_events_' || to_char(first_day, 'YYYY_MM');
    starts timestamptz := first_day::timestamp at time zone 'UTC';
    ends timestamptz := (first_day + interval '1 month') at time zone 'UTC';
begin
    if first_day <> date_trunc('month', first_day) then
        raise exception '% is not the first day of a month', first_day;
    end if;
    perform pg_advisory_xact_lock(hashtext('open_usage_month'));
    if to_regclass(name) is not null then
        return false;
    end if;
    perform set_config('tollgate.all_tenants', 'on', true);
    execute format('create table %I (like usage_events including defaults including constraints)', name);
    call wall_in_partition(name);
    lock table usage_events_other in share row exclusive mode;
    execute format('with moved as (delete from usage_events_other
        where event_time >= %L and event_time < %L returning *) insert into %I select * from moved', starts, ends, name);
    execute format('alter table usage_events attach partition %I for values from (%L) to (%L)', name, starts, ends);
    perform set_config('tollgate.all_tenants', '', true);
    return true;
end
$$;
revoke all on function open_usage_month(date) from public;
grant execute on function open_usage_month(date) to tollgate_app;

-- What was charged, by the hour of the tenant's zone: one row is the sum of its events. Events that have no
-- rate yet are not in it.
create table usage_hours (
    tenant_id uuid not null,
    customer_id uuid not null,
    -- When the hour begins.
    hour timestamptz not null,
    model text not null,
    -- The upper bound of the context band; 0 where any length fits.
    band_prompt_tokens_max bigint not null check (band_prompt_tokens_max >= 0),
    -- '' where no key was named.
    api_key text not null,
    events bigint not null check (events >= 0),
    input_tokens bigint not null check (input_tokens >= 0),
    cache_read_tokens bigint not null check (cache_read_tokens >= 0),
    cache_write_tokens bigint not null check (cache_write_tokens >= 0),
    output_tokens bigint not null check (output_tokens >= 0),
    reasoning_tokens bigint not null check (reasoning_tokens between 0 and output_tokens),
    credits bigint not null check (credits >= 0),
    overage bigint not null check (overage between 0 and credits),
    primary key (tenant_id, customer_id, hour, model, band_prompt_tokens_max, api_key),
    foreign key (tenant_id, customer_id) references credit_accounts
) with (fillfactor = 70);
call wall_in('usage_hours', 'select, insert, update');

-- The events that are there already.
do $$
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    insert into usage_hours
    select e.tenant_id, e.customer_id,
        e.event_time - (e.event_time at time zone t.zone - date_trunc('hour', e.event_time at time zone t.zone)),
        e.model, coalesce(e.band_prompt_tokens_max, 0), '', count(*),
        sum(e.input_tokens), sum(e.cache_read_tokens), sum(e.cache_write_tokens), sum(e.output_tokens),
        sum(e.reasoning_tokens), sum(e.credits), sum(e.overage)
    from usage_events e join tenants t using (tenant_id)
    where e.unrated_reason is null
    group by 1, 2, 3, 4, 5;
    perform set_config('tollgate.all_tenants', '', true);
end
$$;

-- Usage of any age is reported by keys that may.
alter table api_keys drop constraint api_keys_scopes_check,
    add constraint api_keys_scopes_check check (scopes <@ array['read', 'usage', 'backfill', 'billing', 'admin']);
