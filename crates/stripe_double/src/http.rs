//! The HTTP side: who asks, what kind of call it is, what goes wrong with it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::body::SizedStream;
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::{self, Bytes, Data, Path};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_util::stream;
use serde_json::json;

use crate::faults::{Call, Fault};
use crate::idempotency::Claim;
use crate::objects::{Answer, error};
use crate::params::Params;
use crate::state::State;
use crate::{Accounts, Shared, locked, page, webhooks};

pub(crate) fn start(listen: SocketAddr, accounts: Accounts) -> io::Result<(SocketAddr, ServerHandle)> {
    let http = HttpServer::new(move || {
        App::new()
            .app_data(Data::new(accounts.clone()))
            .route("/pay/{session}", web::get().to(show_page))
            .route("/pay/{session}", web::post().to(complete_page))
            .route("/v1/{rest:.*}", web::to(call))
    })
    .workers(1)
    .disable_signals()
    .shutdown_timeout(0)
    .bind(listen)?;
    let address = http.addrs().first().copied().ok_or_else(|| io::Error::other("no address was bound"))?;
    let server = http.run();
    let handle = server.handle();
    tokio::spawn(server);
    Ok((address, handle))
}

fn kind(method: &str, path: &[&str]) -> Call {
    match (method, path) {
        ("POST", ["customers"]) => Call::CreateCustomer,
        ("POST", ["payment_methods", _, "attach"]) => Call::AttachMethod,
        ("GET", ["payment_methods", _]) => Call::ReadMethod,
        ("POST", ["payment_intents"]) => Call::CreateIntent,
        ("GET", ["payment_intents", _]) => Call::ReadIntent,
        ("GET", ["payment_intents"]) => Call::ListIntents,
        ("POST", ["payment_intents", _, "cancel"]) => Call::CancelIntent,
        ("POST", ["refunds"]) => Call::Refund,
        ("POST", ["setup_intents"]) => Call::Setup,
        ("POST", ["checkout", "sessions"]) => Call::Checkout,
        ("GET", ["events"]) => Call::ListEvents,
        _ => Call::Other,
    }
}

async fn call(
    request: HttpRequest,
    rest: Path<String>,
    body: Bytes,
    accounts: Data<Accounts>,
) -> HttpResponse {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let secret_key = header(AUTHORIZATION.as_str()).unwrap_or_default();
    let secret_key = secret_key.strip_prefix("Bearer ").unwrap_or_default();
    let method = request.method().as_str().to_owned();
    let path: Vec<&str> = rest.split('/').collect();
    let call = kind(&method, &path);
    let params = Params::parse(request.query_string(), &String::from_utf8_lossy(&body));
    let key = header("idempotency-key").filter(|_| method == "POST");
    let fingerprint = format!("{method} {rest} {}", params.canonical());

    let Some(shared) = found(&accounts, |state| state.is_allowed(secret_key)) else {
        return respond(&error(401, json!({"type": "invalid_request_error", "message": "Invalid API Key"})));
    };
    let (answer, fault) = {
        let mut state = locked(&shared);
        state.calls.push(call);
        if let Some(key) = &key
            && let Claim::Answered(answer) = state.keys.claim(key, &fingerprint)
        {
            return respond(&answer);
        }
        let state = &mut *state;
        let fault = state.faults.take(call, &mut state.random);
        let answer = match &fault {
            Some(Fault::Lost) => None,
            Some(Fault::RateLimited) => {
                Some(Err(error(429, json!({"type": "invalid_request_error", "code": "rate_limit"}))))
            }
            Some(Fault::Error) => Some(Ok(error(500, json!({"type": "api_error"})))),
            _ => Some(state.call(call, &method, &path, &params, fault.as_ref())),
        };
        webhooks::send_new(state, &shared);
        (answer, fault)
    };
    let Some(answer) = answer else {
        forget(&shared, key.as_deref());
        return cut_off();
    };
    if let Some(Fault::Late(ms)) = fault {
        // Its key is in flight all the while.
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
    let answer = match answer {
        Ok(answer) => {
            let answer = if fault == Some(Fault::ActThenError) { internal() } else { answer };
            if let Some(key) = &key {
                locked(&shared).keys.finish(key, &answer);
            }
            answer
        }
        Err(answer) => {
            forget(&shared, key.as_deref());
            answer
        }
    };
    match fault {
        Some(Fault::ActThenReset) => cut_off(),
        Some(Fault::Garbled) => HttpResponse::Ok().content_type("application/json").body("{\"id\": \"pi_"),
        _ => respond(&answer),
    }
}

/// The first account that it holds of.
fn found(accounts: &Accounts, is_it: impl Fn(&State) -> bool) -> Option<Shared> {
    locked(accounts).iter().find(|account| is_it(&locked(account))).cloned()
}

fn internal() -> Answer {
    error(500, json!({"type": "api_error", "message": "An unknown error occurred."}))
}

fn forget(shared: &Shared, key: Option<&str>) {
    if let Some(key) = key {
        locked(shared).keys.forget(key);
    }
}

fn respond(answer: &Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).content_type("application/json").body(answer.body.to_string())
}

/// A body that breaks off before it begins, and the connection with it.
fn cut_off() -> HttpResponse {
    let broken = stream::once(async { Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset)) });
    HttpResponse::Ok().body(SizedStream::new(1_000, broken))
}

async fn show_page(session: Path<String>, accounts: Data<Accounts>) -> HttpResponse {
    let Some(shared) = found(&accounts, |state| state.session(&session).is_some()) else {
        return HttpResponse::NotFound().finish();
    };
    let state = locked(&shared);
    match state.session(&session) {
        Some(session) => HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .body(page::checkout(&session, &state.cards())),
        None => HttpResponse::NotFound().finish(),
    }
}

async fn complete_page(session: Path<String>, body: Bytes, accounts: Data<Accounts>) -> HttpResponse {
    let Some(shared) = found(&accounts, |state| state.session(&session).is_some()) else {
        return HttpResponse::NotFound().finish();
    };
    let params = Params::parse("", &String::from_utf8_lossy(&body));
    let mut state = locked(&shared);
    state.complete_checkout(&session, params.get("payment_method").unwrap_or_default());
    webhooks::send_new(&mut state, &shared);
    match state.session(&session) {
        Some(session) => HttpResponse::SeeOther()
            .insert_header(("location", session["success_url"].as_str().unwrap_or("/")))
            .finish(),
        None => HttpResponse::NotFound().finish(),
    }
}
