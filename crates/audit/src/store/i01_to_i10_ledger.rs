//! I-1 to I-10, as far as a query shows them: transfers, balances, grants, holds, causes.

use super::Check;

/// An amount above zero between two different books, a grant named exactly where its available book is
/// a side, and no movement that its cause does not make.
pub(crate) const I01_TRANSFERS: Check = Check::new(
    1,
    "transfers",
    "select t.customer_id, 'transfers' as in_table, 'version ' || t.version as row_key,
         t.credits || ' from ' || t.debit || ' to ' || t.credit || ' for a ' || t.cause_kind as found,
         'an amount above 0 between two books that its cause moves' as expected
     from transfers t
     where t.tenant_id = $1 and ($2::uuid is null or t.customer_id = $2)
         and (t.credits <= 0 or t.debit = t.credit
             or (t.grant_id is not null) <> ('available' in (t.debit, t.credit))
             or (t.cause_kind, t.debit, t.credit, t.reverses is not null) not in (
                 ('purchase', 'issued', 'available', false), ('usage', 'available', 'spent', false),
                 ('usage', 'overage', 'spent', false), ('usage', 'expired', 'available', true),
                 ('expiry', 'available', 'expired', false), ('cancel', 'available', 'revoked', false),
                 ('void', 'spent', 'available', true), ('void', 'spent', 'overage', true),
                 ('void', 'available', 'expired', false), ('adjustment', 'issued', 'available', false),
                 ('adjustment', 'available', 'revoked', false), ('refund', 'available', 'revoked', false),
                 ('refund', 'revoked', 'available', true), ('refund', 'available', 'expired', false),
                 ('dispute', 'available', 'revoked', false), ('dispute', 'revoked', 'available', true),
                 ('dispute', 'available', 'expired', false), ('cycle', 'issued', 'available', false)))",
);

/// Zero over all books of an account. That the transfers come to zero needs no query: each
/// takes from one book what it gives to another.
pub(crate) const I02_BOOKS: Check = Check::new(
    2,
    "books",
    "select a.customer_id, 'credit_accounts' as in_table, 'all books' as row_key,
         (a.issued + a.available + a.spent + a.expired + a.revoked + a.overage)::text as found,
         '0' as expected
     from credit_accounts a
     where a.tenant_id = $1 and ($2::uuid is null or a.customer_id = $2)
         and a.issued + a.available + a.spent + a.expired + a.revoked + a.overage <> 0",
);

pub(crate) const I03_BALANCES: Check = Check::new(
    3,
    "balances",
    "with sums as (
         select customer_id,
             sum(case 'issued' when credit then credits when debit then -credits end) as issued,
             sum(case 'available' when credit then credits when debit then -credits end) as available,
             sum(case 'spent' when credit then credits when debit then -credits end) as spent,
             sum(case 'expired' when credit then credits when debit then -credits end) as expired,
             sum(case 'revoked' when credit then credits when debit then -credits end) as revoked,
             sum(case 'overage' when credit then credits when debit then -credits end) as overage
         from transfers where tenant_id = $1 and ($2::uuid is null or customer_id = $2)
         group by customer_id)
     select a.customer_id, 'credit_accounts' as in_table, 'book ' || book.name as row_key,
         book.stored::text as found, coalesce(book.summed, 0)::text || ', the sum of its transfers' as expected
     from credit_accounts a
     left join sums s on s.customer_id = a.customer_id
     cross join lateral (values ('issued', a.issued, s.issued), ('available', a.available, s.available),
         ('spent', a.spent, s.spent), ('expired', a.expired, s.expired), ('revoked', a.revoked, s.revoked),
         ('overage', a.overage, s.overage)) as book (name, stored, summed)
     where a.tenant_id = $1 and ($2::uuid is null or a.customer_id = $2)
         and book.stored <> coalesce(book.summed, 0)",
);

/// 1..n without a hole or a repeat.
pub(crate) const I03_VERSIONS: Check = Check::new(
    3,
    "versions",
    "with numbered as (
         select customer_id, version,
             lag(version, 1, 0::bigint) over (partition by customer_id order by version) as before
         from transfers where tenant_id = $1 and ($2::uuid is null or customer_id = $2)),
     last as (select customer_id, max(version) as version from numbered group by customer_id)
     select customer_id, 'transfers' as in_table, 'version ' || version as row_key,
         'follows version ' || before as found, 'version ' || before + 1 as expected
     from numbered where version <> before + 1
     union all
     select a.customer_id, 'credit_accounts', 'version', a.version::text,
         coalesce(l.version, 0) || ', that of the last transfer'
     from credit_accounts a
     left join last l on l.customer_id = a.customer_id
     where a.tenant_id = $1 and ($2::uuid is null or a.customer_id = $2)
         and a.version <> coalesce(l.version, 0)",
);

