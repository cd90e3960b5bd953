//! What the clients do, over and over: use, authorize, buy, cancel and read.

use std::time::Duration;

use serde_json::Value;

use crate::client::{Client, Sendable};
use crate::history::{AccountIndex, Answer, EventAnswer, List, Name, SentEvent};
use crate::place::TENANTS;
use crate::rates::{Model, Tokens};
use crate::world::Class;

/// Of a hundred answered requests, how many are sent once more, as by a client that did not hear.
const REPEATED_PERCENT: u32 = 30;
/// The largest batch that the API takes.
const BATCH_MAX: u32 = 1_000;
/// Customers that a client creates, so that lists grow while they are read.
const VISITORS_MAX: u32 = 8;
/// Events of its own that a client may send again later.
const REMEMBERED: usize = 256;

/// Works until the run is over; returns the client with its history.
pub(crate) async fn run(mut client: Client) -> Client {
    let world = client.world.clone();
    let (mut sent, mut visitors) = (Vec::new(), 0);
    while !world.is_over() {
        let _busy = world.quiet.read().await;
        match client.rng.u32(0..100) {
            0..30 => batch(&mut client, &mut sent).await,
            30..66 => authorized(&mut client).await,
            66..76 => single(&mut client).await,
            76..82 => change_plan(&mut client).await,
            82..92 => read_balance(&mut client).await,
            92..97 => read_list(&mut client).await,
            _ if visitors < VISITORS_MAX => {
                visitors += 1;
                let tenant = client.rng.usize(0..TENANTS);
                let new = client.create_customer(tenant);
                client.ask(&new, false).await;
            }
            _ => single(&mut client).await,
        }
    }
    client
}

async fn ask_and_maybe_repeat(client: &mut Client, sendable: &Sendable) -> Option<Answer> {
    let answer = client.ask(sendable, false).await;
    if answer.is_some() && client.rng.u32(0..100) < REPEATED_PERCENT {
        client.ask(sendable, true).await;
    }
    answer
}

fn pick(client: &mut Client, class: Class, tenant: Option<usize>) -> AccountIndex {
    let accounts = client.world.of_class(class, tenant);
    accounts[client.rng.usize(0..accounts.len())]
}

/// A new event of a customer.
fn event(client: &mut Client, account: AccountIndex) -> SentEvent {
    let name = client.name();
    let is_tight = client.world.customers[account].class == Class::Tight;
    let rng = &mut client.rng;
    let scale = if is_tight { 10 } else { 1 };
    let mut tokens = Tokens {
        input: scale * rng.u32(0..3_000),
        cache_read: scale * rng.u32(0..2_000),
        output: scale * rng.u32(0..400),
    };
    let model = match rng.u32(0..100) {
        0..40 => Model::Plain,
        40..60 => Model::Long,
        60..95 => Model::Thirds,
        _ => Model::Free,
    };
    if model == Model::Long && !is_tight && rng.u32(0..20) == 0 {
        tokens.input = 300_000;
    }
    SentEvent { name, account, model, tokens, is_too_old: false, hold: None }
}

/// A batch of one tenant's events, old ones and wrong ones among them.
async fn batch(client: &mut Client, sent: &mut Vec<SentEvent>) {
    let tenant = client.rng.usize(0..TENANTS);
    let is_behind = client.world.is_behind();
    let rng = &mut client.rng;
    let size = match is_behind {
        // Cubed: many are small, some are of the largest size.
        true => (rng.u32(1..=100) * rng.u32(1..=100) * rng.u32(1..=100)).div_ceil(BATCH_MAX),
        false => rng.u32(1..=5),
    };
    let mut events = Vec::new();
    for _ in 0..size {
        let class = if client.rng.u32(0..200) == 0 { Class::Tight } else { Class::Busy };
        let account = pick(client, class, Some(tenant));
        let mut event = event(client, account);
        match client.rng.u32(0..200) {
            0 => event.is_too_old = true,
            1 => event.model = Model::Unknown,
            // Twice in one batch.
            2 if events.len() + 2 < 1_000 => events.push(event),
            _ => {}
        }
        events.push(event);
    }
    let new = events.len();
    let old: Vec<SentEvent> =
        sent.iter().copied().filter(|old| client.world.customers[old.account].tenant == tenant).collect();
    for _ in 0..(size / 20).max(1) {
        if old.is_empty() || events.len() >= 1_000 {
            break;
        }
        let mut again = old[client.rng.usize(0..old.len())];
        if client.rng.u32(0..5) == 0 {
            // Other content under the same name: a conflict.
            again.tokens.output += 1;
        }
        events.push(again);
    }
    let sendable = client.usage(events.clone(), true);
    let Some(Answer::Usage(results)) = ask_and_maybe_repeat(client, &sendable).await else { return };
    for (event, result) in events.iter().zip(results).take(new) {
        let is_kept = matches!(result, EventAnswer::Accepted(_) | EventAnswer::Duplicate(_));
        if is_kept && sent.len() < REMEMBERED {
            sent.push(*event);
        } else if is_kept {
            let place = client.rng.usize(0..REMEMBERED);
            sent[place] = *event;
        }
    }
}

