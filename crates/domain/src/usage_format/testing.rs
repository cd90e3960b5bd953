//! What the tests of every format share: a published example with its kinds and its Credits, and the prompts
//! around a band's bound.

use serde_json::{Value, json};

use super::{Call, Quarantined, Reason, UsageFormat, normalise};
use crate::fixtures::{K_256, M_1, at, reference};
use crate::rating::{Rated, rate_calls};
use crate::usage::TokenCounts;

/// 2x to 256K, 4x to 1M, all kinds alike.
const PRO: &str = "mimo-v2-pro";

pub(super) fn counts([input, cache_read, cache_write, output, reasoning]: [u64; 5]) -> TokenCounts {
    TokenCounts { input, cache_read, cache_write, output, reasoning }
}

fn rated_on_pro(calls: &[Call]) -> Vec<Rated> {
    rate_calls(Some(&reference()), PRO, calls, at("2026-05-01T00:00:00Z")).unwrap()
}

pub(super) fn credits_on_pro(calls: &[Call]) -> i64 {
    rated_on_pro(calls).iter().map(|rated| rated.credits.get()).sum()
}

/// A usage object as a vendor published it.
pub(super) struct Published<'a> {
    /// Where it stands.
    pub(super) at: &'a str,
    pub(super) usage: Value,
    /// Input, cache read, cache write, output, and of that reasoning.
    pub(super) kinds: [u64; 5],
    /// On the reference catalogue's mimo-v2-pro.
    pub(super) credits: i64,
    /// What a usual mistake would have charged.
    pub(super) not: &'a [(&'a str, i64)],
}

impl Published<'_> {
    /// Given the published usage, when it is normalised and rated, then it has these kinds and this cost.
    pub(super) fn check(&self, format: UsageFormat) {
        let calls = normalise(format, &self.usage).unwrap();
        let expected = Call { usage: counts(self.kinds), model: None };
        assert_eq!(calls, [expected], "{}", self.at);
        let credits = credits_on_pro(&calls);
        assert_eq!(credits, self.credits, "{}", self.at);
        for (mistake, wrong) in self.not {
            assert_ne!(credits, *wrong, "{mistake}: {}", self.at);
        }
    }
}

/// The kinds of a usage that is one call of the event's own model.
pub(super) fn one_call(format: UsageFormat, usage: &Value) -> TokenCounts {
    let calls = normalise(format, usage).unwrap();
    let [Call { usage, model: None }] = calls.as_slice() else { panic!("{calls:?}") };
    *usage
}

/// The reason and the message of a usage that is quarantined.
pub(super) fn quarantined(format: UsageFormat, usage: &Value) -> (Reason, String) {
    let Quarantined { reason, message } = normalise(format, usage).expect_err(&usage.to_string());
    (reason, message)
}

/// Given prompts one below, exactly at and one above 262,144 tokens, however they are split into kinds and
/// whatever the output, when they are normalised and rated, then the last one alone is in the upper band, with
/// all of its tokens. `write` makes the format's usage of input, cache read, cache write and output; a format
/// without cache writes gets none.
pub(super) fn check_the_band_bound(
    format: UsageFormat,
    has_cache_writes: bool,
    write: impl Fn([u64; 4]) -> Value,
) {
    for (prompt, bound, rate) in [(262_143, K_256, 2), (262_144, K_256, 2), (262_145, M_1, 4)] {
        let splits = [
            [prompt, 0, 0],
            [0, prompt, 0],
            [prompt - 262_000, 262_000, 0],
            [prompt - 200_000, 100_000, 100_000],
            [0, 0, prompt],
        ];
        for [input, cache_read, cache_write] in splits {
            if cache_write > 0 && !has_cache_writes {
                continue;
            }
            for output in [0, 1, 500_000] {
                let usage = write([input, cache_read, cache_write, output]);
                let calls = normalise(format, &usage).unwrap();
                assert_eq!(calls[0].usage, counts([input, cache_read, cache_write, output, 0]), "{usage}");
                let [rated] = rated_on_pro(&calls).try_into().unwrap();
                assert_eq!(rated.band_prompt_tokens_max, Some(bound), "{usage}");
                assert_eq!(rated.credits.get(), rate * i64::try_from(prompt + output).unwrap());
            }
        }
    }
}

/// What is no count in any format: put in the place of a count that was there, each has its own reason.
pub(super) fn check_that_only_counts_are_counts(format: UsageFormat, usage: &Value, pointers: &[&str]) {
    for pointer in pointers {
        for (value, reason, message) in [
            ("-1", Reason::NegativeCount, "is -1, below zero"),
            ("-1.5", Reason::NegativeCount, "is -1.5, below zero"),
            ("1.5", Reason::NotAWholeNumber, "is 1.5, not a whole number"),
            ("7.0", Reason::NotAWholeNumber, "is 7.0, not a whole number"),
            ("9223372036854775808", Reason::CountTooLarge, "is 9223372036854775808, above 1000000000000"),
            ("18446744073709551616", Reason::CountTooLarge, "above 1000000000000"),
            ("1e300", Reason::CountTooLarge, "above 1000000000000"),
            (r#""7""#, Reason::NotANumber, "is a string, not a number"),
            ("true", Reason::NotANumber, "is true or false, not a number"),
            ("[7]", Reason::NotANumber, "is a list, not a number"),
            (r#"{"value": 7}"#, Reason::NotANumber, "is an object, not a number"),
        ] {
            let mut changed = usage.clone();
            *changed.pointer_mut(pointer).unwrap() = serde_json::from_str(value).unwrap();
            let (found, text) = quarantined(format, &changed);
            assert_eq!(found, reason, "{pointer}: {value}");
            assert!(text.starts_with(&format!("{pointer} ")) && text.contains(message), "{text}");
        }
    }
    for (value, shape) in [
        (json!(null), "null"),
        (json!(7), "a number"),
        (json!("usage"), "a string"),
        (json!(false), "true or false"),
    ] {
        let (reason, message) = quarantined(format, &value);
        assert_eq!((reason, message), (Reason::WrongShape, format!("the usage is {shape}, not an object")));
    }
}

/// A required count that is missing, or null, is quarantined as that.
pub(super) fn check_required(format: UsageFormat, usage: &Value, names: &[&str]) {
    for name in names {
        let mut missing = usage.clone();
        missing.as_object_mut().unwrap().remove(*name).unwrap();
        let expected = (Reason::MissingCount, format!("/{name} is missing"));
        assert_eq!(quarantined(format, &missing), expected);
        let mut null = usage.clone();
        null[*name] = json!(null);
        let expected = (Reason::NullCount, format!("/{name} is null"));
        assert_eq!(quarantined(format, &null), expected);
    }
}
