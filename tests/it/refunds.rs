//! Money that goes back: by an operator, by the provider's account, by the customer's bank.

use chrono::Duration;
use domain::dispute::DisputeReport;
use domain::id::PaymentId;
use domain::policy::Policies;
use domain::refund::RefundReport;
use domain::{Currency, Money, Refusal, TenantScope};
use idempotency::RequestKey;
use serde_json::{Value, json};
use subscriptions::{CancelAt, ListedRefund, Subscriptions};
use testkit::LoneServers;

use crate::support::{Client, RedisAsItWas, World, event, events_totalling, subscribe};

/// A customer on lite who paid 0.72 for 60,000,000 Credits and has spent this many of them.
struct Bought {
    customer: String,
    subscription: String,
    invoice: String,
    payment: PaymentId,
}

async fn bought(client: &Client, name: &str, spent: u64) -> Bought {
    let customer = client.customer(name).await;
    let bought = client.subscribe(&customer, "lite").await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    if spent > 0 {
        let events = events_totalling(name, &customer, "mimo-v2-omni", spent, 0);
        client.post("/v1/usage/events", json!(events)).await.expect(200);
    }
    Bought {
        customer,
        subscription: text(&bought["subscription"]["id"]),
        invoice: text(&bought["invoice"]["id"]),
        payment: text(&bought["invoice"]["payments"][0]["id"]).parse().unwrap(),
    }
}

fn usd(amount_minor: i64) -> Money {
    Money { amount_minor, currency: Currency::Usd }
}

fn refusal(answer: db::Result<()>) -> &'static str {
    match answer {
        Err(db::Error::Refused(refusal)) => refusal.code(),
        other => panic!("{other:?}"),
    }
}

async fn invoice(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/invoices/{id}")).await.expect(200)
}

/// A refund that the provider lists, and that was made on its own site.
fn listed(provider_ref: &str, amount: Money) -> ListedRefund {
    let report = RefundReport::Succeeded;
    ListedRefund { provider_ref: provider_ref.to_owned(), refund: None, amount, report, failure_code: None }
}

/// The same, sent back by the customer's bank.
fn failed(refund: &ListedRefund) -> ListedRefund {
    let failure_code = Some("lost_or_stolen_card".to_owned());
    ListedRefund { report: RefundReport::Failed, failure_code, ..refund.clone() }
}

