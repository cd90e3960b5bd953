//! I-18 to I-25, as far as a query shows them: subscriptions, cycles, purchases, money.

use super::Check;

pub(crate) const I18_LIVE: Check = Check::new(
    18,
    "live subscriptions",
    "select s.customer_id, 'subscriptions' as in_table,
         string_agg('sub_' || translate(s.subscription_id::text, '-', ''), ', ' order by s.subscription_id)
             as row_key,
         count(*) || ' live' as found, 'at most one' as expected
     from subscriptions s
     where s.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2)
         and s.status in ('incomplete', 'active', 'past_due', 'suspended')
     group by s.customer_id having count(*) > 1",
);

/// A cycle begins where the one before it ends. That each is cut from the anchor is recomputed.
pub(crate) const I18_CONTIGUOUS: Check = Check::new(
    18,
    "contiguous cycles",
    "with ordered as (
         select c.*, s.customer_id,
             lag(c.ends_at) over (partition by c.subscription_id order by c.number) as before_ends_at
         from cycles c
         join subscriptions s on s.tenant_id = c.tenant_id and s.subscription_id = c.subscription_id
         where c.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2))
     select customer_id, 'cycles' as in_table,
         'sub_' || translate(subscription_id::text, '-', '') || ', number ' || number as row_key,
         'starts at ' || starts_at as found,
         case when ends_at <= starts_at then 'an end after its start'
             else 'the end of the cycle before it, at ' || before_ends_at end as expected
     from ordered
     where starts_at <> before_ends_at or ends_at <= starts_at",
);

/// Numbers from 0 without a hole; one cycle is open exactly while the subscription runs, the last one,
/// and the subscription says the same of it.
pub(crate) const I19_NUMBERS: Check = Check::new(
    19,
    "cycle numbers",
    "with counted as (
         select subscription_id, count(*) as rows, count(distinct number) as numbers, max(number) as last,
             count(*) filter (where state = 'open') as open,
             max(number) filter (where state = 'open') as open_number
         from cycles where tenant_id = $1 group by subscription_id)
     select s.customer_id, 'cycles' as in_table,
         'sub_' || translate(s.subscription_id::text, '-', '') as row_key,
         coalesce(n.rows, 0) || ' cycles with ' || coalesce(n.numbers, 0) || ' numbers to '
             || coalesce(n.last::text, 'none') || ', ' || coalesce(n.open, 0) || ' of them open' as found,
         'one each from 0 to ' || coalesce(s.cycle_number::text, 'none') || ', '
             || case when s.status in ('active', 'past_due', 'suspended') then 'the last one open'
                 else 'none open' end as expected
     from subscriptions s
     left join counted n on n.subscription_id = s.subscription_id
     where s.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2)
         and (n.last is distinct from s.cycle_number or n.rows <> n.numbers or n.numbers <> n.last + 1
             or coalesce(n.open, 0) <> (s.status in ('active', 'past_due', 'suspended'))::int
             or n.open_number <> n.last)",
);

pub(crate) const I19_CURRENT: Check = Check::new(
    19,
    "current cycle",
    "select s.customer_id, 'subscriptions' as in_table,
         'sub_' || translate(s.subscription_id::text, '-', '') as row_key,
         'cycle ' || s.cycle_number || ' from ' || s.cycle_start || ' to ' || s.cycle_end as found,
         'from ' || c.starts_at || ' to ' || c.ends_at as expected
     from subscriptions s
     join cycles c on c.tenant_id = s.tenant_id and c.subscription_id = s.subscription_id
         and c.number = s.cycle_number
     where s.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2)
         and (s.cycle_start, s.cycle_end) is distinct from (c.starts_at, c.ends_at)",
);

