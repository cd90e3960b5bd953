//! What a request used, as the disjoint token kinds that are priced (R-8).

use serde::{Deserialize, Serialize};

use crate::Refusal;

/// Tokens of one request by kind. The first four are disjoint; `reasoning` is a part of `output`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenCounts {
    pub input: u64,
    pub cache_read: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
}

/// A priced kind of token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenKind {
    Input,
    CacheRead,
    CacheWrite,
    Output,
}

impl TokenKind {
    pub const ALL: [TokenKind; 4] =
        [TokenKind::Input, TokenKind::CacheRead, TokenKind::CacheWrite, TokenKind::Output];

    pub fn name(self) -> &'static str {
        match self {
            TokenKind::Input => "input",
            TokenKind::CacheRead => "cache_read",
            TokenKind::CacheWrite => "cache_write",
            TokenKind::Output => "output",
        }
    }
}

impl TokenCounts {
    /// The largest count of one kind, and the longest prompt, of one event. More is a mistake of who counts: of an event that
    /// costs nothing, one such count would else fill the sums of all that its customer uses in that hour.
    pub const COUNT_MAX: u64 = 1_000_000_000_000;
    /// The largest sum of counts: what a PostgreSQL `bigint` holds.
    pub const SUM_MAX: u64 = i64::MAX as u64;

    pub fn of(&self, kind: TokenKind) -> u64 {
        match kind {
            TokenKind::Input => self.input,
            TokenKind::CacheRead => self.cache_read,
            TokenKind::CacheWrite => self.cache_write,
            TokenKind::Output => self.output,
        }
    }

    /// What is there of one kind; with `output`, its reasoning.
    pub fn only(&self, kind: TokenKind) -> TokenCounts {
        let of = |own| if own == kind { self.of(own) } else { 0 };
        TokenCounts {
            input: of(TokenKind::Input),
            cache_read: of(TokenKind::CacheRead),
            cache_write: of(TokenKind::CacheWrite),
            output: of(TokenKind::Output),
            reasoning: if kind == TokenKind::Output { self.reasoning } else { 0 },
        }
    }

    /// The sum, kind by kind; refused with `amount-overflow` above [`TokenCounts::SUM_MAX`].
    pub fn plus(&self, other: &TokenCounts) -> Result<TokenCounts, Refusal> {
        let sum = |a: u64, b: u64| {
            a.checked_add(b).filter(|sum| *sum <= Self::SUM_MAX).ok_or(Refusal::AmountOverflow)
        };
        Ok(TokenCounts {
            input: sum(self.input, other.input)?,
            cache_read: sum(self.cache_read, other.cache_read)?,
            cache_write: sum(self.cache_write, other.cache_write)?,
            output: sum(self.output, other.output)?,
            reasoning: sum(self.reasoning, other.reasoning)?,
        })
    }

    /// All input kinds together: what chooses the context band (R-7).
    pub fn prompt(&self) -> Result<u64, Refusal> {
        self.input
            .checked_add(self.cache_read)
            .and_then(|sum| sum.checked_add(self.cache_write))
            .filter(|sum| *sum <= Self::COUNT_MAX)
            .ok_or(Refusal::AmountOverflow)
    }

    /// Refuses counts of one event that are too large, or that contradict each other.
    pub fn check(&self) -> Result<(), Refusal> {
        self.prompt()?;
        if self.output > Self::COUNT_MAX {
            return Err(Refusal::AmountOverflow);
        }
        if self.reasoning > self.output {
            return Err(Refusal::invalid_field("/usage/reasoning", "more-than-output"));
        }
        Ok(())
    }
}

/// How the request ended (R-29).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    #[default]
    Completed,
    Aborted,
    Failed,
}

/// Where the token counts come from (R-29).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageSource {
    #[default]
    Provider,
    Estimate,
}

impl Outcome {
    pub const ALL: [Outcome; 3] = [Outcome::Completed, Outcome::Aborted, Outcome::Failed];

    /// The outcome of this name, if there is one.
    pub fn of_name(name: &str) -> Option<Outcome> {
        Outcome::ALL.into_iter().find(|outcome| outcome.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::Aborted => "aborted",
            Outcome::Failed => "failed",
        }
    }
}

impl UsageSource {
    pub const ALL: [UsageSource; 2] = [UsageSource::Provider, UsageSource::Estimate];

    /// The source of this name, if there is one.
    pub fn of_name(name: &str) -> Option<UsageSource> {
        UsageSource::ALL.into_iter().find(|source| source.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            UsageSource::Provider => "provider",
            UsageSource::Estimate => "estimate",
        }
    }
}