async fn told(subscriptions: &Subscriptions, world: &World, payment: PaymentId, refunds: &[ListedRefund]) {
    let scope = world.scope().await;
    subscriptions.apply_refunds(&scope, payment, refunds, scope.now).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn half_the_money_takes_half_the_credits_as_far_as_they_are_unspent() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    // The rule's own example, times 600,000: grant 100, spent 70, half refunded: revoke 30, shortfall 20.
    let ada = bought(client, "ada", 42_000_000).await;
    let path = format!("/v1/invoices/{}/refunds", ada.invoice);
    let body = json!({"amount_minor": 36, "reason": "down for a day"});
    let first = client.post_as("half", &path, body.clone()).await;
    let refund = first.clone().expect(201);
    assert_eq!(refund["status"], "succeeded");
    assert_eq!(refund["origin"], "operator");
    assert_eq!(refund["amount"], json!({"amount_minor": 36, "currency": "USD"}));
    assert_eq!(
        (&refund["credits_revoked"], &refund["credits_short"]),
        (&json!(18_000_000), &json!(12_000_000))
    );
    assert_eq!(client.available(&ada.customer).await, 0);

    // The same request again has the same answer and no second effect.
    let again = client.post_as("half", &path, body).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.expect(201), refund);
    client
        .post_as("half", &path, json!({"amount_minor": 1}))
        .await
        .expect_problem(422, "idempotency-key-reused");

    // Too much, nothing, less than nothing: refused, and nothing is changed.
    let too_much = client.post(&path, json!({"amount_minor": 37})).await;
    too_much.expect_problem(422, "refund-too-large");
    assert_eq!(too_much.body["rest"], json!({"amount_minor": 36, "currency": "USD"}));
    for bad in [json!(0), json!(-36), json!(i64::MIN), json!("36"), json!(1.5)] {
        client.post(&path, json!({"amount_minor": bad})).await.expect_problem(422, "invalid-field");
    }
    client.post(&path, json!({"reason": ""})).await.expect_problem(422, "invalid-field");
    assert_eq!(invoice(client, &ada.invoice).await["refunds"], json!([refund]));

    // The rest by default. All 60,000,000 should be gone: 18,000,000 are, 42,000,000 stay spent.
    let rest = client.post(&path, json!({})).await.expect(201);
    assert_eq!(rest["amount"]["amount_minor"], 36);
    assert_eq!((&rest["credits_revoked"], &rest["credits_short"]), (&json!(0), &json!(42_000_000)));
    client.post(&path, json!({})).await.expect_problem(409, "already-refunded");
    let view = invoice(client, &ada.invoice).await;
    assert_eq!(view["status"], "paid", "what was paid stays paid");
    assert_eq!(view["payments"][0]["refunded"]["amount_minor"], 72);
    assert_eq!(view["refunds"].as_array().unwrap().len(), 2);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_touches_no_other_grant_and_is_in_the_ledger_under_its_own_cause() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = bought(client, "ada", 0).await;
    let upgrade = format!("/v1/subscriptions/{}/upgrade", ada.subscription);
    let upgraded = client.post(&upgrade, json!({"plan": "standard"})).await.expect(200);
    assert_eq!(client.available(&ada.customer).await, 200_000_000);
    let path = format!("/v1/invoices/{}/refunds", upgraded["invoice"]["id"].as_str().unwrap());
    let refund = client.post(&path, json!({"amount_minor": 30})).await.expect(201);
    // 1.20 had bought 140,000,000: a quarter of it is 35,000,000.
    assert_eq!(refund["credits_revoked"], 35_000_000);
    assert_eq!(client.available(&ada.customer).await, 165_000_000);
    let grants = client.grants(&ada.customer).await;
    let left: Vec<(&str, i64)> = grants
        .iter()
        .map(|grant| (grant["source"].as_str().unwrap(), grant["remaining"].as_i64().unwrap()))
        .collect();
    assert!(left.contains(&("plan", 60_000_000)) && left.contains(&("upgrade", 105_000_000)), "{left:?}");
    let transfers = client.transfers(&ada.customer).await;
    let last = transfers.iter().find(|transfer| transfer["credit"] == "revoked").unwrap();
    assert_eq!((&last["cause"]["kind"], &last["credits"]), (&json!("refund"), &json!(35_000_000)));
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_paid_is_not_refunded_and_only_an_operator_refunds() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let pending = client.post("/v1/subscriptions", subscribe(&customer, "lite", "pm_sandbox_pends")).await;
    let open = pending.expect(202)["invoice"]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/invoices/{open}/refunds");
    client.post(&path, json!({})).await.expect_problem(409, "invoice-not-paid");
    let unknown = "/v1/invoices/inv_0192f0c1d2e37a4b8c9d0e1f2a3b4c5d/refunds";
    client.post(unknown, json!({})).await.expect_problem(404, "not-found");
    let billing = client.with_key(&world.key(&[tenants::Scope::Billing]).await);
    billing.post(&path, json!({})).await.expect_problem(403, "insufficient-scope");
    let other = client.with_key(&world.other_tenant().await);
    other.post(&path, json!({})).await.expect_problem(404, "not-found");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_give_no_more_back_than_was_paid() {
    let world = World::new().await;
    let (one, two) = (world.serve().await, world.serve().await);
    let ada = bought(&one.client, "ada", 0).await;
    let path = format!("/v1/invoices/{}/refunds", ada.invoice);
    let tries = (0..20).map(|number| {
        let client = if number % 2 == 0 { &one.client } else { &two.client };
        client.post_until_served(&path, json!({"amount_minor": 10}))
    });
    let answers = futures_util::future::join_all(tries).await;
    // 0.72 is seven times 0.10, and 0.02.
    let given = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(given, 7);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.expect_problem(422, "refund-too-large");
    }
    let view = invoice(&one.client, &ada.invoice).await;
    assert_eq!(view["payments"][0]["refunded"]["amount_minor"], 70);
    // floor(60,000,000 x 70 / 72) are gone.
    assert_eq!(one.client.available(&ada.customer).await, 60_000_000 - 58_333_333);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refund_that_the_provider_lists_counts_once() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriptions = world.subscriptions();
    let ada = bought(client, "ada", 0).await;
    // Half in two, told three times, the last time late.
    let quarters = [listed("re_1", usd(18)), listed("re_2", usd(18))];
    told(&subscriptions, &world, ada.payment, &quarters[..1]).await;
    told(&subscriptions, &world, ada.payment, &quarters).await;
    told(&subscriptions, &world, ada.payment, &quarters).await;
    told(&subscriptions, &world, ada.payment, &quarters[..1]).await;
    assert_eq!(client.available(&ada.customer).await, 30_000_000);
    let refunds = invoice(client, &ada.invoice).await["refunds"].clone();
    let amounts: Vec<&Value> =
        refunds.as_array().unwrap().iter().map(|refund| &refund["amount"]["amount_minor"]).collect();
    assert_eq!(amounts, [18, 18]);
    assert!(refunds.as_array().unwrap().iter().all(|refund| refund["origin"] == "provider"));
    // One that was asked for here is known already when the provider tells of it.
    let path = format!("/v1/invoices/{}/refunds", ada.invoice);
    let ours = client.post(&path, json!({"amount_minor": 12})).await.expect(201);
    let ours = ours["id"].as_str().unwrap().parse().unwrap();
    let third = ListedRefund { refund: Some(ours), ..listed("re_3", usd(12)) };
    let [first, second] = quarters;
    told(&subscriptions, &world, ada.payment, &[first, second, third]).await;
    let view = invoice(client, &ada.invoice).await;
    assert_eq!(view["payments"][0]["refunded"]["amount_minor"], 48);
    assert_eq!(client.available(&ada.customer).await, 20_000_000);

    let scope = world.scope().await;
    let yuan = Money { amount_minor: 50, currency: Currency::Cny };
    for (amount, code) in [(usd(73), "refund-too-large"), (yuan, "currency-mismatch")] {
        let wrong = [listed("re_4", amount)];
        let answer = subscriptions.apply_refunds(&scope, ada.payment, &wrong, scope.now).await;
        assert_eq!(refusal(answer), code);
    }
    assert_eq!(invoice(client, &ada.invoice).await, view);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_told_before_its_payment_succeeded_waits_for_that() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let pending = client.post("/v1/subscriptions", subscribe(&customer, "lite", "pm_sandbox_pends")).await;
    let payment = pending.expect(202)["invoice"]["payments"][0]["id"].as_str().unwrap().parse().unwrap();
    let (subscriptions, scope) = (world.subscriptions(), world.scope().await);
    let whole = [listed("re_1", usd(72))];
    let early = subscriptions.apply_refunds(&scope, payment, &whole, scope.now).await;
    assert_eq!(refusal(early), Refusal::InvoiceNotPaid.code());
    world.verify().await;
}

