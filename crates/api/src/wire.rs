//! Shapes that several routes share.

use std::sync::Arc;

use chrono::SecondsFormat;
use domain::id::check_printable_ascii;
use domain::usage::TokenCounts;
use domain::{Money as DomainMoney, Timestamp};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// An instant as RFC 3339 has it. Answers are in UTC with microseconds; a request may use any
/// zone, and has to name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-01-31T10:00:00.000000Z")]
pub(crate) struct Instant(pub(crate) Timestamp);

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        domain::time::parse_rfc3339(&text).map(Instant).ok_or_else(|| D::Error::custom(code::NOT_AN_INSTANT))
    }
}

/// An amount of money in the currency's minor unit: 192 USD is 1.92 US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Money {
    #[schema(example = 192, minimum = 0)]
    amount_minor: i64,
    currency: Currency,
}

impl From<DomainMoney> for Money {
    fn from(money: DomainMoney) -> Self {
        Money { amount_minor: money.amount_minor, currency: money.currency.into() }
    }
}

/// An ISO 4217 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) enum Currency {
    #[serde(rename = "USD")]
    Usd,
    #[serde(rename = "CNY")]
    Cny,
}

impl From<domain::Currency> for Currency {
    fn from(currency: domain::Currency) -> Self {
        match currency {
            domain::Currency::Usd => Currency::Usd,
            domain::Currency::Cny => Currency::Cny,
        }
    }
}

impl From<Currency> for domain::Currency {
    fn from(currency: Currency) -> Self {
        match currency {
            Currency::Usd => domain::Currency::Usd,
            Currency::Cny => domain::Currency::Cny,
        }
    }
}

/// A count of tokens: an integer, written without a fraction or an exponent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = u64, minimum = 0, maximum = 1_000_000_000_000_u64)]
pub(crate) struct TokenCount(pub(crate) u64);

impl<'de> Deserialize<'de> for TokenCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let count = u64::deserialize(deserializer)?;
        if count > TokenCounts::COUNT_MAX {
            return Err(D::Error::custom(code::AMOUNT_OVERFLOW));
        }
        Ok(TokenCount(count))
    }
}

/// A text of 1 to `MAX` printable ASCII characters, without spaces. Shared by its clones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Printable<const MAX: usize>(pub(crate) Arc<str>);

impl<'de, const MAX: usize> Deserialize<'de> for Printable<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OfPrintable)
    }
}

/// Reads one where its text stands: no copy of it is made on the way.
struct OfPrintable<const MAX: usize>;

impl<const MAX: usize> Visitor<'_> for OfPrintable<MAX> {
    type Value = Printable<MAX>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Printable<MAX>, E> {
        match check_printable_ascii(text, MAX, "") {
            Ok(()) => Ok(Printable(text.into())),
            Err(_) => Err(E::custom(code::NOT_PRINTABLE_ASCII)),
        }
    }
}

impl<const MAX: usize> Serialize for Printable<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The payment provider's name of a card or an account. In test tenants one of the sandbox's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String, min_length = 1, max_length = 128, example = "pm_sandbox_succeeds")]
pub(crate) struct PaymentMethod(Printable<128>);

impl From<PaymentMethod> for String {
    fn from(method: PaymentMethod) -> Self {
        method.0.0.as_ref().to_owned()
    }
}

/// A part of a list, in the list's own order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) data: Vec<T>,
    /// Sent as `cursor`, it gets what follows; null on the last page.
    #[schema(required)]
    pub(crate) next_cursor: Option<String>,
}

/// A field that may be left out, and is never null.
pub(crate) fn present<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    T::deserialize(deserializer).map(Some)
}

/// The codes that a field of ours is refused with.
pub(crate) mod code {
    pub(crate) const NOT_AN_INSTANT: &str = "not-an-instant";
    pub(crate) const AMOUNT_OVERFLOW: &str = "amount-overflow";
    pub(crate) const NOT_PRINTABLE_ASCII: &str = "not-printable-ascii";
    pub(crate) const OUT_OF_RANGE: &str = "out-of-range";

    pub(crate) const ALL: [&str; 4] = [NOT_AN_INSTANT, AMOUNT_OVERFLOW, NOT_PRINTABLE_ASCII, OUT_OF_RANGE];
}
