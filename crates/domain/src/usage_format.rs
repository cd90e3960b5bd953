//! A vendor's usage object as disjoint token kinds (R-8), or the reason why it is not understood.
//!
//! Vendors use the same field names for different things: `input_tokens` has the cached tokens inside in one
//! format and outside in another. So [`normalise`] is told the [`UsageFormat`] and never guesses it. A gateway
//! that re-emits one shape with another's meaning names the format whose meaning it kept.
//!
//! | | input (not cached) | cache read | cache write | output | of that, reasoning |
//! |---|---|---|---|---|---|
//! | `tollgate` | `input` | `cache_read` | `cache_write` | `output` | `reasoning` |
//! | `openai.chat` | `prompt_tokens` less the two beside it | `cached_tokens` | `cache_write_tokens` | `completion_tokens` | `reasoning_tokens` |
//! | `openai.responses` | `input_tokens` less the two beside it | `cached_tokens` | `cache_write_tokens` | `output_tokens` | `reasoning_tokens` |
//! | `anthropic.messages` | `input_tokens` as it is | `cache_read_input_tokens` | `cache_creation_input_tokens` | `output_tokens` | `thinking_tokens` |
//! | `gemini` | `promptTokenCount` + `toolUsePromptTokenCount` less the one beside it | `cachedContentTokenCount` | none | `candidatesTokenCount` + `thoughtsTokenCount` | `thoughtsTokenCount` |
//!
//! What chooses the context band is [`TokenCounts::prompt`]: the three input kinds together (R-7). Output does
//! not count towards it.
//!
//! # Null, missing and zero
//!
//! Three things. An explicit zero is always a zero, and a call that used nothing costs nothing.
//!
//! | field | missing | null |
//! |---|---|---|
//! | `tollgate`: any kind | zero: what is left out is none | quarantined |
//! | OpenAI: prompt, completion or input, output; `total_tokens` | quarantined | quarantined |
//! | OpenAI: the two `..._details`, and what is in them | zero | zero: the API documents them as nullable |
//! | Anthropic: `input_tokens`, `output_tokens` | quarantined | quarantined |
//! | Anthropic: cache counts, `cache_creation`, `output_tokens_details` | zero | zero: documented as nullable |
//! | Anthropic: any field of a stream's later part | the value before it stays | the value before it stays |
//! | Anthropic: `iterations` | the object is one call | the object is one call |
//! | Gemini: `promptTokenCount`, `totalTokenCount` | quarantined | quarantined |
//! | Gemini: all other counts | zero: its JSON leaves zeros out, and the total would tell | zero |
//!
//! # What is quarantined
//!
//! A [`Quarantined`] usage is never billed and never dropped: whoever called keeps the raw JSON beside the
//! reason. Reasons are an identity that fails (a total that is not prompt plus output, a part larger than its
//! whole, a breakdown that does not add up), a number that is no count, and a shape that is not known.
//!
//! Fields that count no tokens (`service_tier`, `cost`, `server_tool_use`) are left alone. Counts by modality
//! (audio, image, text, accepted and rejected predictions) are parts of the prompt or of the output in every
//! format: they are charged there, at its rate, and only checked to fit into it. Any *other* field that counts
//! tokens and is not zero is quarantined: the total shows that nothing lies outside it, but not at which rate.

mod anthropic_messages;
mod fields;
mod gemini;
mod openai_chat;
mod openai_responses;
mod tollgate;

#[cfg(test)]
mod testing;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::ExternalId;
use crate::usage::TokenCounts;

/// Whose field names, and whose meaning of them, a usage object has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UsageFormat {
    /// Our own: the disjoint kinds by name.
    #[serde(rename = "tollgate")]
    Tollgate,
    /// `usage` of OpenAI's Chat Completions; in a stream, that of its last chunk.
    #[serde(rename = "openai.chat")]
    OpenaiChat,
    /// `usage` of OpenAI's Responses; in a stream, that of the event which ends it.
    #[serde(rename = "openai.responses")]
    OpenaiResponses,
    /// `usage` of Anthropic's Messages. A stream is the array of `message_start`'s and every
    /// `message_delta`'s, in order.
    #[serde(rename = "anthropic.messages")]
    AnthropicMessages,
    /// `usageMetadata` of Gemini's generateContent. A stream is the array of every chunk's.
    #[serde(rename = "gemini")]
    Gemini,
}

impl UsageFormat {
    pub const ALL: [UsageFormat; 5] = [
        UsageFormat::Tollgate,
        UsageFormat::OpenaiChat,
        UsageFormat::OpenaiResponses,
        UsageFormat::AnthropicMessages,
        UsageFormat::Gemini,
    ];