/// R-22a: what has not gone back in the end takes nothing, whoever had asked for it, and is the operator's to see.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_fails_after_it_succeeded_gives_its_credits_back_and_can_be_made_again() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriptions = world.subscriptions();
    let ada = bought(client, "ada", 42_000_000).await;
    // Half of 0.72 by an operator: 18,000,000 of the 30,000,000 were there. A twelfth on the provider's site: none was.
    let path = format!("/v1/invoices/{}/refunds", ada.invoice);
    let half = client.post(&path, json!({"amount_minor": 36})).await.expect(201);
    let ours = ListedRefund {
        refund: Some(half["id"].as_str().unwrap().parse().unwrap()),
        ..listed("re_ours", usd(36))
    };
    let theirs = listed("re_theirs", usd(6));
    told(&subscriptions, &world, ada.payment, &[ours.clone(), theirs.clone()]).await;
    assert_eq!(client.available(&ada.customer).await, 0);
    for _ in 0..2 {
        told(&subscriptions, &world, ada.payment, &[failed(&ours), theirs.clone()]).await;
        // The twelfth takes its 5,000,000 of them now: without the half it would have found them.
        assert_eq!(client.available(&ada.customer).await, 13_000_000);
    }
    let view = invoice(client, &ada.invoice).await;
    assert_eq!(
        (&view["status"], &view["payments"][0]["refunded"]["amount_minor"]),
        (&json!("paid"), &json!(6))
    );
    let refund = &view["refunds"][0];
    assert_eq!(
        (&refund["status"], &refund["failure_code"], &refund["credits_revoked"]),
        (&json!("failed"), &json!("lost_or_stolen_card"), &json!(0))
    );
    let refund = &view["refunds"][1];
    assert_eq!((&refund["credits_revoked"], &refund["credits_short"]), (&json!(5_000_000), &json!(0)));
    let alerts = world.events("refund.failed").await;
    assert_eq!((alerts.len(), &alerts[0]["refund"]), (1, &half["id"]));
    // It never succeeds after all, whatever is told late; what it left is free to go back once more.
    told(&subscriptions, &world, ada.payment, &[ours, theirs]).await;
    let again = client.post(&path, json!({})).await.expect(201);
    assert_eq!(
        (&again["amount"]["amount_minor"], &again["credits_revoked"]),
        (&json!(66), &json!(13_000_000))
    );
    // The note of what failed stays, and counts no longer: 0.06 and 0.66 are the 0.72.
    let notes = invoice(client, &ada.invoice).await["credit_notes"].clone();
    let totals: Vec<&Value> =
        notes.as_array().unwrap().iter().map(|note| &note["total"]["amount_minor"]).collect();
    assert_eq!(totals, [36, 6, 66]);
    world.verify().await;
}

