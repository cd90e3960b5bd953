//! Keeps a partition ready for the months that usage is written to.

use chrono::{Datelike, Months, NaiveDate};
use db::Result;
use domain::Timestamp;

use crate::{Usage, store};

/// Months ahead of the present one.
const AHEAD: u32 = 2;

impl Usage {
    /// Opens what is missing of the month before `now`, in which late usage lies, the present one, and those
    /// ahead; says how many that were.
    pub async fn open_months(&self, now: Timestamp) -> Result<u32> {
        let first_day = now.date_naive().with_day(1).unwrap_or_default();
        let first_day = first_day.checked_sub_months(Months::new(1)).unwrap_or(first_day);
        let months: Vec<NaiveDate> =
            (0..=AHEAD + 1).filter_map(|ahead| first_day.checked_add_months(Months::new(ahead))).collect();
        let mut opened = 0;
        for month in months {
            let is_new = self
                .parts
                .db
                .all_tenants_transaction(async |tx| store::retention::open_month_all_tenants(tx, month).await)
                .await?;
            opened += u32::from(is_new);
        }
        Ok(opened)
    }
}
