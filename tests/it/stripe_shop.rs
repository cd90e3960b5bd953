//! A tenant that collects through Stripe, played by the double.

use std::sync::Arc;
use std::time::{Duration, Instant};

use diesel_async::RunQueryDsl;
use serde_json::{Value, json};
use stripe_double::{Endpoint, Options, Plan, SECRET_KEY, StripeDouble};
use testkit::LoneRedis;

use crate::support::{Answer, Client, Server, World, subscribe};

/// What the tenant's webhooks are signed with.
pub const SIGNING_SECRET: &str = "whsec_of_the_shop_0001";

/// A world with an account at the double, and a server on it.
pub struct Shop {
    pub world: World,
    pub double: Arc<StripeDouble>,
    pub server: Server,
}

/// A shop whose processes are gone, and of which there can be copies.
pub struct ClosedShop {
    world: World,
    pub double: Arc<StripeDouble>,
}

impl ClosedShop {
    /// A copy, with a server on it. They share their double: what has happened at Stripe, has for all.
    pub async fn reopen(&self, redis: &LoneRedis) -> Shop {
        let world = self.world.copy(redis).await;
        let server = world.serve().await;
        Shop { world, double: self.double.clone(), server }
    }
}

impl Shop {
    /// The double tells nothing by itself yet.
    pub async fn open() -> Shop {
        Shop::open_with(1).await
    }

    pub async fn open_with(seed: u64) -> Shop {
        let double = Arc::new(StripeDouble::start(Options { seed, ..Options::default() }).unwrap());
        let mut world = World::new().await;
        world.stripe_api = Some(double.base());
        let server = world.serve().await;
        server.client.put("/v1/payment-provider", account(&[SIGNING_SECRET])).await.expect(200);
        Shop { world, double, server }
    }

    /// Its server is killed; a worker has to be gone before.
    pub fn close(self) -> ClosedShop {
        ClosedShop { world: self.world, double: self.double }
    }

    pub fn client(&self) -> &Client {
        &self.server.client
    }

    /// Where the double's webhooks go.
    pub fn webhook_path(&self) -> String {
        format!("/v1/webhooks/stripe/{}", self.world.tenant)
    }

    /// The double tells from now on, as planned.
    pub fn listen(&self, plan: Plan) {
        let url = format!("{}{}", self.client().base, self.webhook_path());
        self.double.send_to(Endpoint { url, secret: SIGNING_SECRET.to_owned(), plan });
    }

    /// Sends an event of the double's, signed now.
    pub async fn tell(&self, event: &Value) -> Answer {
        self.tell_signed(event, SIGNING_SECRET).await
    }

    pub async fn tell_signed(&self, event: &Value, secret: &str) -> Answer {
        let body = event.to_string();
        let signature = stripe_double::signature(secret, chrono::Utc::now().timestamp(), &body);
        self.tell_raw(&signature, body).await
    }

    pub async fn tell_raw(&self, signature: &str, body: impl Into<reqwest::Body>) -> Answer {
        let client = self.client();
        let request = client.anonymous(reqwest::Method::POST, &self.webhook_path());
        client
            .send(
                request
                    .header("stripe-signature", signature)
                    .header("content-type", "application/json")
                    .body(body),
            )
            .await
    }

    pub async fn subscribe(&self, customer: &str, plan: &str, method: &str) -> Answer {
        self.client().post("/v1/subscriptions", subscribe(customer, plan, method)).await
    }

    /// The state of one of the provider's events, with its reason.
    pub async fn event(&self, id: &str) -> Option<Value> {
        self.all_events().await.into_iter().find(|event| event["id"] == id)
    }

    pub async fn all_events(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/provider-events?limit=200{cursor}");
            let page = self.client().get(&path).await.expect(200);
            events.extend(page["data"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return events,
            }
        }
    }

    /// Waits until every event that came in is settled, of which there are about so many.
    pub async fn settled(&self, events: usize) {
        let each = Duration::from_millis(100) * u32::try_from(events).unwrap();
        eventually(Duration::from_secs(60) + each, async || {
            let waiting = self.client().get("/v1/provider-events?state=received&limit=1").await.expect(200);
            waiting["data"].as_array().unwrap().is_empty()
        })
        .await;
    }

    /// I-29, and all that `verify` knows: what the double took is what is paid here, payment by payment.
    pub async fn agree(&self) {
        #[derive(diesel::QueryableByName, PartialEq, Eq, PartialOrd, Ord, Debug)]
        struct Paid {
            #[diesel(sql_type = diesel::sql_types::Text)]
            intent: String,
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            amount: i64,
        }
        let here: Vec<Paid> = diesel::sql_query(
            "select provider_ref as intent, amount_minor as amount from payments
             where status in ('succeeded', 'refunded') and provider_ref is not null order by provider_ref",
        )
        .load(&mut self.world.stores.superuser().await)
        .await
        .unwrap();
        let mut there: Vec<Paid> = self
            .double
            .intents()
            .into_iter()
            .filter(|intent| intent["status"] == "succeeded")
            .map(|intent| Paid {
                intent: intent["id"].as_str().unwrap().to_owned(),
                amount: intent["amount_received"].as_i64().unwrap(),
            })
            .collect();
        there.sort();
        assert_eq!(here, there);
        self.world.verify().await;
    }

    pub async fn status_of(&self, subscription: &Value) -> String {
        let id = subscription.as_str().unwrap();
        let view = self.client().get(&format!("/v1/subscriptions/{id}")).await.expect(200);
        view["status"].as_str().unwrap().to_owned()
    }
}

/// Credentials for the double.
pub fn account(signing_secrets: &[&str]) -> Value {
    json!({"secret_key": SECRET_KEY, "signing_secrets": signing_secrets})
}

/// Asks until it is so.
pub async fn eventually(limit: Duration, is_so: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < limit, "not so after {limit:?}");
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}