/// A plan's or a top-up's grant has a purchase that was paid for, or that the tenant trusted its customer with
/// (policy `renewal_grant = on_invoice`), and what that bought; or it is of a cycle that its year has paid for.
pub(crate) const I20_GRANTS: Check = Check::new(
    20,
    "grants",
    "select g.customer_id, 'grants' as in_table, 'gra_' || translate(g.grant_id::text, '-', '') as row_key,
         g.amount || ' for a purchase that is ' || coalesce(p.status, 'not there') || ', its invoice '
             || coalesce(i.status, 'not there') as found,
         'a paid purchase of ' || coalesce(p.credits::text, 'as much') as expected
     from grants g
     join tenants t on t.tenant_id = g.tenant_id
     left join purchases p on p.tenant_id = g.tenant_id and p.purchase_id = g.purchase_id
     left join invoices i on i.tenant_id = g.tenant_id and i.invoice_id = p.invoice_id
     where g.tenant_id = $1 and ($2::uuid is null or g.customer_id = $2)
         and g.source in ('plan', 'upgrade', 'top_up')
         and not exists (select from cycle_grants k where k.tenant_id = g.tenant_id and k.grant_id = g.grant_id)
         and (p.credits is distinct from g.amount or p.customer_id is distinct from g.customer_id
             or i.customer_id is distinct from g.customer_id
             or (g.source = 'top_up') is distinct from (p.kind = 'top_up')
             or not coalesce(p.status = 'applied' and i.status = 'paid'
                 or p.kind = 'renewal' and p.granted_at is not null
                     and t.policies ->> 'renewal_grant' = 'on_invoice', false))",
);

/// A cycle that its year had paid for with an earlier one has a grant for each purchase of the year until then, over as much as
/// that had bought, for as long as the cycle lasts; no other cycle has any. What it carried was left by it (R-20, R-22b).
pub(crate) const I20_CYCLES: Check = Check::new(
    20,
    "cycles",
    "with parts as (
         select s.customer_id, s.term, c.subscription_id, c.number, c.ends_at, q.purchase_id, q.credits
         from cycles c
         join subscriptions s on s.tenant_id = c.tenant_id and s.subscription_id = c.subscription_id
         cross join lateral (select max(b.cycle_number) as paid_with from purchases b
             where b.tenant_id = c.tenant_id and b.subscription_id = c.subscription_id
                 and b.kind in ('first_cycle', 'renewal') and b.status = 'applied'
                 and b.cycle_number between c.number - 11 and c.number - 1) y
         join purchases q on q.tenant_id = c.tenant_id and q.subscription_id = c.subscription_id
             and q.status = 'applied' and q.cycle_number between y.paid_with and c.number - 1 and q.credits > 0
         where c.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2) and c.state <> 'skipped'
             and not exists (select from purchases p
                 where p.tenant_id = c.tenant_id and p.subscription_id = c.subscription_id
                     and p.kind in ('first_cycle', 'renewal') and p.cycle_number = c.number)),
     granted as (
         select k.subscription_id, k.cycle_number as number, k.purchase_id, g.customer_id, g.source, g.amount,
             g.expires_at, s.customer_id as of_customer
         from cycle_grants k
         left join grants g on g.tenant_id = k.tenant_id and g.grant_id = k.grant_id
         left join subscriptions s on s.tenant_id = k.tenant_id and s.subscription_id = k.subscription_id
         where k.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2))
     select coalesce(p.customer_id, g.of_customer) as customer_id, 'cycles' as in_table,
         'sub_' || translate(coalesce(p.subscription_id, g.subscription_id)::text, '-', '') || ', number '
             || coalesce(p.number, g.number) as row_key,
         case when g.purchase_id is null then 'no grant'
             else 'a grant of ' || coalesce(g.amount::text, 'nothing') || ' until '
                 || coalesce(g.expires_at::text, 'no time') end as found,
         case when p.purchase_id is null then 'no grant'
             else 'a grant of ' || p.credits || ' until ' || p.ends_at end
             || ' for pur_' || translate(coalesce(p.purchase_id, g.purchase_id)::text, '-', '') as expected
     from parts p
     full join granted g on g.subscription_id = p.subscription_id and g.number = p.number and g.purchase_id = p.purchase_id
     where p.purchase_id is null or p.term <> 'annual' or g.purchase_id is null
         or g.customer_id is distinct from p.customer_id
         or g.source is distinct from 'plan' or g.amount is distinct from p.credits
         or g.expires_at is distinct from p.ends_at
     union all
     select s.customer_id, 'cycles',
         'sub_' || translate(c.subscription_id::text, '-', '') || ', number ' || c.number,
         'a carried grant of ' || coalesce(g.amount::text, 'nothing') || ' from '
             || coalesce(g.effective_at::text, 'no time'),
         'at most what expired of its own at ' || c.ends_at
     from cycles c
     join subscriptions s on s.tenant_id = c.tenant_id and s.subscription_id = c.subscription_id
     left join grants g on g.tenant_id = c.tenant_id and g.grant_id = c.carried_grant_id
     where c.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2) and c.carried_grant_id is not null
         and (g.source is distinct from 'rollover' or g.customer_id is distinct from s.customer_id
             or g.effective_at is distinct from c.ends_at
             or g.amount > (select coalesce(sum(t.credits), 0) from transfers t
                 join grants o on o.tenant_id = t.tenant_id and o.grant_id = t.grant_id
                     and o.source in ('plan', 'upgrade') and o.expires_at = c.ends_at
                 where t.tenant_id = c.tenant_id and t.customer_id = s.customer_id
                     and t.cause_kind = 'expiry'))",
);

