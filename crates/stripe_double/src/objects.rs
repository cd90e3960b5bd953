//! What answers are made of.

use serde_json::{Value, json};

/// What a payment method does when it is charged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    Succeeds,
    /// It is declined with this code of the bank's.
    Declines(String),
    /// The bank wants the customer: without one a charge is declined with `authentication_required`,
    /// with one it waits in `requires_action`.
    NeedsCustomer,
    /// It stays `processing` until it is settled.
    Processes,
}

/// A status and a body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn ok(body: Value) -> Answer {
        Answer { status: 200, body }
    }
}

pub(crate) fn error(status: u16, error: Value) -> Answer {
    Answer { status, body: json!({ "error": error }) }
}

/// An error that is found before anything is begun, of one parameter.
pub(crate) fn invalid(param: &str, message: &str) -> Answer {
    error(400, json!({"type": "invalid_request_error", "param": param, "message": message}))
}

pub(crate) fn missing(param: &str, id: &str) -> Answer {
    let message = format!("No such {param}: '{id}'");
    let body = json!({"type": "invalid_request_error", "code": "resource_missing", "param": param,
        "message": message});
    // Stripe answers 404 for the object of the path, 400 for one that a parameter names.
    error(if param == "id" { 404 } else { 400 }, body)
}