    pub fn name(self) -> &'static str {
        match self {
            UsageFormat::Tollgate => "tollgate",
            UsageFormat::OpenaiChat => "openai.chat",
            UsageFormat::OpenaiResponses => "openai.responses",
            UsageFormat::AnthropicMessages => "anthropic.messages",
            UsageFormat::Gemini => "gemini",
        }
    }

    /// The format of this name, if there is one.
    pub fn of_name(name: &str) -> Option<UsageFormat> {
        UsageFormat::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// One call of a model: what a context band and its rates apply to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub usage: TokenCounts,
    /// Where the vendor ran this call on another model than the one that was asked for; none where it is the
    /// event's own.
    pub model: Option<ExternalId>,
}

impl Call {
    fn of(usage: TokenCounts) -> Call {
        Call { usage, model: None }
    }

    /// The model that it ran on, where the event names this one.
    pub fn model_of<'a>(&'a self, event: &'a str) -> &'a str {
        self.model.as_ref().map_or(event, |model| model.as_str())
    }
}

/// Why a usage object is neither billed nor dropped: a stable code, and a sentence with the field's JSON
/// pointer and its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub reason: Reason,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// An object or a list was expected.
    WrongShape,
    MissingCount,
    NullCount,
    NotANumber,
    NegativeCount,
    NotAWholeNumber,
    CountTooLarge,
    /// The total is not the sum of the prompt and the output.
    TotalDiffers,
    /// Cached tokens above the prompt's, reasoning above the output.
    PartExceedsWhole,
    /// A count and its breakdown disagree.
    PartsDiffer,
    /// Tokens are counted under a name that this format does not have.
    UnknownTokenField,
    /// Our own format has no such field.
    UnknownField,
    UnknownIteration,
    MissingModel,
    /// The whole and its iterations disagree.
    IterationsDiffer,
    /// A stream without its last counts.
    StreamUnfinished,
    /// JSON that cannot be read: a number beyond all ranges.
    Unreadable,
}

impl Reason {
    pub fn code(self) -> &'static str {
        match self {
            Reason::WrongShape => "wrong-shape",
            Reason::MissingCount => "missing-count",
            Reason::NullCount => "null-count",
            Reason::NotANumber => "not-a-number",
            Reason::NegativeCount => "negative-count",
            Reason::NotAWholeNumber => "not-a-whole-number",
            Reason::CountTooLarge => "count-too-large",
            Reason::TotalDiffers => "total-differs",
            Reason::PartExceedsWhole => "part-exceeds-whole",
            Reason::PartsDiffer => "parts-differ",
            Reason::UnknownTokenField => "unknown-token-field",
            Reason::UnknownField => "unknown-field",
            Reason::UnknownIteration => "unknown-iteration",
            Reason::MissingModel => "missing-model",
            Reason::IterationsDiffer => "iterations-differ",
            Reason::StreamUnfinished => "stream-unfinished",
            Reason::Unreadable => "unreadable",
        }
    }

    fn because(self, message: String) -> Quarantined {
        Quarantined { reason: self, message }
    }
}

/// The calls that a usage object reports: one, but for Anthropic's `iterations`, of which each is banded by
/// itself. Never none.
pub fn normalise(format: UsageFormat, raw: &Value) -> Result<Vec<Call>, Quarantined> {
    let calls = match format {
        UsageFormat::Tollgate => vec![Call::of(tollgate::read(raw)?)],
        UsageFormat::OpenaiChat => vec![Call::of(openai_chat::read(raw)?)],
        UsageFormat::OpenaiResponses => vec![Call::of(openai_responses::read(raw)?)],
        UsageFormat::AnthropicMessages => anthropic_messages::read(raw)?,
        UsageFormat::Gemini => vec![Call::of(gemini::read(raw)?)],
    };
    for call in &calls {
        check(&call.usage)?;
    }
    Ok(calls)
}

/// The same, of a usage as it was received.
pub fn normalise_text(format: UsageFormat, raw: &str) -> Result<Vec<Call>, Quarantined> {
    let raw = serde_json::from_str(raw)
        .map_err(|error| Reason::Unreadable.because(format!("the usage cannot be read: {error}")))?;
    normalise(format, &raw)
}