/// R-22a: what is revoked is the same part of the Credits as of the money that has gone back, to the last Credit.
#[tokio::test(flavor = "multi_thread")]
async fn of_refunds_of_which_one_fails_the_others_take_what_they_would_have_taken_alone() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriptions = world.subscriptions();
    let available = async |customer: &str| client.available(customer).await;

    // A cent of 72 three times: 833,333, 833,333 and 833,334 of 60,000,000. Two cents are 1,666,666.
    let ada = bought(client, "ada", 0).await;
    let [first, second, third] = ["re_1", "re_2", "re_3"].map(|name| listed(name, usd(1)));
    told(&subscriptions, &world, ada.payment, &[first.clone(), second.clone(), third.clone()]).await;
    assert_eq!(available(&ada.customer).await, 57_500_000);
    told(&subscriptions, &world, ada.payment, &[failed(&first), second, third]).await;
    assert_eq!(available(&ada.customer).await, 58_333_334);

    // With 50,000,000 spent: of the half's 30,000,000 there were 10,000,000; the rest of the half took nothing more.
    let bob = bought(client, "bob", 50_000_000).await;
    let (half, rest) = (listed("re_half", usd(36)), listed("re_rest", usd(30)));
    told(&subscriptions, &world, bob.payment, &[half.clone(), rest.clone()]).await;
    told(&subscriptions, &world, bob.payment, &[failed(&half), rest.clone()]).await;
    assert_eq!(available(&bob.customer).await, 0);
    let refunds = invoice(client, &bob.invoice).await["refunds"].clone();
    let of_rest = (&refunds[1]["credits_revoked"], &refunds[1]["credits_short"]);
    assert_eq!(of_rest, (&json!(10_000_000), &json!(15_000_000)), "of 25,000,000");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_dispute_takes_what_is_unspent_and_suspends_until_an_operator_lifts_it() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriptions = world.subscriptions();
    let ada = bought(client, "ada", 42_000_000).await;
    let scope = world.scope().await;
    let tell = async |report| {
        subscriptions.apply_dispute(&scope, ada.payment, "dp_1", report, usd(72), scope.now).await.unwrap();
    };
    let path = format!("/v1/subscriptions/{}", ada.subscription);
    tell(DisputeReport::Opened).await;
    let dispute = invoice(client, &ada.invoice).await["disputes"][0].clone();
    assert_eq!((&dispute["state"], &dispute["provider_ref"]), (&json!("open"), &json!("dp_1")));
    assert_eq!(client.available(&ada.customer).await, 18_000_000, "nothing is taken before it is lost");
    client.authorize("before", &ada.customer, "mimo-v2-omni", 1_000, 10).await.expect(201);
    let refunds = format!("/v1/invoices/{}/refunds", ada.invoice);
    client.post(&refunds, json!({})).await.expect_problem(409, "payment-disputed");

    tell(DisputeReport::Lost).await;
    assert_eq!(client.available(&ada.customer).await, 0);
    assert_eq!(client.get(&path).await.expect(200)["status"], "suspended");
    client
        .authorize("a", &ada.customer, "mimo-v2-omni", 1_000, 10)
        .await
        .expect_problem(402, "subscription-suspended");
    // What was used is recorded all the same.
    let used = event("used", &ada.customer, "mimo-v2-omni", json!({"input": 500, "output": 0}));
    let recorded = client.post("/v1/usage/events", used).await.expect(200);
    assert_eq!((&recorded["status"], &recorded["receipt"]["credits"]), (&json!("accepted"), &json!(500)));

    let resumed = client
        .send(
            client
                .request(reqwest::Method::POST, &format!("{path}/resume"))
                .header("Idempotency-Key", "lift"),
        )
        .await;
    assert_eq!(resumed.expect(200)["status"], "active");
    // The chargeback is told again after that, and its opening arrives late.
    for report in [DisputeReport::Lost, DisputeReport::Opened] {
        tell(report).await;
        assert_eq!(client.get(&path).await.expect(200)["status"], "active");
    }
    let dispute = invoice(client, &ada.invoice).await["disputes"][0].clone();
    assert_eq!((&dispute["state"], &dispute["credits_revoked"]), (&json!("lost"), &json!(18_000_000)));
    assert_eq!(client.available(&ada.customer).await, 0);
    world.verify().await;
}