/// Every term of a grant is the sum of its own transfers, at least 0, and they add up.
pub(crate) const I04_GRANTS: Check = Check::new(
    4,
    "grants",
    "with sums as (
         select customer_id, grant_id,
             sum(credits) filter (where debit = 'issued') as amount,
             sum(case 'spent' when credit then credits when debit then -credits end) as spent,
             sum(case 'expired' when credit then credits when debit then -credits end) as expired,
             sum(case 'revoked' when credit then credits when debit then -credits end) as revoked
         from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) and grant_id is not null
         group by customer_id, grant_id)
     select g.customer_id, 'grants' as in_table,
         'gra_' || translate(g.grant_id::text, '-', '') || ', ' || term.name as row_key,
         term.stored::text as found, coalesce(term.due, 0)::text || ', from its transfers' as expected
     from grants g
     left join sums s on s.customer_id = g.customer_id and s.grant_id = g.grant_id
     cross join lateral (values ('amount', g.amount, s.amount), ('spent', g.spent, s.spent),
         ('expired', g.expired, s.expired), ('revoked', g.revoked, s.revoked),
         ('remaining', g.remaining, coalesce(s.amount, 0) - coalesce(s.spent, 0) - coalesce(s.expired, 0)
             - coalesce(s.revoked, 0))) as term (name, stored, due)
     where g.tenant_id = $1 and ($2::uuid is null or g.customer_id = $2)
         and (term.stored <> coalesce(term.due, 0) or term.stored < 0)",
);

/// A hold is captured once, by one event, and ends before it runs out.
pub(crate) const I06_HOLDS: Check = Check::new(
    6,
    "holds",
    "with captures as (
         select customer_id, hold_id, count(*) as times, min(event_id) as event_id, max(recorded_at) as at
         from usage_events
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) and hold = 'captured'
         group by customer_id, hold_id)
     select c.customer_id, 'usage_events' as in_table, 'hold ' || c.hold_id as row_key,
         'captured by ' || c.times || ' events' as found, 'one event' as expected
     from captures c where c.times > 1
     union all
     select c.customer_id, 'holds', 'hold ' || c.hold_id, coalesce(h.ended_as, 'not ended'),
         'captured, by event ' || c.event_id
     from captures c
     join holds h on h.tenant_id = $1 and h.customer_id = c.customer_id and h.hold_id = c.hold_id
     -- One that ran out between an event's receipt and its recording has no end.
     where h.ended_as is distinct from 'captured' and h.expires_at > c.at
     union all
     select h.customer_id, 'holds', 'hold ' || h.hold_id, 'captured', 'an event that captured it'
     from holds h
     left join captures c on c.customer_id = h.customer_id and c.hold_id = h.hold_id
     where h.tenant_id = $1 and ($2::uuid is null or h.customer_id = $2) and h.ended_as = 'captured'
         -- Its event may be older than that, and be dropped.
         and c.hold_id is null and h.ended_at >= usage_kept_from() + interval '35 days'
     union all
     select h.customer_id, 'holds', 'hold ' || h.hold_id, h.ended_as || ' at ' || h.ended_at,
         'an end before its expiry at ' || h.expires_at
     from holds h
     where h.tenant_id = $1 and ($2::uuid is null or h.customer_id = $2) and h.ended_at >= h.expires_at
     union all
     select h.customer_id, 'holds', 'hold ' || h.hold_id, 'counts until ' || h.counts_until,
         'no longer than its expiry at ' || h.expires_at
     from holds h
     where h.tenant_id = $1 and ($2::uuid is null or h.customer_id = $2) and h.counts_until > h.expires_at",
);

/// The account holds the last link. That each transfer's link follows is recomputed row by row.
pub(crate) const I07_CHAIN_HEAD: Check = Check::new(
    7,
    "chain head",
    "select a.customer_id, 'credit_accounts' as in_table, 'chain' as row_key,
         encode(a.chain, 'hex') as found,
         coalesce(encode(t.chain, 'hex'), repeat('0', 64)) || ', the link of the last transfer' as expected
     from credit_accounts a
     left join lateral (select chain from transfers t
         where t.tenant_id = a.tenant_id and t.customer_id = a.customer_id
         order by version desc limit 1) t on true
     where a.tenant_id = $1 and ($2::uuid is null or a.customer_id = $2)
         and a.chain <> coalesce(t.chain, decode(repeat('00', 32), 'hex'))",
);

