//! I-12 to I-17, as far as a query shows them: events, their identities and charges, expiry.

use super::Check;

/// One event an identity, and one identity an event.
pub(crate) const I12_IDENTITIES: Check = Check::new(
    12,
    "identities",
    "with events as (
         select identity, customer_id, event_time, count(*) as times, min(event_id) as event_id,
             min(source) as source
         from usage_events
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2)
         group by identity, customer_id, event_time)
     select coalesce(e.customer_id, i.customer_id) as customer_id,
         case when e.identity is null then 'usage_identities' else 'usage_events' end as in_table,
         coalesce('event ' || e.event_id || ' of ' || e.source || ' (' || e.identity || ')',
             'identity ' || i.identity) as row_key,
         coalesce(e.times, 0) || ' events, ' || case when i.identity is null then 'no identity'
             else 'one identity' end as found,
         'one event and one identity' as expected
     from events e
     full join (select * from usage_identities
             where tenant_id = $1 and ($2::uuid is null or customer_id = $2)) i
         on i.identity = e.identity and i.customer_id = e.customer_id and i.event_time = e.event_time
     where i.identity is null or e.times > 1 or (e.identity is null and i.event_time >= usage_kept_from())",
);

/// An event has no more effect than its cost.
pub(crate) const I12_EFFECTS: Check = Check::new(
    12,
    "effects",
    "select customer_id, 'transfers' as in_table,
         'version ' || max(version) || ', event ' || max(event_id) || ' of ' || max(source) as row_key,
         'transfers of ' || sum(moved) as found, sum(cost) || ' Credits, once' as expected
     from (
         select customer_id, identity, event_id, source, credits as cost, 0 as moved, null as version
         from usage_events
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2)
         union all
         select customer_id, cause_id, null, null, 0, credits, version from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2)
             and cause_kind = 'usage' and credit = 'spent') as charged
     group by customer_id, identity
     having sum(cost) < sum(moved) and count(event_id) > 0",
);

/// Nothing vanishes: what events cost is what was spent, with the same part as overage, and each
/// receipt says which grants paid.
pub(crate) const I13_SUMS: Check = Check::new(
    13,
    "sums",
    "with costs as (
         select customer_id, sum(credits) as spent, sum(overage) as overage from usage_events
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) group by customer_id),
     charges as (
         select customer_id, sum(credits) filter (where credit = 'spent') as spent,
             sum(credits) filter (where debit = 'overage') as overage
         from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) and cause_kind = 'usage'
             and event_time >= usage_kept_from()
         group by customer_id)
     select coalesce(c.customer_id, t.customer_id) as customer_id, 'transfers' as in_table,
         'all ' || book.name as row_key, coalesce(book.charged, 0)::text as found,
         coalesce(book.cost, 0) || ', the sum of the events' as expected
     from costs c
     full join charges t on t.customer_id = c.customer_id
     cross join lateral (values ('spent', t.spent, c.spent), ('overage', t.overage, c.overage))
         as book (name, charged, cost)
     where coalesce(book.charged, 0) <> coalesce(book.cost, 0)",
);

pub(crate) const I13_RECEIPTS: Check = Check::new(
    13,
    "receipts",
    "with charged as (
         select customer_id, cause_id, max(version) as version,
             coalesce(sum(credits) filter (where debit = 'overage'), 0) as overage,
             coalesce(jsonb_agg(jsonb_build_array('gra_' || translate(grant_id::text, '-', ''), credits)
                 order by version) filter (where grant_id is not null), '[]') as draws
         from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2)
             and cause_kind = 'usage' and credit = 'spent'
         group by customer_id, cause_id)
     select e.customer_id, 'usage_events' as in_table,
         'event ' || e.event_id || ' of ' || e.source || ' (' || e.identity || ')' as row_key,
         'draws ' || e.draws::text || ' and overage ' || e.overage || ' until version ' || e.account_version as found,
         'draws ' || c.draws::text || ' and overage ' || c.overage || ' until version ' || c.version as expected
     from usage_events e
     join charged c on c.customer_id = e.customer_id and c.cause_id = e.identity
     where e.tenant_id = $1 and ($2::uuid is null or e.customer_id = $2)
         and (e.draws, e.overage, e.account_version) is distinct from (c.draws, c.overage, c.version)",
);