/// R-22a: the bank gives the money back, so the customer has what it had paid for: as where no loss was ever told.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_dispute_that_is_won_after_all_gives_back_what_it_took() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriptions = world.subscriptions();
    let scope = world.scope().await;
    let tell = async |payment, dispute: &str, report| {
        subscriptions.apply_dispute(&scope, payment, dispute, report, usd(72), scope.now).await.unwrap();
    };
    let ada = bought(client, "ada", 42_000_000).await;
    let path = format!("/v1/subscriptions/{}", ada.subscription);
    tell(ada.payment, "dp_1", DisputeReport::Lost).await;
    assert_eq!(client.get(&path).await.expect(200)["status"], "suspended");
    // Whatever is told of it from then on, however often.
    for report in [DisputeReport::Won, DisputeReport::Lost, DisputeReport::Opened, DisputeReport::Won] {
        tell(ada.payment, "dp_1", report).await;
        assert_eq!(client.get(&path).await.expect(200)["status"], "active");
        assert_eq!(client.available(&ada.customer).await, 18_000_000);
    }
    let dispute = invoice(client, &ada.invoice).await["disputes"][0].clone();
    assert_eq!((&dispute["state"], &dispute["credits_revoked"]), (&json!("won"), &json!(0)));
    let transfers = client.transfers(&ada.customer).await;
    let back = transfers.iter().find(|transfer| transfer["debit"] == "revoked").unwrap();
    assert_eq!((&back["cause"]["kind"], &back["credits"]), (&json!("dispute"), &json!(18_000_000)));

    // Two of one payment: it goes on once the second is won too.
    tell(ada.payment, "dp_2", DisputeReport::Lost).await;
    tell(ada.payment, "dp_3", DisputeReport::Lost).await;
    tell(ada.payment, "dp_2", DisputeReport::Won).await;
    assert_eq!(client.get(&path).await.expect(200)["status"], "suspended");
    assert_eq!(client.available(&ada.customer).await, 0);
    tell(ada.payment, "dp_3", DisputeReport::Won).await;
    assert_eq!(client.get(&path).await.expect(200)["status"], "active");
    assert_eq!(client.available(&ada.customer).await, 18_000_000);

    // What an operator has suspended, an operator lifts: before the loss, or after it.
    let suspend = format!("{path}/suspend");
    for (number, is_before) in [(4, true), (5, false)] {
        let dispute = format!("dp_{number}");
        if is_before {
            client.post(&suspend, json!({"reason": "abuse"})).await.expect(200);
        }
        tell(ada.payment, &dispute, DisputeReport::Lost).await;
        if !is_before {
            client.post(&suspend, json!({"reason": "abuse"})).await.expect(200);
        }
        tell(ada.payment, &dispute, DisputeReport::Won).await;
        assert_eq!(client.get(&path).await.expect(200)["status"], "suspended", "{dispute}");
        client.post(&format!("{path}/resume"), json!({})).await.expect(200);
    }

    client.authorize("again", &ada.customer, "mimo-v2-omni", 1_000, 10).await.expect(201);

    // Won in the next cycle: that pool stays, and what goes back to the old one has expired.
    tell(ada.payment, "dp_6", DisputeReport::Lost).await;
    client.advance_to("2026-02-28T10:00:00Z").await;
    let scope = world.scope().await;
    subscriptions
        .apply_dispute(&scope, ada.payment, "dp_6", DisputeReport::Won, usd(72), scope.now)
        .await
        .unwrap();
    assert_eq!(client.get(&path).await.expect(200)["status"], "active");
    assert_eq!(client.available(&ada.customer).await, 60_000_000);
    let grants = client.grants(&ada.customer).await;
    let old = grants.iter().find(|grant| grant["spent"] == 42_000_000).unwrap();
    assert_eq!((&old["revoked"], &old["expired"]), (&json!(0), &json!(18_000_000)));
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_subscription_authorizes_nothing_and_goes_on_where_it_stopped() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = bought(client, "ada", 0).await;
    let path = format!("/v1/subscriptions/{}", ada.subscription);
    client.authorize("one", &ada.customer, "mimo-v2-omni", 1_000, 10).await.expect(201);
    let suspended = client.post(&format!("{path}/suspend"), json!({"reason": "abuse"})).await.expect(200);
    assert_eq!(suspended["status"], "suspended");
    client.post(&format!("{path}/suspend"), json!({})).await.expect(200);
    client
        .authorize("two", &ada.customer, "mimo-v2-omni", 1_000, 10)
        .await
        .expect_problem(402, "subscription-suspended");
    client
        .post(&format!("{path}/upgrade"), json!({"plan": "max"}))
        .await
        .expect_problem(402, "subscription-suspended");
    let resume = |key: &'static str| {
        let path = format!("{path}/resume");
        async move {
            client.send(client.request(reqwest::Method::POST, &path).header("Idempotency-Key", key)).await
        }
    };
    assert_eq!(resume("a").await.expect(200)["status"], "active");
    assert_eq!(resume("a").await.expect(200)["status"], "active", "the same request again");
    resume("b").await.expect_problem(409, "subscription-not-suspended");
    client.authorize("three", &ada.customer, "mimo-v2-omni", 1_000, 10).await.expect(201);

    // While the renewal is unpaid, whoever is let go on is past due.
    let declines = json!({"payment_method": "pm_sandbox_declines"});
    client.put(&format!("{path}/payment-method"), declines).await.expect(200);
    client.post(&format!("{path}/suspend"), json!({})).await.expect(200);
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!(client.get(&path).await.expect(200)["status"], "suspended");
    assert_eq!(resume("c").await.expect(200)["status"], "past_due");

    // What is suspended can be canceled, and the customer may buy again.
    client.post(&format!("{path}/suspend"), json!({})).await.expect(200);
    client.post(&format!("{path}/cancel"), json!({"at_once": true})).await.expect(200);
    client.subscribe(&ada.customer, "lite").await;
    client.authorize("four", &ada.customer, "mimo-v2-omni", 1_000, 10).await.expect(201);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_immediate_cancel_gives_the_cycles_money_back_where_it_is_asked_to() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = bought(client, "ada", 42_000_000).await;
    let path = format!("/v1/subscriptions/{}", ada.subscription);
    let upgraded = client.post(&format!("{path}/upgrade"), json!({"plan": "standard"})).await.expect(200);
    client
        .post(&format!("{path}/cancel"), json!({"refund": true}))
        .await
        .expect_problem(422, "invalid-field");
    let canceled = client.post(&format!("{path}/cancel"), json!({"at_once": true, "refund": true})).await;
    assert_eq!(canceled.expect(200)["status"], "canceled");
    assert_eq!(client.available(&ada.customer).await, 0);
    let first = invoice(client, &ada.invoice).await;
    let second = invoice(client, upgraded["invoice"]["id"].as_str().unwrap()).await;
    for (invoice, amount, revoked, short) in
        [(first, 72, 18_000_000, 42_000_000), (second, 120, 140_000_000, 0)]
    {
        let refund = &invoice["refunds"][0];
        assert_eq!((&refund["origin"], &refund["status"]), (&json!("cancel"), &json!("succeeded")));
        assert_eq!(refund["amount"]["amount_minor"], amount);
        assert_eq!((&refund["credits_revoked"], &refund["credits_short"]), (&json!(revoked), &json!(short)));
    }
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_pays_for_an_upgrade_that_a_suspension_stands_in_the_way_of() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = bought(client, "ada", 0).await;
    let path = format!("/v1/subscriptions/{}", ada.subscription);
    let max = json!({"plan": "max", "payment_method": "pm_sandbox_pends"});
    let upgrade = client.post(&format!("{path}/upgrade"), max).await.expect(202);
    let invoice = format!("/v1/invoices/{}", upgrade["invoice"]["id"].as_str().unwrap());
    client.post(&format!("{path}/suspend"), json!({})).await.expect(200);
    let pay = json!({"payment_method": "pm_sandbox_succeeds"});
    client.post(&format!("{invoice}/pay"), pay.clone()).await.expect_problem(402, "subscription-suspended");
    let payments = client.get(&invoice).await.expect(200)["payments"].clone();
    assert_eq!((payments.as_array().unwrap().len(), &payments[0]["status"]), (1, &json!("pending")));
    client.post(&format!("{path}/resume"), json!({})).await.expect(200);
    let paid = client.post(&format!("{invoice}/pay"), pay).await.expect(200);
    assert_eq!(paid["subscription"]["plan"], "max");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refunded_disputed_and_suspended_verifies() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriptions = world.subscriptions();
    let ada = bought(client, "ada", 42_000_000).await;
    client
        .post(&format!("/v1/invoices/{}/refunds", ada.invoice), json!({"amount_minor": 36}))
        .await
        .expect(201);
    let bob = bought(client, "bob", 1_000).await;
    let scope = world.scope().await;
    let later = scope.now + Duration::hours(1);
    subscriptions
        .apply_dispute(&scope, bob.payment, "dp_bob", DisputeReport::Lost, usd(72), later)
        .await
        .unwrap();
    let carl = bought(client, "carl", 1_000).await;
    let cancel = format!("/v1/subscriptions/{}/cancel", carl.subscription);
    client.post(&cancel, json!({"at_once": true, "refund": true})).await.expect(200);
    let output = world.command("verify").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_goes_back_and_is_disputed_without_a_subscription() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let top_up = json!({"customer": customer, "top_up": "topup-10m", "currency": "CNY",
        "payment_method": "pm_sandbox_succeeds"});
    let mut invoices = Vec::new();
    for _ in 0..2 {
        let bought = client.post("/v1/top-ups", top_up.clone()).await.expect(201);
        invoices.push(bought["invoice"].clone());
    }
    assert_eq!(client.available(&customer).await, 20_000_000);
    // 7.00 for 10,000,000: 0.70 of it are 1,000,000.
    let path = format!("/v1/invoices/{}/refunds", invoices[0]["id"].as_str().unwrap());
    let refund = client.post(&path, json!({"amount_minor": 70})).await.expect(201);
    assert_eq!((&refund["status"], &refund["credits_revoked"]), (&json!("succeeded"), &json!(1_000_000)));
    let payment = invoices[1]["payments"][0]["id"].as_str().unwrap().parse().unwrap();
    let (subscriptions, scope) = (world.subscriptions(), world.scope().await);
    let amount = Money { amount_minor: 700, currency: Currency::Cny };
    for _ in 0..2 {
        subscriptions
            .apply_dispute(&scope, payment, "dp_top", DisputeReport::Lost, amount, scope.now)
            .await
            .unwrap();
    }
    assert_eq!(client.available(&customer).await, 9_000_000, "there is nothing to suspend");
    client.authorize("a", &customer, "mimo-v2-omni", 1_000, 10).await.expect(201);
    let output = world.command("verify").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Takes what was bought back, in one of the ways that there are.