/// A paid invoice's purchase has taken effect, and has its grant; no other has.
pub(crate) const I20_PURCHASES: Check = Check::new(
    20,
    "purchases",
    "select p.customer_id, 'purchases' as in_table, 'pur_' || translate(p.purchase_id::text, '-', '') as row_key,
         p.status || ', its invoice ' || coalesce(i.status, 'not there') || ', ' || case
             when g.grant_id is null then 'no grant' else 'a grant' end as found,
         'an effect and a grant exactly when it is paid' as expected
     from purchases p
     left join invoices i on i.tenant_id = p.tenant_id and i.invoice_id = p.invoice_id
     left join grants g on g.tenant_id = p.tenant_id and g.purchase_id = p.purchase_id
     where p.tenant_id = $1 and ($2::uuid is null or p.customer_id = $2)
         and ((p.status = 'applied') is distinct from (i.status = 'paid')
             or (p.status = 'ended') is distinct from (i.status = 'void')
             or (p.status = 'applied' or p.granted_at is not null) and p.credits > 0 and g.grant_id is null
             or p.granted_at is null and g.grant_id is not null)",
);

/// The first-cycle promotion was used once a customer and once a card, by a subscription that was paid
/// for or still may be, and nobody has its discount without having used it.
pub(crate) const I22_PROMOTIONS: Check = Check::new(
    22,
    "promotions",
    "with uses as (
         select u.*, count(*) over (partition by u.customer_id) as by_customer,
             case when u.fingerprint is null then 1
                 else count(*) over (partition by u.fingerprint) end as by_card
         from promotion_uses u where u.tenant_id = $1)
     select u.customer_id, 'promotion_uses' as in_table,
         u.promotion_code || ', sub_' || translate(u.subscription_id::text, '-', '') as row_key,
         u.by_customer || ' uses by the customer, ' || u.by_card || ' with the card, by a subscription that is '
             || coalesce(s.status, 'not there') as found,
         'one use, by a subscription that was paid for or may be' as expected
     from uses u
     left join subscriptions s on s.tenant_id = u.tenant_id and s.subscription_id = u.subscription_id
     where ($2::uuid is null or u.customer_id = $2)
         and (u.by_customer > 1 or u.by_card > 1 or s.status is null or s.status = 'expired')
     union all
     select s.customer_id, 'invoice_lines', 'inv_' || translate(l.invoice_id::text, '-', '')
             || ', position ' || l.position, 'a discount of ' || -l.amount_minor, 'a use of a promotion'
     from invoice_lines l
     join purchases p on p.tenant_id = l.tenant_id and p.invoice_id = l.invoice_id
     join subscriptions s on s.tenant_id = p.tenant_id and s.subscription_id = p.subscription_id
     left join promotion_uses u on u.tenant_id = s.tenant_id and u.subscription_id = s.subscription_id
     where l.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2) and l.kind = 'discount'
         and p.status <> 'ended' and (u.subscription_id is null or p.kind <> 'first_cycle')",
);