/// What makes two events under one id the same event (R-31). A time that the server filled in,
/// the authorization and metadata are not content.
#[derive(Debug, Clone, Copy)]
pub struct EventContent<'a> {
    pub customer: crate::id::CustomerId,
    pub model: &'a str,
    pub usage: TokenCounts,
    /// Where it is of several calls, or of one on another model; `usage` is their sum.
    pub calls: &'a [crate::usage_format::Call],
    pub outcome: Outcome,
    pub usage_source: UsageSource,
    /// Only where the client sent it.
    pub sent_time: Option<crate::Timestamp>,
}

impl EventContent<'_> {
    /// A digest of the canonical content: equal exactly when the content is.
    pub fn digest(&self) -> [u8; 16] {
        let mut text = LengthPrefixed::new();
        text.field(self.customer.uuid().as_bytes());
        text.field(self.model.as_bytes());
        text.counts(&self.usage);
        text.field(self.outcome.name().as_bytes());
        text.field(self.usage_source.name().as_bytes());
        match self.sent_time {
            Some(time) => text.field(&time.timestamp_micros().to_be_bytes()),
            None => text.field(&[]),
        }
        for call in self.calls {
            text.field(call.model.as_ref().map_or("", |model| model.as_str()).as_bytes());
            text.counts(&call.usage);
        }
        text.digest()
    }
}

/// What makes two events under one id the same event while the usage of neither is understood: as
/// [`EventContent`], with the usage as it was sent.
#[derive(Debug, Clone, Copy)]
pub struct RawContent<'a> {
    pub customer: crate::id::CustomerId,
    pub model: &'a str,
    pub usage_format: crate::usage_format::UsageFormat,
    pub usage: &'a str,
    pub outcome: Outcome,
    pub usage_source: UsageSource,
    /// Only where the client sent it.
    pub sent_time: Option<crate::Timestamp>,
}

impl RawContent<'_> {
    /// A digest of the content. Spaces and the order of an object's fields are none.
    pub fn digest(&self) -> [u8; 16] {
        let mut text = LengthPrefixed::new();
        text.field(self.customer.uuid().as_bytes());
        text.field(self.model.as_bytes());
        text.field(self.usage_format.name().as_bytes());
        match serde_json::from_str::<serde_json::Value>(self.usage) {
            Ok(usage) => text.field(usage.to_string().as_bytes()),
            Err(_) => text.field(self.usage.as_bytes()),
        }
        text.field(self.outcome.name().as_bytes());
        text.field(self.usage_source.name().as_bytes());
        match self.sent_time {
            Some(time) => text.field(&time.timestamp_micros().to_be_bytes()),
            None => text.field(&[]),
        }
        text.digest()
    }
}

/// An event's identity: a digest of (tenant, source, id) (R-31).
pub fn event_identity(tenant: crate::id::TenantId, source: &str, id: &str) -> [u8; 16] {
    let mut text = LengthPrefixed::new();
    text.field(tenant.uuid().as_bytes());
    text.field(source.as_bytes());
    text.field(id.as_bytes());
    text.digest()
}

/// Fields with their lengths before them, so that no two lists of fields read alike.
pub(crate) struct LengthPrefixed(Vec<u8>);

impl LengthPrefixed {
    pub(crate) fn new() -> LengthPrefixed {
        // What most come to fits in.
        LengthPrefixed(Vec::with_capacity(256))
    }