/// A reversal takes back one earlier transfer of the same grant, the other way round, never more
/// than that moved, and is not taken back itself. What a void gives back to an ended grant expires like the rest
/// of it, so of a grant's expiries no more is taken back than all of them moved (R-25b, R-32).
pub(crate) const I08_REVERSALS: Check = Check::new(
    8,
    "reversals",
    "with reversals as (
         select r.customer_id, r.version, r.reverses, r.credits, r.debit, r.credit, r.grant_id,
             sum(r.credits) over (partition by r.customer_id,
                 case when r.debit = 'expired' then r.grant_id::text else r.reverses::text end) as total
         from transfers r
         where r.tenant_id = $1 and ($2::uuid is null or r.customer_id = $2) and r.reverses is not null),
     originals as (
         select r.*, o.version as original, o.reverses as itself, o.debit as from_book, o.credit as to_book,
             o.grant_id as of_grant,
             case when o.credit = 'expired' then (select sum(x.credits) from transfers x
                     where x.tenant_id = $1 and x.customer_id = r.customer_id and x.grant_id = o.grant_id
                         and x.credit = 'expired')
                 else o.credits end as moved
         from reversals r
         left join transfers o
             on o.tenant_id = $1 and o.customer_id = r.customer_id and o.version = r.reverses)
     select customer_id, 'transfers' as in_table, 'version ' || version as row_key,
         'takes back ' || total || ' of version ' || reverses as found,
         case when original is null then 'an earlier transfer'
             when itself is not null then 'a transfer that takes nothing back itself'
             when moved < total then 'at most ' || moved
             else 'the same grant, from ' || to_book || ' to ' || from_book end as expected
     from originals
     where original is null or original >= version or itself is not null or moved < total
         or (from_book, to_book) <> (credit, debit) or of_grant is distinct from grant_id",
);

/// Every transfer has its cause.
pub(crate) const I09_CAUSES: Check = Check::new(
    9,
    "causes",
    "select t.customer_id, 'transfers' as in_table, 'version ' || t.version as row_key,
         t.credits || ' for the ' || t.cause_kind || ' ' || t.cause_id as found,
         case t.cause_kind when 'purchase' then 'a granted purchase of this customer'
             when 'usage' then 'a charged event of this customer'
             when 'expiry' then 'that grant of this customer'
             when 'void' then 'a voided event of this customer'
             when 'adjustment' then 'an adjustment of as much of that grant of this customer'
             when 'refund' then 'a refund of what had paid for that grant'
             when 'dispute' then 'a decided dispute of what had paid for that grant'
             when 'cycle' then 'a grant of a cycle of this customer'
             else 'a canceled subscription of this customer' end as expected
     from transfers t
     left join (select p.purchase_id as id, p.customer_id from purchases p
             where p.tenant_id = $1 and p.granted_at is not null) p
         on t.cause_kind = 'purchase' and p.id = t.cause_id and p.customer_id = t.customer_id
     left join usage_identities i on t.cause_kind = 'usage' and i.tenant_id = $1 and i.identity = t.cause_id
     left join usage_events e
         on e.tenant_id = $1 and e.identity = i.identity and e.customer_id = t.customer_id
             and e.event_time = t.event_time and e.unrated_reason is null
     left join grants g on t.cause_kind = 'expiry' and g.tenant_id = $1 and g.grant_id = t.cause_id
         and g.grant_id = t.grant_id and g.customer_id = t.customer_id
     left join subscriptions c on t.cause_kind = 'cancel' and c.tenant_id = $1
         and c.subscription_id = t.cause_id and c.customer_id = t.customer_id and c.status = 'canceled'
     left join usage_voids v on t.cause_kind = 'void' and v.tenant_id = $1 and v.identity = t.cause_id
         and v.customer_id = t.customer_id and v.voided_at = t.event_time
     left join adjustments a on t.cause_kind = 'adjustment' and a.tenant_id = $1 and a.adjustment_id = t.cause_id
         and (a.customer_id, a.grant_id, a.credits, a.kind) = (t.customer_id, t.grant_id, t.credits,
             case t.debit when 'issued' then 'grant' else 'revoke' end)
     left join (select o.id, unnest(b.purchase_id || array(
                 -- Its part of the later cycles of the year that it had paid for.
                 select k.grant_id from cycle_grants k
                 where k.tenant_id = b.tenant_id and k.subscription_id = b.subscription_id
                     and k.purchase_id = b.purchase_id)) as grant_id
             from (select r.tenant_id, r.refund_id as id, r.invoice_id from refunds r where r.tenant_id = $1
                   union all
                   select d.tenant_id, d.dispute_id, d.invoice_id from disputes d
                   where d.tenant_id = $1 and d.state <> 'open') o
             join purchases b on b.tenant_id = o.tenant_id and b.invoice_id = o.invoice_id) b
         on t.cause_kind in ('refund', 'dispute') and b.id = t.cause_id and b.grant_id = t.grant_id
     left join (select k.id, s.customer_id
             from (select tenant_id, subscription_id, grant_id as id from cycle_grants where tenant_id = $1
                   union all
                   select tenant_id, subscription_id, carried_grant_id from cycles
                   where tenant_id = $1 and carried_grant_id is not null) k
             join subscriptions s on s.tenant_id = k.tenant_id and s.subscription_id = k.subscription_id) y
         on t.cause_kind = 'cycle' and y.id = t.cause_id and y.id = t.grant_id
             and y.customer_id = t.customer_id
     where t.tenant_id = $1 and ($2::uuid is null or t.customer_id = $2)
         and p.id is null and e.identity is null and g.grant_id is null and c.subscription_id is null
         and v.identity is null and a.adjustment_id is null and b.id is null and y.id is null
         and not (t.cause_kind = 'usage' and t.event_time < usage_kept_from())",
);

