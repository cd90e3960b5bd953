//! What a statement says of each model.

use db::{Connection, Result};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::Credits;
use domain::id::{CustomerId, TenantId};
use domain::statement::ModelUse;

/// What was charged, and what was voided, after one version of the account up to another, by model.
pub(crate) async fn by_model(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    after_version: i64,
    to_version: i64,
) -> Result<Vec<ModelUse>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        model: String,
        #[diesel(sql_type = BigInt)]
        spent: i64,
        #[diesel(sql_type = BigInt)]
        overage: i64,
        #[diesel(sql_type = BigInt)]
        voided: i64,
        #[diesel(sql_type = BigInt)]
        overage_voided: i64,
    }
    let rows: Vec<Row> = db::sql_query(
        "select model, sum(spent)::bigint as spent, sum(overage)::bigint as overage,
             sum(voided)::bigint as voided, sum(overage_voided)::bigint as overage_voided
         from (
             -- Of several calls each is of its own model.
             select coalesce(c.call ->> 0, e.model) as model,
                 coalesce((c.call ->> 2)::bigint - (c.call ->> 3)::bigint, e.credits - e.overage) as spent,
                 coalesce((c.call ->> 3)::bigint, e.overage) as overage, 0 as voided, 0 as overage_voided
             from usage_events e left join lateral jsonb_array_elements(e.calls) as c (call) on true
             where e.tenant_id = $1 and e.customer_id = $2 and e.account_version > $3 and e.account_version <= $4
                 and e.credits > 0
             union all
             -- Of events that were dropped the ledger says what they cost.
             select '', case when debit = 'available' then credits else 0 end,
                 case when debit = 'overage' then credits else 0 end, 0, 0
             from transfers
             where tenant_id = $1 and customer_id = $2 and version > $3 and version <= $4
                 and cause_kind = 'usage' and credit = 'spent' and event_time < usage_kept_from()
             union all
             select coalesce(c.call ->> 0, e.model, ''), 0, 0,
                 coalesce((c.call ->> 2)::bigint - (c.call ->> 3)::bigint, v.credits - v.overage),
                 coalesce((c.call ->> 3)::bigint, v.overage)
             from usage_voids v
             left join usage_events e on e.tenant_id = v.tenant_id and e.customer_id = v.customer_id
                 and e.event_time = v.event_time and e.identity = v.identity
             left join lateral jsonb_array_elements(e.calls) as c (call) on true
             where v.tenant_id = $1 and v.customer_id = $2 and v.account_version > $3
                 and v.account_version <= $4 and v.credits > 0) moved
         group by model order by model",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<BigInt, _>(after_version)
    .bind::<BigInt, _>(to_version)
    .load(tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(ModelUse {
                model: row.model,
                spent: Credits::new(row.spent)?,
                overage: Credits::new(row.overage)?,
                voided: Credits::new(row.voided)?,
                overage_voided: Credits::new(row.overage_voided)?,
            })
        })
        .collect()
}
