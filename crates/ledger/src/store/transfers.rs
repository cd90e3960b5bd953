//! Transfers: only ever added.

use db::schema::transfers;
use db::{Connection, Error, Result, Rows, column};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bytea, Nullable, Text, Timestamptz, Uuid as SqlUuid};
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
    let times = |of: fn(&Transfer) -> Timestamp| all.iter().map(|(_, t, _)| of(t)).collect::<Vec<_>>();
    Rows::default()
        .once::<SqlUuid, _>("tenant_id", tenant.uuid())
        .each([
            column::<SqlUuid, _>("customer_id", all.iter().map(|(customer, _, _)| customer.uuid()).collect()),
            column::<BigInt, _>("version", all.iter().map(|(_, t, _)| t.version).collect()),
            column::<Nullable<SqlUuid>, _>(
                "grant_id",
                all.iter().map(|(_, t, _)| t.grant.map(GrantId::uuid)).collect(),
            ),
            column::<BigInt, _>("credits", all.iter().map(|(_, t, _)| t.credits.get()).collect()),
            column::<SqlUuid, _>("cause_id", all.iter().map(|(_, t, _)| t.cause.id).collect()),
            column::<Bytea, _>("chain", all.iter().map(|(_, _, link)| link.0.as_slice()).collect()),
        ])
        .once_if_alike([column::<Timestamptz, _>("event_time", times(|t| t.event_time))])
        // A batch of usage has one kind of transfer, nearly always.
        .once_if_alike([
            column::<Timestamptz, _>("recorded_at", times(|t| t.recorded_at)),
            column::<Text, _>("debit", all.iter().map(|(_, t, _)| t.debit.name()).collect()),
            column::<Text, _>("credit", all.iter().map(|(_, t, _)| t.credit.name()).collect()),
            column::<Text, _>("cause_kind", all.iter().map(|(_, t, _)| t.cause.kind.name()).collect()),
            column::<Nullable<BigInt>, _>("reverses", all.iter().map(|(_, t, _)| t.reverses).collect()),
        ])
        .insert_into("transfers")
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

/// What the last transfer was for that took anything from what can be spent.
pub(crate) async fn last_taken_by(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<Option<CauseKind>> {
    let last: Option<String> = transfers::table
        .filter(transfers::tenant_id.eq(tenant.uuid()))
        .filter(transfers::customer_id.eq(customer.uuid()))
        .filter(transfers::debit.eq(Book::Available.name()))
        .order(transfers::version.desc())
        .select(transfers::cause_kind)
        .first(tx)
        .await
        .optional()?;
    last.map(|kind| by_name(&CauseKind::ALL, CauseKind::name, &kind)).transpose()
}