/// What a refund or a lost dispute says that it revoked is what its transfers have revoked and not given back.
pub(crate) const I09_REFUNDS: Check = Check::new(
    9,
    "refunds",
    "with said as (
         select i.customer_id, 'refunds' as in_table, 'ref_' || translate(r.refund_id::text, '-', '') as row_key,
             r.refund_id as id, r.credits_revoked as credits
         from refunds r join invoices i on i.tenant_id = r.tenant_id and i.invoice_id = r.invoice_id
         where r.tenant_id = $1
         union all
         select i.customer_id, 'disputes', 'dsp_' || translate(d.dispute_id::text, '-', ''), d.dispute_id,
             d.credits_revoked
         from disputes d join invoices i on i.tenant_id = d.tenant_id and i.invoice_id = d.invoice_id
         where d.tenant_id = $1)
     select s.customer_id, s.in_table, s.row_key, s.credits || ' Credits revoked' as found,
         coalesce(m.credits, 0) || ', by its transfers' as expected
     from said s
     left join (select customer_id, cause_id,
             sum(case 'revoked' when credit then credits when debit then -credits else 0 end) as credits
         from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) and cause_kind in ('refund', 'dispute')
         group by customer_id, cause_id) m on m.customer_id = s.customer_id and m.cause_id = s.id
     where ($2::uuid is null or s.customer_id = $2) and s.credits <> coalesce(m.credits, 0)",
);

/// Every charged event has its transfers. Added up rather than joined: the planner cannot tell how many
/// there are.
pub(crate) const I09_EVENTS: Check = Check::new(
    9,
    "events",
    "select customer_id, 'usage_events' as in_table,
         'event ' || max(event_id) || ' of ' || max(source) || ' (' || identity || ')' as row_key,
         'transfers of ' || sum(moved) as found, sum(cost) || ' Credits' as expected
     from (
         select customer_id, identity, event_id, source, credits as cost, 0 as moved from usage_events
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2)
         union all
         select customer_id, cause_id, null, null, 0, credits from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2)
             and cause_kind = 'usage' and credit = 'spent') as charged
     group by customer_id, identity
     having sum(cost) > sum(moved)",
);