/// The sums by the hour are those of the events that were not voided; where all were, a sum of nothing may be left. What a local hour has run is taken off the instant: where clocks
/// are put back, two hours have the same local name.
pub(crate) const I13_HOURS: Check = Check::new(
    13,
    "hours",
    "with summed as (
         select e.customer_id, e.event_time - (e.event_time at time zone t.zone
                 - date_trunc('hour', e.event_time at time zone t.zone)) as hour, p.model, p.band,
             coalesce(e.api_key, '') as api_key,
             array[sum(p.events), sum(p.input_tokens), sum(p.cache_read_tokens), sum(p.cache_write_tokens),
                 sum(p.output_tokens), sum(p.reasoning_tokens), sum(p.credits), sum(p.overage)] as sums
         from usage_events e join tenants t on t.tenant_id = e.tenant_id
         -- An event of one call, or each call of several: the first counts as the event.
         cross join lateral (
             select e.model, coalesce(e.band_prompt_tokens_max, 0) as band, 1 as events, e.input_tokens,
                 e.cache_read_tokens, e.cache_write_tokens, e.output_tokens, e.reasoning_tokens, e.credits, e.overage
             where e.calls is null
             union all
             select coalesce(c.call ->> 0, e.model), coalesce((c.call ->> 4)::bigint, 0),
                 case when c.place = 1 then 1 else 0 end, (c.call -> 1 ->> 'input')::bigint,
                 (c.call -> 1 ->> 'cache_read')::bigint, (c.call -> 1 ->> 'cache_write')::bigint,
                 (c.call -> 1 ->> 'output')::bigint, (c.call -> 1 ->> 'reasoning')::bigint,
                 (c.call ->> 2)::bigint, (c.call ->> 3)::bigint
             from jsonb_array_elements(e.calls) with ordinality as c (call, place)) p
         where e.tenant_id = $1 and ($2::uuid is null or e.customer_id = $2) and e.unrated_reason is null
             and not exists (select from usage_voids v where v.tenant_id = $1 and v.identity = e.identity)
         group by 1, 2, 3, 4, 5),
     stored as (
         select customer_id, hour, model, band_prompt_tokens_max as band, api_key,
             array[events, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
                 credits, overage]::numeric[] as sums
         from usage_hours
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2))
     select coalesce(e.customer_id, h.customer_id) as customer_id, 'usage_hours' as in_table,
         coalesce(e.hour, h.hour) || ' ' || coalesce(e.model, h.model) as row_key,
         coalesce(h.sums::text, 'nothing') as found, coalesce(e.sums::text, 'nothing') || ', the sums of the events' as expected
     from summed e
     full join stored h using (customer_id, hour, model, band, api_key)
     where coalesce(e.sums, array[0, 0, 0, 0, 0, 0, 0, 0]) is distinct from h.sums
         -- Of an hour in which the dropped months end a part is gone.
         and coalesce(e.hour, h.hour) >= usage_kept_from()",
);

/// What an account has accrued is what its events' money parts come to that are neither invoiced nor voided; a part is the
/// sum of its lines, and of no more Credits than no grant paid for.
pub(crate) const I13_MONEY: Check = Check::new(
    13,
    "money parts",
    "with open as (
         select customer_id, sum(pico) as pico from usage_payg
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) and invoice_id is null
             and voided_at is null
         group by customer_id)
     select a.customer_id, 'credit_accounts' as in_table, 'payg_accrued_pico' as row_key,
         a.payg_accrued_pico::text as found, coalesce(o.pico, 0) || ', the sum of the open money parts' as expected
     from credit_accounts a
     left join open o on o.customer_id = a.customer_id
     where a.tenant_id = $1 and ($2::uuid is null or a.customer_id = $2)
         and a.payg_accrued_pico <> coalesce(o.pico, 0)
     union all
     select p.customer_id, 'usage_payg', 'event ' || p.identity,
         p.credits || ' Credits, ' || p.pico || ' in ' || p.lines::text,
         'the sum of the lines, and of at most ' || coalesce(e.overage::text, 'no event') || ' Credits'
     from usage_payg p
     left join usage_events e on e.tenant_id = $1 and e.customer_id = p.customer_id
         and e.event_time = p.event_time and e.identity = p.identity and e.unrated_reason is null
     where p.tenant_id = $1 and ($2::uuid is null or p.customer_id = $2) and p.event_time >= usage_kept_from()
         and (p.pico <> (select coalesce(sum((l.line ->> 3)::numeric), 0)
                 from jsonb_array_elements(p.lines) as l (line))
             or p.credits > coalesce(e.overage, -1)
             or (p.voided_at is not null) > exists (select from usage_voids v
                 where v.tenant_id = $1 and v.identity = p.identity))",
);