/// A status was reached by an event that says so, and what ended did not begin again.
pub(crate) const I23_STATUSES: Check = Check::new(
    23,
    "statuses",
    "with said as (
         select subject, bool_or(kind = 'subscription.activated') as activated,
             bool_or(kind = 'subscription.past_due') as past_due,
             bool_or(kind = 'subscription.canceled') as canceled,
             bool_or(kind = 'subscription.expired') as expired
         from outbox where tenant_id = $1 and kind like 'subscription.%' group by subject)
     select s.customer_id, 'subscriptions' as in_table,
         'sub_' || translate(s.subscription_id::text, '-', '') as row_key, s.status as found,
         'a status that its events have led to: ' || concat_ws(', ', case when e.activated then 'activated' end,
             case when e.past_due then 'past due' end, case when e.canceled then 'canceled' end,
             case when e.expired then 'expired' end) as expected
     from subscriptions s
     left join said e on e.subject = 'sub_' || translate(s.subscription_id::text, '-', '')
     where s.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2)
         and not coalesce(case s.status
             when 'incomplete' then not (e.activated or e.past_due or e.canceled or e.expired)
             when 'expired' then e.expired and not (e.activated or e.canceled)
             when 'canceled' then e.activated and e.canceled and not e.expired
             when 'past_due' then e.activated and e.past_due and not (e.canceled or e.expired)
             else e.activated and not (e.canceled or e.expired) end, false)",
);

/// The history begins with how a subscription was made, goes on from where it was, by allowed edges alone, and leads to
/// the status that it has; nothing follows an end.
pub(crate) const I23_HISTORY: Check = Check::new(
    23,
    "status history",
    "with steps as (
         select h.*, lag(h.to_status) over (partition by h.subscription_id order by h.position) as before,
             lag(h.changed_at) over (partition by h.subscription_id order by h.position) as before_at,
             row_number() over (partition by h.subscription_id order by h.position) - 1 as place,
             lead(h.position) over (partition by h.subscription_id order by h.position) is null as is_last
         from subscription_statuses h where h.tenant_id = $1)
     select s.customer_id, 'subscription_statuses' as in_table,
         'sub_' || translate(s.subscription_id::text, '-', '') || ', position '
             || coalesce(h.position::text, 'none') as row_key,
         coalesce(h.from_status, 'nothing') || ', by ' || coalesce(h.cause, 'nothing') || ', to '
             || coalesce(h.to_status, 'nothing') as found,
         'an edge of the machine on from ' || coalesce(h.before, 'nothing')
             || case when h.is_last then ', to ' || s.status else '' end as expected
     from subscriptions s
     left join steps h on h.subscription_id = s.subscription_id
     where s.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2)
         and (h.position is null or h.position <> h.place or h.from_status is distinct from h.before
             or h.before in ('canceled', 'expired') or h.changed_at < h.before_at
             or h.is_last and h.to_status <> s.status
             or not coalesce(case when h.position = 0
                 then h.cause = 'kept' or h.cause = 'created' and h.to_status = 'incomplete'
                 else (h.from_status, h.cause, h.to_status) in (
                     ('incomplete', 'first_paid', 'active'), ('incomplete', 'purchase_ended', 'expired'),
                     ('incomplete', 'canceled_at_once', 'expired'),
                     ('active', 'renewal_failed', 'past_due'), ('past_due', 'renewal_paid', 'active'),
                     ('active', 'suspended', 'suspended'), ('past_due', 'suspended', 'suspended'),
                     ('suspended', 'lifted', 'active'),
                     ('active', 'ended_for_good', 'canceled'), ('active', 'canceled_at_once', 'canceled'),
                     ('past_due', 'ended_for_good', 'canceled'),
                     ('past_due', 'canceled_at_once', 'canceled'),
                     ('suspended', 'ended_for_good', 'canceled'),
                     ('suspended', 'canceled_at_once', 'canceled')) end, false))",
);

