//! The adapter against a double that nobody here wrote: `localstripe`, a package of PyPI under the GPL, which is run and
//! never linked or copied. On request, with the path of a Python that has it:
//!
//! ```text
//! python3 -m venv VENV && VENV/bin/pip install localstripe
//! TOLLGATE_LOCALSTRIPE=VENV/bin/python cargo test -p stripe --test localstripe -- --ignored
//! ```
//!
//! What 1.15.10 cannot do, so that the double in this repository has to: it ignores `Idempotency-Key`; an intent does
//! not say `amount_received`, so a success is never read as one here; a declined charge is an `invalid_request_error` that
//! does not carry its intent; the bank's step is no decline of an off-session charge; a refund may be over more than was
//! paid, fails never, and there is no event about it; there are no disputes and no checkout pages. Each limit below is
//! asserted: a version that has lost one is noticed.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chrono::Utc;
use domain::id::{CustomerId, InvoiceId, PaymentId, RefundId, TenantId};
use domain::invoice::PaymentReport;
use domain::{Currency, Money};
use payments::ProviderError;
use serde_json::{Value, json};
use stripe::{
    CallError, Charge, MethodNotice, Notice, Options, Secret, Stripe, Unreadable, read_event, verify,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

/// Its own command listens on every interface, and keeps what it knows for the next start. It refuses a parameter that it
/// does not know, and one that the adapter sends has got its name from Stripe since.
const ON_LOOPBACK: &str = "
import socket
from aiohttp import web
from localstripe.resources import PaymentIntent, SetupIntent, store
from localstripe.server import app
store.dump_to_disk = lambda: None
def without_new_parameters(cls):
    init = cls.__init__
    def made(self, *args, allowed_payment_method_types=None, **kwargs):
        init(self, *args, **kwargs)
    cls.__init__ = made
without_new_parameters(PaymentIntent)
without_new_parameters(SetupIntent)
sock = socket.socket()
sock.bind(('127.0.0.1', 0))
print(sock.getsockname()[1], flush=True)
web.run_app(app, sock=sock, print=None)
";

const KEY: &str = "sk_test_localstripe0000";
const SIGNING_SECRET: &str = "whsec_localstripe_0001";

struct LocalStripe {
    child: Child,
    api: String,
    http: reqwest::Client,
}

impl Drop for LocalStripe {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl LocalStripe {
    fn start() -> LocalStripe {
        let python =
            std::env::var("TOLLGATE_LOCALSTRIPE").expect("TOLLGATE_LOCALSTRIPE, a Python with localstripe");
        let mut child = Command::new(python)
            .args(["-c", ON_LOOPBACK])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut port = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut port).unwrap();
        let api = format!("http://127.0.0.1:{}", port.trim());
        LocalStripe { child, api, http: reqwest::Client::new() }
    }

    fn adapter(&self) -> Stripe {
        let options = Options { api: self.api.parse().unwrap(), timeout: Duration::from_secs(10) };
        Stripe::new(options).unwrap()
    }

    /// A call of the test's own, beside the adapter.
    async fn post(&self, path: &str, body: Value) -> Value {
        let sent = self.http.post(format!("{}{path}", self.api)).bearer_auth(KEY).json(&body).send().await;
        let answer = sent.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        serde_json::from_str(&answer.text().await.unwrap()).unwrap_or(Value::Null)
    }

    async fn intents(&self) -> Vec<Value> {
        let sent = self.http.get(format!("{}/v1/payment_intents", self.api)).bearer_auth(KEY).send().await;
        sent.unwrap().json::<Value>().await.unwrap()["data"].as_array().unwrap().clone()
    }

    async fn card(&self, number: &str) -> String {
        let card = json!({"number": number, "exp_month": "12", "exp_year": "2040", "cvc": "123"});
        let made = self.post("/v1/payment_methods", json!({"type": "card", "card": card})).await;
        made["id"].as_str().unwrap().to_owned()
    }
}

/// One webhook: its signature and its body.
async fn webhook(listener: &TcpListener) -> (String, String) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    loop {
        let mut part = [0; 4_096];
        let read = stream.read(&mut part).await.unwrap();
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let length: usize = header("content-length").unwrap().parse().unwrap();
        if body.len() >= length {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            return (header("stripe-signature").unwrap(), body.to_owned());
        }
    }
}

