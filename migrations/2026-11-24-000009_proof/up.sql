-- What lets the ledger prove itself: a hash chain over each account's transfers, transfers that name
-- what they reverse, accounts that are parked when something about them is wrong, and granted holds
-- packed by the flush.
--
-- Stop the servers of the version before first: it writes transfers without links, which are refused.

-- The canonical text of a transfer, whose SHA-256 is its link of the chain. The first link follows 32
-- zero bytes. `domain::chain` writes the same text; `tollgate verify` compares.
create function transfer_link(previous bytea, tenant uuid, customer uuid, version bigint, debit text, credit text,
    of_grant uuid, credits bigint, cause_kind text, cause_id uuid, event_time timestamptz, recorded_at timestamptz,
    reverses bigint) returns bytea
    language sql immutable parallel safe
    return sha256(convert_to(
        encode(previous, 'hex') || '|' || tenant || '|' || customer || '|' || version || '|' || debit || '|' || credit
        || '|' || coalesce(of_grant::text, '') || '|' || credits || '|' || cause_kind || '|' || cause_id
        || '|' || (extract(epoch from event_time) * 1000000)::bigint
        || '|' || (extract(epoch from recorded_at) * 1000000)::bigint
        || '|' || coalesce(reverses::text, ''), 'UTF8'));

alter table credit_accounts
    -- The last link of the chain.
    add column chain bytea not null default decode(repeat('00', 32), 'hex') check (octet_length(chain) = 32),
    -- A parked account spends nothing until an operator has looked at it (I-3 and others).
    add column parked_at timestamptz,
    add column parked_reason text,
    add constraint parked_for_a_reason check ((parked_at is null) = (parked_reason is null));

alter table transfers
    add column chain bytea check (octet_length(chain) = 32),
    -- The version of the earlier transfer that this one takes back, wholly or in part (I-8).
    add column reverses bigint check (reverses < version),
    add foreign key (tenant_id, customer_id, reverses) references transfers;

-- The transfers that are there already get their links, oldest first.
alter table transfers disable trigger append_only_rows;
do $$
declare
    each record;
    link bytea;
begin
    perform set_config('tollgate.all_tenants', 'on', true);
    for each in select * from transfers order by tenant_id, customer_id, version loop
        if each.version = 1 then
            link := decode(repeat('00', 32), 'hex');
        end if;
        link := transfer_link(link, each.tenant_id, each.customer_id, each.version, each.debit, each.credit,
            each.grant_id, each.credits, each.cause_kind, each.cause_id, each.event_time, each.recorded_at,
            each.reverses);
        update transfers set chain = link
        where tenant_id = each.tenant_id and customer_id = each.customer_id and version = each.version;
        update credit_accounts set chain = link
        where tenant_id = each.tenant_id and customer_id = each.customer_id;
    end loop;
    perform set_config('tollgate.all_tenants', '', true);
end
$$;
alter table transfers enable trigger append_only_rows;
alter table transfers alter column chain set not null;

-- The transfer that booked a grant's expiry: what a late charge takes back names it (R-32).
alter table grants add column expiry_version bigint;
alter table grants disable row level security;
update grants g set expiry_version = t.version from transfers t
where t.tenant_id = g.tenant_id and t.customer_id = g.customer_id and t.grant_id = g.grant_id
    and t.credit = 'expired' and t.reverses is null;
alter table grants enable row level security;
-- A late charge looks for the grants of its cycle, expired or spent: what is left of them, and when it ended.
create index grants_used_up on grants (tenant_id, customer_id, expires_at) where remaining = 0;

-- Usage of a parked account is kept, and charged when it is un-parked (R-29).
grant update on usage_events to tollgate_app;

-- What Redis has to know again of a customer's ended holds, after it has lost them.
create index holds_ended on holds (tenant_id, customer_id, expires_at) where ended_as is not null;

-- Holds that Redis granted, packed: one row a flush and tenant. A hold that is renewed is packed again;
-- the later one counts. `holds` has those that PostgreSQL granted, and every one that was ended.
create table hold_batches (
    tenant_id uuid not null references tenants,
    -- A UUID of version 7: in the order of the flushes of one server.
    batch_id uuid not null,
    -- The epoch of `hot_state` in which Redis granted them.
    epoch bigint not null,
    holds bytea not null,
    -- In the tenant's time: when the last of them runs out.
    expires_max timestamptz not null,
    primary key (tenant_id, batch_id)
);
create index hold_batches_by_expiry on hold_batches (tenant_id, expires_max);
call wall_in('hold_batches', 'select, insert, delete');
