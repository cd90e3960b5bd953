//! Requests as JSON, and what the checker needs of the answers.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use crate::history::{Answer, EventAnswer, HoldUse, Receipt, Request, SentEvent};
use crate::http::Reply;
use crate::world::World;

const SOURCE: &str = "urn:tollgate:torture";

pub(crate) fn event(world: &World, event: &SentEvent) -> Value {
    let mut body = json!({
        "source": SOURCE,
        "id": event.name.to_string(),
        "customer": world.customers[event.account].id,
        "model": event.model.code(),
        "usage": {
            "input": event.tokens.input,
            "cache_read": event.tokens.cache_read,
            "output": event.tokens.output,
        },
    });
    if event.is_too_old {
        body["time"] = json!("2020-01-01T00:00:00Z");
    }
    if let Some(hold) = event.hold {
        body["authorization"] = json!(hold.to_string());
    }
    body
}

/// What the answer to a request was; lists are read page by page elsewhere.
pub(crate) fn answer(request: &Request, reply: &Reply) -> Answer {
    let Reply { status, body } = reply;
    if let Request::Usage(events) = request
        && let Some(results) = usage_answer(events.len(), *status, body)
    {
        return Answer::Usage(results);
    }
    if *status >= 400 {
        return Answer::Refused { status: *status, code: code(body) };
    }
    read(request, body).unwrap_or_else(|| Answer::Strange(body.to_string()))
}

fn read(request: &Request, body: &Value) -> Option<Answer> {
    Some(match request {
        Request::Authorize { .. } => Answer::Held {
            credits: number(body, "credits_held")?,
            version: number(body, "account_version")?,
            // The version is that of the moment; all else stays.
            digest: digest(&[&body["id"], &body["credits_held"], &body["granted_at"], &body["expires_at"]]),
        },
        Request::Release { .. } => Answer::Released { version: number(body, "account_version")? },
        Request::Subscribe { .. } | Request::Upgrade { .. } => Answer::Bought {
            version: number(&body["subscription"], "account_version")?,
            subscription: text(&body["subscription"], "id")?,
            invoice: text(&body["invoice"], "id")?,
            is_paid: body["payment_status"] == "paid",
            digest: digest(&[body]),
        },
        Request::CancelAtOnce | Request::CancelAtEnd | Request::WithdrawCancel => Answer::Subscription {
            version: number(body, "account_version")?,
            subscription: text(body, "id")?,
            status: text(body, "status")?,
            digest: digest(&[body]),
        },
        Request::Balance => Answer::Balance {
            version: number(body, "account_version")?,
            settled: number(body, "settled")?,
            held: number(body, "held")?,
            available: number(body, "available")?,
        },
        Request::CreateCustomer { .. } => Answer::Created { customer: text(body, "id")? },
        Request::Usage(_) | Request::List(_) => return None,
    })
}

fn usage_answer(sent: usize, status: u16, body: &Value) -> Option<Vec<EventAnswer>> {
    if let Some(results) = body["results"].as_array() {
        return (results.len() == sent).then(|| results.iter().map(event_answer).collect());
    }
    match (status, code(body).as_str()) {
        (200 | 202, _) => Some(vec![event_answer(body)]),
        (409, "event-conflict") => Some(vec![EventAnswer::Conflict]),
        (422, "event-time-out-of-range") => Some(vec![EventAnswer::Rejected]),
        _ => None,
    }
}

fn event_answer(result: &Value) -> EventAnswer {
    let receipt = || receipt(&result["receipt"]);
    let read = match result["status"].as_str() {
        Some("accepted") => receipt().map(EventAnswer::Accepted),
        Some("duplicate") => receipt().map(EventAnswer::Duplicate),
        Some("unrated") => receipt().map(EventAnswer::Unrated),
        Some("conflict") => Some(EventAnswer::Conflict),
        Some("rejected") if code(&result["problem"]) == "event-time-out-of-range" => {
            Some(EventAnswer::Rejected)
        }
        _ => None,
    };
    read.unwrap_or(EventAnswer::Strange)
}

fn receipt(receipt: &Value) -> Option<Receipt> {
    let hold = match (receipt["hold"].as_str()?, receipt["no_hold_reason"].as_str()) {
        ("captured", None) => HoldUse::Captured,
        ("none", Some("not-named")) => HoldUse::NotNamed,
        ("none", Some("unknown")) => HoldUse::Unknown,
        ("none", Some("expired")) => HoldUse::Expired,
        ("none", Some("captured" | "released")) => HoldUse::Ended,
        _ => return None,
    };
    Some(Receipt {
        credits: number(receipt, "credits")?,
        overage: number(receipt, "overage")?,
        balance_after: number(receipt, "balance_after")?,
        version: number(receipt, "account_version")?,
        is_unrated: !receipt["unrated_reason"].is_null(),
        hold,
        draws: i64::try_from(receipt["draws"].as_array()?.len()).ok()?,
    })
}

/// The code of a problem, or of the answer when there are no Credits.
fn code(body: &Value) -> String {
    let of_problem =
        body["type"].as_str().and_then(|kind| kind.rsplit('/').next()).filter(|code| *code != "error");
    of_problem.or(body["error"]["code"].as_str()).unwrap_or_default().to_owned()
}

fn number(body: &Value, field: &str) -> Option<i64> {
    body[field].as_i64()
}

fn text(body: &Value, field: &str) -> Option<String> {
    body[field].as_str().map(str::to_owned)
}

/// Equal for equal bodies.
fn digest(values: &[&Value]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for value in values {
        value.to_string().hash(&mut hasher);
    }
    hasher.finish()
}