/// An unpaid renewal is dunned for as long as it may be paid, and no longer: open exactly while its purchase is
/// pending, a try due only while none is in flight. One that waits for its customer has failed: nobody is there when a
/// renewal is charged.
pub(crate) const I23_DUNNINGS: Check = Check::new(
    23,
    "dunnings",
    "select s.customer_id, 'dunnings' as in_table, 'pur_' || translate(d.purchase_id::text, '-', '') as row_key,
         d.stage || ' after ' || d.failed_tries || ' tries, the next one at '
             || coalesce(d.next_try_at::text, 'no time') || ', its renewal ' || p.status as found,
         case p.status when 'pending' then case when y.tries_in_flight > 0 then 'trying' else 'waiting' end
             when 'applied' then 'recovered' else 'lost' end || ' after ' || y.failed || ' tries' as expected
     from dunnings d
     join subscriptions s on s.tenant_id = d.tenant_id and s.subscription_id = d.subscription_id
     join purchases p on p.tenant_id = d.tenant_id and p.purchase_id = d.purchase_id
     cross join lateral (select count(*) filter (where y.status in ('created', 'pending')) as tries_in_flight,
             count(*) filter (where y.status in ('failed', 'canceled', 'requires_action')) as failed
         from payments y where y.tenant_id = d.tenant_id and y.invoice_id = p.invoice_id) y
     where d.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2)
         and (p.kind <> 'renewal' or p.subscription_id <> d.subscription_id
             or d.stage <> case p.status when 'applied' then 'recovered' when 'ended' then 'lost'
                 else case when y.tries_in_flight > 0 then 'trying' else 'waiting' end end
             or d.next_try_at is not null and (p.status <> 'pending' or y.tries_in_flight > 0)
             or p.status = 'pending' and d.failed_tries <> y.failed)
     union all
     select s.customer_id, 'dunnings', 'pur_' || translate(p.purchase_id::text, '-', ''),
         'none', 'one: a payment of this renewal has failed'
     from purchases p
     join subscriptions s on s.tenant_id = p.tenant_id and s.subscription_id = p.subscription_id
     where p.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2)
         and p.kind = 'renewal' and p.status = 'pending' and s.status = 'past_due'
         and exists (select from payments y where y.tenant_id = p.tenant_id and y.invoice_id = p.invoice_id
             and y.status in ('failed', 'requires_action'))
         and not exists (select from dunnings d
             where d.tenant_id = p.tenant_id and d.purchase_id = p.purchase_id)",
);

/// A paid invoice has one payment that succeeded, of exactly its amount and currency; no other invoice
/// has one; and an invoice is over the sum of its lines, its tax that of its tax line.
pub(crate) const I24_INVOICES: Check = Check::new(
    24,
    "invoices",
    "with paid as (
         select invoice_id, count(*) as payments, sum(amount_minor) as minor, min(currency) as currency,
             count(distinct currency) as currencies
         from payments where tenant_id = $1 and status = 'succeeded' group by invoice_id),
     lines as (
         select l.invoice_id,
             sum(l.amount_minor) filter (where l.kind <> 'tax' or not i.tax_is_included) as minor,
             coalesce(sum(l.amount_minor) filter (where l.kind = 'tax'), 0) as tax_minor
         from invoice_lines l
         join invoices i on i.tenant_id = l.tenant_id and i.invoice_id = l.invoice_id
         where l.tenant_id = $1 group by l.invoice_id)
     select i.customer_id, 'invoices' as in_table, 'inv_' || translate(i.invoice_id::text, '-', '') as row_key,
         i.status || ' with ' || coalesce(p.payments, 0) || ' payments of '
             || coalesce(p.minor || ' ' || p.currency, 'nothing') || ', lines of ' || coalesce(l.minor, 0)
             as found,
         case when i.status = 'paid' then 'paid' else 'not paid' end || ', ' || i.total_minor || ' '
             || i.currency as expected
     from invoices i
     left join paid p on p.invoice_id = i.invoice_id
     left join lines l on l.invoice_id = i.invoice_id
     where i.tenant_id = $1 and ($2::uuid is null or i.customer_id = $2)
         and (coalesce(l.minor, 0) <> i.total_minor or coalesce(l.tax_minor, 0) <> i.tax_minor
             or case when i.status = 'paid' and i.total_minor > 0
                 then (coalesce(p.payments, 0), p.minor, p.currency, p.currencies)
                     is distinct from (1, i.total_minor, i.currency, 1)
                 else p.payments > 0 end)",
);

/// Invoices and credit notes of a tenant are numbered from 1 without a hole or a repeat, up to what the
/// counter says. The tenant's, and no customer's: nobody is parked for it.
pub(crate) const I24_NUMBERS: Check = Check::new(
    24,
    "invoice numbers",
    "with issued as (
         select 'invoice' as series, 'invoices' as in_table, number from invoices where tenant_id = $1
         union all
         select 'credit_note', 'credit_notes', number from credit_notes where tenant_id = $1),
     ordered as (
         select *, lag(number, 1, 0::bigint) over (partition by series order by number) as before,
             max(number) over (partition by series) as last
         from issued)
     select null::uuid as customer_id, in_table, 'number ' || number as row_key, 'the one after number ' || before as found,
         'number ' || before + 1 as expected
     from ordered
     where number <> before + 1 and $2::uuid is null
     union all
     select null, 'invoice_counters', c.series, 'the last number is ' || c.last_number,
         coalesce(max(o.last), 0)::text
     from invoice_counters c left join ordered o on o.series = c.series
     where c.tenant_id = $1 and $2::uuid is null
     group by c.series, c.last_number having coalesce(max(o.last), 0) <> c.last_number",
);

