//! The guide's prices through the API, in both currencies, and where cycles are cut.

use domain::policy::{Policies, UpgradeDiscount, UpgradePricing};
use serde_json::{Value, json};
use testkit::Stores;

use crate::support::{Client, World, subscribe};

/// Minor units of the first cycle and of a later one, and the Credits of each: USD and CNY.
const TABLE: [(&str, [i64; 2], [i64; 2], i64); 4] = [
    ("lite", [72, 468], [600, 3_900], 60_000_000),
    ("standard", [192, 1_188], [1_600, 9_900], 200_000_000),
    ("pro", [600, 3_948], [5_000, 32_900], 700_000_000),
    ("max", [1_200, 7_908], [10_000, 65_900], 1_600_000_000),
];

async fn buy(client: &Client, customer: &str, plan: &str, currency: &str) -> String {
    let mut body = subscribe(customer, plan, "pm_sandbox_succeeds");
    body["currency"] = json!(currency);
    let bought = client.post("/v1/subscriptions", body).await.expect(201);
    format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap())
}

async fn upgrade(client: &Client, path: &str, plan: &str) -> Value {
    client.post(&format!("{path}/upgrade"), json!({"plan": plan})).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn first_cycles_and_later_ones_cost_what_the_guide_prints() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let mut sold = Vec::new();
    for (plan, first, later, credits) in TABLE {
        for (index, currency) in ["USD", "CNY"].into_iter().enumerate() {
            let customer = client.customer(&format!("{plan}-{currency}")).await;
            buy(client, &customer, plan, currency).await;
            assert_eq!(client.totals(&customer).await, [first[index]], "{plan} in {currency}");
            assert_eq!(client.available(&customer).await, credits);
            sold.push((customer, vec![first[index], later[index]], credits));
        }
    }
    client.advance_to("2026-02-28T10:00:00Z").await;
    for (customer, totals, credits) in sold {
        assert_eq!((client.totals(&customer).await, client.available(&customer).await), (totals, credits));
    }
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_costs_the_difference_of_what_this_cycle_costs() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (direct, steps, later) =
        (client.customer("direct").await, client.customer("steps").await, client.customer("later").await);
    // Lite to max inside a discounted cycle: 11.28 more, 12.00 in all, and so it is step by step.
    let path = buy(client, &direct, "lite", "USD").await;
    upgrade(client, &path, "max").await;
    assert_eq!(client.totals(&direct).await, [72, 1_128]);
    let path = buy(client, &steps, "lite", "USD").await;
    for plan in ["standard", "pro", "max"] {
        upgrade(client, &path, plan).await;
    }
    let totals = client.totals(&steps).await;
    assert_eq!((totals.iter().sum::<i64>(), totals), (1_200, vec![72, 120, 408, 600]));
    for customer in [&direct, &steps] {
        assert_eq!(client.available(customer).await, 1_600_000_000);
    }
    // Standard to pro in a later cycle: 34.00, and 500,000,000 Credits more.
    let path = buy(client, &later, "standard", "USD").await;
    client.advance_to("2026-03-10T00:00:00Z").await;
    upgrade(client, &path, "pro").await;
    assert_eq!(client.totals(&later).await, [192, 1_600, 3_400]);
    assert_eq!(client.available(&later).await, 700_000_000);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_may_charge_the_list_difference_in_a_discounted_cycle() {
    let policies = Policies { upgrade_discount: UpgradeDiscount::None, ..Policies::default() };
    let world = World::with(policies).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let path = buy(client, &customer, "lite", "USD").await;
    upgrade(client, &path, "max").await;
    assert_eq!(client.totals(&customer).await, [72, 9_400]);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_may_charge_the_part_of_the_cycle_that_is_left() {
    let policies = Policies { upgrade_pricing: UpgradePricing::Prorated, ..Policies::default() };
    let world = World::with(policies).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let path = buy(client, &customer, "standard", "USD").await;
    // Half of the 28 days: 3.00 less 0.96, and 350,000,000 less 100,000,000 Credits.
    client.advance_to("2026-02-14T10:00:00Z").await;
    let preview = json!({"plan": "pro"});
    let quote = client.post(&format!("{path}/upgrade-preview"), preview).await.expect(201);
    assert_eq!((&quote["amount"]["amount_minor"], &quote["credits"]), (&json!(204), &json!(250_000_000)));
    // The factor is frozen in the quote for its ten minutes.
    client.advance_to("2026-02-14T10:09:59Z").await;
    let confirm = json!({"plan": "pro", "quote": quote["id"]});
    client.post(&format!("{path}/upgrade"), confirm).await.expect(200);
    assert_eq!(
        (client.totals(&customer).await, client.available(&customer).await),
        (vec![192, 204], 450_000_000)
    );
    // The next cycle is a whole one.
    client.advance_to("2026-02-28T10:00:00Z").await;
    assert_eq!(
        (client.totals(&customer).await, client.available(&customer).await),
        (vec![192, 204, 5_000], 700_000_000)
    );
    world.verify().await;
    world.misses_a_cent_of(204, "204 for 250000000 Credits").await;
}

async fn ends(client: &Client, path: &str, visits: &[&str]) -> Vec<String> {
    let mut ends = Vec::new();
    for visit in visits {
        client.advance_to(visit).await;
        let view = client.get(path).await.expect(200);
        ends.push(view["cycle"]["end"].as_str().unwrap()[..16].to_owned());
    }
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn the_31st_is_clamped_and_comes_back() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let path = buy(client, &customer, "lite", "USD").await;
    let visits =
        ["2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T10:00:00Z", "2026-04-30T10:00:00Z"];
    let expected = ["2026-02-28T10:00", "2026-03-31T10:00", "2026-04-30T10:00", "2026-05-31T10:00"];
    assert_eq!(ends(client, &path, &visits).await, expected);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_leap_year_february_has_29_days() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    client.set_clock("2028-01-31T10:00:00Z").await;
    let customer = client.customer("ada").await;
    let path = buy(client, &customer, "lite", "USD").await;
    let visits = ["2028-01-31T10:00:00Z", "2028-02-29T10:00:00Z"];
    assert_eq!(ends(client, &path, &visits).await, ["2028-02-29T10:00", "2028-03-31T10:00"]);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_day_is_the_tenants_own_across_a_change_of_its_clocks() {
    let berlin = "Europe/Berlin".parse().unwrap();
    let world = World::in_zone(Stores::fresh().await, Policies::default(), berlin).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    // 11:00 in Berlin, which puts its clocks forward on 29 March and back on 25 October.
    let path = buy(client, &customer, "lite", "USD").await;
    let visits =
        ["2026-01-31T10:00:00Z", "2026-02-28T10:00:00Z", "2026-03-31T09:00:00Z", "2026-10-31T10:00:00Z"];
    let expected = ["2026-02-28T10:00", "2026-03-31T09:00", "2026-04-30T09:00", "2026-11-30T10:00"];
    assert_eq!(ends(client, &path, &visits).await, expected);
    world.verify().await;
}
