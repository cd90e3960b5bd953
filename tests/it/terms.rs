//! Years paid at once (R-22b), calendar months, Credits carried over, and plans that move to the newest
//! catalogue version.

use catalog::Catalogs;
use diesel_async::SimpleAsyncConnection;
use domain::calendar::AnchorKind;
use domain::dispute::DisputeReport;
use domain::policy::Policies;
use domain::refund::RefundReport;
use domain::rollover::RolloverPolicy;
use domain::{Credits, Currency, Money};
use serde_json::{Value, json};

use crate::support::{Client, World, events_totalling, subscribe};

fn by_the_year(customer: &str, plan: &str) -> Value {
    let mut body = subscribe(customer, plan, "pm_sandbox_succeeds");
    body["term"] = json!("annual");
    body
}

fn path_of(bought: &Value) -> String {
    format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap())
}

fn invoice_of(bought: &Value) -> String {
    format!("/v1/invoices/{}", bought["invoice"]["id"].as_str().unwrap())
}

/// Gives so much of an invoice back: the Credits that this revokes, and those that were not there any more.
async fn refund(client: &Client, bought: &Value, amount_minor: i64) -> (i64, i64) {
    let path = format!("{}/refunds", invoice_of(bought));
    let refund = client.post(&path, json!({"amount_minor": amount_minor})).await.expect(201);
    (refund["credits_revoked"].as_i64().unwrap(), refund["credits_short"].as_i64().unwrap())
}

