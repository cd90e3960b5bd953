//! `usageMetadata` of Gemini: the cached content is inside `promptTokenCount`, what tools handed back to the
//! model is beside it, and thoughts are beside `candidatesTokenCount`; the total is the sum of those four. Its
//! JSON leaves zeros out.
//!
//! Every chunk of a stream repeats the counts so far: of a list the last one counts.

use serde_json::Value;

use super::fields::{Fields, check_total, rest_of};
use super::{Quarantined, Reason};
use crate::usage::TokenCounts;

pub(super) fn read(raw: &Value) -> Result<TokenCounts, Quarantined> {
    match raw {
        Value::Array(chunks) => {
            let last = chunks.iter().rposition(|chunk| !chunk.is_null()).ok_or_else(|| {
                Reason::StreamUnfinished.because(format!("none of {} chunks has a usage", chunks.len()))
            })?;
            read_counts(&Fields::of(format!("/{last}"), &chunks[last])?)
        }
        whole => read_counts(&Fields::of(String::new(), whole)?),
    }
}

fn read_counts(fields: &Fields<'_>) -> Result<TokenCounts, Quarantined> {
    let prompt = fields.required("promptTokenCount")?;
    let total = fields.required("totalTokenCount")?;
    let cache_read = fields.or_zero("cachedContentTokenCount")?;
    let tool_use = fields.or_zero("toolUsePromptTokenCount")?;
    let candidates = fields.or_zero("candidatesTokenCount")?;
    let thoughts = fields.or_zero("thoughtsTokenCount")?;
    check_total(&fields.pointer("totalTokenCount"), total, &[prompt, tool_use, candidates, thoughts])?;
    fields.no_other_tokens_than(&[
        "promptTokenCount",
        "totalTokenCount",
        "cachedContentTokenCount",
        "toolUsePromptTokenCount",
        "candidatesTokenCount",
        "thoughtsTokenCount",
        // By modality, and not more than what they are of.
        "promptTokensDetails",
        "cacheTokensDetails",
        "toolUsePromptTokensDetails",
        "candidatesTokensDetails",
    ])?;
    let uncached = rest_of(&fields.pointer("promptTokenCount"), prompt, &[cache_read])?;
    // Two counts, twice, none of which is near the end of its type.
    Ok(TokenCounts {
        input: uncached + tool_use,
        cache_read,
        cache_write: 0,
        output: candidates + thoughts,
        reasoning: thoughts,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::super::testing::*;
    use crate::usage_format::UsageFormat::Gemini;
    use serde_json::{Value, json};

    #[test]
    fn googles_own_examples_are_rated() {
        for published in [
            Published {
                at: "https://github.com/google-gemini/cookbook quickstarts/rest/Caching_REST.ipynb",
                usage: json!({
                    "promptTokenCount": 323388,
                    "candidatesTokenCount": 397,
                    "totalTokenCount": 323785,
                    "cachedContentTokenCount": 323383
                }),
                kinds: [5, 323_383, 0, 397, 0], // 323,388 - 323,383
                credits: 1_295_140,             // above 256K: 323,785 x 4
                not: &[
                    ("the band of the 5 uncached tokens", 647_570), // x 2
                    ("cached counted twice", 2_588_672),            // (323,785 + 323,383) x 4
                    ("marginal bands", 770_852),                    // 262,144 x 2 + (61,244 + 397) x 4
                ],
            },
            Published {
                at: "https://github.com/google-gemini/cookbook quickstarts/Caching.ipynb",
                usage: json!({
                    "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 322698}],
                    "cachedContentTokenCount": 322698,
                    "candidatesTokenCount": 282,
                    "promptTokenCount": 322707,
                    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 322707}],
                    "thoughtsTokenCount": 4049,
                    "totalTokenCount": 327038
                }),
                kinds: [9, 322_698, 0, 4_331, 4_049], // 282 + 4,049
                credits: 1_308_152,                   // 327,038 x 4
                not: &[
                    ("thoughts left out", 1_291_956),              // 322,989 x 4
                    ("thoughts added to output twice", 1_324_348), // 331,087 x 4
                    ("the band of the 9 uncached tokens", 654_076),
                ],
            },
            Published {
                at: "https://github.com/google-gemini/cookbook quickstarts/Get_started_thinking_REST.ipynb",
                usage: json!({
                    "promptTokenCount": 58,
                    "candidatesTokenCount": 820,
                    "totalTokenCount": 2355,
                    "thoughtsTokenCount": 1477
                }),
                kinds: [58, 0, 0, 2_297, 1_477], // 820 + 1,477
                credits: 4_710,                  // 2,355 x 2
                not: &[("thoughts left out", 1_756)],
            },
            Published {
                at: "https://github.com/google-gemini/cookbook examples/Google_IO2025_Live_Coding.ipynb",
                usage: json!({
                    "cacheTokensDetails": null,
                    "cachedContentTokenCount": null,
                    "candidatesTokenCount": 22,
                    "candidatesTokensDetails": null,
                    "promptTokenCount": 13,
                    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 13}],
                    "thoughtsTokenCount": 375,
                    "toolUsePromptTokenCount": null,
                    "toolUsePromptTokensDetails": null,
                    "totalTokenCount": 410,
                    "trafficType": null
                }),
                kinds: [13, 0, 0, 397, 375], // 22 + 375
                credits: 820,                // 410 x 2
                not: &[("thoughts left out", 70)],
            },
            Published {
                at: "https://ai.google.dev/gemini-api/docs/url-context",
                usage: json!({
                    "candidatesTokenCount": 45,
                    "promptTokenCount": 27,
                    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 27}],
                    "thoughtsTokenCount": 31,
                    "toolUsePromptTokenCount": 10309,
                    "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 10309}],
                    "totalTokenCount": 10412
                }),
                kinds: [10_336, 0, 0, 76, 31], // 27 + 10,309, and 45 + 31
                credits: 20_824,               // 10,412 x 2
                not: &[("what tools handed back left out", 206)],
            },
        ] {
            published.check(Gemini);
        }
    }

    #[test]
    fn the_prompts_length_alone_chooses_the_band() {
        check_the_band_bound(Gemini, false, |[input, cache_read, _, output]| {
            let prompt = input + cache_read;
            json!({
                "promptTokenCount": prompt,
                "cachedContentTokenCount": cache_read,
                "candidatesTokenCount": output,
                "totalTokenCount": prompt + output
            })
        });
        // What tools handed back is a part of the prompt.
        check_the_band_bound(Gemini, false, |[input, cache_read, _, output]| {
            json!({
                "promptTokenCount": cache_read,
                "cachedContentTokenCount": cache_read,
                "toolUsePromptTokenCount": input,
                "candidatesTokenCount": output,
                "totalTokenCount": input + cache_read + output
            })
        });
    }

    #[test]
    fn of_a_streams_chunks_the_last_one_counts() {
        // Given three chunks with the counts so far, and one more without.
        let chunks = json!([
            {"promptTokenCount": 10, "totalTokenCount": 10},
            {"promptTokenCount": 10, "candidatesTokenCount": 4, "totalTokenCount": 14},
            {"promptTokenCount": 10, "candidatesTokenCount": 9, "thoughtsTokenCount": 2, "totalTokenCount": 21},
            null
        ]);
        // Then they are not added up: 30 + 13 + 2 tokens would be 90 Credits.
        let usage = one_call(Gemini, &chunks);
        assert_eq!(usage, counts([10, 0, 0, 11, 2]));
        assert_eq!(credits_on_pro(&[super::super::Call::of(usage)]), 42);
        for none in [json!([]), json!([null, null])] {
            assert_eq!(quarantined(Gemini, &none).0, Reason::StreamUnfinished);
        }
        let (reason, message) =
            quarantined(Gemini, &json!([null, {"promptTokenCount": 1, "totalTokenCount": 2}]));
        assert_eq!(reason, Reason::TotalDiffers);
        assert_eq!(message, "/1/totalTokenCount is 2, which is not 1 + 0 + 0 + 0 = 1");
    }

    #[test]
    fn a_zero_that_the_json_leaves_out_is_zero() {
        // A prompt that was blocked, and an answer that was all thoughts.
        let blocked = json!({"promptTokenCount": 8, "totalTokenCount": 8});
        assert_eq!(one_call(Gemini, &blocked), counts([8, 0, 0, 0, 0]));
        let thoughts = json!({"promptTokenCount": 8, "thoughtsTokenCount": 100, "totalTokenCount": 108});
        assert_eq!(one_call(Gemini, &thoughts), counts([8, 0, 0, 100, 100]));
        check_required(Gemini, &blocked, &["promptTokenCount", "totalTokenCount"]);
        // A count that is missing and not zero is told by the total.
        let lost = json!({"promptTokenCount": 8, "totalTokenCount": 108});
        assert_eq!(quarantined(Gemini, &lost).0, Reason::TotalDiffers);
    }

    #[test]
    fn what_contradicts_itself_is_quarantined() {
        let usage = |cached: Value| {
            json!({
                "promptTokenCount": 7,
                "cachedContentTokenCount": cached,
                "toolUsePromptTokenCount": 7,
                "candidatesTokenCount": 7,
                "thoughtsTokenCount": 7,
                "totalTokenCount": 28
            })
        };
        let max = 1_000_000_000_000_u64;
        check_that_only_counts_are_counts(
            Gemini,
            &usage(json!(0)),
            &[
                "/promptTokenCount",
                "/cachedContentTokenCount",
                "/candidatesTokenCount",
                "/thoughtsTokenCount",
            ],
        );
        for (usage, reason, message) in [
            (
                usage(json!(8)),
                Reason::PartExceedsWhole,
                "/promptTokenCount is 7, less than the 8 cached tokens that are inside it".to_owned(),
            ),
            (
                json!({"promptTokenCount": max, "toolUsePromptTokenCount": 1, "totalTokenCount": max}),
                Reason::TotalDiffers,
                format!("/totalTokenCount is {max}, which is not {max} + 1 + 0 + 0 = 1000000000001"),
            ),
            // The Live API's name for what is candidatesTokenCount here.
            (
                json!({"promptTokenCount": 100, "totalTokenCount": 100, "responseTokenCount": 50}),
                Reason::UnknownTokenField,
                "/responseTokenCount counts tokens that this format does not know of".to_owned(),
            ),
            // The names of the Python library, which are not those of the wire.
            (
                json!({"prompt_token_count": 1, "total_token_count": 1}),
                Reason::MissingCount,
                "/promptTokenCount is missing".to_owned(),
            ),
        ] {
            assert_eq!(quarantined(Gemini, &usage), (reason, message));
        }
    }
}
