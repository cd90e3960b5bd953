//! What an invoice says: its number, its tax, and what it can never be changed to.

use std::collections::BTreeSet;

use diesel_async::SimpleAsyncConnection;
use domain::policy::Policies;
use domain::tax::{Tax, TaxMode};
use serde_json::{Value, json};
use testkit::Stores;

use crate::support::{Client, World, subscribe};

fn number(invoice: &Value) -> i64 {
    invoice["number"].as_str().unwrap().strip_prefix("INV-").unwrap().parse().unwrap()
}

async fn taxed(rate_bps: u16, mode: TaxMode) -> World {
    let tax = Tax { rate_bps, mode, name: "VAT".to_owned() };
    World::on(Stores::fresh().await, Policies { tax, ..Policies::default() }).await
}

fn amounts(lines: &Value) -> Vec<(&str, i64)> {
    let amount = |line: &Value| line["amount_minor"].as_i64().unwrap();
    lines.as_array().unwrap().iter().map(|line| (line["kind"].as_str().unwrap(), amount(line))).collect()
}

fn verify(world: &World) {
    let output = world.command("verify").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn subscribe_in(client: &Client, customer: &str, plan: &str, currency: &str) -> Value {
    let mut body = subscribe(customer, plan, "pm_sandbox_succeeds");
    body["currency"] = json!(currency);
    client.post("/v1/subscriptions", body).await.expect(201)
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_customers_at_once_get_the_numbers_1_to_50() {
    let world = World::new().await;
    let servers = [world.serve().await, world.serve().await];
    let mut calls = Vec::new();
    for n in 0..50 {
        let client = servers[n % 2].client.clone();
        // Every fifth one is declined, and every seventh one is refused before it has an invoice.
        calls.push(tokio::spawn(async move {
            let customer = client.customer(&format!("customer-{n}")).await;
            if n % 7 == 0 {
                let no_such_plan = subscribe(&customer, "platinum", "pm_sandbox_succeeds");
                client.post("/v1/subscriptions", no_such_plan).await.expect_problem(422, "unknown-plan");
            }
            let method = if n % 5 == 0 { "pm_sandbox_declines" } else { "pm_sandbox_succeeds" };
            let body = subscribe(&customer, "lite", method);
            let answer = client.post_until_served("/v1/subscriptions", body).await;
            match n % 5 {
                0 => answer.body["invoice"].as_str().unwrap().to_owned(),
                _ => answer.body["invoice"]["id"].as_str().unwrap().to_owned(),
            }
        }));
    }
    let mut numbers = BTreeSet::new();
    for call in calls {
        let path = format!("/v1/invoices/{}", call.await.unwrap());
        numbers.insert(number(&servers[0].client.get(&path).await.expect(200)));
    }
    assert_eq!(numbers, (1..=50).collect());
    // Another tenant counts for itself.
    let other = servers[0].client.with_key(&world.other_tenant().await);
    let customer = other.customer("ada").await;
    assert_eq!(other.subscribe(&customer, "lite").await["invoice"]["number"], "INV-000001");
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusive_tax_comes_on_top_and_goes_back_in_its_share() {
    let world = taxed(1_300, TaxMode::Exclusive).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "standard").await;
    let invoice = &bought["invoice"];
    // 16.00 less 14.08 is 1.92; 13% of that are 0.2496.
    assert_eq!(amounts(&invoice["lines"]), [("plan", 1_600), ("discount", -1_408), ("tax", 25)]);
    assert_eq!(invoice["lines"][2]["description"], "VAT 13%");
    assert_eq!(invoice["total"]["amount_minor"], 217);
    assert_eq!(invoice["tax"], json!({"rate_bps": 1_300, "amount_minor": 25, "is_included": false}));
    assert_eq!(invoice["payments"][0]["amount"]["amount_minor"], 217);

    // 4.08 to pro, and 0.5304 of tax: the quote says both.
    let path = format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap());
    let quote = client.post(&format!("{path}/upgrade-preview"), json!({"plan": "pro"})).await.expect(201);
    assert_eq!(
        (&quote["amount"]["amount_minor"], &quote["total"]["amount_minor"]),
        (&json!(408), &json!(461))
    );
    let body = json!({"plan": "pro", "quote": quote["id"]});
    let upgraded = client.post(&format!("{path}/upgrade"), body).await.expect(200);
    assert_eq!(upgraded["invoice"]["total"]["amount_minor"], 461);

    // 1.00 of 2.17: 25 x 100 / 217 = 11.52, so 0.12 of it are tax. The rest has the rest.
    let id = invoice["id"].as_str().unwrap();
    let refunds = format!("/v1/invoices/{id}/refunds");
    client.post(&refunds, json!({"amount_minor": 100, "reason": "a bad day"})).await.expect(201);
    client.post(&refunds, json!({})).await.expect(201);
    let view = client.get(&format!("/v1/invoices/{id}")).await.expect(200);
    let notes = view["credit_notes"].as_array().unwrap();
    assert_eq!((&notes[0]["number"], &notes[1]["number"]), (&json!("CN-000001"), &json!("CN-000002")));
    assert_eq!(amounts(&notes[0]["lines"]), [("refund", 88), ("tax", 12)]);
    assert_eq!(notes[0]["lines"][0]["description"], "Refund of INV-000001: a bad day");
    assert_eq!(amounts(&notes[1]["lines"]), [("refund", 104), ("tax", 13)]);
    assert_eq!(notes[1]["refund"], view["refunds"][1]["id"]);

    // The renewal: 50.00 and 6.50.
    client.advance_to("2026-02-28T10:00:00Z").await;
    let invoices = client.get(&format!("/v1/invoices?customer={customer}")).await.expect(200);
    let totals: Vec<i64> = invoices["data"].as_array().unwrap().iter().map(number).collect();
    assert_eq!(totals, [1, 2, 3]);
    assert_eq!(invoices["data"][2]["total"]["amount_minor"], 5_650);
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn inclusive_tax_is_a_part_of_the_price_in_both_currencies() {
    let world = taxed(600, TaxMode::Inclusive).await;
    let server = world.serve().await;
    let client = &server.client;
    // 4.68 x 6 / 106 = 0.2649; 0.72 x 6 / 106 = 0.0408.
    for (currency, list, first, tax) in [("CNY", 3_900, 468, 26), ("USD", 600, 72, 4)] {
        let customer = client.customer(currency).await;
        let bought = subscribe_in(client, &customer, "lite", currency).await;
        let invoice = &bought["invoice"];
        assert_eq!(amounts(&invoice["lines"]), [("plan", list), ("discount", first - list), ("tax", tax)]);
        assert_eq!(invoice["lines"][2]["description"], "VAT 6%, included");
        assert_eq!(invoice["total"], json!({"amount_minor": first, "currency": currency}));
        let refunds = format!("/v1/invoices/{}/refunds", invoice["id"].as_str().unwrap());
        client.post(&refunds, json!({})).await.expect(201);
        let path = format!("/v1/invoices/{}", invoice["id"].as_str().unwrap());
        let note = client.get(&path).await.expect(200)["credit_notes"][0].clone();
        assert_eq!(amounts(&note["lines"]), [("refund", first), ("tax", tax)]);
        assert_eq!(note["total"], json!({"amount_minor": first, "currency": currency}));
    }
    verify(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_rate_an_invoice_has_no_tax_line_and_a_returning_customers_list_price_has_none() {
    let world = taxed(1_300, TaxMode::Exclusive).await;
    let server = world.serve().await;
    let client = &server.client;
    let first = client.customer("first").await;
    let card = |customer: &str| subscribe(customer, "lite", "pm_sandbox_succeeds:one");
    client.post("/v1/subscriptions", card(&first)).await.expect(201);
    let second = client.customer("second").await;
    let used = client.post("/v1/subscriptions", card(&second)).await;
    used.expect_problem(409, "promotion-used");
    assert_eq!(used.body["list_price"]["amount_minor"], 600);

    let plain = World::new().await;
    let server = plain.serve().await;
    let customer = server.client.customer("ada").await;
    let bought = server.client.subscribe(&customer, "lite").await;
    assert_eq!(amounts(&bought["invoice"]["lines"]), [("plan", 600), ("discount", -528)]);
    assert_eq!(bought["invoice"]["tax"]["amount_minor"], 0);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_issued_is_final_for_the_application_and_for_the_owner() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "lite").await;
    let id = bought["invoice"]["id"].as_str().unwrap();
    client.post(&format!("/v1/invoices/{id}/refunds"), json!({})).await.expect(201);
    for by in ["set role tollgate_app", "reset role"] {
        for change in [
            "update invoices set number = number + 1",
            "update invoices set total_minor = 1",
            "update invoices set tax_minor = 1",
            "delete from invoices",
            "update invoice_lines set amount_minor = 1",
            "delete from invoice_lines",
            "update credit_notes set number = number + 1",
            "delete from credit_notes",
            "delete from credit_note_lines",
        ] {
            let mut connection = world.stores.superuser().await;
            let all = "select set_config('tollgate.all_tenants', 'on', false)";
            connection.batch_execute(&format!("{by}; {all}")).await.unwrap();
            let refused = connection.batch_execute(change).await.unwrap_err().to_string();
            let is_refused = refused.contains("permission denied") || refused.contains("append-only");
            assert!(is_refused, "{by}: {change}: {refused}");
        }
    }
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invoice_is_read_as_a_pdf_by_whom_it_concerns() {
    let world = taxed(1_300, TaxMode::Exclusive).await;
    let server = world.serve().await;
    let client = &server.client;
    let customer = client.customer("ada").await;
    let bought = client.subscribe(&customer, "standard").await;
    let path = format!("/v1/invoices/{}/pdf", bought["invoice"]["id"].as_str().unwrap());
    let answer = client.get(&path).await;
    assert_eq!(answer.headers["content-type"], "application/pdf");
    assert_eq!(answer.headers["content-disposition"], "inline; filename=\"INV-000001.pdf\"");
    assert!(answer.expect(200).as_str().unwrap().starts_with("%PDF-"));
    let other = client.with_key(&world.other_tenant().await);
    other.get(&path).await.expect_problem(404, "not-found");
    let nobody = client.customer("grace").await;
    let token = client.post(&format!("/v1/customers/{nobody}/tokens"), json!({"ttl_seconds": 600})).await;
    let token = token.body["token"].as_str().unwrap().to_owned();
    client.with_key(&token).get(&path).await.expect_problem(404, "not-found");
    world.verify().await;
}
