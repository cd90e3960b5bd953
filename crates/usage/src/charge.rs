//! Charges one event to its account, in memory.

use domain::account::{Account, Cause, CauseKind, EventCost};
use domain::hold::{Capture, charge_instant};
use domain::payg::KindAmount;
use domain::policy::LateRules;
use domain::rating::{Rated, RatedCall, Rates, Unrated, band_max};
use domain::usage_format::Call;
use domain::{Credits, Refusal, Timestamp};
use uuid::Uuid;

use crate::calls;
use crate::payg::{PaygShare, PaygTerms};
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
    /// Where it is of several.
    pub(crate) calls: &'a [Call],
    /// Where the customer pays by the token what no grant covers.
    pub(crate) payg: Option<PaygTerms<'a>>,
}

/// How an event was paid for.
struct Paid {
    rated: Rated,
    charge: domain::account::Charge,
    payg: Option<PaygShare>,
}

impl ToCharge<'_> {
    /// Charges it, or says why it cannot be charged yet; a parked account's is kept.
    pub(crate) fn charge(&self, account: &mut Account, now: Timestamp) -> Receipt {
        let no_hold = match self.capture {
            Capture::Live { .. } => None,
            Capture::None(no_hold) => Some(no_hold),
        };
        let charged = match self.rated {
            Ok(_) if account.is_parked() => Err(Unrated::AccountParked),
            Ok(rated) => self.pay(account, rated, now),
            Err(Unrated::NoCreditRate) if !account.is_parked() => self.pay_in_money(account, now),
            Err(Unrated::NoCreditRate) if self.has_price(account) => Err(Unrated::AccountParked),
            Err(unrated) => Err(*unrated),
        };
        match charged {
            Ok(Paid { rated, charge, payg }) => Receipt {
                credits: rated.credits,
                overage: charge.overage,
                payg,
                unrated_reason: None,
                catalog_version: Some(rated.catalog_version),
                band_prompt_tokens_max: rated.band_prompt_tokens_max,
                calls: calls::charged(self.calls, &rated.calls, charge.overage),
                rates: rated.rates,
                draws: charge.draws,
                no_hold,
                balance_after: charge.balance_after,
                version: charge.version,
            },
            Err(unrated) => Receipt {
                credits: Credits::ZERO,
                overage: Credits::ZERO,
                payg: None,
                unrated_reason: Some(unrated),
                catalog_version: None,
                band_prompt_tokens_max: None,
                rates: Rates::NONE,
                calls: calls::not_charged(self.calls),
                draws: Vec::new(),
                no_hold,
                balance_after: account.available(account.last_recorded_at().max(now)),
                version: account.version(),
            },
        }
    }

    /// Whether its customer pays for it in money.
    fn has_price(&self, account: &Account) -> bool {
        let price = self.payg.as_ref().map(|terms| terms.price(account));
        matches!(price, Some(Ok(Some(_))))
    }

    /// By the grants, and what they do not cover as the customer's account goes on without them.
    fn pay(&self, account: &mut Account, rated: &Rated, now: Timestamp) -> Result<Paid, Unrated> {
        let overflow = |_| Unrated::AccountOverflow;
        let cost = self.cost(rated.credits);
        let bill = match &self.payg {
            Some(terms) => self.bill(terms, account, &cost, now)?,
            None => None,
        };
        let charge = account.charge(&cost, now).map_err(overflow)?;
        let payg = match (bill, &self.payg) {
            (Some(Some(whole)), Some(terms)) => {
                Some(terms.charge(account, &whole, charge.overage, cost.credits).map_err(overflow)?)
            }
            (Some(None), Some(_)) => {
                let currency = account.overflow().currency;
                Some(PaygShare::unrated(currency, charge.overage, Unrated::NoPrice))
            }
            (None, _) | (_, None) => None,
        };
        Ok(Paid { rated: rated.clone(), charge, payg })
    }

    /// What the uncovered part is billed by: nothing where there is none, no price where there is none for the band. An event
    /// of which no grant covers anything, and that has no price, is not charged at all yet (R-30a).
    fn bill(
        &self,
        terms: &PaygTerms<'_>,
        account: &Account,
        cost: &EventCost,
        now: Timestamp,
    ) -> Result<Option<Option<Vec<KindAmount>>>, Unrated> {
        let uncovered = account.uncovered(cost, now);
        if uncovered.is_zero() {
            return Ok(None);
        }
        match terms.price(account).map_err(|_: Refusal| Unrated::AccountOverflow)? {
            None if uncovered == cost.credits => Err(Unrated::NoPrice),
            whole => Ok(Some(whole)),
        }
    }

    /// Wholly in money: of a model that has a price and no Credit rate.
    fn pay_in_money(&self, account: &mut Account, now: Timestamp) -> Result<Paid, Unrated> {
        let Some(terms) = &self.payg else { return Err(Unrated::NoCreditRate) };
        let Some(catalog) = terms.history.at(self.event_time) else { return Err(Unrated::NoCatalog) };
        let whole = terms.price(account).map_err(|_| Unrated::AccountOverflow)?;
        let whole = whole.ok_or(Unrated::NoCreditRate)?;
        let payg = terms.charge(account, &whole, Credits::ZERO, Credits::ZERO);
        let payg = payg.map_err(|_| Unrated::AccountOverflow)?;
        let charge = account.charge(&self.cost(Credits::ZERO), now).map_err(|_| Unrated::AccountOverflow)?;
        let of_call = |call: &Call| RatedCall {
            credits: Credits::ZERO,
            band_prompt_tokens_max: band_max(catalog, call.model_of(terms.model), &call.usage),
            rates: Rates::NONE,
        };
        let rated = Rated {
            credits: Credits::ZERO,
            catalog_version: catalog.version(),
            band_prompt_tokens_max: match self.calls {
                [] => band_max(catalog, terms.model, terms.usage),
                _ => None,
            },
            rates: Rates::NONE,
            calls: self.calls.iter().map(of_call).collect(),
        };
        Ok(Paid { rated, charge, payg: Some(payg) })
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