/// An invoice of usage has a line for each model and kind: what its events came to, rounded half to even once.
pub(crate) const I13_MONEY_INVOICES: Check = Check::new(
    13,
    "invoiced usage",
    "with parts as (
         select p.customer_id, p.invoice_id, p.model, l.line ->> 0 as kind, sum((l.line ->> 3)::numeric) as pico
         from usage_payg p cross join lateral jsonb_array_elements(p.lines) as l (line)
         where p.tenant_id = $1 and ($2::uuid is null or p.customer_id = $2) and p.invoice_id is not null
         group by 1, 2, 3, 4),
     due as (
         select customer_id, invoice_id, count(*) as lines,
             sum(div(pico, 10000000000) + case when 2 * mod(pico, 10000000000) > 10000000000
                 or 2 * mod(pico, 10000000000) = 10000000000 and mod(div(pico, 10000000000), 2) = 1
                 then 1 else 0 end) as minor
         from parts group by 1, 2),
     billed as (
         select i.customer_id, l.invoice_id, count(*) as lines, sum(l.amount_minor) as minor
         from invoice_lines l
         join invoices i on i.tenant_id = l.tenant_id and i.invoice_id = l.invoice_id
         where l.tenant_id = $1 and ($2::uuid is null or i.customer_id = $2) and l.kind = 'usage'
         group by 1, 2)
     select coalesce(b.customer_id, d.customer_id) as customer_id, 'invoice_lines' as in_table,
         'inv_' || translate(coalesce(b.invoice_id, d.invoice_id)::text, '-', '') as row_key,
         coalesce(b.lines, 0) || ' lines of ' || coalesce(b.minor, 0) as found,
         coalesce(d.lines, 0) || ' of ' || coalesce(d.minor, 0) as expected
     from due d full join billed b on b.invoice_id = d.invoice_id
     where (coalesce(b.lines, 0), coalesce(b.minor, 0)) <> (coalesce(d.lines, 0), coalesce(d.minor, 0))",
);

/// Never before the expiry, and once a grant.
pub(crate) const I17_EXPIRIES: Check = Check::new(
    17,
    "expiries",
    "with expiries as (
         select customer_id, grant_id, version, recorded_at, credits,
             count(*) over (partition by customer_id, grant_id) as times
         from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) and cause_kind = 'expiry')
     select x.customer_id, 'transfers' as in_table, 'version ' || x.version as row_key,
         x.times || ' expiries, this one recorded at ' || x.recorded_at as found,
         'one expiry, from ' || coalesce(g.expires_at::text, 'never') || ' on' as expected
     from expiries x
     join grants g on g.tenant_id = $1 and g.grant_id = x.grant_id
     where x.times > 1 or g.expires_at is null or x.recorded_at < g.expires_at",
);

/// What a closed cycle leaves has expired with it.
pub(crate) const I17_CLOSED: Check = Check::new(
    17,
    "closed cycles",
    "select g.customer_id, 'grants' as in_table, 'gra_' || translate(g.grant_id::text, '-', '') as row_key,
         g.remaining || ' remaining' as found,
         '0, expired when cycle ' || c.number || ' was closed at ' || c.closed_at as expected
     from grants g
     join purchases p on p.tenant_id = g.tenant_id and p.purchase_id = g.purchase_id
     join cycles c on c.tenant_id = p.tenant_id and c.subscription_id = p.subscription_id
         and c.number = p.cycle_number
     where g.tenant_id = $1 and ($2::uuid is null or g.customer_id = $2)
         and c.state = 'closed' and c.closed_at >= g.expires_at and g.remaining <> 0",
);

/// A plan's grant ends with the cycle that it was bought for.
pub(crate) const I17_ENDS: Check = Check::new(
    17,
    "ends",
    "select g.customer_id, 'grants' as in_table, 'gra_' || translate(g.grant_id::text, '-', '') as row_key,
         'expires at ' || coalesce(g.expires_at::text, 'no time') as found,
         'the end of cycle ' || c.number || ' at ' || c.ends_at as expected
     from grants g
     join purchases p on p.tenant_id = g.tenant_id and p.purchase_id = g.purchase_id
     join cycles c on c.tenant_id = p.tenant_id and c.subscription_id = p.subscription_id
         and c.number = p.cycle_number
     where g.tenant_id = $1 and ($2::uuid is null or g.customer_id = $2)
         and g.source in ('plan', 'upgrade') and g.expires_at is distinct from c.ends_at",
);

/// What a void, a refund that failed or a dispute that was won gives back to a grant that has ended expires in the next
/// transfer, and to no other (R-25b).
pub(crate) const I17_VOIDS: Check = Check::new(
    17,
    "voids",
    "select t.customer_id, 'transfers' as in_table, 'version ' || t.version as row_key,
         t.credits || ' from ' || t.debit || ' to ' || t.credit || ' at ' || t.recorded_at as found,
         'expired at once where the grant has ended, at ' || coalesce(g.expires_at::text, 'no time')
             || ', and else spendable' as expected
     from transfers t
     join grants g on g.tenant_id = $1 and g.customer_id = t.customer_id and g.grant_id = t.grant_id
     left join transfers n on n.tenant_id = $1 and n.customer_id = t.customer_id
         and n.version = case when t.credit = 'available' then t.version + 1 else t.version - 1 end
         and (n.cause_kind, n.cause_id, n.grant_id, n.credits) = (t.cause_kind, t.cause_id, t.grant_id, t.credits)
         and n.credit = case when t.credit = 'available' then 'expired' else 'available' end
     where t.tenant_id = $1 and ($2::uuid is null or t.customer_id = $2)
         and t.cause_kind in ('void', 'refund', 'dispute') and t.credit in ('available', 'expired')
         and case when t.credit = 'available'
             then (g.expires_at is not null and g.expires_at <= t.recorded_at) <> (n.version is not null)
             else n.version is null end",
);