async fn taken_back(way: &str, by: &Subscriptions, scope: &TenantScope, bought: &Bought) {
    let key = RequestKey::new(Some(way), "POST", "/", &json!(null)).unwrap();
    let (subscription, invoice) = (bought.subscription.parse().unwrap(), bought.invoice.parse().unwrap());
    match way {
        "canceled" => {
            by.cancel(scope, subscription, CancelAt::Once { refund: false }, &key).await.unwrap();
        }
        "refunded" => {
            by.refund_invoice(scope, invoice, None, None, &key).await.unwrap();
        }
        "refund-listed" => {
            by.apply_refunds(scope, bought.payment, &[listed("re_1", usd(72))], scope.now).await.unwrap();
        }
        "disputed" => {
            let lost = DisputeReport::Lost;
            by.apply_dispute(scope, bought.payment, "dp_1", lost, usd(72), scope.now).await.unwrap();
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_that_redis_still_has_are_gone_there_once_the_repeat_says_so() {
    let lone = LoneServers::start("told-of-refunds").await;
    let world = World::on(lone.stores(), Policies::default()).await;
    let server = world.serve().await;
    let client = &server.client;
    let (subscriptions, scope) = (world.subscriptions(), world.scope().await);
    for way in ["canceled", "refunded", "refund-listed", "disputed"] {
        let ada = bought(client, way, 0).await;
        let authorize = async |id: &str| client.authorize(id, &ada.customer, "mimo-v2-omni", 1_000, 0).await;
        authorize("first").await.expect(201);
        let before = RedisAsItWas::noted(&world.stores).await;
        taken_back(way, &subscriptions, &scope, &ada).await;
        before.restore().await;
        assert_eq!(authorize("untold").await.status, 201, "{way}: as nobody knows of it yet");

        taken_back(way, &subscriptions, &scope, &ada).await;

        let refused = authorize("told").await;
        assert_eq!(refused.status, 402, "{way}: {}", refused.body);
    }
}

/// R-22a: what goes back while a lost dispute has the Credits is taken of them once it is won: as where no loss was told.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_back_during_a_lost_dispute_is_taken_once_it_is_won() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let subscriptions = world.subscriptions();
    let scope = world.scope().await;
    // Of 60,000,000 for 0.72 the quarter that goes back is 15,000,000: all there with 10,000,000 spent, 5,000,000 short
    // with 50,000,000.
    for (name, spent, left, short) in [("ada", 10_000_000, 35_000_000, 0), ("bob", 50_000_000, 0, 5_000_000)]
    {
        let bought = bought(client, name, spent).await;
        let dispute = format!("dp_{name}");
        let tell = async |report| {
            subscriptions
                .apply_dispute(&scope, bought.payment, &dispute, report, usd(72), scope.now)
                .await
                .unwrap();
        };
        tell(DisputeReport::Lost).await;
        let refund = listed(&format!("re_{name}"), usd(18));
        told(&subscriptions, &world, bought.payment, std::slice::from_ref(&refund)).await;
        let of_refund = async || {
            let refund = invoice(client, &bought.invoice).await["refunds"][0].clone();
            (refund["credits_revoked"].as_i64().unwrap(), refund["credits_short"].as_i64().unwrap())
        };
        assert_eq!((client.available(&bought.customer).await, of_refund().await), (0, (0, short)));
        tell(DisputeReport::Won).await;
        assert_eq!(client.available(&bought.customer).await, left);
        assert_eq!(of_refund().await, (15_000_000 - short, short));
        // The bank sends the money back: the rest of the 60,000,000 is there again.
        told(&subscriptions, &world, bought.payment, &[failed(&refund)]).await;
        assert_eq!(client.available(&bought.customer).await, 60_000_000 - i64::try_from(spent).unwrap());
        assert_eq!(of_refund().await.0, 0);
    }
    world.verify().await;
}
