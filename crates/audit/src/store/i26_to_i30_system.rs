//! I-26, I-28 and I-30, as far as a query shows them: events, parents, what is due.

use super::Check;

/// Every change that others are told of has its event.
pub(crate) const I26_CHANGES: Check = Check::new(
    26,
    "changes",
    "with bought as (
         select p.*, coalesce('sub_' || translate(p.subscription_id::text, '-', ''),
             'cus_' || translate(p.customer_id::text, '-', '')) as subject
         from purchases p where p.tenant_id = $1),
     changes as (
         select s.customer_id, 'subscriptions' as in_table,
             'sub_' || translate(s.subscription_id::text, '-', '') as subject, 'subscription.created' as kind,
             null as of, null as value
         from subscriptions s where s.tenant_id = $1
         union all
         select i.customer_id, 'invoices', p.subject, e.kind, 'invoice',
             'inv_' || translate(i.invoice_id::text, '-', '')
         from invoices i
         join bought p on p.invoice_id = i.invoice_id
         cross join lateral (values ('invoice.issued', true), ('invoice.paid', i.status = 'paid'),
             ('invoice.voided', i.status = 'void')) as e (kind, has_happened)
         where i.tenant_id = $1 and e.has_happened
         union all
         select p.customer_id, 'purchases', p.subject, e.kind, 'purchase',
             'pur_' || translate(p.purchase_id::text, '-', '')
         from bought p
         cross join lateral (values ('credits.granted', p.granted_at is not null and p.credits > 0),
             ('subscription.activated', p.kind = 'first_cycle' and p.status = 'applied'),
             ('subscription.upgraded', p.kind = 'upgrade' and p.status = 'applied'),
             ('subscription.renewed', p.kind = 'renewal' and p.status = 'applied'),
             ('top_up.granted', p.kind = 'top_up' and p.status = 'applied')) as e (kind, has_happened)
         where e.has_happened
         union all
         select s.customer_id, 'cycles', 'sub_' || translate(c.subscription_id::text, '-', ''), e.kind, 'cycle',
             c.number::text
         from cycles c
         join subscriptions s on s.tenant_id = c.tenant_id and s.subscription_id = c.subscription_id
         cross join lateral (values ('cycle.opened', c.number > 0 and c.state <> 'skipped'),
             ('cycle.skipped', c.state = 'skipped'),
             -- A cancel at once closes a cycle before its end, and says so itself.
             ('cycle.closed', c.state = 'closed' and c.closed_at >= c.ends_at)) as e (kind, has_happened)
         where c.tenant_id = $1 and e.has_happened
         union all
         select i.customer_id, 'payments', p.subject, e.kind, 'payment',
             'pay_' || translate(y.payment_id::text, '-', '')
         from payments y
         join invoices i on i.tenant_id = y.tenant_id and i.invoice_id = y.invoice_id
         join bought p on p.invoice_id = y.invoice_id
         cross join lateral (values ('payment.created', true), ('payment.failed', y.status = 'failed'),
             ('payment.canceled', y.status = 'canceled'), ('payment.refunded', y.status = 'refunded'))
             as e (kind, has_happened)
         where y.tenant_id = $1 and e.has_happened
         union all
         select i.customer_id, 'refunds', p.subject, e.kind, 'refund',
             'ref_' || translate(r.refund_id::text, '-', '')
         from refunds r
         join invoices i on i.tenant_id = r.tenant_id and i.invoice_id = r.invoice_id
         join bought p on p.invoice_id = r.invoice_id
         cross join lateral (values ('refund.created', true), ('refund.succeeded', r.status = 'succeeded'),
             ('refund.failed', r.status = 'failed')) as e (kind, has_happened)
         -- Those that bear their payment's id were given back before refunds had rows and events.
         where r.tenant_id = $1 and e.has_happened and r.refund_id <> r.payment_id
         union all
         select i.customer_id, 'disputes', p.subject, 'dispute.' || replace(d.state, 'open', 'opened'),
             'dispute', 'dsp_' || translate(d.dispute_id::text, '-', '')
         from disputes d
         join invoices i on i.tenant_id = d.tenant_id and i.invoice_id = d.invoice_id
         join bought p on p.invoice_id = d.invoice_id
         where d.tenant_id = $1),
     events as (
         select kind, subject, payload ->> 'invoice' as invoice, payload ->> 'purchase' as purchase,
             payload ->> 'payment' as payment, payload ->> 'refund' as refund, payload ->> 'dispute' as dispute,
             case when jsonb_typeof(payload -> 'cycle') = 'object' then payload -> 'cycle' ->> 'number'
                 else payload ->> 'cycle' end as cycle
         from outbox where tenant_id = $1)
     select c.customer_id, c.in_table,
         coalesce(c.value, c.subject) || case c.of when 'cycle' then ' of ' || c.subject else '' end as row_key,
         'no event ' || c.kind as found, 'one in the outbox' as expected
     from changes c
     left join events e on e.kind = c.kind and e.subject = c.subject
         and coalesce(case c.of when 'invoice' then e.invoice when 'purchase' then e.purchase
             when 'payment' then e.payment when 'refund' then e.refund
             when 'dispute' then e.dispute when 'cycle' then e.cycle end, '') = coalesce(c.value, '')
     where e.kind is null and ($2::uuid is null or c.customer_id = $2)",
);

