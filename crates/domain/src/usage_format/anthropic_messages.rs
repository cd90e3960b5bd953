//! `usage` of Anthropic's Messages: `input_tokens` is what comes after the last cache breakpoint, so cache
//! reads and writes are beside it and never inside. There is no total to check against; what is checked is a
//! cache write against its breakdown by lifetime, and the whole against its iterations.
//!
//! **A stream** is the list of its usages: `message_start`'s with a placeholder for the output, then
//! `message_delta`'s, which are cumulative and may restate any count. The last value of a field wins, and
//! nothing is added up. A stream that broke before its first delta has no output count: quarantined, and the
//! gateway reports its own estimate instead.
//!
//! **Iterations** are the model calls of one request (server tools, compaction, an advisor, a fallback), each
//! with a prompt of its own, so each is a [`Call`] of its own. They are what is billed: the numbers above them
//! leave out compactions and advisors altogether, and of the executor's calls have all the output but may have
//! only the first one's input. So the whole is checked as far as it says something: its output is the sum of
//! the executor's, and no count of it exceeds all iterations together.

use serde_json::{Map, Value};

use super::fields::{Fields, kind, shown, sum};
use super::{Call, Quarantined, Reason};
use crate::usage::TokenCounts;

const INPUT: &str = "input_tokens";
const OUTPUT: &str = "output_tokens";
const CACHE_READ: &str = "cache_read_input_tokens";
const CACHE_WRITE: &str = "cache_creation_input_tokens";
const CACHE_WRITE_PARTS: &str = "cache_creation";
const OUTPUT_PARTS: &str = "output_tokens_details";
const ITERATIONS: &str = "iterations";

pub(super) fn read(raw: &Value) -> Result<Vec<Call>, Quarantined> {
    match raw {
        Value::Array(parts) => read_whole(&Fields::of_map(&fold(parts)?)),
        whole => read_whole(&Fields::of(String::new(), whole)?),
    }
}

/// One usage object out of a stream's: the last value of each field.
fn fold(parts: &[Value]) -> Result<Map<String, Value>, Quarantined> {
    let mut folded = Map::new();
    let mut has_last_output = false;
    for (index, part) in parts.iter().enumerate() {
        let fields = Fields::of(format!("/{index}"), part)?;
        has_last_output = index > 0 && fields.get(OUTPUT).is_some();
        if fields.get(CACHE_WRITE).is_some() {
            // The breakdown of the count that is being restated.
            folded.remove(CACHE_WRITE_PARTS);
        }
        for (name, value) in part.as_object().into_iter().flatten() {
            if !value.is_null() || !folded.contains_key(name) {
                folded.insert(name.clone(), value.clone());
            }
        }
    }
    if has_last_output {
        return Ok(folded);
    }
    Err(Reason::StreamUnfinished
        .because(format!("the stream's {} usages do not end with a message_delta's {OUTPUT}", parts.len())))
}

fn read_whole(fields: &Fields<'_>) -> Result<Vec<Call>, Quarantined> {
    let whole = read_counts(fields)?;
    let iterations = match fields.get(ITERATIONS) {
        None => return Ok(vec![Call::of(whole)]),
        Some(Value::Array(iterations)) if iterations.is_empty() => return Ok(vec![Call::of(whole)]),
        Some(Value::Array(iterations)) => iterations,
        Some(other) => {
            return Err(Reason::WrongShape.because(format!("/{ITERATIONS} is {}, not a list", kind(other))));
        }
    };
    let mut iterations: Vec<Iteration> = iterations
        .iter()
        .enumerate()
        .map(|(index, iteration)| Iteration::read(index, iteration))
        .collect::<Result<_, _>>()?;
    check_iterations(&whole, &iterations)?;
    if let [only] = iterations.as_mut_slice() {
        // Only the whole has it, and with one iteration it is plain whose it is.
        only.call.usage.reasoning = whole.reasoning.min(only.call.usage.output);
    }
    Ok(iterations.into_iter().map(|iteration| iteration.call).collect())
}

fn read_counts(fields: &Fields<'_>) -> Result<TokenCounts, Quarantined> {
    let usage = TokenCounts {
        input: fields.required(INPUT)?,
        cache_read: fields.or_zero(CACHE_READ)?,
        cache_write: read_cache_write(fields)?,
        output: fields.required(OUTPUT)?,
        reasoning: read_thinking(fields)?,
    };
    fields.no_other_tokens_than(&[INPUT, OUTPUT, CACHE_READ, CACHE_WRITE, OUTPUT_PARTS])?;
    super::check(&usage)?;
    Ok(usage)
}

