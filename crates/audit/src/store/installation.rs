//! What belongs to no tenant: how the database is made (I-7, I-11, I-28).

use super::Check;

/// The application can add transfers and change none.
pub(crate) const I07_PRIVILEGES: Check = Check::new(
    7,
    "privileges",
    "select null::uuid as customer_id, 'transfers' as in_table, p.name as row_key,
         'tollgate_app has it' as found, 'no such right' as expected
     from (values ('update'), ('delete'), ('truncate')) as p (name)
     where has_table_privilege('tollgate_app', 'public.transfers', p.name)
     union all
     select null, 'transfers', g.name, 'not there, or not on', 'a trigger that refuses every change'
     from (values ('append_only_rows'), ('append_only_table')) as g (name)
     where not exists (select from pg_trigger t
         where t.tgrelid = 'public.transfers'::regclass and t.tgname = g.name and t.tgenabled in ('O', 'A'))",
);

/// No float anywhere, amounts are whole numbers, and the database itself refuses what I-1 forbids.
pub(crate) const I11_COLUMNS: Check = Check::new(
    11,
    "columns",
    "select null::uuid as customer_id, c.relname::text as in_table, a.attname::text as row_key,
         format_type(a.atttypid, a.atttypmod) as found,
         case when a.atttypid in ('real'::regtype, 'double precision'::regtype) then 'no float'
             else 'bigint' end as expected
     from pg_attribute a
     join pg_class c on c.oid = a.attrelid and c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
     where a.attnum > 0 and not a.attisdropped
         and (a.atttypid in ('real'::regtype, 'double precision'::regtype)
             or (a.attname in ('credits', 'amount', 'spent', 'expired', 'revoked', 'remaining', 'overage', 'issued',
                 'available', 'balance_after') or a.attname like '%\\_minor')
                 and a.atttypid not in ('bigint'::regtype, 'numeric'::regtype)
                 and not (a.atttypid = 'boolean'::regtype))
     union all
     select null, 'transfers', r.rule, 'no such constraint', 'check (' || r.rule || ')'
     from (values ('credits > 0'), ('debit <> credit')) as r (rule)
     where not exists (select from pg_constraint k
         where k.conrelid = 'public.transfers'::regclass and k.contype = 'c' and k.convalidated
             and pg_get_constraintdef(k.oid) like '%' || r.rule || '%')",
);

/// Every key and every reference between tenants' rows has the tenant in it.
pub(crate) const I28_KEYS: Check = Check::new(
    28,
    "keys",
    "select null::uuid as customer_id, c.relname::text as in_table, i.indexrelid::regclass::text as row_key,
         'unique without the tenant' as found, 'the tenant as a part of it' as expected
     from pg_index i
     join pg_class c on c.oid = i.indrelid and c.relnamespace = 'public'::regnamespace
     join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
     where i.indisunique and not a.attnum = any (i.indkey)
         -- A key's public part is made by us at random, and finds its tenant.
         and i.indexrelid::regclass::text <> 'api_keys_prefix_key'
     union all
     select null, c.relname::text, k.conname::text, pg_get_constraintdef(k.oid), 'the tenant as a part of it'
     from pg_constraint k
     join pg_class c on c.oid = k.conrelid and c.relnamespace = 'public'::regnamespace
     join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
     where k.contype = 'f' and not a.attnum = any (k.conkey)",
);

/// Every row is of a tenant that there is.
pub(crate) const I28_TENANTS: Check = Check::new(
    28,
    "tenants",
    "select r.customer_id, r.in_table, r.row_key, 'tenant ' || r.tenant_id as found, 'a tenant' as expected
     from (
         select tenant_id, customer_id, 'customers' as in_table, external_id as row_key from customers
         union all
         select tenant_id, customer_id, 'credit_accounts', 'account' from credit_accounts
         union all
         select tenant_id, customer_id, 'grants', grant_id::text from grants
         union all
         select tenant_id, customer_id, 'transfers', 'version ' || version from transfers
         union all
         select tenant_id, customer_id, 'holds', hold_id from holds
         union all
         select tenant_id, customer_id, 'usage_events', event_id from usage_events
         union all
         select tenant_id, customer_id, 'usage_identities', identity::text from usage_identities
         union all
         select tenant_id, customer_id, 'usage_voids', identity::text from usage_voids
         union all
         select tenant_id, customer_id, 'invoices', invoice_id::text from invoices
         union all
         select tenant_id, customer_id, 'subscriptions', subscription_id::text from subscriptions
         union all
         select tenant_id, null, 'purchases', purchase_id::text from purchases
         union all
         select tenant_id, null, 'payments', payment_id::text from payments
         union all
         select tenant_id, null, 'cycles', subscription_id || ', number ' || number from cycles
     ) r
     where not exists (select from tenants t where t.tenant_id = r.tenant_id)",
);