/// One event of a customer with few.
async fn single(client: &mut Client) {
    let account = pick(client, Class::Small, None);
    let event = event(client, account);
    let sendable = client.usage(vec![event], false);
    ask_and_maybe_repeat(client, &sendable).await;
}

/// An authorization, and what comes of it: usage, or nothing, or an end that nobody tells.
async fn authorized(client: &mut Client) {
    let class = if client.rng.u32(0..100) < 70 { Class::Tight } else { Class::Busy };
    let account = pick(client, class, None);
    let mut event = event(client, account);
    let hold = client.name();
    let authorize = client.authorize(hold, &event);
    let Some(Answer::Held { .. }) = ask_and_maybe_repeat(client, &authorize).await else { return };
    tokio::time::sleep(Duration::from_millis(client.rng.u64(0..150))).await;
    match client.rng.u32(0..100) {
        0..78 => {
            event.hold = Some(hold);
            let usage = client.usage(vec![event], false);
            ask_and_maybe_repeat(client, &usage).await;
        }
        78..99 => {
            let release = client.release(hold, account);
            ask_and_maybe_repeat(client, &release).await;
        }
        _ => {}
    }
}

/// The next step of a customer that runs dry.
async fn change_plan(client: &mut Client) {
    let account = pick(client, Class::Tight, None);
    let Some(subscriptions) = client.list(List::Subscriptions, account).await else { return };
    let live = subscriptions.iter().find(|it| it["status"] == "active");
    let Some((id, plan)) = live.and_then(id_and_plan) else {
        let subscribe = client.subscribe(account, "small");
        ask_and_maybe_repeat(client, &subscribe).await;
        return;
    };
    let roll = client.rng.u32(0..100);
    let change = match (plan.as_str(), roll) {
        (_, 0..10) => client.cancel(account, &id, false),
        (_, 10..18) => client.withdraw_cancel(account, &id),
        (_, 18..30) => client.cancel(account, &id, true),
        ("small", 30..70) => client.upgrade(account, &id, "medium"),
        ("small" | "medium", _) => client.upgrade(account, &id, "large"),
        (_, 30..45) => client.upgrade(account, &id, "small"),
        (_, 45..55) => client.subscribe(account, "small"),
        (_, _) => client.cancel(account, &id, true),
    };
    ask_and_maybe_repeat(client, &change).await;
}

fn id_and_plan(subscription: &Value) -> Option<(String, String)> {
    Some((subscription["id"].as_str()?.to_owned(), subscription["plan"].as_str()?.to_owned()))
}

async fn read_balance(client: &mut Client) {
    let class = [Class::Busy, Class::Tight, Class::Small][client.rng.usize(0..3)];
    let account = pick(client, class, None);
    let balance = client.balance(account);
    client.ask(&balance, false).await;
}

async fn read_list(client: &mut Client) {
    let (list, class) = match client.rng.u32(0..6) {
        0..2 => (List::Ledger, Class::Small),
        2 => (List::Grants, Class::Tight),
        3 => (List::Invoices, Class::Tight),
        _ => (List::Customers(0), Class::Busy),
    };
    let account = pick(client, class, None);
    let list = match list {
        List::Customers(_) => List::Customers(client.world.customers[account].tenant),
        other => other,
    };
    client.list(list, account).await;
}

/// The customers of a run, bought their plans; `None` where the servers do not serve.
pub(crate) async fn buy(client: &mut Client, account: AccountIndex, plan: &'static str) -> Option<()> {
    let subscribe = client.subscribe(account, plan);
    match client.ask(&subscribe, false).await {
        Some(Answer::Bought { is_paid: true, .. }) => Some(()),
        _ => None,
    }
}

/// One small event, asked until it is known: shows that the server serves.
pub(crate) async fn probe(client: &mut Client, account: AccountIndex) -> Option<Answer> {
    let event = event(client, account);
    let usage = client.usage(vec![event], false);
    client.ask(&usage, false).await
}

/// One small authorization, asked for until it is granted.
pub(crate) async fn probe_authorize(client: &mut Client, account: AccountIndex) -> Option<Name> {
    let event = event(client, account);
    let hold = client.name();
    let authorize = client.authorize(hold, &event);
    match client.ask(&authorize, false).await {
        Some(Answer::Held { .. }) => Some(hold),
        _ => None,
    }
}
