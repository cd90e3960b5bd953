//! `usage` of OpenAI's Responses: Chat Completions' meaning under other names.

use serde_json::Value;

use super::Quarantined;
use super::fields::{Fields, check_total, rest_of};
use super::openai_chat::{PromptDetails, read_completion_details};
use crate::usage::TokenCounts;

const INPUT_DETAILS: &str = "input_tokens_details";
const OUTPUT_DETAILS: &str = "output_tokens_details";

pub(super) fn read(raw: &Value) -> Result<TokenCounts, Quarantined> {
    let fields = Fields::of(String::new(), raw)?;
    let input = fields.required("input_tokens")?;
    let output = fields.required("output_tokens")?;
    let total = fields.required("total_tokens")?;
    check_total("/total_tokens", total, &[input, output])?;

    let input_details = PromptDetails::read(&fields, INPUT_DETAILS, input)?;
    let reasoning = read_completion_details(&fields, OUTPUT_DETAILS, output)?;
    fields.no_other_tokens_than(&[
        "input_tokens",
        "output_tokens",
        "total_tokens",
        INPUT_DETAILS,
        OUTPUT_DETAILS,
    ])?;
    let PromptDetails { cache_read, cache_write } = input_details;
    Ok(TokenCounts {
        input: rest_of("/input_tokens", input, &[cache_read, cache_write])?,
        cache_read,
        cache_write,
        output,
        reasoning,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::super::testing::*;
    use crate::usage_format::UsageFormat::OpenaiResponses;
    use serde_json::{Value, json};

    #[test]
    fn openais_own_examples_are_rated() {
        let create = "https://github.com/openai/openai-openapi openapi.yaml, examples of POST /responses";
        let batch = "https://github.com/openai/openai-openapi openapi.yaml, example of the Batch object";
        for published in [
            Published {
                at: "https://developers.openai.com/api/docs/guides/reasoning",
                usage: json!({
                    "input_tokens": 75,
                    "input_tokens_details": {"cached_tokens": 0},
                    "output_tokens": 1186,
                    "output_tokens_details": {"reasoning_tokens": 1024},
                    "total_tokens": 1261
                }),
                kinds: [75, 0, 0, 1_186, 1_024],
                credits: 2_522, // (75 + 1,186) x 2
                not: &[("reasoning added to output", 4_570), ("reasoning left out", 474)],
            },
            Published {
                at: batch,
                usage: json!({
                    "input_tokens": 1500,
                    "input_tokens_details": {"cached_tokens": 1024},
                    "output_tokens": 500,
                    "output_tokens_details": {"reasoning_tokens": 300},
                    "total_tokens": 2000
                }),
                kinds: [476, 1_024, 0, 500, 300], // 1,500 - 1,024
                credits: 4_000,                   // (476 + 1,024 + 500) x 2
                not: &[("cached counted twice", 6_048), ("reasoning added to output", 4_600)],
            },
            Published {
                at: create,
                usage: json!({
                    "input_tokens": 81,
                    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                    "output_tokens": 1035,
                    "output_tokens_details": {"reasoning_tokens": 832},
                    "total_tokens": 1116
                }),
                kinds: [81, 0, 0, 1_035, 832],
                credits: 2_232, // (81 + 1,035) x 2
                not: &[("reasoning added to output", 3_896)],
            },
            Published {
                at: create,
                usage: json!({
                    "input_tokens": 18307,
                    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                    "output_tokens": 348,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": 18655
                }),
                kinds: [18_307, 0, 0, 348, 0],
                credits: 37_310, // 18,655 x 2
                not: &[],
            },
            Published {
                at: create, // the one with a function call has no details of its input
                usage: json!({
                    "input_tokens": 291,
                    "output_tokens": 23,
                    "output_tokens_details": {"reasoning_tokens": 0},
                    "total_tokens": 314
                }),
                kinds: [291, 0, 0, 23, 0],
                credits: 628, // (291 + 23) x 2
                not: &[],
            },
        ] {
            published.check(OpenaiResponses);
        }
    }

    fn usage(input: u64, cached: u64, written: u64, output: u64, reasoning: u64) -> Value {
        json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": input + output
        })
    }

    #[test]
    fn the_prompts_length_alone_chooses_the_band() {
        check_the_band_bound(OpenaiResponses, true, |[input, cache_read, cache_write, output]| {
            usage(input + cache_read + cache_write, cache_read, cache_write, output, 0)
        });
    }

    #[test]
    fn null_missing_and_zero_details_are_none() {
        let plain = json!({"input_tokens": 10, "output_tokens": 5, "total_tokens": 15});
        for details in [json!(null), json!({}), json!({"cached_tokens": null}), json!({"cached_tokens": 0})] {
            let mut usage = plain.clone();
            usage["input_tokens_details"] = details.clone();
            usage["output_tokens_details"] = json!({"reasoning_tokens": null});
            assert_eq!(one_call(OpenaiResponses, &usage), counts([10, 0, 0, 5, 0]), "{usage}");
        }
        check_required(OpenaiResponses, &plain, &["input_tokens", "output_tokens", "total_tokens"]);
    }

    #[test]
    fn what_contradicts_itself_is_quarantined() {
        check_that_only_counts_are_counts(
            OpenaiResponses,
            &usage(7, 0, 0, 7, 0),
            &["/input_tokens", "/output_tokens", "/input_tokens_details/cached_tokens"],
        );
        for (usage, reason, message) in [
            (
                usage(100, 101, 0, 10, 0),
                Reason::PartExceedsWhole,
                "/input_tokens is 100, less than the 101 cached tokens that are inside it",
            ),
            (
                usage(100, 0, 0, 10, 11),
                Reason::PartExceedsWhole,
                "/output_tokens_details/reasoning_tokens is 11, more than the 10 that it is a part of",
            ),
            (
                json!({"input_tokens": 1, "output_tokens": 2, "total_tokens": 4}),
                Reason::TotalDiffers,
                "/total_tokens is 4, which is not 1 + 2 = 3",
            ),
            // Chat Completions' names, sent as this format.
            (
                json!({"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
                Reason::MissingCount,
                "/input_tokens is missing",
            ),
            // Transcription's details are spelled in the singular, and are none of this format's.
            (
                json!({
                    "type": "tokens",
                    "input_tokens": 14,
                    "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
                    "output_tokens": 45,
                    "total_tokens": 59
                }),
                Reason::UnknownTokenField,
                "/input_token_details counts tokens that this format does not know of",
            ),
        ] {
            assert_eq!(quarantined(OpenaiResponses, &usage), (reason, message.to_owned()));
        }
    }

    /// Anthropic's shape has the same first two names and the other meaning: without a total it is no usage of
    /// this format, where a guess by name would have taken it.
    #[test]
    fn anthropics_shape_is_not_taken_for_this_one() {
        let usage = json!({
            "input_tokens": 21,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 188_086,
            "output_tokens": 393
        });
        assert_eq!(quarantined(OpenaiResponses, &usage).0, Reason::MissingCount);
    }
}
