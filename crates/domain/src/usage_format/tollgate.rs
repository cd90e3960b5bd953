//! Our own format: the disjoint kinds by name, as in [`TokenCounts`]. It is closed: an unknown field is a
//! mistake of the gateway's.

use serde_json::Value;

use super::Quarantined;
use super::fields::Fields;
use crate::usage::TokenCounts;

pub(super) fn read(raw: &Value) -> Result<TokenCounts, Quarantined> {
    let fields = Fields::of(String::new(), raw)?;
    fields.nothing_but(&["input", "cache_read", "cache_write", "output", "reasoning"])?;
    Ok(TokenCounts {
        input: fields.missing_is_zero("input")?,
        cache_read: fields.missing_is_zero("cache_read")?,
        cache_write: fields.missing_is_zero("cache_write")?,
        output: fields.missing_is_zero("output")?,
        reasoning: fields.missing_is_zero("reasoning")?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::super::testing::*;
    use crate::usage_format::UsageFormat::Tollgate;
    use serde_json::json;

    /// Our own documentation: the kinds by hand.
    #[test]
    fn the_kinds_are_taken_as_they_are() {
        for (usage, kinds, credits) in [
            (json!({"input": 10, "output": 5}), [10, 0, 0, 5, 0], 30), // (10 + 5) x 2
            (
                json!({"input": 10, "cache_read": 1_000, "output": 5, "reasoning": 4}),
                [10, 1_000, 0, 5, 4],
                2_030, // (10 + 1,000 + 5) x 2; with reasoning added to output, 2,038
            ),
            (
                json!({"input": 145, "cache_read": 200_000, "cache_write": 62_000, "output": 5}),
                [145, 200_000, 62_000, 5, 0],
                1_048_600, // (262,145 + 5) x 4; by the uncached tokens 524,300, marginally 524,312
            ),
            (json!({"input": 0, "cache_read": 0, "cache_write": 0, "output": 0}), [0; 5], 0),
            (json!({}), [0; 5], 0), // what is left out is none
        ] {
            let found = one_call(Tollgate, &usage);
            assert_eq!(found, counts(kinds), "{usage}");
            let calls = [super::super::Call::of(found)];
            assert_eq!(credits_on_pro(&calls), credits, "{usage}");
        }
    }

    #[test]
    fn the_prompts_length_alone_chooses_the_band() {
        check_the_band_bound(
            Tollgate,
            true,
            |[input, cache_read, cache_write, output]| json!({"input": input, "cache_read": cache_read, "cache_write": cache_write, "output": output}),
        );
    }

    #[test]
    fn what_is_no_count_or_no_field_is_quarantined() {
        let usage = json!({"input": 7, "cache_read": 7, "cache_write": 7, "output": 7, "reasoning": 7});
        check_that_only_counts_are_counts(
            Tollgate,
            &usage,
            &["/input", "/cache_read", "/cache_write", "/output", "/reasoning"],
        );
        for (usage, reason, message) in [
            (json!({"input": null}), Reason::NullCount, "/input is null"),
            (json!({"input": 1, "images": 0}), Reason::UnknownField, "/images is not a field of this format"),
            (json!({"input_tokens": 1}), Reason::UnknownField, "/input_tokens is not a field of this format"),
            (
                json!({"output": 5, "reasoning": 6}),
                Reason::PartExceedsWhole,
                "reasoning is 6 tokens, more than the 5 of the output that it is a part of",
            ),
            (
                json!({"input": 1_000_000_000_000_u64, "cache_read": 1}),
                Reason::CountTooLarge,
                "the prompt is 1000000000000 + 1 + 0 tokens, which is above 1000000000000",
            ),
            (json!([{"input": 1}]), Reason::WrongShape, "the usage is a list, not an object"),
        ] {
            assert_eq!(quarantined(Tollgate, &usage), (reason, message.to_owned()));
        }
    }
}