/// Every event has its change.
pub(crate) const I26_EVENTS: Check = Check::new(
    26,
    "events",
    "select s.customer_id, 'outbox' as in_table, 'evt_' || translate(o.event_id::text, '-', '') as row_key,
         o.kind || ' of ' || o.subject as found, 'a change that it tells of' as expected
     from outbox o
     left join subscriptions s
         on s.tenant_id = o.tenant_id and o.subject = 'sub_' || translate(s.subscription_id::text, '-', '')
     left join invoices i on o.kind in ('invoice.issued', 'invoice.paid', 'invoice.voided')
         and i.tenant_id = o.tenant_id and o.payload ->> 'invoice' = 'inv_' || translate(i.invoice_id::text, '-', '')
     where o.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2) and o.subject like 'sub\\_%'
         and (s.subscription_id is null
             or o.kind like 'invoice.%' and i.invoice_id is null
             or o.kind = 'invoice.paid' and i.status <> 'paid'
             or o.kind = 'invoice.voided' and i.status <> 'void')",
);

/// Every row's parent is a row of the same tenant, and of the same customer.
pub(crate) const I28_PARENTS: Check = Check::new(
    28,
    "parents",
    "with children as (
         select a.customer_id, 'credit_accounts' as in_table, 'account' as row_key, 'a customer' as parent
         from credit_accounts a
         where a.tenant_id = $1 and not exists (select from customers p
             where p.tenant_id = $1 and p.customer_id = a.customer_id)
         union all
         select g.customer_id, 'grants', 'gra_' || translate(g.grant_id::text, '-', ''), 'an account'
         from grants g
         where g.tenant_id = $1 and not exists (select from credit_accounts p
             where p.tenant_id = $1 and p.customer_id = g.customer_id)
         union all
         select t.customer_id, 'transfers', 'version ' || t.version, 'an account'
         from transfers t
         where t.tenant_id = $1 and not exists (select from credit_accounts p
             where p.tenant_id = $1 and p.customer_id = t.customer_id)
         union all
         select t.customer_id, 'transfers', 'version ' || t.version, 'a grant of this customer'
         from transfers t
         where t.tenant_id = $1 and t.grant_id is not null and not exists (select from grants p
             where p.tenant_id = $1 and p.grant_id = t.grant_id and p.customer_id = t.customer_id)
         union all
         select h.customer_id, 'holds', 'hold ' || h.hold_id, 'an account'
         from holds h
         where h.tenant_id = $1 and not exists (select from credit_accounts p
             where p.tenant_id = $1 and p.customer_id = h.customer_id)
         union all
         select e.customer_id, 'usage_events', 'event ' || e.event_id || ' of ' || e.source, 'an account'
         from usage_events e
         where e.tenant_id = $1 and not exists (select from credit_accounts p
             where p.tenant_id = $1 and p.customer_id = e.customer_id)
         union all
         select v.customer_id, 'usage_voids', 'event ' || v.identity, 'an account'
         from usage_voids v
         where v.tenant_id = $1 and not exists (select from credit_accounts p
             where p.tenant_id = $1 and p.customer_id = v.customer_id)
         union all
         select i.customer_id, 'invoices', 'inv_' || translate(i.invoice_id::text, '-', ''), 'a customer'
         from invoices i
         where i.tenant_id = $1 and not exists (select from customers p
             where p.tenant_id = $1 and p.customer_id = i.customer_id)
         union all
         select null, 'invoice_lines', 'inv_' || translate(l.invoice_id::text, '-', '') || ', position '
             || l.position, 'an invoice'
         from invoice_lines l
         where l.tenant_id = $1 and not exists (select from invoices p
             where p.tenant_id = $1 and p.invoice_id = l.invoice_id)
         union all
         select null, 'payments', 'pay_' || translate(y.payment_id::text, '-', ''), 'an invoice'
         from payments y
         where y.tenant_id = $1 and not exists (select from invoices p
             where p.tenant_id = $1 and p.invoice_id = y.invoice_id)
         union all
         select s.customer_id, 'subscriptions', 'sub_' || translate(s.subscription_id::text, '-', ''), 'a customer'
         from subscriptions s
         where s.tenant_id = $1 and not exists (select from customers p
             where p.tenant_id = $1 and p.customer_id = s.customer_id)
         union all
         select null, 'cycles', 'sub_' || translate(c.subscription_id::text, '-', '') || ', number ' || c.number,
             'a subscription'
         from cycles c
         where c.tenant_id = $1 and not exists (select from subscriptions p
             where p.tenant_id = $1 and p.subscription_id = c.subscription_id)
         union all
         select null, 'quotes', 'quo_' || translate(q.quote_id::text, '-', ''), 'a subscription'
         from quotes q
         where q.tenant_id = $1 and not exists (select from subscriptions p
             where p.tenant_id = $1 and p.subscription_id = q.subscription_id)
         union all
         select null, 'purchases', 'pur_' || translate(u.purchase_id::text, '-', ''),
             'an invoice of its customer, and of the customer a subscription if any'
         from purchases u
         where u.tenant_id = $1 and (not exists (select from invoices i
                 where i.tenant_id = $1 and i.customer_id = u.customer_id and i.invoice_id = u.invoice_id)
             or u.subscription_id is not null and not exists (select from subscriptions s
                 where s.tenant_id = $1 and s.customer_id = u.customer_id
                     and s.subscription_id = u.subscription_id))
         union all
         select u.customer_id, 'promotion_uses', u.promotion_code, 'a subscription of this customer'
         from promotion_uses u
         where u.tenant_id = $1 and not exists (select from subscriptions p
             where p.tenant_id = $1 and p.subscription_id = u.subscription_id and p.customer_id = u.customer_id))
     select customer_id, in_table, row_key, 'no such parent with this tenant' as found, parent as expected
     from children where $2::uuid is null or customer_id = $2",
);

