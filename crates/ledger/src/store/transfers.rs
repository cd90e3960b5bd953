//! Transfers: only ever added.

use db::schema::transfers;
use db::{Connection, Error, Result};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::account::{Account, Book, Cause, CauseKind, Transfer};
use domain::chain::Link;
use domain::id::{CustomerId, GrantId, TenantId};
use domain::{Credits, Timestamp};
use uuid::Uuid;

use super::by_name;

#[derive(Queryable, Selectable)]
#[diesel(table_name = transfers)]
struct TransferDbRow {
    version: i64,
    debit: String,
    credit: String,
    grant_id: Option<Uuid>,
    credits: i64,
    cause_kind: String,
    cause_id: Uuid,
    event_time: Timestamp,
    recorded_at: Timestamp,
    reverses: Option<i64>,
}

impl TryFrom<TransferDbRow> for Transfer {
    type Error = Error;

    fn try_from(row: TransferDbRow) -> Result<Self> {
        Ok(Transfer {
            version: row.version,
            debit: by_name(&Book::ALL, Book::name, &row.debit)?,
            credit: by_name(&Book::ALL, Book::name, &row.credit)?,
            grant: row.grant_id.map(GrantId::from_uuid),
            credits: Credits::new(row.credits)?,
            cause: Cause {
                kind: by_name(&CauseKind::ALL, CauseKind::name, &row.cause_kind)?,
                id: row.cause_id,
            },
            event_time: row.event_time,
            recorded_at: row.recorded_at,
            reverses: row.reverses,
        })
    }
}

pub(crate) async fn insert_transfers(
    mut tx: &Connection,
    tenant: TenantId,
    accounts: &[&Account],
) -> Result<()> {
    let all: Vec<(CustomerId, &Transfer, &Link)> = accounts
        .iter()
        .flat_map(|a| a.journal().iter().map(|posted| (a.customer(), &posted.transfer, &posted.link)))
        .collect();

    if all.is_empty() {
        return Ok(());
    }
    db::sql_query(
        "insert into transfers (tenant_id, customer_id, version, debit, credit, grant_id, credits, cause_kind,
             cause_id, event_time, recorded_at, reverses, chain)
         select $1, unnest($2), unnest($3), unnest($4), unnest($5), unnest($6), unnest($7), unnest($8), unnest($9),
             unnest($10), unnest($11), unnest($12), unnest($13)",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<Array<SqlUuid>, _>(all.iter().map(|(customer, _, _)| customer.uuid()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(all.iter().map(|(_, t, _)| t.version).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(all.iter().map(|(_, t, _)| t.debit.name()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(all.iter().map(|(_, t, _)| t.credit.name()).collect::<Vec<_>>())
    .bind::<Array<Nullable<SqlUuid>>, _>(
        all.iter().map(|(_, t, _)| t.grant.map(GrantId::uuid)).collect::<Vec<_>>(),
    )
    .bind::<Array<BigInt>, _>(all.iter().map(|(_, t, _)| t.credits.get()).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(all.iter().map(|(_, t, _)| t.cause.kind.name()).collect::<Vec<_>>())
    .bind::<Array<SqlUuid>, _>(all.iter().map(|(_, t, _)| t.cause.id).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(all.iter().map(|(_, t, _)| t.event_time).collect::<Vec<_>>())
    .bind::<Array<Timestamptz>, _>(all.iter().map(|(_, t, _)| t.recorded_at).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(all.iter().map(|(_, t, _)| t.reverses).collect::<Vec<_>>())
    .bind::<Array<Bytea>, _>(all.iter().map(|(_, _, link)| link.0.to_vec()).collect::<Vec<_>>())
    .execute(&mut tx)
    .await?;
    Ok(())
}

pub(crate) async fn transfers_page(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    (after_version, up_to_version): (i64, i64),
    limit: i64,
) -> Result<Vec<Transfer>> {
    let rows: Vec<TransferDbRow> = transfers::table
        .filter(transfers::tenant_id.eq(tenant.uuid()))
        .filter(transfers::customer_id.eq(customer.uuid()))
        .filter(transfers::version.gt(after_version))
        .filter(transfers::version.le(up_to_version))
        .order(transfers::version)
        .limit(limit)
        .select(TransferDbRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Transfer::try_from).collect()
}

/// The transfers of a cause from one version to another, in their order.
pub(crate) async fn transfers_of_cause(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    cause: Cause,
    (from_version, to_version): (i64, i64),
) -> Result<Vec<Transfer>> {
    let rows: Vec<TransferDbRow> = transfers::table
        .filter(transfers::tenant_id.eq(tenant.uuid()))
        .filter(transfers::customer_id.eq(customer.uuid()))
        .filter(transfers::version.between(from_version, to_version))
        .filter(transfers::cause_kind.eq(cause.kind.name()))
        .filter(transfers::cause_id.eq(cause.id))
        .order(transfers::version)
        .select(TransferDbRow::as_select())
        .load(tx)
        .await?;
    rows.into_iter().map(Transfer::try_from).collect()
}
