//! From when on usage is kept, and what was before that.

use chrono::NaiveDate;
use db::{Connection, Result};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Date, Timestamptz};
use diesel_async::RunQueryDsl;
use domain::Timestamp;

/// From when on usage is kept. No month is taken out until the transaction has ended.
pub(crate) async fn hold_kept_from_all_tenants(tx: &mut Connection) -> Result<Option<Timestamp>> {
    #[derive(QueryableByName)]
    struct Kept {
        #[diesel(sql_type = diesel::sql_types::Nullable<Timestamptz>)]
        kept_from: Option<Timestamp>,
    }
    diesel::sql_query("lock table usage_events in row exclusive mode").execute(tx).await?;
    let kept: Kept =
        db::sql_query("select nullif(usage_kept_from(), '-infinity') as kept_from").get_result(tx).await?;
    Ok(kept.kept_from)
}

/// The first days of the months with usage that end at or before `kept_from`.
pub(crate) async fn months_before_all_tenants(
    tx: &mut Connection,
    kept_from: Timestamp,
) -> Result<Vec<NaiveDate>> {
    #[derive(QueryableByName)]
    struct Month {
        #[diesel(sql_type = Date)]
        month: NaiveDate,
    }
    let months: Vec<Month> = db::sql_query("select month from usage_months_before($1) as month")
        .bind::<Timestamptz, _>(kept_from)
        .load(tx)
        .await?;
    Ok(months.into_iter().map(|month| month.month).collect())
}

/// Takes a month out of usage; false where an event of it waits for its charge.
pub(crate) async fn close_month_all_tenants(tx: &mut Connection, first_day: NaiveDate) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Closed {
        #[diesel(sql_type = Bool)]
        is_closed: bool,
    }
    let closed: Closed = db::sql_query("select close_usage_month($1) as is_closed")
        .bind::<Date, _>(first_day)
        .get_result(tx)
        .await?;
    Ok(closed.is_closed)
}

/// Forgets some of the events that were taken out; says how many.
pub(crate) async fn forget_all_tenants(tx: &mut Connection, events_max: i64) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Forgotten {
        #[diesel(sql_type = BigInt)]
        events: i64,
    }
    let forgotten: Forgotten = db::sql_query("select forget_usage($1) as events")
        .bind::<BigInt, _>(events_max)
        .get_result(tx)
        .await?;
    Ok(forgotten.events)
}

/// Opens the partition of a month; says whether it had to.
pub(crate) async fn open_month_all_tenants(tx: &mut Connection, first_day: NaiveDate) -> Result<bool> {
    #[derive(QueryableByName)]
    struct Opened {
        #[diesel(sql_type = Bool)]
        opened: bool,
    }
    let opened: Opened = db::sql_query("select open_usage_month($1) as opened")
        .bind::<Date, _>(first_day)
        .get_result(tx)
        .await?;
    Ok(opened.opened)
}
