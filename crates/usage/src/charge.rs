//! Charges one event to its account, in memory.

use domain::account::{Account, Cause, CauseKind, EventCost};
use domain::hold::{Capture, charge_instant};
use domain::policy::LateRules;
use domain::rating::{Rated, Unrated};
use domain::{Credits, Timestamp};
use uuid::Uuid;

use crate::record::Receipt;

/// An event that was not charged yet.
pub(crate) struct ToCharge<'a> {
    pub(crate) identity: Uuid,
    pub(crate) event_time: Timestamp,
    /// When the request that brought it was received.
    pub(crate) received_at: Timestamp,
    pub(crate) late: LateRules,
    pub(crate) capture: Capture,
    pub(crate) rated: &'a Result<Rated, Unrated>,
}

impl ToCharge<'_> {
    /// Charges it, or says why it cannot be charged yet; a parked account's is kept.
    pub(crate) fn charge(&self, account: &mut Account, now: Timestamp) -> Receipt {
        let no_hold = match self.capture {
            Capture::Live { .. } => None,
            Capture::None(no_hold) => Some(no_hold.code().to_owned()),
        };
        let rated = match self.rated {
            Ok(_) if account.is_parked() => Err(Unrated::AccountParked),
            rated => rated.as_ref().map_err(|unrated| *unrated),
        };
        let charged = rated.and_then(|rated| {
            let charge = account.charge(&self.cost(rated.credits), now);
            charge.map(|charge| (rated, charge)).map_err(|_| Unrated::AccountOverflow)
        });
        match charged {
            Ok((rated, charge)) => Receipt {
                credits: rated.credits,
                overage: charge.overage,
                unrated_reason: None,
                catalog_version: Some(rated.catalog_version),
                band_prompt_tokens_max: rated.band_prompt_tokens_max,
                rates: rated.rates.clone(),
                draws: charge.draws,
                no_hold,
                balance_after: charge.balance_after,
                version: charge.version,
            },
            Err(unrated) => Receipt {
                credits: Credits::ZERO,
                overage: Credits::ZERO,
                unrated_reason: Some(unrated.code().to_owned()),
                catalog_version: None,
                band_prompt_tokens_max: None,
                rates: Vec::new(),
                draws: Vec::new(),
                no_hold,
                balance_after: account.available(now),
                version: account.version(),
            },
        }
    }

    fn cost(&self, credits: Credits) -> EventCost {
        EventCost {
            credits,
            charge_instant: charge_instant(self.capture, self.event_time, self.received_at),
            is_captured: matches!(self.capture, Capture::Live { .. }),
            received_at: self.received_at,
            late: self.late,
            cause: Cause { kind: CauseKind::Usage, id: self.identity },
            event_time: self.event_time,
        }
    }
}