/// Nothing was done before it was due.
pub(crate) const I30_EARLY: Check = Check::new(
    30,
    "early closes",
    "select s.customer_id, 'cycles' as in_table,
         'sub_' || translate(c.subscription_id::text, '-', '') || ', number ' || c.number as row_key,
         c.state || ' at ' || c.closed_at as found, 'not before its end at ' || c.ends_at as expected
     from cycles c
     join subscriptions s on s.tenant_id = c.tenant_id and s.subscription_id = c.subscription_id
     where c.tenant_id = $1 and ($2::uuid is null or s.customer_id = $2) and c.closed_at < c.ends_at
         -- A cancel at once ends the last one early.
         and not (s.status = 'canceled' and c.state = 'closed' and c.number = s.cycle_number
             and s.ended_at = c.closed_at)",
);

/// In a tenant that lives in real time nothing waits for longer than an hour, $3 being now: a worker
/// looks each minute. Late work is no damage.
pub(crate) const I30_LATE: Check = Check::late(
    30,
    "late work",
    "with overdue as (
         select s.customer_id, 'subscriptions' as in_table,
             'sub_' || translate(s.subscription_id::text, '-', '') as row_key,
             'cycle ' || s.cycle_number || ' open' as found, s.cycle_end as due_at
         from subscriptions s
         where s.tenant_id = $1 and s.status in ('active', 'past_due', 'suspended')
             -- A payment that the provider has not decided postpones the end (R-22).
             and not exists (select from purchases p join payments y
                 on y.tenant_id = p.tenant_id and y.invoice_id = p.invoice_id
                 where p.tenant_id = $1 and p.subscription_id = s.subscription_id
                     and y.status in ('created', 'requires_action', 'pending'))
         union all
         select g.customer_id, 'grants', 'gra_' || translate(g.grant_id::text, '-', ''),
             g.remaining || ' remaining', g.expires_at
         from grants g where g.tenant_id = $1 and not g.is_used_up and g.expires_at < $3
             and not exists (select from purchases p join payments y
                 on y.tenant_id = p.tenant_id and y.invoice_id = p.invoice_id
                 join purchases o on o.tenant_id = p.tenant_id and o.subscription_id = p.subscription_id
                 where p.tenant_id = $1 and o.purchase_id = g.purchase_id
                     and y.status in ('created', 'requires_action', 'pending')))
     select o.customer_id, o.in_table, o.row_key, o.found, 'done at ' || o.due_at as expected
     from overdue o
     join tenants t on t.tenant_id = $1
     where o.due_at < $3 - interval '1 hour' and t.clock_at is null
         and ($2::uuid is null or o.customer_id = $2)",
);