    pub(crate) fn field(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn counts(&mut self, counts: &TokenCounts) {
        for kind in TokenKind::ALL {
            self.field(&counts.of(kind).to_be_bytes());
        }
        self.field(&counts.reasoning.to_be_bytes());
    }

    /// The first 16 bytes of SHA-256.
    pub(crate) fn digest(&self) -> [u8; 16] {
        use sha2::Digest;
        let mut first = [0; 16];
        first.copy_from_slice(&sha2::Sha256::digest(&self.0)[..16]);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{CustomerId, TenantId};
    use uuid::Uuid;

    #[test]
    fn identity_does_not_confuse_where_one_field_ends_and_the_next_begins() {
        let tenant = TenantId::from_uuid(Uuid::from_u128(1));
        assert_ne!(event_identity(tenant, "ab", "c"), event_identity(tenant, "a", "bc"));
        assert_ne!(
            event_identity(tenant, "a", "b"),
            event_identity(TenantId::from_uuid(Uuid::from_u128(2)), "a", "b")
        );
    }

    #[test]
    fn every_part_of_the_content_counts() {
        let base = EventContent {
            customer: CustomerId::from_uuid(Uuid::from_u128(1)),
            model: "mimo-v2-pro",
            usage: TokenCounts { input: 1, ..Default::default() },
            calls: &[],
            outcome: Outcome::Completed,
            usage_source: UsageSource::Provider,
            sent_time: None,
        };
        let one = TokenCounts { input: 1, ..Default::default() };
        let call = |model: Option<&str>| crate::usage_format::Call {
            usage: one,
            model: model.map(|model| model.parse().unwrap()),
        };
        let others = [
            EventContent { calls: &[call(None)], ..base },
            EventContent { calls: &[call(Some("mimo-v2-omni"))], ..base },
            EventContent { customer: CustomerId::from_uuid(Uuid::from_u128(2)), ..base },
            EventContent { model: "mimo-v2-omni", ..base },
            EventContent { usage: TokenCounts { output: 1, ..Default::default() }, ..base },
            EventContent { outcome: Outcome::Aborted, ..base },
            EventContent { usage_source: UsageSource::Estimate, ..base },
            EventContent { sent_time: chrono::DateTime::from_timestamp(0, 0), ..base },
        ];
        for other in others {
            assert_ne!(base.digest(), other.digest(), "{other:?}");
        }
        let same = base;
        assert_eq!(base.digest(), same.digest());
    }

    #[test]
    fn raw_content_is_the_same_however_its_json_is_spaced_and_ordered() {
        let base = RawContent {
            customer: CustomerId::from_uuid(Uuid::from_u128(1)),
            model: "mimo-v2-pro",
            usage_format: crate::usage_format::UsageFormat::Gemini,
            usage: r#"{"a": 1, "b": 2}"#,
            outcome: Outcome::Completed,
            usage_source: UsageSource::Provider,
            sent_time: None,
        };
        assert_eq!(base.digest(), RawContent { usage: r#"{"b":2,"a":1}"#, ..base }.digest());
        let others = [
            RawContent { usage: r#"{"a": 1, "b": 3}"#, ..base },
            RawContent { usage: "1e999", ..base },
            RawContent { usage_format: crate::usage_format::UsageFormat::Tollgate, ..base },
            RawContent { customer: CustomerId::from_uuid(Uuid::from_u128(2)), ..base },
            RawContent { model: "mimo-v2-omni", ..base },
            RawContent { outcome: Outcome::Aborted, ..base },
            RawContent { usage_source: UsageSource::Estimate, ..base },
            RawContent { sent_time: chrono::DateTime::from_timestamp(0, 0), ..base },
        ];
        for other in others {
            assert_ne!(base.digest(), other.digest(), "{other:?}");
        }
    }

    #[test]
    fn the_same_count_of_another_kind_is_other_content() {
        let none = TokenCounts::default();
        let usages = [
            none,
            TokenCounts { input: 1, ..none },
            TokenCounts { cache_read: 1, ..none },
            TokenCounts { cache_write: 1, ..none },
            TokenCounts { output: 1, ..none },
            TokenCounts { output: 1, reasoning: 1, ..none },
        ];
        let digest = |usage| {
            let content = EventContent {
                customer: CustomerId::from_uuid(Uuid::from_u128(1)),
                model: "m",
                usage,
                calls: &[],
                outcome: Outcome::Completed,
                usage_source: UsageSource::Provider,
                sent_time: None,
            };
            content.digest()
        };
        let digests: std::collections::BTreeSet<_> = usages.into_iter().map(digest).collect();
        assert_eq!(digests.len(), usages.len());
    }

    #[test]
    fn all_input_kinds_are_the_prompt_and_output_is_not() {
        let usage =
            TokenCounts { input: 1, cache_read: 20, cache_write: 300, output: 4_000, reasoning: 4_000 };
        assert_eq!(usage.prompt(), Ok(321));
        assert_eq!(TokenKind::ALL.map(|kind| usage.of(kind)), [1, 20, 300, 4_000]);
        assert_eq!(usage.check(), Ok(()));
    }

    #[test]
    fn a_million_million_tokens_are_the_most_of_an_event_and_millions_of_them_are_summed_up() {
        let none = TokenCounts::default();
        let max = TokenCounts::COUNT_MAX;
        assert_eq!(TokenCounts { input: max, output: max, ..none }.check(), Ok(()));
        for beyond in [
            TokenCounts { input: max + 1, ..none },
            TokenCounts { cache_read: max + 1, ..none },
            TokenCounts { cache_write: max + 1, ..none },
            TokenCounts { output: max + 1, ..none },
            TokenCounts { input: max, cache_write: 1, ..none },
            TokenCounts { input: u64::MAX, cache_read: 1, cache_write: u64::MAX, ..none },
        ] {
            assert_eq!(beyond.check(), Err(Refusal::AmountOverflow), "{beyond:?}");
        }
        let sum = TokenCounts { input: 9_000_000 * max, ..none };
        assert_eq!(sum.plus(&TokenCounts { input: max, ..none }).map(|sum| sum.input), Ok(9_000_001 * max));
        assert_eq!(sum.plus(&sum), Err(Refusal::AmountOverflow));
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        let counts = TokenCounts { input: u64::MAX, cache_read: 1, ..Default::default() };
        assert_eq!(counts.check(), Err(Refusal::AmountOverflow));
        let counts = TokenCounts { output: 5, reasoning: 6, ..Default::default() };
        assert!(matches!(counts.check(), Err(Refusal::InvalidFields(_))));
    }
}
