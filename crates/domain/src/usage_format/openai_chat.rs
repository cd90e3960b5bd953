//! `usage` of OpenAI's Chat Completions: cached and written tokens are inside `prompt_tokens`, reasoning and
//! rejected predictions inside `completion_tokens`, and the total is the sum of the two.

use serde_json::Value;

use super::Quarantined;
use super::fields::{Fields, check_total, rest_of};
use crate::usage::TokenCounts;

const PROMPT_DETAILS: &str = "prompt_tokens_details";
const COMPLETION_DETAILS: &str = "completion_tokens_details";

pub(super) fn read(raw: &Value) -> Result<TokenCounts, Quarantined> {
    let fields = Fields::of(String::new(), raw)?;
    let prompt = fields.required("prompt_tokens")?;
    let completion = fields.required("completion_tokens")?;
    let total = fields.required("total_tokens")?;
    check_total("/total_tokens", total, &[prompt, completion])?;

    let prompt_details = PromptDetails::read(&fields, PROMPT_DETAILS, prompt)?;
    let reasoning = read_completion_details(&fields, COMPLETION_DETAILS, completion)?;
    fields.no_other_tokens_than(&[
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        PROMPT_DETAILS,
        COMPLETION_DETAILS,
    ])?;
    let PromptDetails { cache_read, cache_write } = prompt_details;
    Ok(TokenCounts {
        input: rest_of("/prompt_tokens", prompt, &[cache_read, cache_write])?,
        cache_read,
        cache_write,
        output: completion,
        reasoning,
    })
}

/// What of the prompt came from the cache and what went into it.
#[derive(Default)]
pub(super) struct PromptDetails {
    pub(super) cache_read: u64,
    pub(super) cache_write: u64,
}

impl PromptDetails {
    pub(super) fn read(fields: &Fields<'_>, name: &str, prompt: u64) -> Result<PromptDetails, Quarantined> {
        let Some(details) = fields.object(name)? else { return Ok(PromptDetails::default()) };
        let by_modality = ["audio_tokens", "image_tokens", "text_tokens"];
        details.fit_into(prompt, &by_modality)?;
        details.no_other_tokens_than(
            &[["cached_tokens", "cache_write_tokens"].as_slice(), &by_modality].concat(),
        )?;
        Ok(PromptDetails {
            cache_read: details.or_zero("cached_tokens")?,
            cache_write: details.or_zero("cache_write_tokens")?,
        })
    }
}

