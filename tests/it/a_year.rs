//! A year of one customer, told in order. Each number can be checked by hand: standard is 16.00 for 200,000,000
//! Credits a cycle, pro 50.00 for 700,000,000, and a first cycle costs 12% of that.

use domain::dispute::DisputeReport;
use domain::id::PaymentId;
use domain::{Currency, Money};
use serde_json::{Value, json};

use crate::support::{Client, World, event, events_totalling};

/// What somebody who looks at the account sees: its status, its plan, and what can be spent.
async fn sees(client: &Client, customer: &str, path: &str) -> (String, String, i64) {
    let view = client.get(path).await.expect(200);
    let text = |field: &str| view[field].as_str().unwrap().to_owned();
    (text("status"), text("plan"), client.available(customer).await)
}

fn now(status: &str, plan: &str, credits: i64) -> (String, String, i64) {
    (status.to_owned(), plan.to_owned(), credits)
}

/// The customer's invoice of this number, from 0.
async fn invoice(client: &Client, customer: &str, number: usize) -> Value {
    let page = client.get(&format!("/v1/invoices?customer={customer}&limit=200")).await.expect(200);
    let id = page["data"][number]["id"].as_str().unwrap().to_owned();
    client.get(&format!("/v1/invoices/{id}")).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_of_ada() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;

    // 31 January: standard, its first cycle for 1.92.
    let ada = client.customer("ada").await;
    let bought = client.subscribe(&ada, "standard").await;
    let path = format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap());
    assert_eq!(sees(client, &ada, &path).await, now("active", "standard", 200_000_000));

    // 10 February: she needs more, and pays 6.00 - 1.92 for pro's 500,000,000 on top.
    client.advance_to("2026-02-10T09:00:00Z").await;
    client.post(&format!("{path}/upgrade"), json!({"plan": "pro"})).await.expect(200);
    assert_eq!(sees(client, &ada, &path).await, now("active", "pro", 700_000_000));
    // 5,000,000 tokens at 2 Credits each.
    let used = events_totalling("feb", &ada, "mimo-v2-pro", 5_000_000, 0);
    client.post("/v1/usage/events", json!(used)).await.expect(200);
    assert_eq!(client.available(&ada).await, 690_000_000);

    // 28 February: what is left expires, and pro renews at 50.00.
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!(sees(client, &ada, &path).await, now("active", "pro", 700_000_000));
    assert_eq!(client.totals(&ada).await, [192, 408, 5_000]);

    // March: her card is stopped. The renewal of the 31st fails, and so does the try of 1 April.
    let card = |method: &str| json!({"payment_method": method});
    client.put(&format!("{path}/payment-method"), card("pm_sandbox_declines")).await.expect(200);
    client.advance_to("2026-04-02T00:00:00Z").await;
    assert_eq!(sees(client, &ada, &path).await, now("past_due", "pro", 0));
    let notices = world.events("subscription.renewal_failed").await;
    let next: Vec<&str> = notices.iter().map(|notice| notice["next_try_at"].as_str().unwrap()).collect();
    assert_eq!(next, ["2026-04-01T10:00:00Z", "2026-04-03T10:00:00Z"]);

    // She has a new one by the 2nd; the try of the 3rd brings the whole pool, until the 30th as before.
    client.put(&format!("{path}/payment-method"), card("pm_sandbox_succeeds")).await.expect(200);
    client.advance_to("2026-04-03T10:00:00Z").await;
    assert_eq!(sees(client, &ada, &path).await, now("active", "pro", 700_000_000));
    assert_eq!(client.get(&path).await.expect(200)["cycle"]["end"], "2026-04-30T10:00:00.000000Z");

    // Pro is more than she uses: from 30 April on, standard again, for 16.00.
    client.put(&format!("{path}/scheduled-plan"), json!({"plan": "standard"})).await.expect(200);
    client.advance_to("2026-04-29T00:00:00Z").await;
    assert_eq!(sees(client, &ada, &path).await, now("active", "pro", 700_000_000));
    client.advance_to("2026-04-30T10:00:00Z").await;
    assert_eq!(sees(client, &ada, &path).await, now("active", "standard", 200_000_000));
    assert_eq!(client.totals(&ada).await, [192, 408, 5_000, 5_000, 1_600]);

    // 5 May: the service was down, so half of May goes back: 8.00, and 100,000,000 Credits.
    client.advance_to("2026-05-05T12:00:00Z").await;
    let may = invoice(client, &ada, 4).await;
    let refunds = format!("/v1/invoices/{}/refunds", may["id"].as_str().unwrap());
    let body = json!({"amount_minor": 800, "reason": "down for a day"});
    let refund = client.post(&refunds, body).await.expect(201);
    assert_eq!((&refund["credits_revoked"], &refund["credits_short"]), (&json!(100_000_000), &json!(0)));
    assert_eq!(sees(client, &ada, &path).await, now("active", "standard", 100_000_000));

    // 31 May: a whole pool again.
    client.advance_to("2026-05-31T10:00:00Z").await;
    assert_eq!(sees(client, &ada, &path).await, now("active", "standard", 200_000_000));
    let usage = event("june", &ada, "mimo-v2-omni", json!({"input": 200_000}));
    client.post("/v1/usage/events", usage).await.expect(200);

    // 10 June: her bank takes the 16.00 back. What she has not spent is gone, and she is suspended.
    client.advance_to("2026-06-10T00:00:00Z").await;
    let june = invoice(client, &ada, 5).await;
    let payment: PaymentId = june["payments"][0]["id"].as_str().unwrap().parse().unwrap();
    let subscriptions = world.subscriptions();
    let scope = world.scope().await;
    let sixteen = Money { amount_minor: 1_600, currency: Currency::Usd };
    for report in [DisputeReport::Opened, DisputeReport::Lost] {
        subscriptions.apply_dispute(&scope, payment, "dp_june", report, sixteen, scope.now).await.unwrap();
    }
    assert_eq!(sees(client, &ada, &path).await, now("suspended", "standard", 0));
    client
        .authorize("x", &ada, "mimo-v2-omni", 1_000, 10)
        .await
        .expect_problem(402, "subscription-suspended");
    let grants = client.grants(&ada).await;
    let last = grants.iter().find(|grant| grant["spent"] == 200_000).unwrap();
    assert_eq!(last["revoked"], 199_800_000);

    // It was a mistake of the bank's, which gives the money back: so are her Credits, and she goes on.
    subscriptions
        .apply_dispute(&scope, payment, "dp_june", DisputeReport::Won, sixteen, scope.now)
        .await
        .unwrap();
    assert_eq!(sees(client, &ada, &path).await, now("active", "standard", 199_800_000));

    // 30 June and on: month by month, 16.00 for 200,000,000.
    client.advance_to("2026-06-30T10:00:00Z").await;
    assert_eq!(sees(client, &ada, &path).await, now("active", "standard", 200_000_000));
    client.advance_to("2026-11-30T10:00:00Z").await;
    assert_eq!(client.totals(&ada).await[5..], [1_600; 7]);

    // She cancels, thinks better of it, and cancels again: her last cycle ends a year after her first began.
    client.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    client.delete(&format!("{path}/cancel")).await.expect(200);
    client.advance_to("2026-12-31T10:00:00Z").await;
    client.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    client.advance_to("2027-01-31T09:59:59Z").await;
    assert_eq!(sees(client, &ada, &path).await, now("active", "standard", 200_000_000));
    client.advance_to("2027-01-31T10:00:00Z").await;
    assert_eq!(sees(client, &ada, &path).await, now("canceled", "standard", 0));

    // 13 invoices: February's two over 6.00, two of pro over 100.00, nine of standard over 144.00.
    let totals = client.totals(&ada).await;
    assert_eq!(totals[..4], [192, 408, 5_000, 5_000]);
    assert_eq!(totals[4..], [1_600; 9]);
    assert_eq!(totals.iter().sum::<i64>(), 600 + 10_000 + 14_400);
    let history = world.statuses(&path).await;
    let expected = [
        "created incomplete",
        "first_paid active",
        "renewal_failed past_due",
        "renewal_paid active",
        "suspended suspended",
        "lifted active",
        "ended_for_good canceled",
    ];
    assert_eq!(history, expected);
    world.verify().await;
}
