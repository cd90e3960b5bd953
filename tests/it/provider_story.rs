//! What the payment provider tells of many customers, who go all the ways that there are: in whichever order,
//! however often and however late it is told, they end in the same state.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use diesel_async::RunQueryDsl;
use futures_util::StreamExt;
use futures_util::stream::iter;
use serde_json::{Value, json};
use stripe_double::{Behaviour, Call, Fault};

use crate::stripe_shop::{ClosedShop, Shop, eventually};

/// When the first of them subscribe. Their renewals are due at [`NOON`].
const FIRST_CYCLE: &str = "2026-01-31T12:00:00Z";
/// When everything else happens, and the first four fifths of the events are told.
const NOON: &str = "2026-02-28T12:00:00Z";
/// When the rest is told: nearly an hour late.
const LATE: &str = "2026-02-28T12:59:00Z";
/// Requests of one test at a time.
const AT_ONCE: usize = 8;

/// What happens to a customer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    PaysAtOnce,
    IsPaidLater,
    Fails,
    FailsThenPaysByAnother,
    FailsLaterThenPaysByAnother,
    Authenticates,
    FailsToAuthenticate,
    CancelsWhileTheBankWaits,
    IsCanceledByTheProvider,
    IsRefundedInParts,
    IsRefundedWhole,
    IsRefundedByUs,
    Disputes,
    DisputesAndLoses,
    DisputesAndWins,
    DisputesLosesAndWins,
    LosesTheCardWhileTheBankThinks,
    SavesCardsAndRemovesOne,
    ChangesTheDefaultCard,
    IsDeletedByTheProvider,
    Upgrades,
    FailsToUpgrade,
    UpgradesAndIsRefunded,
    TopsUp,
    FailsToTopUp,
    Renews,
    FailsToRenew,
    AuthenticatesTheRenewal,
    RenewsByAnother,
}

impl Path {
    const ALL: [Path; 29] = [
        Path::PaysAtOnce,
        Path::IsPaidLater,
        Path::Fails,
        Path::FailsThenPaysByAnother,
        Path::FailsLaterThenPaysByAnother,
        Path::Authenticates,
        Path::FailsToAuthenticate,
        Path::CancelsWhileTheBankWaits,
        Path::IsCanceledByTheProvider,
        Path::IsRefundedInParts,
        Path::IsRefundedWhole,
        Path::IsRefundedByUs,
        Path::Disputes,
        Path::DisputesAndLoses,
        Path::DisputesAndWins,
        Path::DisputesLosesAndWins,
        Path::LosesTheCardWhileTheBankThinks,
        Path::SavesCardsAndRemovesOne,
        Path::ChangesTheDefaultCard,
        Path::IsDeletedByTheProvider,
        Path::Upgrades,
        Path::FailsToUpgrade,
        Path::UpgradesAndIsRefunded,
        Path::TopsUp,
        Path::FailsToTopUp,
        Path::Renews,
        Path::FailsToRenew,
        Path::AuthenticatesTheRenewal,
        Path::RenewsByAnother,
    ];

    /// How the card behaves that a renewal is charged to; none for those who have no renewal.
    fn renewal_card(self) -> Option<Behaviour> {
        match self {
            Path::Renews | Path::FailsToRenew => Some(Behaviour::Processes),
            Path::AuthenticatesTheRenewal => Some(Behaviour::NeedsCustomer),
            Path::RenewsByAnother => Some(declines()),
            _ => None,
        }
    }
}

fn declines() -> Behaviour {
    Behaviour::Declines("insufficient_funds".to_owned())
}

/// A customer of the story, whose Stripe is the shop's double.
struct Buyer<'a> {
    shop: &'a Shop,
    name: String,
    customer: String,
}