/// Every voided event has the transfers that reverse its charge: each of them once and whole, the last draw first.
/// What expired of it at once is what could not be spent again, and the void says how much it was (R-33, R-25b).
pub(crate) const I09_VOIDS: Check = Check::new(
    9,
    "voids",
    "with moved as (
         select customer_id, cause_id, max(version) as version,
             coalesce(sum(credits) filter (where debit = 'spent'), 0) as credits,
             coalesce(sum(credits) filter (where credit = 'overage'), 0) as overage,
             coalesce(sum(credits) filter (where credit = 'available'), 0)
                 - coalesce(sum(credits) filter (where credit = 'expired'), 0) as spendable
         from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) and cause_kind = 'void'
         group by customer_id, cause_id)
     select v.customer_id, 'usage_voids' as in_table, 'event ' || v.identity as row_key,
         v.credits || ' Credits, ' || v.overage || ' of them overage, ' || v.spendable || ' spendable' as found,
         coalesce(e.credits || ' Credits and ' || e.overage || ' overage, of the event', 'an event') || '; '
             || coalesce(m.credits || ', ' || m.overage || ' and ' || m.spendable || ', of the transfers',
                 'no transfer') as expected
     from usage_voids v
     left join usage_events e on e.tenant_id = $1 and e.customer_id = v.customer_id
         and e.event_time = v.event_time and e.identity = v.identity
     left join moved m on m.customer_id = v.customer_id and m.cause_id = v.identity
     where v.tenant_id = $1 and ($2::uuid is null or v.customer_id = $2)
         and ((v.credits, v.overage) is distinct from (e.credits, e.overage) and v.event_time >= usage_kept_from()
             or (v.credits, v.overage, v.spendable)
                 is distinct from (coalesce(m.credits, 0), coalesce(m.overage, 0), coalesce(m.spendable, 0))
             or v.account_version <> m.version)
     union all
     select r.customer_id, 'transfers', 'version ' || r.version,
         r.credits || ' back of version ' || r.reverses || ', after one of version ' || coalesce(r.before, 0),
         'a draw of the same event, whole, and the last one first'
     from (
         select customer_id, version, credits, reverses, cause_id,
             lag(reverses) over (partition by customer_id, cause_id order by version) as before
         from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2)
             and cause_kind = 'void' and debit = 'spent') r
     left join transfers o on o.tenant_id = $1 and o.customer_id = r.customer_id and o.version = r.reverses
     where r.before <= r.reverses or (o.cause_kind, o.cause_id, o.credits)
         is distinct from ('usage', r.cause_id, r.credits)",
);

/// Every granted purchase has its transfer, once.
pub(crate) const I09_PURCHASES: Check = Check::new(
    9,
    "purchases",
    "with issued as (
         select customer_id, cause_id, sum(credits) as credits from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) and cause_kind = 'purchase'
         group by customer_id, cause_id)
     select p.customer_id, 'purchases' as in_table, 'pur_' || translate(p.purchase_id::text, '-', '') as row_key,
         'transfers of ' || coalesce(i.credits, 0) as found, p.credits || ' Credits' as expected
     from purchases p
     left join issued i on i.customer_id = p.customer_id and i.cause_id = p.purchase_id
     where p.tenant_id = $1 and ($2::uuid is null or p.customer_id = $2) and p.granted_at is not null
         and p.credits <> coalesce(i.credits, 0)",
);

/// Every adjustment has its transfer, once.
pub(crate) const I09_ADJUSTMENTS: Check = Check::new(
    9,
    "adjustments",
    "with moved as (
         select customer_id, cause_id, count(*) as transfers from transfers
         where tenant_id = $1 and ($2::uuid is null or customer_id = $2) and cause_kind = 'adjustment'
         group by customer_id, cause_id)
     select a.customer_id, 'adjustments' as in_table,
         'adj_' || translate(a.adjustment_id::text, '-', '') as row_key,
         coalesce(m.transfers, 0) || ' transfers' as found, 'one' as expected
     from adjustments a
     left join moved m on m.customer_id = a.customer_id and m.cause_id = a.adjustment_id
     where a.tenant_id = $1 and ($2::uuid is null or a.customer_id = $2) and m.transfers is distinct from 1",
);

/// A hold's life is the tenant's to set, and at most two hours.
pub(crate) const I10_HOLDS: Check = Check::new(
    10,
    "hold lives",
    "select h.customer_id, 'holds' as in_table, 'hold ' || h.hold_id as row_key,
         'granted at ' || h.granted_at || ' until ' || h.expires_at as found,
         'a life of at most 2 hours' as expected
     from holds h
     where h.tenant_id = $1 and ($2::uuid is null or h.customer_id = $2)
         and (h.expires_at <= h.granted_at or h.expires_at > h.granted_at + interval '2 hours')",
);

/// The account's recording time is its last transfer's. That it never falls is seen row by row.
pub(crate) const I10_ACCOUNTS: Check = Check::new(
    10,
    "recording times",
    "select a.customer_id, 'credit_accounts' as in_table, 'last_recorded_at' as row_key,
         a.last_recorded_at::text as found, t.recorded_at || ', when the last transfer was recorded' as expected
     from credit_accounts a
     cross join lateral (select recorded_at from transfers t
         where t.tenant_id = a.tenant_id and t.customer_id = a.customer_id
         order by version desc limit 1) t
     where a.tenant_id = $1 and ($2::uuid is null or a.customer_id = $2)
         and a.last_recorded_at <> t.recorded_at",
);
