//! What the transfers alone say an account's balances are.

use db::{Connection, Result};
use diesel::QueryableByName;
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::id::{CustomerId, TenantId};
use uuid::Uuid;

use crate::rebuild::Difference;

#[derive(QueryableByName)]
struct DifferenceRow {
    #[diesel(sql_type = SqlUuid)]
    customer_id: Uuid,
    #[diesel(sql_type = Text)]
    in_table: String,
    #[diesel(sql_type = Text)]
    row_key: String,
    #[diesel(sql_type = Text)]
    stored: String,
    #[diesel(sql_type = Text)]
    recomputed: String,
}

/// Account and grant columns of some customers that are not what their transfers add up to.
pub(crate) async fn differences(
    tx: &mut Connection,
    tenant: TenantId,
    customers: &[CustomerId],
) -> Result<Vec<Difference>> {
    let sql = format!(
        "with {ACCOUNT_SUMS}, {GRANT_SUMS}
         select a.customer_id, 'credit_accounts' as in_table, field.name as row_key,
             coalesce(field.stored, 'none') as stored, coalesce(field.recomputed, 'none') as recomputed
         from credit_accounts a
         left join account_sums s on s.customer_id = a.customer_id
         cross join lateral (values
             ('version', a.version::text, coalesce(s.version, 0)::text),
             ('issued', a.issued::text, coalesce(s.issued, 0)::text),
             ('available', a.available::text, coalesce(s.available, 0)::text),
             ('spent', a.spent::text, coalesce(s.spent, 0)::text),
             ('expired', a.expired::text, coalesce(s.expired, 0)::text),
             ('revoked', a.revoked::text, coalesce(s.revoked, 0)::text),
             ('overage', a.overage::text, coalesce(s.overage, 0)::text),
             ('last_recorded_at', a.last_recorded_at::text,
                 coalesce(s.last_recorded_at, a.last_recorded_at)::text)) as field (name, stored, recomputed)
         where a.tenant_id = $1 and a.customer_id = any ($2) and field.stored <> field.recomputed
         union all
         select g.customer_id, 'grants', 'gra_' || translate(g.grant_id::text, '-', '') || ', ' || field.name,
             coalesce(field.stored, 'none'), coalesce(field.recomputed, 'none')
         from grants g
         left join grant_sums s on s.customer_id = g.customer_id and s.grant_id = g.grant_id
         cross join lateral (values
             ('amount', g.amount::text, coalesce(s.amount, 0)::text),
             ('spent', g.spent::text, coalesce(s.spent, 0)::text),
             ('expired', g.expired::text, coalesce(s.expired, 0)::text),
             ('revoked', g.revoked::text, coalesce(s.revoked, 0)::text),
             ('remaining', g.remaining::text, (coalesce(s.amount, 0) - coalesce(s.spent, 0)
                 - coalesce(s.expired, 0) - coalesce(s.revoked, 0))::text),
             ('expiry_version', g.expiry_version::text, s.expiry_version::text))
             as field (name, stored, recomputed)
         where g.tenant_id = $1 and g.customer_id = any ($2)
             and field.stored is distinct from field.recomputed"
    );
    let rows: Vec<DifferenceRow> = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(tenant.uuid())
        .bind::<Array<SqlUuid>, _>(customers.iter().map(|customer| customer.uuid()).collect::<Vec<_>>())
        .load(tx)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| Difference {
            customer: CustomerId::from_uuid(row.customer_id),
            table: row.in_table,
            key: row.row_key,
            stored: row.stored,
            recomputed: row.recomputed,
        })
        .collect())
}

/// Writes what the transfers of a customer add up to. The caller has checked that they are whole. The
/// head's version and link stay: they are what that was checked by.
pub(crate) async fn write_sums(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<()> {
    let account = format!(
        "with {ACCOUNT_SUMS}
         update credit_accounts a
         set issued = s.issued, available = s.available, spent = s.spent, expired = s.expired,
             revoked = s.revoked, overage = s.overage, last_recorded_at = s.last_recorded_at
         from account_sums s
         where a.tenant_id = $1 and a.customer_id = s.customer_id"
    );
    let grants = format!(
        "with {GRANT_SUMS}
         update grants g
         set spent = coalesce(s.spent, 0), expired = coalesce(s.expired, 0), revoked = coalesce(s.revoked, 0),
             expiry_version = s.expiry_version
         from grant_sums s
         where g.tenant_id = $1 and g.customer_id = s.customer_id and g.grant_id = s.grant_id"
    );
    for sql in [account, grants] {
        diesel::sql_query(sql)
            .bind::<SqlUuid, _>(tenant.uuid())
            .bind::<Array<SqlUuid>, _>(vec![customer.uuid()])
            .execute(tx)
            .await?;
    }
    Ok(())
}

/// Locks the account as every change of it does.
pub(crate) async fn lock_account(tx: &mut Connection, tenant: TenantId, customer: CustomerId) -> Result<()> {
    diesel::sql_query(
        "select from credit_accounts where tenant_id = $1 and customer_id = $2 for no key update",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .execute(tx)
    .await?;
    Ok(())
}

const ACCOUNT_SUMS: &str = "account_sums as (
    select customer_id, max(version) as version, max(recorded_at) as last_recorded_at,
        coalesce(sum(case 'issued' when credit then credits when debit then -credits end), 0) as issued,
        coalesce(sum(case 'available' when credit then credits when debit then -credits end), 0) as available,
        coalesce(sum(case 'spent' when credit then credits when debit then -credits end), 0) as spent,
        coalesce(sum(case 'expired' when credit then credits when debit then -credits end), 0) as expired,
        coalesce(sum(case 'revoked' when credit then credits when debit then -credits end), 0) as revoked,
        coalesce(sum(case 'overage' when credit then credits when debit then -credits end), 0) as overage
    from transfers where tenant_id = $1 and customer_id = any ($2)
    group by customer_id)";

const GRANT_SUMS: &str = "grant_sums as (
    select customer_id, grant_id,
        sum(credits) filter (where debit = 'issued') as amount,
        sum(case 'spent' when credit then credits when debit then -credits end) as spent,
        sum(case 'expired' when credit then credits when debit then -credits end) as expired,
        sum(case 'revoked' when credit then credits when debit then -credits end) as revoked,
        -- What a void gave back to a grant that had ended may have expired before the rest of it (R-25b).
        coalesce(max(version) filter (where cause_kind = 'expiry'), min(version) filter (where credit = 'expired'))
            as expiry_version
    from transfers where tenant_id = $1 and customer_id = any ($2) and grant_id is not null
    group by customer_id, grant_id)";
