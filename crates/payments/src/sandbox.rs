//! The sandbox provider: the payment method decides what becomes of a payment.

use domain::id::{ExternalId, TenantId};
use domain::invoice::PaymentReport;
use domain::scope::TenantMode;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use crate::{Collect, Collected, GiveBack, PaymentProvider, ProviderError, Taken};

/// Moves no money and keeps no state; see the crate's table of methods.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sandbox;

/// What every method of the sandbox begins with.
const METHOD_START: &str = "pm_sandbox_";

impl Sandbox {
    /// Whether a method is the sandbox's to know or to refuse.
    pub fn owns(method: &str) -> bool {
        method.starts_with(METHOD_START)
    }
}

/// A test payment method, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Method {
    outcome: Outcome,
    card: Option<ExternalId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Succeeds,
    Declines,
    Pends,
}

impl std::str::FromStr for Method {
    type Err = ProviderError;

    fn from_str(text: &str) -> Result<Self, ProviderError> {
        let (name, card) = match text.split_once(':') {
            Some((name, card)) => (name, Some(card.parse().map_err(|_| ProviderError::UnknownMethod)?)),
            None => (text, None),
        };
        let outcome = match name {
            "pm_sandbox_succeeds" => Outcome::Succeeds,
            "pm_sandbox_declines" => Outcome::Declines,
            "pm_sandbox_pends" => Outcome::Pends,
            _ => return Err(ProviderError::UnknownMethod),
        };
        Ok(Method { outcome, card })
    }
}

impl Outcome {
    fn collected(self, when_pending: PaymentReport, request: &Collect) -> Collected {
        let (report, failure_code) = match self {
            Outcome::Succeeds => (PaymentReport::Succeeded, None),
            Outcome::Declines => (PaymentReport::Failed, Some("card_declined".to_owned())),
            Outcome::Pends => (when_pending, None),
        };
        let taken = (report == PaymentReport::Succeeded).then(|| Taken::from(request.amount));
        Collected { failure_code, taken, ..Collected::plain(report, request.now) }
    }
}

impl PaymentProvider for Sandbox {
    fn collect<'a>(&'a self, request: &'a Collect) -> BoxFuture<'a, Result<Collected, ProviderError>> {
        let method = request.method.parse::<Method>();
        ready(method.map(|method| method.outcome.collected(PaymentReport::Pending, request))).boxed()
    }

    fn cancel<'a>(&'a self, request: &'a Collect) -> BoxFuture<'a, Result<Collected, ProviderError>> {
        let method = request.method.parse::<Method>();
        ready(method.map(|method| method.outcome.collected(PaymentReport::Canceled, request))).boxed()
    }

    fn refund<'a>(&'a self, _request: &'a GiveBack) -> BoxFuture<'a, Result<(), ProviderError>> {
        ready(Ok(())).boxed()
    }

    fn fingerprint<'a>(
        &'a self,
        _tenant: TenantId,
        mode: TenantMode,
        method: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, ProviderError>> {
        let method = match mode {
            TenantMode::Test => method.parse::<Method>(),
            TenantMode::Live => Err(ProviderError::UnknownMethod),
        };
        ready(method.map(|method| method.card.map(|card| format!("sandbox:{card}")))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Currency, Money};

    fn now<T>(future: BoxFuture<'_, T>) -> T {
        future.now_or_never().expect("the sandbox answers at once")
    }

    const TENANT: &str = "ten_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d";

    fn fingerprint(mode: TenantMode, method: &str) -> Result<Option<String>, ProviderError> {
        now(Sandbox.fingerprint(TENANT.parse().unwrap(), mode, method))
    }

    fn request(method: &str) -> Collect {
        Collect {
            tenant: TENANT.parse().unwrap(),
            customer: "cus_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d".parse().unwrap(),
            invoice: "inv_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d".parse().unwrap(),
            payment: "pay_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d".parse().unwrap(),
            amount: Money::new(192, Currency::Usd).unwrap(),
            method: method.to_owned(),
            provider_ref: None,
            now: domain::time::parse_rfc3339("2026-01-31T10:00:00Z").unwrap(),
        }
    }

    #[test]
    fn the_method_decides() {
        use PaymentReport::{Canceled, Failed, Pending, Succeeded};
        for (method, collected, canceled, failure_code) in [
            ("pm_sandbox_succeeds", Succeeded, Succeeded, None),
            ("pm_sandbox_declines:anna", Failed, Failed, Some("card_declined")),
            ("pm_sandbox_pends", Pending, Canceled, None),
        ] {
            let request = request(method);
            for (answer, report) in
                [(now(Sandbox.collect(&request)), collected), (now(Sandbox.cancel(&request)), canceled)]
            {
                let failure_code = failure_code.map(str::to_owned);
                let taken = (report == Succeeded).then(|| request.amount.into());
                let plain = Collected::plain(report, request.now);
                assert_eq!(answer, Ok(Collected { failure_code, taken, ..plain }), "{method}");
            }
        }
    }

    #[test]
    fn a_live_tenant_has_no_sandbox() {
        let live = fingerprint(TenantMode::Live, "pm_sandbox_succeeds");
        assert_eq!(live, Err(ProviderError::UnknownMethod));
    }

    #[test]
    fn a_card_is_a_fingerprint() {
        let fingerprint = |method| fingerprint(TenantMode::Test, method);
        assert_eq!(fingerprint("pm_sandbox_succeeds"), Ok(None));
        assert_eq!(fingerprint("pm_sandbox_succeeds:anna"), Ok(Some("sandbox:anna".to_owned())));
        assert_eq!(fingerprint("pm_sandbox_pends:anna"), fingerprint("pm_sandbox_declines:anna"));
    }

    #[test]
    fn any_other_method_is_unknown() {
        for method in
            ["", "pm_card_visa", "pm_sandbox_succeeds:", "pm_sandbox_succeeds:a b", "PM_SANDBOX_PENDS"]
        {
            assert_eq!(
                now(Sandbox.collect(&request(method))),
                Err(ProviderError::UnknownMethod),
                "{method:?}"
            );
            assert_eq!(
                fingerprint(TenantMode::Test, method),
                Err(ProviderError::UnknownMethod),
                "{method:?}"
            );
        }
    }
}