impl Buyer<'_> {
    fn card(&self, which: &str, behaviour: Behaviour) -> String {
        self.shop.double.card(&format!("{}-{which}", self.name), behaviour)
    }

    /// Subscribes with a card of its own, which is answered with this status.
    async fn buys(&self, behaviour: Behaviour, status: u16) -> Bought {
        let card = self.card("first", behaviour);
        let answer = self.shop.subscribe(&self.customer, "pro", &card).await;
        let body = answer.expect(status);
        // A declined one names its invoice only.
        let invoice = body["invoice"]["id"].as_str().or(body["invoice"].as_str()).unwrap().to_owned();
        let subscription = body["subscription"]["id"].as_str().or(body["subscription"].as_str());
        Bought { invoice, subscription: subscription.unwrap().to_owned(), card }
    }

    async fn pays(&self, invoice: &str, behaviour: Behaviour, status: u16) {
        let card = self.card("another", behaviour);
        let path = format!("/v1/invoices/{invoice}/pay");
        self.shop.client().post(&path, json!({"payment_method": card})).await.expect(status);
    }

    /// Upgrades to `max`; returns the upgrade's invoice.
    async fn upgrades(&self, bought: &Bought) -> String {
        let card = self.card("upgrade", Behaviour::Processes);
        let path = format!("/v1/subscriptions/{}/upgrade", bought.subscription);
        let answer = self.shop.client().post(&path, json!({"plan": "max", "payment_method": card})).await;
        answer.expect(202)["invoice"]["id"].as_str().unwrap().to_owned()
    }

    async fn tops_up(&self) -> String {
        let card = self.card("top-up", Behaviour::Processes);
        let body = json!({"customer": self.customer, "top_up": "topup-10m", "currency": "USD",
            "payment_method": card});
        let bought = self.shop.client().post("/v1/top-ups", body).await.expect(202);
        bought["invoice"]["id"].as_str().unwrap().to_owned()
    }

    /// The newest intent for an invoice.
    fn intent(&self, invoice: &str) -> String {
        let intents = self.shop.double.intents();
        let own = |intent: &&Value| intent["metadata"]["tollgate_invoice"] == invoice;
        intents.iter().rev().find(own).unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// The newest invoice: the renewal's.
    async fn newest_invoice(&self) -> String {
        let path = format!("/v1/invoices?customer={}&limit=200", self.customer);
        let page = self.shop.client().get(&path).await.expect(200);
        page["data"].as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// The customer at Stripe, as its intents name it.
    fn stripe_customer(&self, invoice: &str) -> String {
        let (id, intents) = (self.intent(invoice), self.shop.double.intents());
        let own = intents.iter().find(|intent| intent["id"] == *id).unwrap();
        own["customer"].as_str().unwrap().to_owned()
    }

    async fn saves_a_card(&self, which: &str) -> String {
        let path = format!("/v1/customers/{}/payment-method-setups", self.customer);
        let setup = self.shop.client().post(&path, json!({})).await.expect(201);
        let card = self.card(which, Behaviour::Succeeds);
        self.shop.double.complete_setup(setup["id"].as_str().unwrap(), &card);
        card
    }
}

/// What a buyer has bought first.
struct Bought {
    invoice: String,
    subscription: String,
    card: String,
}

/// The last month of those whose renewal is told of: they buy, and change the card that pays from then on.
async fn before_the_renewal(buyer: &Buyer<'_>, path: Path) {
    let Some(behaviour) = path.renewal_card() else { return };
    let bought = buyer.buys(Behaviour::Succeeds, 201).await;
    let card = buyer.card("renewal", behaviour);
    let path = format!("/v1/subscriptions/{}/payment-method", bought.subscription);
    buyer.shop.client().put(&path, json!({"payment_method": card})).await.expect(200);
}

/// The customer goes all the way at Stripe and here; the events that tell of it are kept back.
async fn goes(buyer: &Buyer<'_>, path: Path) {
    use Behaviour::{NeedsCustomer, Processes, Succeeds};
    let double = &buyer.shop.double;
    let client = buyer.shop.client();
    match path {
        Path::PaysAtOnce => {
            buyer.buys(Succeeds, 201).await;
        }
        Path::IsPaidLater => {
            let bought = buyer.buys(Processes, 202).await;
            double.settle(&buyer.intent(&bought.invoice), true);
        }
        Path::Fails => {
            let bought = buyer.buys(Processes, 202).await;
            double.settle(&buyer.intent(&bought.invoice), false);
        }
        Path::FailsThenPaysByAnother => {
            let bought = buyer.buys(declines(), 402).await;
            buyer.pays(&bought.invoice, Processes, 202).await;
            double.settle(&buyer.intent(&bought.invoice), true);
        }
        Path::FailsLaterThenPaysByAnother => {
            let bought = buyer.buys(Processes, 202).await;
            double.settle(&buyer.intent(&bought.invoice), false);
            buyer.pays(&bought.invoice, Succeeds, 200).await;
        }
        Path::Authenticates => {
            let bought = buyer.buys(NeedsCustomer, 202).await;
            double.authenticate(&buyer.intent(&bought.invoice), true);
        }
        Path::FailsToAuthenticate => {
            let bought = buyer.buys(NeedsCustomer, 202).await;
            double.authenticate(&buyer.intent(&bought.invoice), false);
        }
        Path::CancelsWhileTheBankWaits => {
            let bought = buyer.buys(NeedsCustomer, 202).await;
            let path = format!("/v1/subscriptions/{}/cancel", bought.subscription);
            client.post(&path, json!({"at_once": true})).await.expect(200);
            let id = buyer.intent(&bought.invoice);
            eventually(Duration::from_secs(120), async || {
                double.intents().iter().any(|intent| intent["id"] == *id && intent["status"] == "canceled")
            })
            .await;
        }
        Path::IsCanceledByTheProvider => {
            let bought = buyer.buys(NeedsCustomer, 202).await;
            double.cancel(&buyer.intent(&bought.invoice));
        }
        Path::IsRefundedInParts => {
            let bought = buyer.buys(Processes, 202).await;
            let intent = buyer.intent(&bought.invoice);
            double.settle(&intent, true);
            double.refund(&intent, 100);
            double.refund(&intent, 200);
        }
        Path::IsRefundedWhole => {
            let bought = buyer.buys(Processes, 202).await;
            let intent = buyer.intent(&bought.invoice);
            double.settle(&intent, true);
            double.refund(&intent, 600);
        }
        Path::IsRefundedByUs => {
            let bought = buyer.buys(Succeeds, 201).await;
            let path = format!("/v1/invoices/{}/refunds", bought.invoice);
            client.post(&path, json!({"amount_minor": 150})).await.expect(201);
            double.refund(&buyer.intent(&bought.invoice), 50);
        }
        Path::Disputes => {
            let bought = buyer.buys(Processes, 202).await;
            let intent = buyer.intent(&bought.invoice);
            double.settle(&intent, true);
            double.open_dispute(&intent);
        }
        Path::DisputesAndLoses | Path::DisputesAndWins | Path::DisputesLosesAndWins => {
            let bought = buyer.buys(Processes, 202).await;
            let intent = buyer.intent(&bought.invoice);
            double.settle(&intent, true);
            let dispute = double.open_dispute(&intent);
            if path != Path::DisputesAndWins {
                double.close_dispute(&dispute, false);
            }
            if path != Path::DisputesAndLoses {
                double.close_dispute(&dispute, true);
            }
        }
        Path::LosesTheCardWhileTheBankThinks => {
            let bought = buyer.buys(Processes, 202).await;
            double.settle(&buyer.intent(&bought.invoice), true);
            double.detach(&bought.card);
        }
        Path::SavesCardsAndRemovesOne => {
            buyer.saves_a_card("kept").await;
            let removed = buyer.saves_a_card("removed").await;
            double.detach(&removed);
        }
        Path::ChangesTheDefaultCard => {
            let bought = buyer.buys(Succeeds, 201).await;
            let stripe_customer = buyer.stripe_customer(&bought.invoice);
            double.set_default(&stripe_customer, &bought.card);
            let other = buyer.saves_a_card("other").await;
            double.set_default(&stripe_customer, &other);
        }
        Path::IsDeletedByTheProvider => {
            let bought = buyer.buys(Succeeds, 201).await;
            buyer.saves_a_card("other").await;
            double.delete_customer(&buyer.stripe_customer(&bought.invoice));
        }
        Path::Upgrades | Path::FailsToUpgrade | Path::UpgradesAndIsRefunded => {
            let bought = buyer.buys(Succeeds, 201).await;
            let invoice = buyer.upgrades(&bought).await;
            let intent = buyer.intent(&invoice);
            double.settle(&intent, path != Path::FailsToUpgrade);
            if path == Path::UpgradesAndIsRefunded {
                // 12.00 - 6.00 (R-14).
                double.refund(&intent, 600);
            }
        }
        Path::TopsUp | Path::FailsToTopUp => {
            let invoice = buyer.tops_up().await;
            double.settle(&buyer.intent(&invoice), path == Path::TopsUp);
        }
        Path::Renews | Path::FailsToRenew => {
            let invoice = buyer.newest_invoice().await;
            double.settle(&buyer.intent(&invoice), path == Path::Renews);
        }
        Path::AuthenticatesTheRenewal => {
            let invoice = buyer.newest_invoice().await;
            double.authenticate(&buyer.intent(&invoice), true);
        }
        Path::RenewsByAnother => {
            let invoice = buyer.newest_invoice().await;
            buyer.pays(&invoice, Processes, 202).await;
            double.settle(&buyer.intent(&invoice), true);
        }
    }
}

/// The story of so many customers, of which no event has been told.
async fn story(customers: usize) -> ClosedShop {
    let shop = Shop::open().await;
    // The list of events stays away, so that nothing is found there before it is told.
    for _ in 0..10_000 {
        shop.double.fault(Call::ListEvents, Fault::Error);
    }
    shop.client().set_clock(FIRST_CYCLE).await;
    let worker = shop.world.work();
    let buyers: Vec<Buyer<'_>> = iter(0..customers)
        .map(async |number| {
            let name = format!("c{number:05}");
            let customer = shop.client().customer(&name).await;
            Buyer { shop: &shop, name, customer }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;
    let on_their_paths = || iter(buyers.iter().zip(Path::ALL.into_iter().cycle()));
    on_their_paths()
        .for_each_concurrent(AT_ONCE, async |(buyer, path)| before_the_renewal(buyer, path).await)
        .await;
    shop.client().advance_to(NOON).await;
    on_their_paths().for_each_concurrent(AT_ONCE, async |(buyer, path)| goes(buyer, path).await).await;
    drop(worker);
    drop(buyers);
    shop.close()
}

/// The same events by the customers of Stripe's that they are about, each one's in the order of telling.
fn by_customer(closed: &ClosedShop, events: &[Value]) -> Vec<Vec<Value>> {
    let intents: BTreeMap<String, String> = closed
        .double
        .intents()
        .iter()
        .map(|intent| (word(&intent["id"]).unwrap(), word(&intent["customer"]).unwrap()))
        .collect();
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for event in events {
        let object = &event["data"]["object"];
        let customer = if object["object"] == "customer" {
            word(&object["id"])
        } else if let Some(intent) = word(&object["payment_intent"]) {
            intents.get(&intent).cloned()
        } else {
            word(&object["customer"]).or(word(&event["data"]["previous_attributes"]["customer"]))
        };
        all.entry(customer.unwrap()).or_default().push(event.clone());
    }
    all.into_values().collect()
}

fn word(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// All rows that say how the customers stand, but for ids that were made up and instants of recording. A success
/// counts from the clock of a test tenant, so instants are compared by the hour: what was told late was told within
/// the same one. How many changes an account has seen on the way is no part of it: where a dispute is won before it is told
/// to be lost, nothing is suspended in between.
async fn canonical(shop: &Shop) -> Vec<String> {
    #[derive(diesel::QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        row: String,
    }
    // Each table with what a row is found by, and the columns that are not compared.
    let tables = [
        ("subscriptions", "t.customer_id", "created_at"),
        ("cycles", "s.customer_id", "opened_at, closed_at, carried_grant_id"),
        ("purchases", "t.customer_id", "created_at"),
        ("invoices", "t.customer_id", "created_at"),
        ("payments", "i.customer_id", "created_at"),
        ("refunds", "i.customer_id", "refund_id, created_at, settled_at"),
        ("disputes", "i.customer_id", "dispute_id, opened_at, closed_at"),
        ("credit_notes", "i.customer_id", "credit_note_id, refund_id, number, created_at"),
        ("grants", "t.customer_id", "grant_id, created_at, expiry_version"),
        ("credit_accounts", "t.customer_id", "version, changes, chain, last_recorded_at, refills_at"),
        ("dunnings", "s.customer_id", "started_at, ended_at"),
        ("promotion_uses", "t.customer_id", "used_at"),
        ("saved_methods", "t.customer_id", "saved_at, detached_at"),
        ("provider_customers", "t.customer_id", "created_at, deleted_at"),
    ];
    let mut superuser = shop.world.stores.superuser().await;
    diesel::sql_query("set time zone 'UTC'").execute(&mut superuser).await.unwrap();
    let mut all = Vec::new();
    for (table, customer, without) in tables {
        let joined = match customer.split_once('.').unwrap().0 {
            "s" => "join subscriptions s using (tenant_id, subscription_id)",
            "i" => "join invoices i using (tenant_id, invoice_id)",
            _ => "",
        };
        let query = format!(
            r"select c.external_id || ' {table} ' || regexp_replace((to_jsonb(t) - '{{{without}}}'::text[])::text,
                  '(\d{{4}}-\d\d-\d\dT\d\d):\d\d:\d\d(\.\d+)?\+00:00', '\1', 'g') as row
              from {table} t {joined}
              join customers c on c.tenant_id = t.tenant_id and c.customer_id = {customer}
              order by 1"
        );
        let rows: Vec<Row> = diesel::sql_query(query).load(&mut superuser).await.unwrap();
        assert!(!rows.is_empty(), "{table}");
        all.extend(rows.into_iter().map(|found| found.row));
    }
    all
}

/// G-9 and F-10: shuffled, tripled, a fifth of them an hour late, and forged ones between them.
#[tokio::test(flavor = "multi_thread")]
async fn events_in_any_order_and_number_end_in_the_same_state() {
    end_in_the_same_state(Path::ALL.len(), 4).await;
}

/// As many customers as `TOLLGATE_STORY_CUSTOMERS` says, 500 without, in as many orders as `TOLLGATE_STORY_ORDERS`
/// says, 20 without.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes many minutes"]
async fn events_of_many_customers_in_twenty_orders_end_in_the_same_state() {
    let number =
        |name: &str, without: usize| std::env::var(name).map_or(without, |number| number.parse().unwrap());
    end_in_the_same_state(number("TOLLGATE_STORY_CUSTOMERS", 500), number("TOLLGATE_STORY_ORDERS", 20)).await;
}

async fn end_in_the_same_state(customers: usize, orders: usize) {
    let started = Instant::now();
    let closed = story(customers).await;
    let events = closed.double.events();
    eprintln!("{} events of {customers} customers after {:?}", events.len(), started.elapsed());

    let expected = {
        let redis = testkit::lone_redis("story-in-order");
        let in_order = closed.reopen(&redis).await;
        let _worker = in_order.world.work();
        let each = by_customer(&closed, &events);
        // One event a customer at a time, once what was told before has been settled.
        for number in 0..each.iter().map(Vec::len).max().unwrap() {
            let next: Vec<&Value> = each.iter().filter_map(|events| events.get(number)).collect();
            iter(&next).for_each_concurrent(AT_ONCE, async |event| is_told(&in_order, event).await).await;
            in_order.settled(next.len()).await;
        }
        let expected = canonical(&in_order).await;
        nothing_is_parked(&in_order).await;
        in_order.agree().await;
        expected
    };
    eprintln!("in order: {} rows after {:?}", expected.len(), started.elapsed());

    for order in 1..=orders {
        let started = Instant::now();
        let redis = testkit::lone_redis("story");
        let shop = closed.reopen(&redis).await;
        let _worker = shop.world.work();
        let mut random = fastrand::Rng::with_seed(u64::try_from(order).unwrap());
        let mut told: Vec<&Value> = events.iter().chain(&events).chain(&events).collect();
        random.shuffle(&mut told);
        let (first, late) = told.split_at(told.len() - told.len() / 5);
        for (clock, part) in [(NOON, first), (LATE, late)] {
            shop.client().set_clock(clock).await;
            let with_forged: Vec<(&Value, bool)> =
                part.iter().map(|event| (*event, random.u8(0..10) == 0)).collect();
            iter(&with_forged)
                .for_each_concurrent(AT_ONCE, async |(event, is_forged_too)| {
                    if *is_forged_too {
                        let forged = shop.tell_signed(event, "whsec_of_a_forger_0").await;
                        forged.expect_problem(400, "invalid-signature");
                    }
                    is_told(&shop, event).await;
                })
                .await;
            shop.settled(part.len()).await;
        }
        nothing_is_parked(&shop).await;
        let found = canonical(&shop).await;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected, "order {order}");
        }
        assert_eq!(found.len(), expected.len(), "order {order}");
        shop.agree().await;
        eprintln!("order {order} of {orders}: {} events in {:?}", told.len(), started.elapsed());
    }
}

/// As the provider does: where it could not be stored, since the machine has too much to do, it is told again.
async fn is_told(shop: &Shop, event: &Value) {
    eventually(Duration::from_secs(10), async || {
        let told = shop.tell(event).await;
        let is_stored = told.status != 503;
        if is_stored {
            told.expect(200);
        }
        is_stored
    })
    .await;
}

async fn nothing_is_parked(shop: &Shop) {
    let parked = shop.client().get("/v1/provider-events?state=parked").await.expect(200);
    assert_eq!(parked["data"], json!([]));
}