/// The plan, the cycle's number, and what can be spent.
async fn state(client: &Client, customer: &str, path: &str) -> (String, i64, i64) {
    let view = client.get(path).await.expect(200);
    let plan = view["plan"].as_str().unwrap().to_owned();
    (plan, view["cycle"]["number"].as_i64().unwrap(), client.available(customer).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_is_paid_once_and_grants_its_credits_cycle_by_cycle() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let bought = client.post("/v1/subscriptions", by_the_year(&customer, "standard")).await.expect(201);
    assert_eq!(bought["invoice"]["total"]["amount_minor"], 16_000, "10 x 16.00, and no promotion");
    assert_eq!(bought["invoice"]["lines"].as_array().unwrap().len(), 1);
    assert_eq!(bought["subscription"]["renews_at"], "2027-01-31T10:00:00.000000Z");
    assert_eq!(bought["subscription"]["cycle"]["end"], "2026-02-28T10:00:00.000000Z");
    let path = path_of(&bought);
    assert_eq!(state(client, &customer, &path).await, ("standard".to_owned(), 0, 200_000_000));

    // The next cycle is there without an invoice, and what the last one left has expired.
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!(state(client, &customer, &path).await, ("standard".to_owned(), 1, 200_000_000));
    assert_eq!(client.totals(&customer).await, [16_000]);
    let out_of = client.balance(&customer).await;
    assert_eq!(out_of["resets_at"], "2026-03-31T10:00:00.000000Z");

    // In the fourth cycle nine are left: (500.00 - 160.00) x 9 / 12.
    client.advance_to("2026-05-01T00:00:00Z").await;
    let preview = json!({"plan": "pro"});
    let quote = client.post(&format!("{path}/upgrade-preview"), preview).await.expect(201);
    assert_eq!((&quote["amount"]["amount_minor"], &quote["credits"]), (&json!(25_500), &json!(500_000_000)));
    let confirm = json!({"plan": "pro", "quote": quote["id"]});
    client.post(&format!("{path}/upgrade"), confirm).await.expect(200);
    assert_eq!(state(client, &customer, &path).await, ("pro".to_owned(), 3, 700_000_000));
    // One more within the same year, two cycles later: (1,000.00 - 500.00) x 7 / 12, half to even.
    client.advance_to("2026-06-30T10:00:00Z").await;
    assert_eq!(state(client, &customer, &path).await, ("pro".to_owned(), 5, 700_000_000));
    client.post(&format!("{path}/upgrade"), json!({"plan": "max"})).await.expect(200);
    assert_eq!(client.totals(&customer).await, [16_000, 25_500, 29_167]);
    client.advance_to("2026-07-31T10:00:00Z").await;
    assert_eq!(state(client, &customer, &path).await, ("max".to_owned(), 6, 1_600_000_000));

    // A lower plan comes with the next year.
    let refused = client.post(&format!("{path}/upgrade"), json!({"plan": "lite"})).await;
    refused.expect_problem(409, "downgrade-within-cycle");
    assert_eq!(refused.body["effective_at"], "2027-01-31T10:00:00.000000Z");
    client.put(&format!("{path}/scheduled-plan"), json!({"plan": "lite"})).await.expect(200);
    client.advance_to("2027-01-31T09:59:59Z").await;
    assert_eq!(state(client, &customer, &path).await, ("max".to_owned(), 11, 1_600_000_000));
    client.advance_to("2027-01-31T10:00:00Z").await;
    assert_eq!(state(client, &customer, &path).await, ("lite".to_owned(), 12, 60_000_000));
    assert_eq!(client.totals(&customer).await, [16_000, 25_500, 29_167, 6_000]);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_that_is_canceled_goes_on_to_its_end() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let mut body = by_the_year(&customer, "max");
    body["currency"] = json!("CNY");
    let bought = client.post("/v1/subscriptions", body).await.expect(201);
    assert_eq!(bought["invoice"]["total"], json!({"amount_minor": 659_000, "currency": "CNY"}));
    let path = path_of(&bought);
    client.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    let told = world.events("subscription.cancel_set").await;
    assert_eq!(told[0]["effective_at"], "2027-01-31T10:00:00Z");
    client.advance_to("2026-12-31T10:00:00Z").await;
    assert_eq!(state(client, &customer, &path).await, ("max".to_owned(), 11, 1_600_000_000));
    assert_eq!(client.balance(&customer).await["resets_at"], Value::Null, "nothing comes after it");
    client.advance_to("2027-01-31T10:00:00Z").await;
    let view = client.get(&path).await.expect(200);
    assert_eq!((&view["status"], client.available(&customer).await), (&json!("canceled"), 0));
    assert_eq!(client.totals(&customer).await, [659_000]);
    // The promotion was not used: a month has it.
    let again = client.subscribe(&customer, "max").await;
    assert_eq!(again["invoice"]["total"]["amount_minor"], 1_200);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_has_no_promotion_and_an_unpaid_one_is_dunned_as_a_month_is() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let mut named = by_the_year(&customer, "lite");
    named["promotion"] = json!("first-cycle");
    client.post("/v1/subscriptions", named).await.expect_problem(422, "unknown-promotion");
    let bought = client.post("/v1/subscriptions", by_the_year(&customer, "lite")).await.expect(201);
    let path = path_of(&bought);
    let method = json!({"payment_method": "pm_sandbox_declines"});
    client.put(&format!("{path}/payment-method"), method).await.expect(200);
    client.advance_to("2027-02-01T00:00:00Z").await;
    let view = client.get(&path).await.expect(200);
    assert_eq!((&view["status"], client.available(&customer).await), (&json!("past_due"), 0));
    let pay = format!("/v1/invoices/{}/pay", view["open_invoice"].as_str().unwrap());
    client.post(&pay, json!({"payment_method": "pm_sandbox_succeeds"})).await.expect(200);
    client.advance_to("2027-03-31T10:00:00Z").await;
    assert_eq!(state(client, &customer, &path).await, ("lite".to_owned(), 14, 60_000_000));
    // And the year after it is not paid at all.
    client.advance_to("2028-02-07T10:00:00Z").await;
    assert_eq!(client.get(&path).await.expect(200)["status"], "canceled");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_year_whose_money_has_gone_back_pays_for_no_further_cycle() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (ada, bob) = (client.customer("ada").await, client.customer("bob").await);
    for (customer, amount_minor) in [(&ada, 6_000), (&bob, 3_000)] {
        let bought = client.post("/v1/subscriptions", by_the_year(customer, "lite")).await.expect(201);
        let refunds = format!("/v1/invoices/{}/refunds", bought["invoice"]["id"].as_str().unwrap());
        client.post(&refunds, json!({"amount_minor": amount_minor})).await.expect(201);
        assert_eq!(client.available(customer).await, 60_000_000 - amount_minor * 10_000);
    }
    // The pool of a year without money does not fill again.
    assert_eq!(client.balance(&ada).await["resets_at"], Value::Null);
    assert_eq!(client.balance(&bob).await["resets_at"], "2026-02-28T10:00:00.000000Z");
    client.advance_to("2026-02-28T10:00:00Z").await;
    let status = async |customer: &str| {
        let page = client.get(&format!("/v1/subscriptions?customer={customer}")).await.expect(200);
        page["data"][0]["status"].as_str().unwrap().to_owned()
    };
    assert_eq!((status(&ada).await, client.available(&ada).await), ("canceled".to_owned(), 0));
    // Half of bob's year is paid for still, and so is half of each of its cycles.
    assert_eq!((status(&bob).await, client.available(&bob).await), ("active".to_owned(), 30_000_000));
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(client.available(&bob).await, 30_000_000);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_away_skips_cycles_of_a_year_and_not_its_end() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (ada, bob) = (client.customer("ada").await, client.customer("bob").await);
    let mut paths = Vec::new();
    for customer in [&ada, &bob] {
        paths.push(path_of(
            &client.post("/v1/subscriptions", by_the_year(customer, "lite")).await.expect(201),
        ));
    }
    client.post(&format!("{}/cancel", paths[1]), json!({})).await.expect(200);
    let roll = || {
        let command = world.command("rollover").output().unwrap();
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
    };
    client.set_clock("2026-04-15T00:00:00Z").await;
    roll();
    assert_eq!(
        state(client, &ada, &paths[0]).await,
        ("lite".to_owned(), 2, 60_000_000),
        "the second is skipped"
    );
    client.set_clock("2027-03-15T00:00:00Z").await;
    roll();
    assert_eq!(state(client, &ada, &paths[0]).await, ("lite".to_owned(), 13, 60_000_000));
    assert_eq!(
        client.totals(&ada).await,
        [6_000, 6_000],
        "a year that begins with the cycle that could be opened"
    );
    assert_eq!(client.get(&paths[1]).await.expect(200)["status"], "canceled");
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calendar_months_begin_with_the_part_that_is_left() {
    let policies = Policies { cycle_anchor: AnchorKind::CalendarMonth, ..Policies::default() };
    let world = World::with(policies).await;
    let server = world.serve().await;
    let client = &server.client;
    client.set_clock("2026-02-15T08:00:00Z").await;
    let (ada, bob) = (client.customer("ada").await, client.customer("bob").await);
    // 14 of 28 days: half of 6.00, and 12% of that.
    let bought = client.subscribe(&ada, "lite").await;
    assert_eq!(bought["invoice"]["lines"][0]["amount_minor"], 300);
    assert_eq!(bought["invoice"]["lines"][0]["description"], "Lite, 14 of 28 days");
    assert_eq!(bought["invoice"]["total"]["amount_minor"], 36);
    assert_eq!(bought["subscription"]["month_share"], json!({"days": 14, "of": 28}));
    assert_eq!(bought["subscription"]["cycle"]["end"], "2026-03-01T00:00:00.000000Z");
    assert_eq!(client.available(&ada).await, 30_000_000);
    let path = path_of(&bought);
    // Half of 16.00 is 8.00; 12% of that is 0.96.
    client.post(&format!("{path}/upgrade"), json!({"plan": "standard"})).await.expect(200);
    assert_eq!((client.totals(&ada).await, client.available(&ada).await), (vec![36, 60], 100_000_000));
    world.verify().await;
    // Whole months from then on.
    client.advance_to("2026-03-01T00:00:00Z").await;
    assert_eq!(client.totals(&ada).await, [36, 60, 1_600]);
    let view = client.get(&path).await.expect(200);
    assert_eq!(
        (&view["cycle"]["end"], &view["month_share"]),
        (&json!("2026-04-01T00:00:00.000000Z"), &Value::Null)
    );
    assert_eq!(client.available(&ada).await, 200_000_000);
    // A year is one of twelve whole cycles, whatever the months are.
    let year = client.post("/v1/subscriptions", by_the_year(&bob, "lite")).await.expect(201);
    assert_eq!(year["invoice"]["total"]["amount_minor"], 6_000);
    client.advance_to("2026-05-01T00:00:00Z").await;
    world.verify().await;
    // Of a part that is long over, too.
    world.misses_a_cent_of(36, "36 for 30000000 Credits").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_of_what_is_left_is_carried_and_burns_first() {
    let rollover =
        RolloverPolicy { share_bps: 5_000, cap_credits: Some(Credits::new(20_000_000).unwrap()), cycles: 1 };
    let world = World::with(Policies { rollover: Some(rollover), ..Policies::default() }).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let path = path_of(&client.subscribe(&customer, "lite").await);
    // 15,000,000 tokens at 2x: 30,000,000 Credits are left, and half of them goes on.
    let used = events_totalling("a", &customer, "mimo-v2-pro", 15_000_000, 0);
    client.post("/v1/usage/events", json!(used)).await.expect(200);
    client.set_clock("2026-02-28T10:00:00Z").await;
    let dry = world.command("rollover").arg("--dry-run").output().unwrap();
    let dry = String::from_utf8(dry.stdout).unwrap();
    assert!(dry.contains("30000000") && dry.contains("15000000"), "{dry}");
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!(client.available(&customer).await, 75_000_000);
    let carried =
        client.grants(&customer).await.into_iter().find(|grant| grant["source"] == "rollover").unwrap();
    assert_eq!(
        (&carried["amount"], &carried["effective_at"], &carried["expires_at"]),
        (&json!(15_000_000), &json!("2026-02-28T10:00:00.000000Z"), &json!("2026-03-31T10:00:00.000000Z"))
    );
    // It burns before the new pool.
    let used = events_totalling("b", &customer, "mimo-v2-pro", 1_000_000, 0);
    client.post("/v1/usage/events", json!(used)).await.expect(200);
    let rest = |grants: Vec<Value>| -> Vec<(String, i64)> {
        let open = grants.into_iter().filter(|grant| grant["remaining"] != 0);
        open.map(|g| (g["source"].as_str().unwrap().to_owned(), g["remaining"].as_i64().unwrap())).collect()
    };
    let mut left = rest(client.grants(&customer).await);
    left.sort();
    assert_eq!(left, [("plan".to_owned(), 60_000_000), ("rollover".to_owned(), 13_000_000)]);
    // Half of 60,000,000 is more than the cap, and what was carried once is not carried again.
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(client.available(&customer).await, 80_000_000);
    world.verify().await;
    // Nothing is carried out of the last cycle; what was carried into it ends with it.
    client.post(&format!("{path}/cancel"), json!({})).await.expect(200);
    client.advance_to("2026-04-30T10:00:00Z").await;
    assert_eq!(client.available(&customer).await, 0);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_move_to_the_newest_version_at_their_renewal_and_not_before() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (ada, bob) = (client.customer("ada").await, client.customer("bob").await);
    let (ada_path, bob_path) =
        (path_of(&client.subscribe(&ada, "lite").await), path_of(&client.subscribe(&bob, "lite").await));
    let mut dearer = catalog::parse(catalog::REFERENCE).unwrap();
    dearer.plans[0].prices_minor.insert(Currency::Usd, 700);
    dearer.plans[0].credits_per_cycle = Credits::new(65_000_000).unwrap();
    let at = |text| domain::time::parse_rfc3339(text).unwrap();
    let (from, now) = (at("2026-02-10T00:00:00Z"), at("2026-02-01T00:00:00Z"));
    Catalogs::new(world.stores.db()).publish(world.tenant, dearer, from, now).await.unwrap();
    // Every server knows it a second later.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;

    client.delete(&format!("{ada_path}/migration")).await.expect_problem(409, "nothing-scheduled");
    client.put(&format!("{ada_path}/migration"), json!({})).await.expect(200);
    client.advance_to("2026-02-28T09:59:59Z").await;
    let view = client.get(&ada_path).await.expect(200);
    assert_eq!((&view["migrates"], &view["catalog_version"]), (&json!(true), &json!(1)), "not before");
    assert_eq!(client.available(&ada).await, 60_000_000);
    client.set_clock("2026-02-28T10:00:00Z").await;
    let dry = world.command("rollover").arg("--dry-run").output().unwrap();
    let dry = String::from_utf8(dry.stdout).unwrap();
    assert!(dry.contains("lite for 7.00 USD, moves from version 1 to 2"), "{dry}");
    assert!(dry.contains("lite for 6.00 USD"), "{dry}");
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!((client.totals(&ada).await, client.available(&ada).await), (vec![72, 700], 65_000_000));
    assert_eq!((client.totals(&bob).await, client.available(&bob).await), (vec![72, 600], 60_000_000));
    let moved = world.events("subscription.migrated").await;
    assert_eq!((moved.len(), &moved[0]["from_version"], &moved[0]["to_version"]), (1, &json!(1), &json!(2)));

    // All of the plan: those that are on the newest version already are not meant.
    let all = client.post("/v1/plan-migrations", json!({"plan": "lite"})).await.expect(200);
    assert_eq!(all, json!({"plan": "lite", "to_version": 2, "subscriptions": 1}));
    client.post("/v1/plan-migrations", json!({"plan": "gold"})).await.expect_problem(422, "unknown-plan");
    client.delete(&format!("{bob_path}/migration")).await.expect(200);
    assert_eq!(client.get(&bob_path).await.expect(200)["migrates"], false);
    client.post("/v1/plan-migrations", json!({"plan": "lite"})).await.expect(200);
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(client.totals(&bob).await, [72, 600, 700]);
    assert_eq!(client.get(&bob_path).await.expect(200)["catalog_version"], 2);
    world.verify().await;
}

/// Another run has the subscription in its hands: this one leaves the account to it, and nothing of what is carried is lost.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_cycle_leaves_is_carried_whichever_of_two_runs_comes_first() {
    let half = RolloverPolicy { share_bps: 5_000, cap_credits: None, cycles: 1 };
    let world = World::with(Policies { rollover: Some(half), ..Policies::default() }).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    client.subscribe(&customer, "lite").await;
    client.put("/v1/test-clock", json!({"now": "2026-02-28T10:00:00Z"})).await.expect(200);
    let (subscriptions, scope) = (world.subscriptions(), world.scope().await);
    let mut other_run = world.stores.superuser().await;
    other_run.batch_execute("begin; select from subscriptions for no key update").await.unwrap();
    subscriptions.run_due(&scope).await.unwrap();
    other_run.batch_execute("rollback").await.unwrap();
    subscriptions.run_due(&scope).await.unwrap();
    // The new 60,000,000 and a half of the old ones.
    assert_eq!(client.available(&customer).await, 90_000_000);
    world.verify().await;
}

/// R-22a, R-22b: the money of a year is that of each of its cycles. What goes back within one takes that part of its pool,
/// as far as it is unspent, and of the later ones; what is over is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_years_money_takes_that_part_of_the_running_cycle() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let spend = async |customer: &str, id: &str, credits: u64| {
        let events = events_totalling(id, customer, "mimo-v2-omni", credits, 0);
        client.post("/v1/usage/events", json!(events)).await.expect(200);
    };
    // 60,000,000 a cycle for 60.00 a year: 1.00 is 1,000,000 of each.
    let refund = async |bought: &Value, amount_minor| refund(client, bought, amount_minor).await;
    let buy = async |name: &str| {
        let customer = client.customer(name).await;
        (client.post("/v1/subscriptions", by_the_year(&customer, "lite")).await.expect(201), customer)
    };
    let ((first, ada), (fifth, bob), (twice, eve)) = (buy("ada").await, buy("bob").await, buy("eve").await);

    // In the first month, with 50,000,000 spent: of 15,000,000 there are 10,000,000.
    spend(&ada, "ada", 50_000_000).await;
    assert_eq!(refund(&first, 1_500).await, (10_000_000, 5_000_000));
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!((client.available(&ada).await, client.available(&bob).await), (45_000_000, 60_000_000));

    // In the second month a sixth, in the third up to a half: the sixth was not granted any more.
    assert_eq!(refund(&twice, 1_000).await, (10_000_000, 0));
    assert_eq!(client.available(&eve).await, 50_000_000);
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(client.available(&eve).await, 50_000_000);
    assert_eq!(refund(&twice, 2_000).await, (20_000_000, 0));
    assert_eq!(client.available(&eve).await, 30_000_000);

    // In the fifth month, with 20,000,000 spent, and again with 40,000,000: 30,000,000 should be gone, 20,000,000 are.
    client.advance_to("2026-05-31T10:00:00Z").await;
    assert_eq!((client.available(&ada).await, client.available(&eve).await), (45_000_000, 30_000_000));
    spend(&bob, "bob", 20_000_000).await;
    assert_eq!(refund(&fifth, 1_500).await, (15_000_000, 0));
    assert_eq!(client.available(&bob).await, 25_000_000);
    spend(&bob, "bob-again", 20_000_000).await;
    assert_eq!(refund(&fifth, 1_500).await, (5_000_000, 10_000_000));
    assert_eq!(client.available(&bob).await, 0);
    world.verify().await;
    client.advance_to("2026-06-30T10:00:00Z").await;
    assert_eq!(client.available(&bob).await, 30_000_000);

    // A cancel takes the rest of the cycle; all that is left of the money ends the year with its cycle.
    let path = path_of(&twice);
    client.post(&format!("{path}/cancel"), json!({"at_once": true})).await.expect(200);
    assert_eq!(client.available(&eve).await, 0);
    assert_eq!(refund(&fifth, 3_000).await, (30_000_000, 0));
    client.advance_to("2026-07-31T10:00:00Z").await;
    assert_eq!(client.get(&path_of(&fifth)).await.expect(200)["status"], "canceled");
    assert_eq!(client.available(&ada).await, 45_000_000);
    world.verify().await;
}

