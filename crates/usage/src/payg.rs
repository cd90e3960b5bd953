//! The money part of an event (R-30, R-30a): decided with its charge, under its account's lock.

use domain::account::Account;
use domain::catalog::CatalogHistory;
use domain::exhaustion::Exhaustion;
use domain::payg::{KindAmount, Pico, bill, price_event};
use domain::rating::Unrated;
use domain::usage::TokenCounts;
use domain::usage_format::Call;
use domain::{Credits, Currency, Refusal, TenantScope, Timestamp};

/// What an event is priced by, where its customer pays by the token once the grants do not.
#[derive(Clone, Copy)]
pub(crate) struct PaygTerms<'a> {
    pub(crate) scope: &'a TenantScope,
    pub(crate) history: &'a CatalogHistory,
    pub(crate) model: &'a str,
    pub(crate) usage: &'a TokenCounts,
    /// Where it is of several calls.
    pub(crate) calls: &'a [Call],
    pub(crate) event_time: Timestamp,
}

/// What of an event is billed in money.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaygShare {
    pub currency: Currency,
    /// The part of the event's overage that it is for; zero of a model without a Credit rate.
    pub credits: Credits,
    pub pico: Pico,
    /// What the spend cap kept from being billed: overage.
    pub past_cap: Pico,
    /// By kind; they sum to `pico`.
    pub lines: Vec<KindAmount>,
    /// Why the part has no price; then it comes to nothing yet.
    pub unrated_reason: Option<Unrated>,
}

/// Whether an account's usage that no grant covers is billed in money.
pub(crate) fn pays_by_the_token(account: &Account, scope: &TenantScope) -> bool {
    account.overflow().exhaustion(&scope.policies) == Exhaustion::Payg
}

impl PaygTerms<'_> {
    /// The whole price, by the version in force at the event's own time; none where there is none.
    pub(crate) fn price(&self, account: &Account) -> Result<Option<Vec<KindAmount>>, Refusal> {
        let catalog = self.history.at(self.event_time);
        let catalog = catalog.map(AsRef::as_ref);
        price_event(catalog, self.model, self.usage, self.calls, account.overflow().currency)
    }

    /// Bills the uncovered part, and accrues it.
    pub(crate) fn charge(
        &self,
        account: &mut Account,
        whole: &[KindAmount],
        uncovered: Credits,
        cost: Credits,
    ) -> Result<PaygShare, Refusal> {
        let room = account.overflow().room(&self.scope.policies)?;
        let bill = bill(whole, uncovered, cost, room)?;
        account.accrue(bill.pico, self.scope.zone.month_end(self.scope.now))?;
        Ok(PaygShare {
            currency: account.overflow().currency,
            credits: bill.credits,
            pico: bill.pico,
            past_cap: bill.past_cap,
            lines: bill.lines,
            unrated_reason: None,
        })
    }
}

impl PaygShare {
    /// A part that has no price yet.
    pub(crate) fn unrated(currency: Currency, credits: Credits, reason: Unrated) -> PaygShare {
        PaygShare {
            currency,
            credits,
            pico: Pico::ZERO,
            past_cap: Pico::ZERO,
            lines: Vec::new(),
            unrated_reason: Some(reason),
        }
    }
}
