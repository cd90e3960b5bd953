//! `STATES.md` shows the machines as they are: each of its tables is printed from the code.

use domain::dunning;
use domain::invoice::{InvoiceStatus, PaymentReport, PaymentStatus, check_payable, payment_after};
use domain::subscription::{self, Status};

use crate::subscription::{PurchaseEvent, PurchaseStatus};

/// A row an event, a column a state; the state after it, or why it cannot be.
fn table<S: Copy + PartialEq, E: Copy>(
    states: &[S],
    name: fn(S) -> &'static str,
    events: &[(&'static str, E)],
    after: impl Fn(S, E) -> Result<S, &'static str>,
) -> String {
    let width = states.iter().map(|state| name(*state).len()).max().unwrap_or_default().max(6);
    let head = events.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |first: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("  {cell:<width$}")).collect();
        format!("{first:<head$}{cells}").trim_end().to_owned()
    };
    let mut lines = vec![line("", states.iter().map(|state| name(*state).to_owned()).collect())];
    for (event_name, event) in events {
        let cells = states.iter().map(|state| match after(*state, *event) {
            Ok(next) if next == *state => "=".to_owned(),
            Ok(next) => name(next).to_owned(),
            Err(_) => "-".to_owned(),
        });
        lines.push(line(event_name, cells.collect()));
    }
    lines.join("\n")
}

fn tables() -> Vec<(&'static str, String)> {
    let subscription_events = subscription::Event::ALL.map(|event| (event.name(), event));
    let purchase_events = [("took_effect", PurchaseEvent::TookEffect), ("given_up", PurchaseEvent::GivenUp)];
    let reports = [
        ("succeeded", PaymentReport::Succeeded),
        ("failed", PaymentReport::Failed),
        ("requires_action", PaymentReport::RequiresAction),
        ("pending", PaymentReport::Pending),
        ("canceled", PaymentReport::Canceled),
    ];
    let dunning_events = [
        ("try_started", dunning::Event::TryStarted),
        ("try_failed", dunning::Event::TryFailed),
        ("paid", dunning::Event::Paid),
        ("given_up", dunning::Event::GivenUp),
    ];
    let pays = |status, ()| check_payable(status).map(|()| InvoiceStatus::Paid).map_err(|no| no.code());
    vec![
        (
            "Subscription",
            table(&Status::ALL, Status::name, &subscription_events, |status, event| {
                subscription::after(status, event).map_err(|no| no.code())
            }),
        ),
        (
            "Purchase",
            table(&PurchaseStatus::ALL, PurchaseStatus::name, &purchase_events, |status, event| {
                Ok(status.after(event))
            }),
        ),
        ("Invoice", table(&InvoiceStatus::ALL, InvoiceStatus::name, &[("paid", ())], pays)),
        (
            "Payment",
            table(&PaymentStatus::ALL, PaymentStatus::name, &reports, |status, report| {
                Ok(payment_after(status, report))
            }),
        ),
        (
            "Dunning",
            table(&dunning::Stage::ALL, dunning::Stage::name, &dunning_events, |stage, event| {
                Ok(dunning::after(stage, event))
            }),
        ),
    ]
}

#[test]
fn the_document_shows_every_state_and_event_as_the_code_has_them() {
    let document = include_str!("../STATES.md");
    for (name, table) in tables() {
        println!("{name}\n{table}\n");
        assert!(
            document.contains(&format!("```text\n{table}\n```")),
            "STATES.md shows another {name}:\n{table}"
        );
    }
}

#[test]
fn what_a_purchase_came_to_is_decided_once() {
    for first in [PurchaseEvent::TookEffect, PurchaseEvent::GivenUp] {
        for second in [PurchaseEvent::TookEffect, PurchaseEvent::GivenUp] {
            let once = PurchaseStatus::Pending.after(first);
            assert_eq!(once.after(second), once, "{first:?} {second:?}");
        }
    }
}