fn charge(stripe_customer: &str, method: &str, amount_minor: i64) -> Charge {
    let new = Uuid::now_v7;
    Charge {
        tenant: TenantId::from_uuid(new()),
        customer: CustomerId::from_uuid(new()),
        invoice: InvoiceId::from_uuid(new()),
        payment: PaymentId::from_uuid(new()),
        amount: Money { amount_minor, currency: Currency::Usd },
        stripe_customer: stripe_customer.to_owned(),
        method: method.to_owned(),
        intent: None,
        now: Utc::now(),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs a double of somebody else's: TOLLGATE_LOCALSTRIPE"]
async fn what_localstripe_can_run_the_adapter_runs_against_it() {
    let local = LocalStripe::start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let hook = json!({"url": url, "secret": SIGNING_SECRET, "events": ["payment_intent.succeeded"]});
    local.post("/_config/webhooks/tollgate", hook).await;
    let (stripe, key) = (local.adapter(), Secret::new(KEY.to_owned()));
    let (tenant, customer) = (TenantId::from_uuid(Uuid::now_v7()), CustomerId::from_uuid(Uuid::now_v7()));

    // A customer with a saved card.
    let stripe_customer = stripe.create_customer(&key, tenant, customer, "once").await.unwrap();
    assert!(stripe_customer.starts_with("cus_"));
    let again = stripe.create_customer(&key, tenant, customer, "once").await.unwrap();
    assert_ne!(again, stripe_customer, "it ignores the key");
    let card = local.card("4242424242424242").await;
    let saved = stripe.attach(&key, &card, &stripe_customer).await.unwrap().unwrap();
    assert_eq!(
        (saved.id.as_str(), saved.customer.as_deref()),
        (card.as_str(), Some(stripe_customer.as_str()))
    );
    let read = stripe.method(&key, &card).await.unwrap().unwrap();
    assert_eq!(read, saved);
    assert_eq!((read.brand.as_deref(), read.last4.as_deref()), (Some("visa"), Some("4242")));
    let same_number = local.card("4242424242424242").await;
    assert_eq!(stripe.method(&key, &same_number).await.unwrap().unwrap().fingerprint, read.fingerprint);
    assert_eq!(stripe.method(&key, "pm_nobody").await.unwrap(), None);
    let setup = stripe.begin_setup(&key, tenant, customer, &stripe_customer, "setup").await.unwrap();
    assert!(setup.client_secret.starts_with(&setup.id));
    assert_eq!(stripe.saved_by(&key, &setup.id).await.unwrap(), None);
    local
        .post(&format!("/v1/setup_intents/{}/confirm", setup.id), json!({"payment_method": same_number}))
        .await;
    assert_eq!(stripe.saved_by(&key, &setup.id).await.unwrap(), Some(same_number));
    let pages = ("https://shop.example/saved", "https://shop.example/");
    let page = stripe.open_checkout(&key, tenant, customer, &stripe_customer, pages, "page").await;
    assert!(page.is_err(), "it has no checkout pages");

    // A charge: taken once, and undecided to us, for it does not say what was received.
    let paid = charge(&stripe_customer, &card, 1_200);
    let taken = stripe.take(&key, &paid).await;
    let Err(ProviderError::Unavailable(reason)) = taken else { panic!("{taken:?}") };
    assert!(reason.ends_with("says no amount_received"), "{reason}");
    let intents = local.intents().await;
    assert_eq!(intents.len(), 1);
    assert_eq!((&intents[0]["status"], &intents[0]["amount"]), (&json!("succeeded"), &json!(1_200)));
    let looked_for = stripe.intent_of(&key, &paid, true).await;
    assert!(
        looked_for.is_err(),
        "it lists no payment intents from an instant on, so none is found by its metadata"
    );
    let known = Charge { intent: intents[0]["id"].as_str().map(str::to_owned), ..paid.clone() };
    let found = stripe.intent_of(&key, &known, true).await.unwrap().unwrap();
    assert_eq!(
        (found.id.as_str(), found.payment()),
        (intents[0]["id"].as_str().unwrap(), Some(paid.payment))
    );
    assert_eq!((found.tenant(), found.invoice()), (Some(paid.tenant), Some(paid.invoice)));

    // Its webhook is signed as Stripe's are, and read as far as it goes.
    let (signature, body) = webhook(&listener).await;
    let secrets = [Secret::new(SIGNING_SECRET.to_owned())];
    verify(body.as_bytes(), &signature, &secrets, Utc::now()).unwrap();
    verify(format!("{body} ").as_bytes(), &signature, &secrets, Utc::now()).unwrap_err();
    let told = read_event(body.as_bytes()).unwrap();
    assert_eq!((told.kind.as_str(), told.is_live), ("payment_intent.succeeded", false));
    assert_eq!(told.notice().unwrap_err(), Unreadable::Missing("amount_received"));

    // The events are listed, in its order: the same one is there.
    let since = Utc::now() - chrono::TimeDelta::hours(1);
    let listed = stripe.events(&key, since, None).await.unwrap();
    let kinds: Vec<String> = listed.bodies().map(|body| read_event(body.as_bytes()).unwrap().kind).collect();
    assert!(kinds.contains(&"payment_intent.succeeded".to_owned()), "{kinds:?}");
    let kept = listed.bodies().filter_map(|body| read_event(body.as_bytes()).ok());
    let is_attached =
        |event: &stripe::Event| matches!(event.notice(), Ok(Notice::Method(MethodNotice::Attached { .. })));
    assert!(!kept.into_iter().any(|event| is_attached(&event)), "it tells of no method");

    // Some of it goes back, in two steps.
    for amount_minor in [300, 100] {
        let (refund, amount) = (RefundId::from_uuid(Uuid::now_v7()), Money { amount_minor, ..paid.amount });
        stripe.refund(&key, &found.id, paid.payment, refund, amount).await.unwrap();
        let refunds = stripe.refunds(&key, &found.id).await.unwrap();
        let own = refunds.iter().find(|found| found.refund() == Some(refund)).unwrap();
        assert_eq!((own.amount().amount_minor, own.amount().currency.as_str()), (amount_minor, "USD"));
        assert_eq!(own.failure(), None);
    }
    assert_eq!(stripe.refunds(&key, &found.id).await.unwrap().len(), 2);
    let after = stripe.intent(&key, &found.id).await.unwrap();
    assert_eq!(after.refunded().map(|refunded| refunded.amount_minor), Some(400));
    let too_much = Money { amount_minor: 100_000, ..paid.amount };
    let refund = RefundId::from_uuid(Uuid::now_v7());
    stripe
        .refund(&key, &found.id, paid.payment, refund, too_much)
        .await
        .expect("it gives back what was not paid");

    // A card that is declined: a no, which took nothing.
    let poor = local.card("4000000000000341").await;
    stripe.attach(&key, &poor, &stripe_customer).await.unwrap().unwrap();
    let declined = stripe.take(&key, &charge(&stripe_customer, &poor, 500)).await.unwrap();
    assert_eq!(declined.report, PaymentReport::Failed);
    assert_eq!(declined.failure_code.as_deref(), Some("card_declined"));

    // The bank wants the customer: a state, with the secret to go on with; and given up, it is over.
    let wary = local.card("4000002500003155").await;
    stripe.attach(&key, &wary, &stripe_customer).await.unwrap().unwrap();
    let waits = charge(&stripe_customer, &wary, 700);
    let asked = stripe.take(&key, &waits).await.unwrap();
    assert_eq!(asked.report, PaymentReport::RequiresAction);
    assert!(asked.action.unwrap().client_secret.unwrap().contains("_secret_"));
    let waits = Charge { intent: asked.provider_ref, ..waits };
    assert_eq!(stripe.give_up(&key, &waits).await.unwrap().report, PaymentReport::Canceled);

    // Without a key it answers nobody.
    let nobody = Secret::new("nonsense".to_owned());
    let answer = stripe.method(&nobody, &card).await;
    assert!(matches!(answer, Err(CallError::Unknown(_))), "{answer:?}");
}