/// The count, which is the sum of its breakdown where both are given. The lifetimes of a cache entry have one
/// kind of token here, and one rate.
fn read_cache_write(fields: &Fields<'_>) -> Result<u64, Quarantined> {
    let stated = fields.optional(CACHE_WRITE)?;
    let Some(parts) = fields.object(CACHE_WRITE_PARTS)? else { return Ok(stated.unwrap_or(0)) };
    let known = ["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"];
    parts.no_other_tokens_than(&known)?;
    let [short, long] = [parts.or_zero(known[0])?, parts.or_zero(known[1])?];
    match stated {
        Some(stated) if i128::from(stated) != sum(&[short, long]) => {
            Err(Reason::PartsDiffer.because(format!(
                "{} is {stated}, which is not {short} + {long} of {}",
                fields.pointer(CACHE_WRITE),
                fields.pointer(CACHE_WRITE_PARTS)
            )))
        }
        // Two counts, neither of which is near the end of its type.
        _ => Ok(short + long),
    }
}

fn read_thinking(fields: &Fields<'_>) -> Result<u64, Quarantined> {
    let Some(parts) = fields.object(OUTPUT_PARTS)? else { return Ok(0) };
    parts.no_other_tokens_than(&["thinking_tokens"])?;
    parts.or_zero("thinking_tokens")
}

/// Which part of a request an iteration is.
#[derive(PartialEq, Eq)]
enum Part {
    /// A call of the model that was asked for.
    Message,
    /// A summary of what came before, by the same model.
    Compaction,
    /// A second model's advice.
    Advisor,
    /// Another model, in place of the one that declined.
    Fallback,
}

struct Iteration {
    part: Part,
    call: Call,
}

impl Iteration {
    fn read(index: usize, value: &Value) -> Result<Iteration, Quarantined> {
        let fields = Fields::of(format!("/{ITERATIONS}/{index}"), value)?;
        let part = match fields.get("type").and_then(Value::as_str) {
            Some("message") => Part::Message,
            Some("compaction") => Part::Compaction,
            Some("advisor_message") => Part::Advisor,
            Some("fallback_message") => Part::Fallback,
            other => {
                let other = shown(other.unwrap_or("not a string"));
                return Err(Reason::UnknownIteration
                    .because(format!("{} is {other}, which is no known part", fields.pointer("type"))));
            }
        };
        let model = match part {
            Part::Message | Part::Compaction => None,
            Part::Advisor | Part::Fallback => {
                let named = fields.get("model").and_then(Value::as_str).and_then(|model| model.parse().ok());
                Some(named.ok_or_else(|| {
                    Reason::MissingModel
                        .because(format!("{} does not name the model that ran", fields.pointer("model")))
                })?)
            }
        };
        Ok(Iteration { part, call: Call { usage: read_counts(&fields)?, model } })
    }
}