/// An upgrade within a year has paid for its part of the later cycles.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_an_upgrades_money_takes_its_part_of_the_years_cycles() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    let year = client.post("/v1/subscriptions", by_the_year(&ada, "lite")).await.expect(201);
    let path = path_of(&year);
    // (160.00 - 60.00) x 12 / 12 for 140,000,000 more a cycle.
    let upgraded = client.post(&format!("{path}/upgrade"), json!({"plan": "standard"})).await.expect(200);
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!(client.available(&ada).await, 200_000_000);
    // A quarter of 100.00 is a quarter of 140,000,000, a third of 60.00 a third of 60,000,000.
    assert_eq!(refund(client, &upgraded, 2_500).await, (35_000_000, 0));
    assert_eq!(client.available(&ada).await, 165_000_000);
    assert_eq!(refund(client, &year, 2_000).await, (20_000_000, 0));
    assert_eq!(client.available(&ada).await, 145_000_000);
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(client.available(&ada).await, 145_000_000);
    world.verify().await;
}

/// R-22a, R-22b: a lost dispute takes what its own payment had paid for, of each cycle of the year, whatever becomes of the
/// other payments; won in the end it gives that back.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_dispute_of_an_upgrade_takes_its_part_of_the_years_cycles() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    let year = client.post("/v1/subscriptions", by_the_year(&ada, "lite")).await.expect(201);
    let path = path_of(&year);
    // 60,000,000 a cycle for 60.00, and 140,000,000 more for 100.00.
    let upgraded = client.post(&format!("{path}/upgrade"), json!({"plan": "standard"})).await.expect(200);
    let hundred = Money { amount_minor: 10_000, currency: Currency::Usd };
    let dispute = async |report| {
        let invoice = client.get(&invoice_of(&upgraded)).await.expect(200);
        let payment = invoice["payments"][0]["id"].as_str().unwrap().parse().unwrap();
        let (subscriptions, scope) = (world.subscriptions(), world.scope().await);
        subscriptions.apply_dispute(&scope, payment, "dp_ada", report, hundred, scope.now).await.unwrap();
        let invoice = client.get(&invoice_of(&upgraded)).await.expect(200);
        invoice["disputes"][0]["credits_revoked"].as_i64().unwrap()
    };
    client.advance_to("2026-02-28T10:00:00Z").await;
    // A quarter of the upgrade goes back, and then the bank takes all of it: the other three quarters, not the year's.
    assert_eq!(refund(client, &upgraded, 2_500).await, (35_000_000, 0));
    assert_eq!(dispute(DisputeReport::Lost).await, 105_000_000);
    assert_eq!(client.available(&ada).await, 60_000_000);
    client.post(&format!("{path}/resume"), json!({})).await.expect(200);
    // A third of the year is a third of its own 60,000,000, though more than that is gone of the pool.
    assert_eq!(refund(client, &year, 2_000).await, (20_000_000, 0));
    assert_eq!(client.available(&ada).await, 40_000_000);
    world.verify().await;

    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(client.available(&ada).await, 40_000_000);
    let grants = client.grants(&ada).await;
    let of_march: Vec<_> = grants.iter().rev().take(2).map(|grant| &grant["amount"]).collect();
    assert_eq!(of_march, [140_000_000, 60_000_000], "a grant for each payment");
    world.verify().await;

    // What February lost is over with it.
    assert_eq!(dispute(DisputeReport::Won).await, 0);
    assert_eq!(client.available(&ada).await, 145_000_000);
    world.verify().await;
}