/// What holds for every call in every format.
fn check(usage: &TokenCounts) -> Result<(), Quarantined> {
    if usage.prompt().is_err() {
        let TokenCounts { input, cache_read, cache_write, .. } = usage;
        let max = TokenCounts::COUNT_MAX;
        return Err(Reason::CountTooLarge.because(format!(
            "the prompt is {input} + {cache_read} + {cache_write} tokens, which is above {max}"
        )));
    }
    if usage.output > TokenCounts::COUNT_MAX {
        let max = TokenCounts::COUNT_MAX;
        return Err(
            Reason::CountTooLarge.because(format!("the output is {} tokens, above {max}", usage.output))
        );
    }
    if usage.reasoning > usage.output {
        return Err(Reason::PartExceedsWhole.because(format!(
            "reasoning is {} tokens, more than the {} of the output that it is a part of",
            usage.reasoning, usage.output
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::testing::*;
    use super::*;

    #[test]
    fn a_format_is_known_by_its_name_alone() {
        for format in UsageFormat::ALL {
            assert_eq!(UsageFormat::of_name(format.name()), Some(format));
            assert_eq!(json!(format), json!(format.name()));
        }
        for name in ["", "openai", "OpenAI.Chat", "anthropic"] {
            assert_eq!(UsageFormat::of_name(name), None);
        }
    }

    #[test]
    fn one_object_means_different_tokens_in_different_formats() {
        // Given counts that have the same names in two formats,
        let usage = json!({"input_tokens": 100, "output_tokens": 10, "total_tokens": 110});
        // then the format decides, and where it does not know a count, it does not guess.
        assert_eq!(one_call(UsageFormat::OpenaiResponses, &usage), counts([100, 0, 0, 10, 0]));
        let (reason, message) = quarantined(UsageFormat::AnthropicMessages, &usage);
        assert_eq!(reason, Reason::UnknownTokenField);
        assert_eq!(message, "/total_tokens counts tokens that this format does not know of");
    }

    #[test]
    fn a_message_repeats_only_the_beginning_of_what_others_wrote() {
        let name = format!("a\n{}", "b".repeat(1_000));
        let (_, message) = quarantined(UsageFormat::Tollgate, &json!({name: 1}));
        assert_eq!(message, format!("/a{} is not a field of this format", "b".repeat(63)));
    }

    #[test]
    fn a_number_beyond_all_ranges_is_quarantined_too() {
        let read = |text: &str| normalise_text(UsageFormat::Tollgate, text);
        assert_eq!(read(r#"{"input": 7}"#), Ok(vec![Call::of(counts([7, 0, 0, 0, 0]))]));
        let unread = read(r#"{"input": 1e999}"#).unwrap_err();
        assert_eq!(unread.reason, Reason::Unreadable);
        assert_eq!(unread.message, "the usage cannot be read: number out of range at line 1 column 15");
    }

    #[test]
    fn every_reason_has_a_code_of_its_own() {
        let reasons = [
            Reason::WrongShape,
            Reason::MissingCount,
            Reason::NullCount,
            Reason::NotANumber,
            Reason::NegativeCount,
            Reason::NotAWholeNumber,
            Reason::CountTooLarge,
            Reason::TotalDiffers,
            Reason::PartExceedsWhole,
            Reason::PartsDiffer,
            Reason::UnknownTokenField,
            Reason::UnknownField,
            Reason::UnknownIteration,
            Reason::MissingModel,
            Reason::IterationsDiffer,
            Reason::StreamUnfinished,
            Reason::Unreadable,
        ];
        let codes: std::collections::BTreeSet<_> = reasons.map(Reason::code).into_iter().collect();
        assert_eq!(codes.len(), reasons.len());
    }

    /// A vendor's usage of these kinds; none where the format has no such kind.
    fn write(format: UsageFormat, usage: TokenCounts) -> Option<Value> {
        let TokenCounts { input, cache_read, cache_write, output, reasoning } = usage;
        let prompt = input + cache_read + cache_write;
        Some(match format {
            UsageFormat::Tollgate => json!(usage),
            UsageFormat::OpenaiChat => json!({
                "prompt_tokens": prompt,
                "completion_tokens": output,
                "total_tokens": prompt + output,
                "prompt_tokens_details": {"cached_tokens": cache_read, "cache_write_tokens": cache_write},
                "completion_tokens_details": {"reasoning_tokens": reasoning}
            }),
            UsageFormat::OpenaiResponses => json!({
                "input_tokens": prompt,
                "output_tokens": output,
                "total_tokens": prompt + output,
                "input_tokens_details": {"cached_tokens": cache_read, "cache_write_tokens": cache_write},
                "output_tokens_details": {"reasoning_tokens": reasoning}
            }),
            UsageFormat::AnthropicMessages => json!({
                "input_tokens": input,
                "cache_read_input_tokens": cache_read,
                "cache_creation_input_tokens": cache_write,
                "output_tokens": output,
                "output_tokens_details": {"thinking_tokens": reasoning}
            }),
            UsageFormat::Gemini if cache_write > 0 => return None,
            UsageFormat::Gemini => json!({
                "promptTokenCount": prompt,
                "cachedContentTokenCount": cache_read,
                "candidatesTokenCount": output - reasoning,
                "thoughtsTokenCount": reasoning,
                "totalTokenCount": prompt + output
            }),
        })
    }

    /// Names that mean something in some format, so that what is made of them often nearly fits.
    const NAMES: [&str; 26] = [
        "input",
        "cache_read",
        "output",
        "reasoning",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
        "cached_tokens",
        "cache_write_tokens",
        "reasoning_tokens",
        "input_tokens",
        "output_tokens",
        "input_tokens_details",
        "output_tokens_details",
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cache_creation",
        "iterations",
        "type",
        "promptTokenCount",
        "candidatesTokenCount",
        "cachedContentTokenCount",
        "totalTokenCount",
        "unheard_of",
    ];

    fn any_json() -> impl Strategy<Value = Value> {
        let number = prop_oneof![
            8 => (0u64..4).prop_map(|number| json!(number)),
            1 => any::<u64>().prop_map(|number| json!(number)),
            1 => any::<i64>().prop_map(|number| json!(number)),
            1 => Just(json!(TokenCounts::COUNT_MAX)),
        ];
        let leaf = prop_oneof![
            8 => number,
            1 => Just(Value::Null),
            1 => any::<bool>().prop_map(Value::Bool),
            1 => ".{0,8}".prop_map(Value::String),
            1 => Just(json!("message")),
            1 => proptest::sample::select(vec!["1.5", "-0.0", "1e300", "-1e300", "1e-9"])
                .prop_map(|text| serde_json::from_str(text).unwrap()),
        ];
        leaf.prop_recursive(4, 40, 8, |inner| {
            let name = proptest::sample::select(NAMES.to_vec()).prop_map(str::to_owned);
            prop_oneof![
                1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                4 => prop::collection::btree_map(name, inner, 0..8)
                    .prop_map(|object| Value::Object(object.into_iter().collect())),
            ]
        })
    }

    /// A well-formed usage with one value, somewhere in it, replaced.
    fn damaged() -> impl Strategy<Value = (UsageFormat, Value)> {
        let kinds = prop::array::uniform5(0u64..5);
        let place = any::<prop::sample::Index>();
        let format = proptest::sample::select(UsageFormat::ALL.to_vec());
        (format, kinds, any_json(), place).prop_map(|(format, kinds, other, place)| {
            let mut usage = counts(kinds);
            usage.cache_write = 0;
            usage.reasoning = usage.reasoning.min(usage.output);
            let mut raw = write(format, usage).unwrap();
            let object = raw.as_object_mut().unwrap();
            let names: Vec<String> = object.keys().cloned().collect();
            let name = names[place.index(names.len())].clone();
            object.insert(name, other);
            (format, raw)
        })
    }

    /// All tokens that a usage without iterations states, as the vendor totals them.
    fn stated_total(format: UsageFormat, raw: &Value) -> Option<u64> {
        let count = |name: &str| raw.get(name).and_then(Value::as_u64).unwrap_or(0);
        match format {
            UsageFormat::Tollgate => {
                Some(count("input") + count("cache_read") + count("cache_write") + count("output"))
            }
            UsageFormat::OpenaiChat | UsageFormat::OpenaiResponses => Some(count("total_tokens")),
            UsageFormat::Gemini if raw.is_object() => Some(count("totalTokenCount")),
            UsageFormat::AnthropicMessages | UsageFormat::Gemini => None,
        }
    }

    fn check_identities(format: UsageFormat, raw: &Value) -> Result<(), TestCaseError> {
        let Ok(calls) = normalise(format, raw) else { return Ok(()) };
        prop_assert!(!calls.is_empty());
        for Call { usage, .. } in &calls {
            prop_assert_eq!(usage.check(), Ok(()));
        }
        if let (Some(total), [only]) = (stated_total(format, raw), calls.as_slice()) {
            let prompt = only.usage.prompt().unwrap();
            prop_assert_eq!(prompt + only.usage.output, total);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn kinds_come_back_as_they_were_written(
            kinds in prop::array::uniform5(prop_oneof![Just(0u64), 0u64..300_000, 0u64..TokenCounts::COUNT_MAX / 5]),
        ) {
            let mut usage = counts(kinds);
            usage.reasoning = usage.reasoning.min(usage.output);
            for format in UsageFormat::ALL {
                let Some(raw) = write(format, usage) else { continue };
                prop_assert_eq!(normalise(format, &raw), Ok(vec![Call::of(usage)]), "{}", raw);
            }
        }

        #[test]
        fn no_json_panics_and_what_is_taken_adds_up(raw in any_json()) {
            for format in UsageFormat::ALL {
                check_identities(format, &raw)?;
            }
        }

        #[test]
        fn damage_is_seen_or_harmless((format, raw) in damaged()) {
            check_identities(format, &raw)?;
        }
    }
}
