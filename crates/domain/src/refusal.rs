//! Every expected "no": a value with a stable code, never an error with a source.
//!
//! A refusal says what the caller may do about it. Only `api` maps one to HTTP, in one exhaustive
//! match. Faults (storage away, a bug) are not refusals: they are the error types of the shells.

use crate::credits::Credits;
use crate::id::{InvoiceId, SubscriptionId};
use crate::money::{Currency, Money};
use crate::time::Timestamp;

/// One invalid field: a JSON pointer into the body (or the name of a query parameter) and a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub pointer: String,
    pub code: String,
}

/// Why a request is out of Credits, with all that a coding tool should show (R-33a).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutOfCredits {
    /// What the prompt alone costs.
    pub needed: Credits,
    /// What is left and not held.
    pub remaining: Credits,
    /// When the pool fills again; `None` without a paid renewal ahead.
    pub resets_at: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    // Input
    #[error("a field is invalid")]
    InvalidFields(Vec<FieldError>),
    #[error("an amount is larger than Tollgate counts")]
    AmountOverflow,
    #[error("the event's time lies outside the accepted window")]
    EventTimeOutOfRange,
    #[error("the page cursor is not one of this list's")]
    InvalidCursor,
    #[error("the Idempotency-Key header is missing")]
    IdempotencyKeyMissing,
    #[error("the Idempotency-Key header is not 1 to 255 printable ASCII characters")]
    IdempotencyKeyInvalid,
    #[error("the Idempotency-Key was used for another request")]
    IdempotencyKeyReused,

    // Who asks
    #[error("no valid credentials")]
    Unauthenticated,
    #[error("these credentials do not carry the scope {needed}")]
    InsufficientScope { needed: &'static str },
    #[error("there is no such {what}")]
    NotFound { what: &'static str },

    // Catalogue
    #[error("the catalogue has no plan of this code")]
    UnknownPlan,
    #[error("no rate for this model, band or token kind: {reason}")]
    NotRated { reason: String },
    #[error("the catalogue has no top-up of this code")]
    UnknownTopUp,
    #[error("there is no price in {currency}")]
    NoPriceInCurrency { currency: Currency },
    #[error("the catalogue is invalid")]
    InvalidCatalog { problems: Vec<String> },
    #[error("the catalogue's effective instant does not come after the version before it")]
    CatalogNotLater,
    #[error("a catalogue in force from an instant in the past may only add lines where there were none")]
    CatalogInThePast,

    // Customers
    #[error("a customer with this external id exists")]
    CustomerExists,

    // Subscribing and changing plan
    #[error("the customer has a live subscription")]
    AlreadySubscribed { subscription: SubscriptionId },
    #[error("the first-cycle promotion was used before; the list price is {list_price}")]
    PromotionUsed { list_price: Money },
    #[error("the catalogue has no promotion of this code")]
    UnknownPromotion,
    #[error("the quote is expired, outdated or another subscription's")]
    QuoteNotValid,
    #[error("a downgrade takes effect at the cycle's end, {effective_at}")]
    DowngradeWithinCycle { effective_at: Timestamp },
    #[error("the plan is not a higher one")]
    NotAnUpgrade,
    #[error("the plan is not a lower one")]
    NotADowngrade,
    #[error("an upgrade is waiting for its payment")]
    UpgradePending,
    #[error("no change is scheduled")]
    NothingScheduled,
    #[error("the subscription is waiting for its first payment")]
    SubscriptionIncomplete,
    #[error("the subscription's renewal is unpaid")]
    SubscriptionPastDue,
    #[error("the subscription is suspended")]
    SubscriptionSuspended,
    #[error("the subscription is not suspended")]
    SubscriptionNotSuspended,
    #[error("the subscription has ended")]
    SubscriptionEnded,
    #[error("the subscription's cycle is over and its renewal is being processed")]
    CycleEnded,

    // Paying
    #[error("the payment was declined")]
    PaymentDeclined { subscription: Option<SubscriptionId>, invoice: InvoiceId },
    #[error("the invoice is not open")]
    InvoiceNotOpen,
    #[error("a payment of this invoice is in flight")]
    PaymentPending,
    #[error("the invoice has not been paid")]
    InvoiceNotPaid,
    #[error("the whole payment has been refunded")]
    AlreadyRefunded,
    #[error("no more than {rest} of the payment can be refunded")]
    RefundTooLarge { rest: Money },
    #[error("the payment is disputed, and its money is with the customer's bank")]
    PaymentDisputed,
    #[error("the payment is in another currency")]
    CurrencyMismatch,
    #[error("a card's number is no payment method and no name: send the provider's own reference")]
    CardDataRefused,
    #[error("the payment provider knows no such payment method")]
    UnknownPaymentMethod,
    #[error("the tenant has no account at a payment provider")]
    NoPaymentProvider,
    /// Of a payment provider's webhook: missing, wrong, or made at another time than now.
    #[error("the signature is not one that the payment provider would make now")]
    InvalidSignature,

    // Spending
    #[error("out of Credits")]
    OutOfCredits(OutOfCredits),
    #[error("the account is parked until an operator has looked at it")]
    AccountParked,
    #[error("this authorization id was used for another request")]
    AuthorizationReused,
    #[error("the authorization has ended")]
    AuthorizationEnded,
    #[error("the authorization has the longest life that one may have")]
    AuthorizationNotRenewable,
    #[error("the authorization is another customer's")]
    AuthorizationForeign,
    #[error("this event id was used for other content")]
    EventConflict,

    #[error("usage that is priced in the other currency is not invoiced yet")]
    UsageNotInvoiced,

    // Adjusting
    #[error("the grant has {remaining} Credits left to revoke")]
    MoreThanRemains { remaining: Credits },
    #[error("the campaign's tag was used with other Credits or another expiry")]
    CampaignDiffers,

    // Webhooks
    #[error("the URL is not allowed: {reason}")]
    UrlNotAllowed { reason: &'static str },

    // Test clock
    #[error("a live tenant has no test clock")]
    NotATestTenant,
    #[error("a test clock moves forward only")]
    ClockMovesBack,
}

impl Refusal {
    /// The stable code that clients may branch on; the last part of a problem's `type`.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::InvalidFields(_) => "invalid-field",
            Refusal::AmountOverflow => "amount-overflow",
            Refusal::EventTimeOutOfRange => "event-time-out-of-range",
            Refusal::InvalidCursor => "invalid-cursor",
            Refusal::IdempotencyKeyMissing => "idempotency-key-missing",
            Refusal::IdempotencyKeyInvalid => "idempotency-key-invalid",
            Refusal::IdempotencyKeyReused => "idempotency-key-reused",
            Refusal::Unauthenticated => "unauthenticated",
            Refusal::InsufficientScope { .. } => "insufficient-scope",
            Refusal::NotFound { .. } => "not-found",
            Refusal::UnknownPlan => "unknown-plan",
            Refusal::UnknownTopUp => "unknown-top-up",
            Refusal::NotRated { .. } => "not-rated",
            Refusal::NoPriceInCurrency { .. } => "no-price-in-currency",
            Refusal::InvalidCatalog { .. } => "invalid-catalog",
            Refusal::CatalogNotLater => "catalog-not-later",
            Refusal::CatalogInThePast => "catalog-in-the-past",
            Refusal::CustomerExists => "customer-exists",
            Refusal::AlreadySubscribed { .. } => "already-subscribed",
            Refusal::PromotionUsed { .. } => "promotion-used",
            Refusal::UnknownPromotion => "unknown-promotion",
            Refusal::QuoteNotValid => "quote-not-valid",
            Refusal::DowngradeWithinCycle { .. } => "downgrade-within-cycle",
            Refusal::NotAnUpgrade => "not-an-upgrade",
            Refusal::NotADowngrade => "not-a-downgrade",
            Refusal::UpgradePending => "upgrade-pending",
            Refusal::NothingScheduled => "nothing-scheduled",
            Refusal::SubscriptionIncomplete => "subscription-incomplete",
            Refusal::SubscriptionPastDue => "subscription-past-due",
            Refusal::SubscriptionSuspended => "subscription-suspended",
            Refusal::SubscriptionNotSuspended => "subscription-not-suspended",
            Refusal::SubscriptionEnded => "subscription-ended",
            Refusal::CycleEnded => "cycle-ended",
            Refusal::PaymentDeclined { .. } => "payment-declined",
            Refusal::InvoiceNotOpen => "invoice-not-open",
            Refusal::PaymentPending => "payment-pending",
            Refusal::InvoiceNotPaid => "invoice-not-paid",
            Refusal::AlreadyRefunded => "already-refunded",
            Refusal::RefundTooLarge { .. } => "refund-too-large",
            Refusal::PaymentDisputed => "payment-disputed",
            Refusal::CurrencyMismatch => "currency-mismatch",
            Refusal::CardDataRefused => "card-data-refused",
            Refusal::UnknownPaymentMethod => "unknown-payment-method",
            Refusal::NoPaymentProvider => "no-payment-provider",
            Refusal::InvalidSignature => "invalid-signature",
            Refusal::OutOfCredits(_) => "insufficient_quota",
            Refusal::AccountParked => "account-parked",
            Refusal::AuthorizationReused => "authorization-reused",
            Refusal::AuthorizationEnded => "authorization-ended",
            Refusal::AuthorizationNotRenewable => "authorization-not-renewable",
            Refusal::AuthorizationForeign => "authorization-foreign",
            Refusal::EventConflict => "event-conflict",
            Refusal::UsageNotInvoiced => "usage-not-invoiced",
            Refusal::MoreThanRemains { .. } => "more-than-remains",
            Refusal::CampaignDiffers => "campaign-differs",
            Refusal::UrlNotAllowed { .. } => "url-not-allowed",
            Refusal::NotATestTenant => "not-a-test-tenant",
            Refusal::ClockMovesBack => "clock-moves-back",
        }
    }

    /// A refusal of one field, by JSON pointer.
    pub fn invalid_field(pointer: &str, code: &str) -> Refusal {
        Refusal::InvalidFields(vec![FieldError { pointer: pointer.to_owned(), code: code.to_owned() }])
    }
}
