//! What Tollgate asks of a payment provider.

use domain::id::{CustomerId, InvoiceId, PaymentId, RefundId, TenantId};
use domain::invoice::PaymentReport;
use domain::scope::TenantMode;
use domain::{Money, Timestamp};
use futures_util::future::BoxFuture;

/// A payment to take, or to give up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collect {
    pub tenant: TenantId,
    /// Who pays; the provider keeps a customer of its own for each.
    pub customer: CustomerId,
    pub invoice: InvoiceId,
    /// Also the idempotency key: one payment is taken once, however often it is asked for.
    pub payment: PaymentId,
    pub amount: Money,
    /// The provider's own name of a payment method; no card data.
    pub method: String,
    /// The provider's own id of the payment, where it has told one.
    pub provider_ref: Option<String>,
    /// The tenant's `now`.
    pub now: Timestamp,
}

/// What a provider took, as it counts: in the minor unit of a currency that need not be one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub amount_minor: i64,
    /// ISO 4217, in upper case.
    pub currency: String,
}

impl Taken {
    /// Whether that is the whole of `amount` and no more.
    pub fn is(&self, amount: Money) -> bool {
        self.amount_minor == amount.amount_minor && self.currency == amount.currency.code()
    }
}

impl From<Money> for Taken {
    fn from(amount: Money) -> Self {
        Taken { amount_minor: amount.amount_minor, currency: amount.currency.code().to_owned() }
    }
}

/// What the customer has to do before a payment can go on, for the storefront to arrange. Good for
/// this one payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextAction {
    /// What the provider's script in the customer's browser finishes the payment with.
    pub client_secret: Option<String>,
    /// A page of the provider's to send the customer to.
    pub redirect_url: Option<String>,
}

/// What the provider says about a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collected {
    pub report: PaymentReport,
    /// When it came to be so, by the provider's account: of a success, the instant that a first
    /// cycle starts at.
    pub at: Timestamp,
    /// Of a failure, the provider's code for why.
    pub failure_code: Option<String>,
    /// The provider's own id of the payment.
    pub provider_ref: Option<String>,
    /// Of a success, the money that moved: one over another amount than asked for pays nothing.
    pub taken: Option<Taken>,
    /// Of `RequiresAction`.
    pub action: Option<NextAction>,
}

impl Collected {
    /// A report that says no more than what and when.
    pub fn plain(report: PaymentReport, at: Timestamp) -> Collected {
        Collected { report, at, failure_code: None, provider_ref: None, taken: None, action: None }
    }
}

/// Money of a payment that succeeded, to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GiveBack {
    pub tenant: TenantId,
    /// Also the idempotency key: one refund goes back once, however often it is asked for.
    pub refund: RefundId,
    /// The payment that it is a part or the whole of.
    pub payment: PaymentId,
    /// The provider's own id of the payment, where it has told one.
    pub provider_ref: Option<String>,
    pub amount: Money,
}

/// The provider gave no report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It knows no such payment method, and took nothing. Callers answer `unknown-payment-method`.
    #[error("the payment provider knows no such payment method")]
    UnknownMethod,
    /// It will not give this money back, asked again or not: its code for why.
    #[error("the payment provider refuses the refund: {0}")]
    RefundRefused(String),
    /// It did not answer, or not in words we know: the outcome is unknown, so ask again.
    #[error("the payment provider is unavailable: {0}")]
    Unavailable(String),
}

/// A payment provider. Every call may be repeated: the same payment gets the same outcome.
pub trait PaymentProvider: Send + Sync {
    /// Takes the payment, or says how it stands if it was asked for before.
    fn collect<'a>(&'a self, request: &'a Collect) -> BoxFuture<'a, Result<Collected, ProviderError>>;

    /// Gives the payment up if it has not succeeded, and says how it stands then: only the report
    /// `Canceled` or `Failed` means that it never will succeed (R-10a).
    fn cancel<'a>(&'a self, request: &'a Collect) -> BoxFuture<'a, Result<Collected, ProviderError>>;

    /// Gives money of a payment that succeeded back. Once a refund, however often it is asked for.
    /// `RefundRefused` means that it never will.
    fn refund<'a>(&'a self, request: &'a GiveBack) -> BoxFuture<'a, Result<(), ProviderError>>;

    /// What all methods of one card have in common, where the provider tells. A method of the
    /// other mode than the tenant's is unknown: test methods move no real money.
    fn fingerprint<'a>(
        &'a self,
        tenant: TenantId,
        mode: TenantMode,
        method: &'a str,
    ) -> BoxFuture<'a, Result<Option<String>, ProviderError>>;
}