/// Every refund of a paid invoice that has succeeded has a credit note over its amount, and no other
/// has but one that failed after it had succeeded; the notes of an invoice that count have its share of the tax, and each
/// is over its lines.
pub(crate) const I24_CREDIT_NOTES: Check = Check::new(
    24,
    "credit notes",
    "with lines as (
         select l.credit_note_id,
             sum(l.amount_minor) filter (where l.kind <> 'tax' or not n.tax_is_included) as minor,
             coalesce(sum(l.amount_minor) filter (where l.kind = 'tax'), 0) as tax_minor
         from credit_note_lines l
         join credit_notes n on n.tenant_id = l.tenant_id and n.credit_note_id = l.credit_note_id
         where l.tenant_id = $1 group by l.credit_note_id)
     select i.customer_id, 'refunds' as in_table, 'ref_' || translate(r.refund_id::text, '-', '') as row_key,
         r.status || ' over ' || r.amount_minor || ' ' || r.currency || ', a credit note over '
             || coalesce(n.total_minor || ' ' || n.currency, 'nothing') || ' with lines of '
             || coalesce(l.minor, 0) as found,
         'a credit note over as much exactly where money of a paid invoice has gone back' as expected
     from refunds r
     join invoices i on i.tenant_id = r.tenant_id and i.invoice_id = r.invoice_id
     left join credit_notes n on n.tenant_id = r.tenant_id and n.refund_id = r.refund_id
     left join lines l on l.credit_note_id = n.credit_note_id
     where r.tenant_id = $1 and ($2::uuid is null or i.customer_id = $2)
         and (case r.status when 'succeeded' then (i.status = 'paid') <> (n.credit_note_id is not null)
                 when 'failed' then false else n.credit_note_id is not null end
             or n.credit_note_id is not null and (n.total_minor, n.currency, n.invoice_id, l.minor, l.tax_minor)
                 is distinct from (r.amount_minor, r.currency, r.invoice_id, n.total_minor, n.tax_minor))
     union all
     select i.customer_id, 'invoices', 'inv_' || translate(i.invoice_id::text, '-', ''),
         'credit notes over ' || sum(n.total_minor) || ' with ' || sum(n.tax_minor) || ' of tax',
         'at most ' || i.total_minor || ', and ' || i.tax_minor || ' of tax for all of it'
     from credit_notes n join invoices i on i.tenant_id = n.tenant_id and i.invoice_id = n.invoice_id
     join refunds r on r.tenant_id = n.tenant_id and r.refund_id = n.refund_id and r.status <> 'failed'
     where n.tenant_id = $1 and ($2::uuid is null or i.customer_id = $2)
     group by i.tenant_id, i.customer_id, i.invoice_id, i.total_minor, i.tax_minor
     having sum(n.total_minor) > i.total_minor or sum(n.tax_minor) > i.tax_minor
         or sum(n.total_minor) = i.total_minor and sum(n.tax_minor) <> i.tax_minor",
);

/// What went back of a payment is no more than was paid, is what its refunds come to, and is in its
/// currency; what was never paid has no refund.
pub(crate) const I24_REFUNDS: Check = Check::new(
    24,
    "refunds",
    "with back as (
         select payment_id, sum(amount_minor) filter (where status <> 'failed') as minor,
             bool_and(currency = (select p.currency from payments p
                 where p.tenant_id = $1 and p.payment_id = r.payment_id)) as is_in_currency
         from refunds r where tenant_id = $1 group by payment_id)
     select i.customer_id, 'payments' as in_table, 'pay_' || translate(p.payment_id::text, '-', '') as row_key,
         p.status || ' over ' || p.amount_minor || ', refunded ' || p.refunded_minor || ' by refunds of '
             || coalesce(b.minor, 0) || case when b.is_in_currency then '' else ' in another currency' end
             as found,
         'refunds of as much as it says, within its amount and in its currency; all of it where it is refunded'
             as expected
     from payments p
     join invoices i on i.tenant_id = p.tenant_id and i.invoice_id = p.invoice_id
     left join back b on b.payment_id = p.payment_id
     where p.tenant_id = $1 and ($2::uuid is null or i.customer_id = $2)
         and (p.refunded_minor <> coalesce(b.minor, 0) or p.refunded_minor not between 0 and p.amount_minor
             or not coalesce(b.is_in_currency, true)
             or p.refunded_minor > 0 and p.status not in ('succeeded', 'refunded')
             or p.status = 'refunded' and p.refunded_minor <> p.amount_minor)",
);

