//! The checkout page, for a person to look at and complete.

use serde_json::Value;

/// A page with one button a card; `done` once it is completed.
pub(crate) fn checkout(session: &Value, cards: &[String]) -> String {
    let id = escaped(session["id"].as_str().unwrap_or_default());
    let is_done = session["status"] == "complete";
    let body = if is_done {
        "<p>Done: the card is saved.</p>".to_owned()
    } else {
        let button = |card: &String| {
            let card = escaped(card);
            format!("<button name=\"payment_method\" value=\"{card}\">Save {card}</button>")
        };
        let buttons: String = cards.iter().map(button).collect();
        format!("<form method=\"post\" action=\"/pay/{id}\">{buttons}</form>")
    };
    format!("<!doctype html><title>Checkout</title><h1>Save a card</h1>{body}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