fn check_iterations(whole: &TokenCounts, iterations: &[Iteration]) -> Result<(), Quarantined> {
    let output_of = |parts: &[Part]| {
        let of_parts = iterations.iter().filter(|iteration| parts.contains(&iteration.part));
        of_parts.map(|iteration| i128::from(iteration.call.usage.output)).sum::<i128>()
    };
    let executor = output_of(&[Part::Message, Part::Fallback]);
    let fallback = output_of(&[Part::Fallback]);
    // Where a fallback answered, whether the whole has the output of who declined is not documented.
    let has_fallback = iterations.iter().any(|iteration| iteration.part == Part::Fallback);
    let output = i128::from(whole.output);
    if output != executor && !(has_fallback && output == fallback) {
        return Err(Reason::IterationsDiffer
            .because(format!("/{OUTPUT} is {output}, and the iterations' output is {executor}")));
    }
    for (name, of) in [
        (INPUT, (|usage| usage.input) as fn(&TokenCounts) -> u64),
        (CACHE_READ, |usage| usage.cache_read),
        (CACHE_WRITE, |usage| usage.cache_write),
    ] {
        let all: i128 = iterations.iter().map(|iteration| i128::from(of(&iteration.call.usage))).sum();
        if i128::from(of(whole)) > all {
            return Err(Reason::IterationsDiffer
                .because(format!("/{name} is {}, more than the iterations' {all}", of(whole))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::fixtures::{at, band, model, reference, reference_but};
    use crate::id::ExternalId;
    use crate::rating::{NoCost, Unrated, rate_calls};
    use crate::usage_format::UsageFormat::AnthropicMessages;
    use crate::usage_format::normalise;
    use serde_json::json;

    const CACHING: &str = "https://platform.claude.com/docs/en/build-with-claude/prompt-caching";
    const STREAMING: &str = "https://platform.claude.com/docs/en/build-with-claude/streaming";
    const SDK: &str = "https://github.com/anthropics/anthropic-sdk-python tests/";

    #[test]
    fn anthropics_own_examples_are_rated() {
        for published in [
            Published {
                at: CACHING, // the first request, which writes the cache
                usage: json!({
                    "input_tokens": 21,
                    "cache_creation_input_tokens": 188_086,
                    "cache_read_input_tokens": 0,
                    "output_tokens": 393
                }),
                kinds: [21, 0, 188_086, 393, 0],
                credits: 377_000, // (21 + 188,086 + 393) x 2
                not: &[
                    ("the cache left out", 828),                             // (21 + 393) x 2
                    ("the written subtracted from input, floored", 376_958), // (0 + 188,086 + 393) x 2
                    ("cached counted twice", 753_172),                       // (188,500 + 188,086) x 2
                ],
            },
            Published {
                at: CACHING, // the second one, which reads it
                usage: json!({
                    "input_tokens": 21,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 188_086,
                    "output_tokens": 393
                }),
                kinds: [21, 188_086, 0, 393, 0],
                credits: 377_000,
                not: &[("the cached subtracted from input, floored", 376_958)],
            },
            Published {
                at: STREAMING,
                usage: json!([{"input_tokens": 25, "output_tokens": 1}, {"output_tokens": 15}]),
                kinds: [25, 0, 0, 15, 0],
                credits: 80, // (25 + 15) x 2
                not: &[("the stream's parts added up", 82), ("the placeholder kept", 52)],
            },
            Published {
                at: STREAMING, // with web search, where the delta restates the input
                usage: json!([
                    {
                        "input_tokens": 2679,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                        "output_tokens": 3
                    },
                    {
                        "input_tokens": 10682,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                        "output_tokens": 510,
                        "server_tool_use": {"web_search_requests": 1}
                    }
                ]),
                kinds: [10_682, 0, 0, 510, 0],
                credits: 22_384, // (10,682 + 510) x 2
                not: &[
                    ("the stream's parts added up", 27_748), // (10,682 + 2,679 + 510 + 3) x 2
                    ("the start's input kept", 6_378),       // (2,679 + 510) x 2
                ],
            },
            Published {
                at: &[SDK, "fixtures/fable-fallback/stream-a-refusal.sse"].concat(),
                usage: json!([
                    {
                        "input_tokens": 28,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                        "output_tokens": 5,
                        "service_tier": "standard",
                        "inference_geo": "global"
                    },
                    {
                        "input_tokens": 28,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                        "output_tokens": 106,
                        "output_tokens_details": {"thinking_tokens": 67},
                        "iterations": [{
                            "input_tokens": 28,
                            "output_tokens": 106,
                            "cache_read_input_tokens": 0,
                            "cache_creation_input_tokens": 0,
                            "cache_creation":
                                {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                            "type": "message"
                        }]
                    }
                ]),
                kinds: [28, 0, 0, 106, 67],
                credits: 268, // (28 + 106) x 2
                not: &[
                    ("thinking added to output", 402),       // (28 + 106 + 67) x 2
                    ("the iteration beside the whole", 536), // 2 x (28 + 106) x 2
                    ("the stream's parts added up", 334),    // (56 + 111) x 2
                ],
            },
            Published {
                at: &[SDK, "lib/streaming/fixtures/refusal_response.txt"].concat(),
                usage: json!([{"input_tokens": 20, "output_tokens": 1}, {"output_tokens": 0}]),
                kinds: [20, 0, 0, 0, 0], // the last value wins, also where it is less
                credits: 40,
                not: &[("the larger value kept", 42)],
            },
            Published {
                at: &[SDK, "lib/streaming/fixtures/tool_use_response.txt"].concat(),
                usage: json!([
                    {
                        "input_tokens": 377,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                        "output_tokens": 1,
                        "service_tier": "standard"
                    },
                    {"output_tokens": 65}
                ]),
                kinds: [377, 0, 0, 65, 0],
                credits: 884, // (377 + 65) x 2
                not: &[("the stream's parts added up", 886)],
            },
        ] {
            published.check(AnthropicMessages);
        }
    }

    /// The page on caching shows a write of 248 tokens that breaks down into 456 and 100, and says below it
    /// that the two are equal. Such an answer is not charged by either number.
    #[test]
    fn a_published_example_that_contradicts_itself_is_quarantined() {
        let usage = json!({
            "input_tokens": 2048,
            "cache_read_input_tokens": 1800,
            "cache_creation_input_tokens": 248,
            "output_tokens": 503,
            "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100}
        });
        let message = "/cache_creation_input_tokens is 248, which is not 456 + 100 of /cache_creation";
        assert_eq!(quarantined(AnthropicMessages, &usage), (Reason::PartsDiffer, message.to_owned()));
    }

    #[test]
    fn the_prompts_length_alone_chooses_the_band() {
        let whole = |[input, cache_read, cache_write, output]: [u64; 4]| {
            json!({
                "input_tokens": input,
                "cache_read_input_tokens": cache_read,
                "cache_creation_input_tokens": cache_write,
                "output_tokens": output
            })
        };
        check_the_band_bound(AnthropicMessages, true, whole);
        check_the_band_bound(
            AnthropicMessages,
            true,
            |kinds| json!([whole([1, 2, 3, 4]), {"output_tokens": 1}, whole(kinds)]),
        );
        check_the_band_bound(AnthropicMessages, true, |kinds| {
            let mut usage = whole(kinds);
            usage["iterations"] = json!([whole(kinds)]);
            usage["iterations"][0]["type"] = json!("message");
            usage
        });
    }

    fn message(input: u64, output: u64) -> Value {
        json!({"type": "message", "input_tokens": input, "output_tokens": output})
    }

    fn with_iterations(input: u64, output: u64, iterations: Value) -> Value {
        json!({"input_tokens": input, "output_tokens": output, "iterations": iterations})
    }

    #[test]
    fn each_iteration_has_its_own_band() {
        // Given a request of two calls with 200,000 tokens of prompt each,
        let usage = with_iterations(400_000, 30, json!([message(200_000, 10), message(200_000, 20)]));
        // when it is normalised, then it is two calls,
        let calls = normalise(AnthropicMessages, &usage).unwrap();
        let kinds: Vec<_> = calls.iter().map(|call| call.usage).collect();
        assert_eq!(kinds, [counts([200_000, 0, 0, 10, 0]), counts([200_000, 0, 0, 20, 0])]);
        // and neither is above 256K: 400,030 x 2, where the sum's band would be 400,030 x 4.
        assert_eq!(credits_on_pro(&calls), 800_060);

        // Given that only the second is above it, then only the second is charged as such.
        let usage = with_iterations(200_000, 30, json!([message(200_000, 10), message(262_145, 20)]));
        let calls = normalise(AnthropicMessages, &usage).unwrap();
        assert_eq!(credits_on_pro(&calls), 200_010 * 2 + 262_165 * 4);
    }

    #[test]
    fn a_compaction_is_charged_although_the_whole_leaves_it_out() {
        let compaction = "https://platform.claude.com/docs/en/build-with-claude/compaction";
        let iterations = json!([
            {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500},
            message(23_000, 1_000)
        ]);
        let calls =
            normalise(AnthropicMessages, &with_iterations(23_000, 1_000, iterations.clone())).unwrap();
        assert_eq!(
            calls,
            [Call::of(counts([180_000, 0, 0, 3_500, 0])), Call::of(counts([23_000, 0, 0, 1_000, 0]))],
            "{compaction}"
        );
        // (183,500 + 24,000) x 2; the whole alone would be 48,000, both together 463,000.
        assert_eq!(credits_on_pro(&calls), 415_000);

        // That page once had another whole above the same iterations, which does not fit them.
        let message = "/output_tokens is 1234, and the iterations' output is 1000";
        assert_eq!(
            quarantined(AnthropicMessages, &with_iterations(45_000, 1_234, iterations)),
            (Reason::IterationsDiffer, message.to_owned())
        );
        // A request that only compacts has an empty whole.
        let only = json!([{"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500}]);
        let calls = normalise(AnthropicMessages, &with_iterations(0, 0, only)).unwrap();
        assert_eq!(credits_on_pro(&calls), 367_000); // 183,500 x 2
    }

    /// https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool: the whole has the executor's
    /// first input and all its output; the advisor is in neither.
    fn advised() -> Value {
        with_iterations(
            412,
            531,
            json!([
                {
                    "type": "message",
                    "input_tokens": 412,
                    "cache_read_input_tokens": 0,
                    "cache_creation_input_tokens": 0,
                    "output_tokens": 89
                },
                {
                    "type": "advisor_message",
                    "model": "claude-opus-4-7",
                    "input_tokens": 823,
                    "cache_read_input_tokens": 0,
                    "cache_creation_input_tokens": 0,
                    "output_tokens": 1612
                },
                {
                    "type": "message",
                    "input_tokens": 1348,
                    "cache_read_input_tokens": 412,
                    "cache_creation_input_tokens": 0,
                    "output_tokens": 442
                }
            ]),
        )
    }

    #[test]
    fn an_advisor_is_charged_as_the_model_that_it_is() {
        let calls = normalise(AnthropicMessages, &advised()).unwrap();
        let models: Vec<_> = calls.iter().map(|call| call.model.as_ref().map(ExternalId::as_str)).collect();
        assert_eq!(models, [None, Some("claude-opus-4-7"), None]);
        let time = at("2026-05-01T00:00:00Z");
        let rate = |catalog| {
            rate_calls(Some(&catalog), "mimo-v2-pro", &calls, time)
                .map(|rated| rated.iter().map(|rated| rated.credits.get()).collect::<Vec<_>>())
        };

        // Given a catalogue with the advisor's model at 5x, then each call has its own model's rate.
        let known = reference_but(|document| {
            document.models.push(model("claude-opus-4-7", vec![band(None, Some(5_000), None)]));
        });
        // (412 + 89) x 2, (823 + 1,612) x 5, (1,348 + 412 + 442) x 2: 17,581, where the whole is 1,886.
        assert_eq!(rate(known), Ok(vec![1_002, 12_175, 4_404]));

        // Given one without it, then the event is unrated as a whole: not charged in parts, and not free.
        assert_eq!(rate(reference()), Err(NoCost::Unrated(Unrated::UnknownModel)));
    }

    #[test]
    fn a_fallback_is_charged_beside_what_was_declined() {
        let declined = message(28, 106);
        let answered = json!({"type": "fallback_message", "model": "mimo-v2-omni", "input_tokens": 31, "output_tokens": 547});
        let iterations = json!([declined, answered]);
        // Whether the whole is the answer alone or both, the calls are the same.
        for (input, output) in [(31, 547), (59, 653)] {
            let calls =
                normalise(AnthropicMessages, &with_iterations(input, output, iterations.clone())).unwrap();
            assert_eq!(credits_on_pro(&calls), 134 * 2 + 578); // omni is 1x
        }
        let neither = with_iterations(31, 600, iterations);
        assert_eq!(quarantined(AnthropicMessages, &neither).0, Reason::IterationsDiffer);
    }

    #[test]
    fn iterations_that_are_not_understood_are_quarantined() {
        for (iterations, reason, message) in [
            (
                json!([message(10, 5), {"type": "dream", "input_tokens": 1, "output_tokens": 1}]),
                Reason::UnknownIteration,
                "/iterations/1/type is dream, which is no known part",
            ),
            (
                json!([{"input_tokens": 10, "output_tokens": 5}]),
                Reason::UnknownIteration,
                "/iterations/0/type is not a string, which is no known part",
            ),
            (
                json!([message(10, 5), {"type": "advisor_message", "input_tokens": 1, "output_tokens": 1}]),
                Reason::MissingModel,
                "/iterations/1/model does not name the model that ran",
            ),
            (
                json!([message(9, 5)]),
                Reason::IterationsDiffer,
                "/input_tokens is 10, more than the iterations' 9",
            ),
            (
                json!([message(10, 4)]),
                Reason::IterationsDiffer,
                "/output_tokens is 5, and the iterations' output is 4",
            ),
            (
                json!([{"type": "message", "input_tokens": 10}]),
                Reason::MissingCount,
                "/iterations/0/output_tokens is missing",
            ),
            (json!({"0": 1}), Reason::WrongShape, "/iterations is an object, not a list"),
            (json!([7]), Reason::WrongShape, "/iterations/0 is a number, not an object"),
        ] {
            let usage = with_iterations(10, 5, iterations);
            assert_eq!(quarantined(AnthropicMessages, &usage), (reason, message.to_owned()));
        }
        for none in [json!(null), json!([])] {
            let usage = with_iterations(10, 5, none);
            assert_eq!(one_call(AnthropicMessages, &usage), counts([10, 0, 0, 5, 0]));
        }
    }

    #[test]
    fn a_later_part_of_a_stream_changes_only_what_it_states() {
        let start = json!({
            "input_tokens": 10,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 30,
            "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
            "output_tokens": 1
        });
        for (deltas, kinds) in [
            (json!([{"output_tokens": 7}]), [10, 20, 30, 7, 0]),
            (json!([{"output_tokens": 7}, {"output_tokens": 9}]), [10, 20, 30, 9, 0]),
            (json!([{"input_tokens": null, "output_tokens": 7}]), [10, 20, 30, 7, 0]),
            (json!([{"cache_read_input_tokens": 0, "output_tokens": 7}]), [10, 0, 30, 7, 0]),
            // The start's breakdown is not of the new count.
            (json!([{"cache_creation_input_tokens": 40, "output_tokens": 7}]), [10, 20, 40, 7, 0]),
        ] {
            let mut stream = deltas.clone();
            stream.as_array_mut().unwrap().insert(0, start.clone());
            assert_eq!(one_call(AnthropicMessages, &stream), counts(kinds), "{deltas}");
        }
    }

    #[test]
    fn a_stream_that_broke_off_has_no_output_count() {
        let start = json!({"input_tokens": 10, "output_tokens": 1});
        for stream in [json!([]), json!([start]), json!([start, {"server_tool_use": null}])] {
            let (reason, message) = quarantined(AnthropicMessages, &stream);
            assert_eq!(reason, Reason::StreamUnfinished);
            assert!(message.ends_with("do not end with a message_delta's output_tokens"), "{message}");
        }
        let wrong = json!([start, 7]);
        let expected = (Reason::WrongShape, "/1 is a number, not an object".to_owned());
        assert_eq!(quarantined(AnthropicMessages, &wrong), expected);
    }

    #[test]
    fn null_and_missing_cache_counts_are_none() {
        let plain = json!({"input_tokens": 10, "output_tokens": 5});
        assert_eq!(one_call(AnthropicMessages, &plain), counts([10, 0, 0, 5, 0]));
        for name in [CACHE_READ, CACHE_WRITE, CACHE_WRITE_PARTS, OUTPUT_PARTS, "server_tool_use"] {
            let mut usage = plain.clone();
            usage[name] = json!(null);
            assert_eq!(one_call(AnthropicMessages, &usage), counts([10, 0, 0, 5, 0]), "{name}");
        }
        let mut by_lifetime = plain.clone();
        by_lifetime[CACHE_WRITE_PARTS] =
            json!({"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100});
        assert_eq!(one_call(AnthropicMessages, &by_lifetime), counts([10, 0, 556, 5, 0]));
        by_lifetime[CACHE_WRITE] = json!(556);
        assert_eq!(one_call(AnthropicMessages, &by_lifetime), counts([10, 0, 556, 5, 0]));
        check_required(AnthropicMessages, &plain, &[INPUT, OUTPUT]);
    }

    #[test]
    fn what_is_no_count_is_quarantined() {
        let usage = json!({
            "input_tokens": 7,
            "output_tokens": 7,
            "cache_read_input_tokens": 7,
            "cache_creation_input_tokens": 7,
            "cache_creation": {"ephemeral_5m_input_tokens": 7, "ephemeral_1h_input_tokens": 0}
        });
        check_that_only_counts_are_counts(
            AnthropicMessages,
            &usage,
            &[
                "/input_tokens",
                "/output_tokens",
                "/cache_read_input_tokens",
                "/cache_creation_input_tokens",
                "/cache_creation/ephemeral_5m_input_tokens",
            ],
        );
        let max = 1_000_000_000_000_u64;
        for (name, value, reason) in [
            ("cache_creation", json!({"ephemeral_1d_input_tokens": 1}), Reason::UnknownTokenField),
            ("cache_evicted_tokens", json!(1), Reason::UnknownTokenField),
            ("cache_read_input_tokens", json!(max), Reason::CountTooLarge),
            ("output_tokens_details", json!({"thinking_tokens": 8}), Reason::PartExceedsWhole),
        ] {
            let mut changed = usage.clone();
            changed[name] = value;
            assert_eq!(quarantined(AnthropicMessages, &changed).0, reason, "{name}");
        }
    }
}