/// The reasoning inside `completion`.
pub(super) fn read_completion_details(
    fields: &Fields<'_>,
    name: &str,
    completion: u64,
) -> Result<u64, Quarantined> {
    let Some(details) = fields.object(name)? else { return Ok(0) };
    let parts = [
        "reasoning_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
        "audio_tokens",
        "text_tokens",
    ];
    details.fit_into(completion, &parts)?;
    details.no_other_tokens_than(&parts)?;
    details.or_zero("reasoning_tokens")
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::super::testing::*;
    use crate::usage_format::UsageFormat::OpenaiChat;
    use serde_json::{Value, json};

    #[test]
    fn openais_own_examples_are_rated() {
        let guide = "https://developers.openai.com/api/docs/guides/prompt-caching";
        let reference =
            "https://github.com/openai/openai-openapi openapi.yaml, examples of POST /chat/completions";
        let list = "https://github.com/openai/openai-openapi openapi.yaml, example of GET /chat/completions";
        for published in [
            Published {
                at: guide,
                usage: json!({
                    "prompt_tokens": 2006,
                    "completion_tokens": 300,
                    "total_tokens": 2306,
                    "prompt_tokens_details": {"cached_tokens": 1920},
                    "completion_tokens_details": {
                        "reasoning_tokens": 0,
                        "accepted_prediction_tokens": 0,
                        "rejected_prediction_tokens": 0
                    }
                }),
                kinds: [86, 1_920, 0, 300, 0], // 2,006 - 1,920
                credits: 4_612,                // (86 + 1,920 + 300) x 2
                not: &[
                    ("cached counted twice", 8_452), // (2,006 + 1,920 + 300) x 2
                    ("cached left out", 772),        // (86 + 300) x 2
                ],
            },
            Published {
                at: reference,
                usage: json!({
                    "prompt_tokens": 1117,
                    "completion_tokens": 46,
                    "total_tokens": 1163,
                    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                    "completion_tokens_details": {
                        "reasoning_tokens": 0,
                        "audio_tokens": 0,
                        "accepted_prediction_tokens": 0,
                        "rejected_prediction_tokens": 0
                    }
                }),
                kinds: [1_117, 0, 0, 46, 0],
                credits: 2_326, // (1,117 + 46) x 2
                not: &[("the total charged beside its parts", 4_652)],
            },
            Published {
                at: reference,
                usage: json!({
                    "prompt_tokens": 82,
                    "completion_tokens": 17,
                    "total_tokens": 99,
                    "completion_tokens_details": {
                        "reasoning_tokens": 0,
                        "accepted_prediction_tokens": 0,
                        "rejected_prediction_tokens": 0
                    }
                }),
                kinds: [82, 0, 0, 17, 0], // no details of the prompt: nothing was cached
                credits: 198,             // (82 + 17) x 2
                not: &[],
            },
            Published {
                at: list,
                usage: json!({"total_tokens": 31, "completion_tokens": 18, "prompt_tokens": 13}),
                kinds: [13, 0, 0, 18, 0],
                credits: 62, // (13 + 18) x 2
                not: &[],
            },
            Published {
                at: reference,
                usage: json!({
                    "prompt_tokens": 19,
                    "completion_tokens": 10,
                    "total_tokens": 29,
                    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
                    "completion_tokens_details": {
                        "reasoning_tokens": 0,
                        "audio_tokens": 0,
                        "accepted_prediction_tokens": 0,
                        "rejected_prediction_tokens": 0
                    }
                }),
                kinds: [19, 0, 0, 10, 0],
                credits: 58, // (19 + 10) x 2
                not: &[],
            },
        ] {
            published.check(OpenaiChat);
        }
    }

    /// Another vendor that speaks this format, with every modality counted.
    #[test]
    fn tokens_by_modality_are_inside_the_prompt_and_the_completion() {
        Published {
            at: "https://docs.x.ai/developers/advanced-api-usage/prompt-caching/usage-and-pricing",
            usage: json!({
                "prompt_tokens": 125,
                "completion_tokens": 48,
                "total_tokens": 173,
                "prompt_tokens_details":
                    {"text_tokens": 125, "audio_tokens": 0, "image_tokens": 0, "cached_tokens": 98},
                "completion_tokens_details": {
                    "reasoning_tokens": 0,
                    "audio_tokens": 0,
                    "accepted_prediction_tokens": 0,
                    "rejected_prediction_tokens": 0
                }
            }),
            kinds: [27, 98, 0, 48, 0],
            credits: 346,                              // (27 + 98 + 48) x 2
            not: &[("text added to the prompt", 596)], // (125 + 173) x 2
        }
        .check(OpenaiChat);
    }

    fn usage(prompt: u64, cached: u64, written: u64, completion: u64, reasoning: u64) -> Value {
        json!({
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
            "completion_tokens_details": {"reasoning_tokens": reasoning}
        })
    }

    #[test]
    fn the_prompts_length_alone_chooses_the_band() {
        check_the_band_bound(OpenaiChat, true, |[input, cache_read, cache_write, output]| {
            usage(input + cache_read + cache_write, cache_read, cache_write, output, 0)
        });
    }

    #[test]
    fn reasoning_and_predictions_are_inside_the_completion() {
        assert_eq!(one_call(OpenaiChat, &usage(10, 4, 5, 100, 90)), counts([1, 4, 5, 100, 90]));
        let mut predicted = usage(10, 0, 0, 100, 0);
        predicted["completion_tokens_details"] =
            json!({"accepted_prediction_tokens": 40, "rejected_prediction_tokens": 60, "audio_tokens": 7});
        assert_eq!(one_call(OpenaiChat, &predicted), counts([10, 0, 0, 100, 0]), "charged once, as output");
    }

    #[test]
    fn null_missing_and_zero_details_are_none() {
        let plain = json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15});
        for details in [json!(null), json!({}), json!({"cached_tokens": null}), json!({"cached_tokens": 0})] {
            let mut usage = plain.clone();
            usage["prompt_tokens_details"] = details;
            usage["completion_tokens_details"] = json!(null);
            assert_eq!(one_call(OpenaiChat, &usage), counts([10, 0, 0, 5, 0]), "{usage}");
        }
        let nothing = json!({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0});
        assert_eq!(one_call(OpenaiChat, &nothing), counts([0; 5]), "an explicit zero is zero");
        check_required(OpenaiChat, &plain, &["prompt_tokens", "completion_tokens", "total_tokens"]);
    }

    #[test]
    fn what_contradicts_itself_is_quarantined() {
        check_that_only_counts_are_counts(
            OpenaiChat,
            &usage(7, 0, 0, 7, 0),
            &[
                "/prompt_tokens",
                "/completion_tokens",
                "/total_tokens",
                "/prompt_tokens_details/cached_tokens",
            ],
        );
        let but = |pointer: &str, value: Value| {
            let mut usage = usage(100, 0, 0, 10, 0);
            *usage.pointer_mut(pointer).unwrap() = value;
            usage
        };
        for (usage, reason, message) in [
            (
                but("/total_tokens", json!(111)),
                Reason::TotalDiffers,
                "/total_tokens is 111, which is not 100 + 10 = 110",
            ),
            (
                usage(100, 90, 11, 10, 0),
                Reason::PartExceedsWhole,
                "/prompt_tokens is 100, less than the 101 cached tokens that are inside it",
            ),
            (
                usage(100, 0, 0, 10, 11),
                Reason::PartExceedsWhole,
                "/completion_tokens_details/reasoning_tokens is 11, more than the 10 that it is a part of",
            ),
            (
                but("/prompt_tokens_details", json!({"audio_tokens": 101})),
                Reason::PartExceedsWhole,
                "/prompt_tokens_details/audio_tokens is 101, more than the 100 that it is a part of",
            ),
            (
                but("/prompt_tokens_details", json!([1])),
                Reason::WrongShape,
                "/prompt_tokens_details is a list, not an object",
            ),
            (
                but("/prompt_tokens_details", json!({"video_tokens": 1})),
                Reason::UnknownTokenField,
                "/prompt_tokens_details/video_tokens counts tokens that this format does not know of",
            ),
        ] {
            assert_eq!(quarantined(OpenaiChat, &usage), (reason, message.to_owned()));
        }
    }

    /// Reasoning beside the completion, as some that speak this format have had it, is no longer this format.
    #[test]
    fn reasoning_outside_the_completion_is_quarantined() {
        let usage = json!({
            "prompt_tokens": 32,
            "completion_tokens": 9,
            "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94}
        });
        assert_eq!(quarantined(OpenaiChat, &usage).0, Reason::TotalDiffers);
    }

    #[test]
    fn other_fields_are_ignored_unless_they_count_tokens() {
        let mut usage = usage(10, 0, 0, 5, 0);
        usage["cost"] = json!(0.00014);
        usage["queue_time"] = json!("0.1s");
        usage["cached_tokens"] = json!(0);
        usage["tokenizer"] = json!("o200k_base");
        usage["future_tokens_details"] = json!({"a": [0, null]});
        assert_eq!(one_call(OpenaiChat, &usage), counts([10, 0, 0, 5, 0]));
        usage["prompt_cache_hit_tokens"] = json!(4);
        let message = "/prompt_cache_hit_tokens counts tokens that this format does not know of";
        assert_eq!(quarantined(OpenaiChat, &usage), (Reason::UnknownTokenField, message.to_owned()));
    }
}