/// R-22a: money that has not gone back in the end takes nothing, whichever cycle runs when that is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_a_year_that_fails_gives_the_running_cycle_its_part_back() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    // 60,000,000 a cycle for 60.00 a year: 1.00 is 1,000,000 of each.
    let ada = client.customer("ada").await;
    let year = client.post("/v1/subscriptions", by_the_year(&ada, "lite")).await.expect(201);
    let path = format!("/v1/invoices/{}", year["invoice"]["id"].as_str().unwrap());
    let refund = async |amount_minor: i64| {
        let refund = json!({"amount_minor": amount_minor});
        client.post(&format!("{path}/refunds"), refund).await.expect(201)["id"].as_str().unwrap().to_owned()
    };
    let revoked = async || {
        let refunds = client.get(&path).await.expect(200)["refunds"].clone();
        let of_each = refunds.as_array().unwrap().iter().map(|refund| refund["credits_revoked"].as_i64());
        of_each.map(Option::unwrap).collect::<Vec<_>>()
    };
    let (fails, stays) = (refund(2_000).await, refund(1_000).await);
    assert_eq!(client.available(&ada).await, 30_000_000);
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!(client.available(&ada).await, 30_000_000);
    assert_eq!(revoked().await, [40_000_000, 20_000_000], "of two cycles");
    world.verify().await;

    // The bank sends the 20.00 back. What they had taken of January's 60,000,000 is over with it.
    for refund in [&fails, &stays, &fails] {
        let report = if *refund == fails { RefundReport::Failed } else { RefundReport::Succeeded };
        let (subscriptions, scope) = (world.subscriptions(), world.scope().await);
        subscriptions.settle_refund(&scope, refund.parse().unwrap(), report, None).await.unwrap();
        assert_eq!(client.available(&ada).await, 50_000_000);
    }
    assert_eq!(revoked().await, [0, 20_000_000]);
    client.advance_to("2026-03-31T10:00:00Z").await;
    assert_eq!(client.available(&ada).await, 50_000_000);
    assert_eq!(revoked().await, [0, 30_000_000]);
    world.verify().await;
}
