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
/// (policy `renewal_grant = on_invoice`), and what that bought.
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
         and (p.credits is distinct from g.amount or p.customer_id is distinct from g.customer_id
             or i.customer_id is distinct from g.customer_id
             or (g.source = 'top_up') is distinct from (p.kind = 'top_up')
             or not coalesce(p.status = 'applied' and i.status = 'paid'
                 or p.kind = 'renewal' and p.granted_at is not null
                     and t.policies ->> 'renewal_grant' = 'on_invoice', false))",
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

/// A paid invoice has one payment that succeeded, of exactly its amount and currency; no other invoice
/// has one; and an invoice is over the sum of its lines.
pub(crate) const I24_INVOICES: Check = Check::new(
    24,
    "invoices",
    "with paid as (
         select invoice_id, count(*) as payments, sum(amount_minor) as minor, min(currency) as currency,
             count(distinct currency) as currencies
         from payments where tenant_id = $1 and status = 'succeeded' group by invoice_id),
     lines as (
         select invoice_id, sum(amount_minor) as minor from invoice_lines where tenant_id = $1
         group by invoice_id)
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
         and (coalesce(l.minor, 0) <> i.total_minor
             or case when i.status = 'paid' and i.total_minor > 0
                 then (coalesce(p.payments, 0), p.minor, p.currency, p.currencies)
                     is distinct from (1, i.total_minor, i.currency, 1)
                 else p.payments > 0 end)",
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
