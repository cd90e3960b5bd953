//! Drops usage that is old enough, a month at a time: events, receipts and the identities that they were counted under.
//! Their transfers and the sums by the hour stay.

use chrono::{Datelike, Months, NaiveDate};
use db::Result;
use domain::Timestamp;

use crate::{Usage, store};

/// Events that are forgotten in one transaction.
const FORGOTTEN_AT_ONCE: i64 = 20_000;

impl Usage {
    /// Drops all months that ended `months_kept` or more months before the one of `now`; says how many those were. A month in
    /// which an event still waits for its charge stays, with all of it. Killed half way, the next call goes on.
    pub async fn drop_months(&self, now: Timestamp, months_kept: MonthsKept) -> Result<u32> {
        let kept_from = months_kept.kept_from(now);
        let db = &self.parts.db;
        let months: Vec<NaiveDate> = db
            .all_tenants_transaction(async |tx| {
                store::retention::months_before_all_tenants(tx, kept_from).await
            })
            .await?;
        let mut dropped = 0;
        for month in months {
            let is_closed = db
                .all_tenants_transaction(async |tx| {
                    store::retention::close_month_all_tenants(tx, month).await
                })
                .await?;
            if is_closed {
                dropped += 1;
            } else {
                tracing::warn!(%month, "usage of this month waits for a charge, so it is kept");
            }
        }
        while db
            .all_tenants_transaction(async |tx| {
                store::retention::forget_all_tenants(tx, FORGOTTEN_AT_ONCE).await
            })
            .await?
            > 0
        {}
        Ok(dropped)
    }
}

/// For how many whole months usage is kept, besides the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthsKept(u32);

impl MonthsKept {
    /// Two months are more than the 35 days for which an event must count once.
    const MIN: u32 = 2;

    fn kept_from(self, now: Timestamp) -> Timestamp {
        let first_day = now.date_naive().with_day(1).unwrap_or_default();
        let from = first_day.checked_sub_months(Months::new(self.0)).unwrap_or(NaiveDate::MIN);
        from.and_time(chrono::NaiveTime::MIN).and_utc()
    }
}

impl std::str::FromStr for MonthsKept {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.parse() {
            Ok(months) if (Self::MIN..=1_200).contains(&months) => Ok(MonthsKept(months)),
            _ => Err(format!("a number of months from {} to 1200", Self::MIN)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_months_are_kept_and_the_present_one() {
        let kept = |months: &str, now: &str| {
            let kept: MonthsKept = months.parse().unwrap();
            kept.kept_from(domain::time::parse_rfc3339(now).unwrap()).to_rfc3339()
        };
        assert_eq!(kept("2", "2026-03-31T23:59:59Z"), "2026-01-01T00:00:00+00:00");
        assert_eq!(kept("2", "2026-04-01T00:00:00Z"), "2026-02-01T00:00:00+00:00");
        assert_eq!(kept("13", "2026-01-15T00:00:00Z"), "2024-12-01T00:00:00+00:00");
        for wrong in ["1", "0", "-2", "1201", "many", ""] {
            assert!(wrong.parse::<MonthsKept>().is_err(), "{wrong:?}");
        }
    }
}