/// An account is suspended exactly while its customer's subscription is.
pub(crate) const I23_SUSPENDED: Check = Check::new(
    23,
    "suspended accounts",
    "select a.customer_id, 'credit_accounts' as in_table,
         'cus_' || translate(a.customer_id::text, '-', '') as row_key,
         case when a.suspended_at is null then 'not suspended' else 'suspended' end as found,
         'suspended exactly while a subscription of the customer is' as expected
     from credit_accounts a
     where a.tenant_id = $1 and ($2::uuid is null or a.customer_id = $2)
         and (a.suspended_at is not null) <> exists (select from subscriptions s
             where s.tenant_id = $1 and s.customer_id = a.customer_id and s.status = 'suspended')",
);

/// A subscription's invoices are all in its currency.
pub(crate) const I24_CURRENCIES: Check = Check::new(
    24,
    "currencies",
    "select s.customer_id, 'invoices' as in_table, 'inv_' || translate(i.invoice_id::text, '-', '') as row_key,
         i.currency as found, s.currency || ', as the subscription' as expected
     from purchases p
     join subscriptions s on s.tenant_id = p.tenant_id and s.subscription_id = p.subscription_id
     join invoices i on i.tenant_id = p.tenant_id and i.invoice_id = p.invoice_id
     where p.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2) and i.currency <> s.currency",
);

/// A campaign's tag gave a customer once, what the tag gives, and a run counts those that it gave to.
pub(crate) const I25_CAMPAIGNS: Check = Check::new(
    25,
    "campaigns",
    "select a.customer_id, 'adjustments' as in_table, a.campaign_tag as row_key,
         count(*) || ' grants of ' || sum(g.amount) as found, 'one of ' || min(t.credits) as expected
     from adjustments a
     join campaign_tags t on t.tenant_id = a.tenant_id and t.tag = a.campaign_tag
     left join grants g on g.tenant_id = a.tenant_id and g.grant_id = a.grant_id
     where a.tenant_id = $1 and ($2::uuid is null or a.customer_id = $2)
     group by a.customer_id, a.campaign_tag
     having count(*) > 1 or sum(g.amount) is distinct from min(t.credits)
     union all
     select null, 'campaigns', t.tag, coalesce(r.granted, 0)::text || ' granted by its runs',
         count(a.adjustment_id) || ' grants'
     from campaign_tags t
     left join (select tag, sum(granted) as granted from campaigns where tenant_id = $1 group by tag) r
         on r.tag = t.tag
     left join adjustments a on a.tenant_id = t.tenant_id and a.campaign_tag = t.tag
     where t.tenant_id = $1 and $2::uuid is null
     group by t.tag, r.granted having coalesce(r.granted, 0) <> count(a.adjustment_id)",
);

/// One grant a purchase, one purchase an invoice.
pub(crate) const I25_EFFECTS: Check = Check::new(
    25,
    "effects",
    "select g.customer_id, 'grants' as in_table, string_agg('gra_' || translate(g.grant_id::text, '-', ''), ', ')
             as row_key,
         count(*) || ' grants for the purchase pur_' || translate(g.purchase_id::text, '-', '') as found,
         'one' as expected
     from grants g
     where g.tenant_id = $1 and ($2::uuid is null or g.customer_id = $2)
     group by g.customer_id, g.purchase_id having count(*) > 1
     union all
     select p.customer_id, 'purchases', string_agg('pur_' || translate(p.purchase_id::text, '-', ''), ', '),
         count(*) || ' purchases for the invoice inv_' || translate(p.invoice_id::text, '-', ''), 'one'
     from purchases p
     where p.tenant_id = $1 and ($2::uuid is null or p.customer_id = $2)
     group by p.customer_id, p.invoice_id having count(*) > 1",
);
