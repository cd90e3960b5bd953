//! Plans paid through Stripe: each charge once, whatever becomes of the call. The double plays Stripe.

use std::time::Duration;

use diesel::QueryableByName;
use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use reqwest::Method;
use serde_json::{Value, json};
use stripe_double::{Behaviour, Call, Fault, Plan, SECRET_KEY};
use uuid::Uuid;

use crate::stripe_shop::{SIGNING_SECRET, Shop, account, eventually};
use crate::support::subscribe;

/// The one charge that there is of an invoice, in minor units; the double adds up what it has taken.
fn kept(shop: &Shop, invoice: &Value) -> i64 {
    shop.double.kept_of("tollgate_invoice", invoice["id"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_paid_and_renewed_with_a_saved_card() {
    let shop = Shop::open().await;
    let client = shop.client();
    let customer = client.customer("ada").await;
    let card = shop.double.card("ada", Behaviour::Succeeds);
    // Standard at 88% off: 1.92 for the first cycle.
    let bought = shop.subscribe(&customer, "standard", &card).await.expect(201);
    assert_eq!(bought["payment_status"], "paid");
    assert_eq!(client.available(&customer).await, 200_000_000);
    let intents = shop.double.intents();
    assert_eq!(intents.len(), 1);
    let intent = &intents[0];
    assert_eq!((&intent["amount"], &intent["currency"]), (&json!(192), &json!("usd")));
    let payment = &bought["invoice"]["payments"][0];
    assert_eq!(intent["metadata"]["tollgate_tenant"], json!(shop.world.tenant));
    assert_eq!(intent["metadata"]["tollgate_customer"], json!(customer));
    assert_eq!(intent["metadata"]["tollgate_invoice"], bought["invoice"]["id"]);
    assert_eq!(intent["metadata"]["tollgate_payment"], payment["id"]);

    // The month after: 16.00, with the same card, for the same customer of Stripe's.
    client.advance_to("2026-02-28T10:00:01Z").await;
    let intents = shop.double.intents();
    assert_eq!(intents.len(), 2);
    assert_eq!((&intents[1]["amount"], &intents[1]["customer"]), (&json!(1_600), &intent["customer"]));
    assert_eq!(shop.double.customers().len(), 1);
    assert_eq!((shop.double.calls(Call::AttachMethod), shop.double.calls(Call::CreateCustomer)), (1, 1));
    assert_eq!(client.available(&customer).await, 200_000_000);

    // In yuan: 11.88.
    let other = client.customer("grace").await;
    let mut body = subscribe(&other, "standard", &shop.double.card("grace", Behaviour::Succeeds));
    body["currency"] = json!("CNY");
    let bought = client.post("/v1/subscriptions", body).await.expect(201);
    assert_eq!(kept(&shop, &bought["invoice"]), 1_188);
    assert_eq!(shop.double.intents()[2]["currency"], "cny");
    // The sandbox is there still.
    let third = client.customer("linus").await;
    client.subscribe(&third, "lite").await;
    assert_eq!(shop.double.intents().len(), 3);
    shop.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_that_wants_the_customer_is_a_state_and_no_error() {
    let shop = Shop::open().await;
    let _worker = shop.world.work();
    shop.listen(Plan::default());
    let client = shop.client();
    let customer = client.customer("ada").await;
    let card = shop.double.card("ada", Behaviour::NeedsCustomer);
    let bought = shop.subscribe(&customer, "lite", &card).await.expect(202);
    assert_eq!(bought["payment_status"], "requires_action");
    let payment = &bought["invoice"]["payments"][0];
    assert_eq!(payment["status"], "requires_action");
    let intent = shop.double.intents()[0].clone();
    assert_eq!(payment["action"]["client_secret"], intent["client_secret"]);
    assert_eq!(client.available(&customer).await, 0);
    // The webhook that tells the same, as a declined charge, changes nothing.
    let failed =
        shop.double.events().into_iter().find(|event| event["type"] == "payment_intent.payment_failed");
    let failed = failed.unwrap();
    eventually(Duration::from_secs(20), async || {
        shop.event(failed["id"].as_str().unwrap()).await.is_some_and(|event| event["state"] == "applied")
    })
    .await;
    assert_eq!(shop.status_of(&bought["subscription"]["id"]).await, "incomplete");
    let path = format!("/v1/invoices/{}", bought["invoice"]["id"].as_str().unwrap());
    let invoice = client.get(&path).await.expect(200);
    assert_eq!(invoice["payments"][0]["action"]["client_secret"], intent["client_secret"]);

    shop.double.authenticate(intent["id"].as_str().unwrap(), true);
    eventually(Duration::from_secs(20), async || client.available(&customer).await == 60_000_000).await;
    assert_eq!(shop.status_of(&bought["subscription"]["id"]).await, "active");
    let invoice = client.get(&path).await.expect(200);
    assert_eq!((&invoice["status"], &invoice["payments"][0]["action"]), (&json!("paid"), &Value::Null));
    assert_eq!(kept(&shop, &bought["invoice"]), 72);
    shop.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_card_takes_nothing_and_another_one_pays() {
    let shop = Shop::open().await;
    let client = shop.client();
    let customer = client.customer("ada").await;
    let poor = shop.double.card("poor", Behaviour::Declines("insufficient_funds".to_owned()));
    let declined = shop.subscribe(&customer, "pro", &poor).await;
    declined.expect_problem(402, "payment-declined");
    let invoice = declined.body["invoice"].as_str().unwrap().to_owned();
    let view = client.get(&format!("/v1/invoices/{invoice}")).await.expect(200);
    assert_eq!(view["payments"][0]["failure_code"], "insufficient_funds");
    let good = shop.double.card("good", Behaviour::Succeeds);
    let path = format!("/v1/invoices/{invoice}/pay");
    client.post(&path, json!({"payment_method": good})).await.expect(200);
    assert_eq!(client.available(&customer).await, 700_000_000);
    assert_eq!(shop.double.kept_of("tollgate_invoice", &invoice), 600);

    // What cannot be a method never becomes part of a path.
    let other = client.customer("grace").await;
    for method in ["pm_nobody", "pm_../customers", "pm_1?expand[]=x", "cus_1", "tok_visa"] {
        shop.subscribe(&other, "lite", method).await.expect_problem(422, "unknown-payment-method");
    }
    // Nor does another customer's card pay.
    let mut list = subscribe(&other, "lite", &good);
    list["promotion"] = json!("none");
    client.post("/v1/subscriptions", list).await.expect_problem(402, "payment-declined");
    shop.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_that_has_had_the_promotion_pays_list_whoever_holds_it() {
    let shop = Shop::open().await;
    let client = shop.client();
    let (ada, grace) = (client.customer("ada").await, client.customer("grace").await);
    let (one, same) =
        (shop.double.card("one", Behaviour::Succeeds), shop.double.card("one", Behaviour::Succeeds));
    shop.subscribe(&ada, "lite", &one).await.expect(201);
    shop.subscribe(&grace, "lite", &same).await.expect_problem(409, "promotion-used");
    let mut list = subscribe(&grace, "lite", &same);
    list["promotion"] = json!("none");
    let bought = client.post("/v1/subscriptions", list).await.expect(201);
    assert_eq!(kept(&shop, &bought["invoice"]), 600);
    shop.agree().await;
}

/// F-12 and its relatives: the money has moved, or not, and the answer does not say which.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_cut_off_charges_once_and_is_found_out() {
    let shop = Shop::open().await;
    let client = shop.client();
    for (number, fault) in [
        Fault::ActThenReset,
        Fault::Lost,
        Fault::ActThenError,
        Fault::Garbled,
        Fault::RateLimited,
        // Longer than it is waited for: the second try meets the first, still in flight.
        Fault::Late(9_500),
    ]
    .into_iter()
    .enumerate()
    {
        let customer = client.customer(&format!("c{number}")).await;
        let card = shop.double.card(&format!("card{number}"), Behaviour::Succeeds);
        shop.double.fault(Call::CreateIntent, fault.clone());
        let before = shop.double.intents().len();
        let bought = shop.subscribe(&customer, "lite", &card).await;
        let bought = bought.expect(201);
        assert_eq!(shop.double.intents().len() - before, 1, "{fault:?}");
        assert_eq!(kept(&shop, &bought["invoice"]), 72, "{fault:?}");
        assert_eq!(client.available(&customer).await, 60_000_000, "{fault:?}");
    }
    shop.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_stays_unknown_is_pending_and_found_by_the_next_to_ask() {
    let shop = Shop::open().await;
    let client = shop.client();
    let customer = client.customer("ada").await;
    let card = shop.double.card("ada", Behaviour::Succeeds);
    // Charged, and a 500 that is answered to every repeat of the key; and the list is away, too.
    shop.double.fault(Call::CreateIntent, Fault::ActThenError);
    shop.double.fault(Call::ListIntents, Fault::Error);
    let body = subscribe(&customer, "lite", &card);
    let bought = client.post("/v1/subscriptions", body).await.expect(202);
    assert_eq!(bought["payment_status"], "pending");
    assert_eq!(client.available(&customer).await, 0);
    // Paying again gives the first one up, if it can: it has succeeded, and counts.
    let path = format!("/v1/invoices/{}/pay", bought["invoice"]["id"].as_str().unwrap());
    client.post(&path, json!({})).await.expect(200);
    assert_eq!(shop.double.intents().len(), 1);
    assert_eq!(kept(&shop, &bought["invoice"]), 72);
    assert_eq!(client.available(&customer).await, 60_000_000);
    shop.agree().await;
}

/// Killed between the charge and the commit. The provider tells nothing: only the job that was stored
/// before the charge is left to find out.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_killed_between_charge_and_commit_charges_once_and_grants_within_90_seconds() {
    let mut shop = Shop::open().await;
    let customer = shop.client().customer("ada").await;
    let card = shop.double.card("ada", Behaviour::Succeeds);
    shop.double.fault(Call::CreateIntent, Fault::Late(6_000));
    let key = Uuid::now_v7().to_string();
    let body = subscribe(&customer, "max", &card);
    let (client, once, sent) = (shop.client().clone(), key.clone(), body.clone());
    let cut_off = tokio::spawn(async move {
        let request = client.request(Method::POST, "/v1/subscriptions");
        client.try_send(request.header("Idempotency-Key", once).json(&sent)).await
    });
    let double = &shop.double;
    eventually(Duration::from_secs(10), async || double.intents().len() == 1).await;
    // Dropped, it is killed with -9; another takes its place.
    shop.server = shop.world.serve().await;
    assert!(cut_off.await.unwrap().is_err(), "nobody has answered");
    let killed = std::time::Instant::now();
    let _worker = shop.world.work();
    let client = shop.client();
    eventually(Duration::from_secs(90), async || client.available(&customer).await == 1_600_000_000).await;
    assert!(killed.elapsed() < Duration::from_secs(90));
    // The client's own repeat is answered for the same purchase.
    let bought = client.post_as(&key, "/v1/subscriptions", body).await.expect(201);
    assert_eq!(shop.double.intents().len(), 1);
    assert_eq!(kept(&shop, &bought["invoice"]), 1_200);
    shop.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_wrong_at_random_and_each_invoice_is_charged_once() {
    let shop = Shop::open_with(7).await;
    let _worker = shop.world.work();
    shop.listen(Plan {
        lost_percent: 30,
        doubled_percent: 30,
        late_max: Duration::from_millis(800),
        ..Plan::default()
    });
    shop.double.chaos(35);
    let client = shop.client();
    let mut buyers = Vec::new();
    for number in 0..24 {
        let customer = client.customer(&format!("c{number}")).await;
        let card = shop.double.card(&format!("card{number}"), Behaviour::Succeeds);
        let (client, body) = (client.clone(), subscribe(&customer, "lite", &card));
        let buying = tokio::spawn(async move {
            let key = Uuid::now_v7().to_string();
            loop {
                let answer = client.post_as(&key, "/v1/subscriptions", body.clone()).await;
                // 503: asking for the card failed, and nothing was begun.
                if answer.status != 503 {
                    assert!([201, 202, 402].contains(&answer.status.as_u16()), "{}", answer.body);
                    return;
                }
            }
        });
        buyers.push((customer, buying));
    }
    for (_, buying) in &mut buyers {
        buying.await.unwrap();
    }
    shop.double.chaos(0);
    // What the answers and the webhooks did not tell, the jobs find out.
    for (customer, _) in &buyers {
        eventually(Duration::from_secs(120), async || client.available(customer).await == 60_000_000).await;
        assert_eq!(shop.double.kept_of("tollgate_customer", customer), 72, "{customer}");
    }
    shop.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_is_saved_by_a_form_or_a_page_and_listed_until_it_is_detached() {
    let shop = Shop::open().await;
    let _worker = shop.world.work();
    shop.listen(Plan::default());
    let client = shop.client();
    let customer = client.customer("ada").await;
    let of = |rest: &str| format!("/v1/customers/{customer}/{rest}");
    let setup = client.post(&of("payment-method-setups"), json!({})).await.expect(201);
    assert!(setup["client_secret"].as_str().unwrap().starts_with("seti_"));
    let by_form = shop.double.card("form", Behaviour::Succeeds);
    shop.double.complete_setup(setup["id"].as_str().unwrap(), &by_form);

    let urls = json!({"success_url": "https://shop.example/saved", "cancel_url": "https://shop.example/"});
    let page = client.post(&of("checkout-pages"), urls).await.expect(201);
    let by_page = shop.double.card("page", Behaviour::Succeeds);
    let browser = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let url = page["url"].as_str().unwrap();
    let html = browser.get(url).send().await.unwrap().text().await.unwrap();
    assert!(html.contains(&by_page), "{html}");
    let form = format!("payment_method={by_page}");
    let done = browser.post(url).body(form).send().await.unwrap();
    assert_eq!(done.headers()["location"], "https://shop.example/saved");

    let names = async || -> Vec<String> {
        let listed = client.get(&of("payment-methods")).await.expect(200);
        let methods = listed["data"].as_array().unwrap().iter();
        methods.map(|method| method["payment_method"].as_str().unwrap().to_owned()).collect()
    };
    eventually(Duration::from_secs(20), async || names().await.len() == 2).await;
    assert_eq!(names().await, [by_form.clone(), by_page.clone()]);
    // It buys without being saved again.
    shop.subscribe(&customer, "lite", &by_page).await.expect(201);
    assert_eq!(shop.double.calls(Call::AttachMethod), 0);
    shop.double.detach(&by_form);
    eventually(Duration::from_secs(20), async || names().await == [by_page.clone()]).await;
    // Deleted at Stripe, the customer has no method, and gets another customer there when needed.
    let stripe_customer = shop.double.customers()[0]["id"].as_str().unwrap().to_owned();
    shop.double.delete_customer(&stripe_customer);
    eventually(Duration::from_secs(20), async || names().await.is_empty()).await;
    client.post(&of("payment-method-setups"), json!({})).await.expect(201);
    assert_ne!(shop.double.customers()[0]["id"], stripe_customer);

    // None of it without an account.
    let other = client.with_key(&shop.world.other_tenant().await);
    let stranger = other.customer("ada").await;
    let path = format!("/v1/customers/{stranger}/payment-method-setups");
    other.post(&path, json!({})).await.expect_problem(409, "no-payment-provider");
    other.get("/v1/payment-provider").await.expect_problem(409, "no-payment-provider");
    let theirs = format!("/v1/customers/{customer}/payment-methods");
    other.get(&theirs).await.expect_problem(404, "not-found");
    shop.agree().await;
}

async fn rows(shop: &Shop, sql: &str) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        row: String,
    }
    let rows: Vec<Row> = diesel::sql_query(sql).load(&mut shop.world.stores.superuser().await).await.unwrap();
    rows.into_iter().map(|found| found.row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_checked_and_shown_to_nobody() {
    let shop = Shop::open().await;
    let client = shop.client();
    let view = client.get("/v1/payment-provider").await.expect(200);
    assert_eq!(
        (&view["provider"], &view["is_live"], &view["signing_secrets"]),
        (&json!("stripe"), &json!(false), &json!(1))
    );
    for secret in [SECRET_KEY, SIGNING_SECRET] {
        assert!(!view.to_string().contains(secret));
    }
    let dump = rows(&shop, "select provider_accounts::text as row from provider_accounts").await;
    assert_eq!(dump.len(), 1);
    for secret in [SECRET_KEY, SIGNING_SECRET] {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!dump[0].contains(secret) && !dump[0].contains(&hex));
    }
    // A test tenant takes no live key, and nothing that is no key; what is wrong is not repeated.
    for (body, pointer) in [
        (
            json!({"secret_key": "sk_live_0123456789abcdef", "signing_secrets": [SIGNING_SECRET]}),
            "/secret_key",
        ),
        (json!({"secret_key": "hunter2", "signing_secrets": [SIGNING_SECRET]}), "/secret_key"),
        (json!({"secret_key": SECRET_KEY, "signing_secrets": []}), "/signing_secrets"),
        (json!({"secret_key": SECRET_KEY, "signing_secrets": ["hunter2"]}), "/signing_secrets/0"),
        (json!({"secret_key": SECRET_KEY, "signing_secrets": [SIGNING_SECRET], "account": "x"}), "/account"),
    ] {
        let answer = client.put("/v1/payment-provider", body).await;
        answer.expect_problem(422, "invalid-field");
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{}", answer.body);
        assert!(!answer.body.to_string().contains("hunter2"));
    }
    let reader = client.with_key(&shop.world.key(&[tenants::Scope::Read, tenants::Scope::Billing]).await);
    reader.get("/v1/payment-provider").await.expect_problem(403, "insufficient-scope");
    reader
        .put("/v1/payment-provider", account(&[SIGNING_SECRET]))
        .await
        .expect_problem(403, "insufficient-scope");
    reader.get("/v1/provider-events").await.expect_problem(403, "insufficient-scope");
    shop.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sets_an_account_from_files_and_sees_no_secret_again() {
    use std::os::unix::fs::PermissionsExt;
    let shop = Shop::open().await;
    let dir = folder();
    let file = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let run = |args: &[&str], files: [&std::path::Path; 2]| {
        let mut command = shop.world.command("provider");
        command.args(args).args(["--tenant", &shop.world.tenant.to_string()]);
        if args[0] == "set" {
            command.arg("--secret-key-file").arg(files[0]).arg("--signing-secrets-file").arg(files[1]);
        }
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let key = file("key", "sk_test_another00000000\n");
    let secrets = file("secrets", "whsec_first_of_two_00\nwhsec_other_of_two_00\n");
    let (is_set, said) = run(&["set", "--account", "acct_1Abc"], [&key, &secrets]);
    assert!(is_set && said.contains(&shop.webhook_path()), "{said}");
    let (_, shown) = run(&["show"], [&key, &secrets]);
    assert!(shown.contains("acct_1Abc") && shown.contains("test"), "{shown}");
    for secret in ["sk_test_another", "whsec_"] {
        assert!(!said.contains(secret) && !shown.contains(secret));
    }
    let view = shop.client().get("/v1/payment-provider").await.expect(200);
    assert_eq!((&view["account"], &view["signing_secrets"]), (&json!("acct_1Abc"), &json!(2)));
    let live = file("live", "sk_live_0123456789");
    let (is_set, said) = run(&["set"], [&live, &secrets]);
    assert!(!is_set && said.contains("/secret_key") && !said.contains("sk_live"), "{said}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (is_set, said) = run(&["set"], [&key, &secrets]);
    assert!(!is_set && said.contains("chmod 600"), "{said}");
    std::fs::remove_dir_all(dir).unwrap();
    shop.agree().await;
}

fn folder() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("tollgate-stripe-{}", Uuid::now_v7()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// A-48 through two server processes: the rules hold, and nobody is charged twice.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_subscribes_and_twenty_accounts_with_one_card_at_once_are_charged_once() {
    let shop = Shop::open().await;
    let second = shop.world.serve().await;
    let clients = [shop.client(), &second.client];
    let customer = clients[0].customer("ada").await;
    let card = shop.double.card("ada", Behaviour::Succeeds);
    let body = subscribe(&customer, "lite", &card);
    let calls = (0..50).map(|number| clients[number % 2].post("/v1/subscriptions", body.clone()));
    let answers = futures_util::future::join_all(calls).await;
    let bought = answers.iter().filter(|answer| answer.status == 201).count();
    let refused = answers.iter().filter(|answer| answer.status == 409).count();
    assert_eq!((bought, refused), (1, 49));
    assert_eq!(shop.double.kept_of("tollgate_customer", &customer), 72);

    let mut bodies = Vec::new();
    for number in 0..20 {
        let customer = clients[0].customer(&format!("c{number}")).await;
        bodies.push(subscribe(&customer, "lite", &shop.double.card("shared", Behaviour::Succeeds)));
    }
    let calls = (0..20).map(|number| clients[number % 2].post("/v1/subscriptions", bodies[number].clone()));
    let answers = futures_util::future::join_all(calls).await;
    let bought = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(bought, 1);
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        refused.expect_problem(409, "promotion-used");
    }
    assert_eq!(shop.double.intents().len(), 2);
    shop.agree().await;
}

/// nobody is there when a renewal is charged, so a bank that wants the customer leaves it unpaid.
#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_waits_for_its_customer_is_past_due_until_the_customer_acts_or_the_tries_end() {
    let shop = Shop::open().await;
    let _worker = shop.world.work();
    shop.listen(Plan::default());
    let client = shop.client();
    let mut bought = Vec::new();
    for name in ["acts", "never"] {
        let customer = client.customer(name).await;
        let first = shop.double.card(&format!("{name}-first"), Behaviour::Succeeds);
        let view = shop.subscribe(&customer, "lite", &first).await.expect(201);
        let id = view["subscription"]["id"].clone();
        let second = shop.double.card(&format!("{name}-second"), Behaviour::NeedsCustomer);
        let path = format!("/v1/subscriptions/{}/payment-method", id.as_str().unwrap());
        client.put(&path, json!({"payment_method": second})).await.expect(200);
        bought.push((customer, id));
    }
    client.advance_to("2026-02-28T10:00:00Z").await;
    for (customer, subscription) in &bought {
        assert_eq!(shop.status_of(subscription).await, "past_due");
        assert_eq!(client.available(customer).await, 0);
    }
    // Both are told of it: that the bank waits for them, and when it is tried again without them.
    for kind in ["payment.requires_action", "subscription.renewal_failed"] {
        let told = shop.world.events(kind).await;
        let whom: Vec<&Value> = told.iter().map(|told| &told["subscription"]).collect();
        assert!(whom.len() == 2 && bought.iter().all(|(_, id)| whom.contains(&id)), "{kind}: {told:?}");
        assert!(kind == "payment.requires_action" || told[0]["waits_for_customer"] == true, "{told:?}");
    }
    shop.agree().await;
    // One acts: the whole pool for the whole price, until the cycle's unchanged end.
    let (customer, subscription) = &bought[0];
    let intents = shop.double.intents();
    let of = |customer: &String| {
        let mut own =
            intents.iter().rev().filter(|intent| intent["metadata"]["tollgate_customer"] == *customer);
        own.next().unwrap()["id"].as_str().unwrap().to_owned()
    };
    shop.double.authenticate(&of(customer), true);
    eventually(Duration::from_secs(20), async || client.available(customer).await == 60_000_000).await;
    assert_eq!(shop.status_of(subscription).await, "active");
    // The other does not: tried again after 1, 3, 5 and 7 days, and then it is over.
    client.advance_to("2026-03-07T10:00:00Z").await;
    let (never, subscription) = &bought[1];
    assert_eq!(shop.status_of(subscription).await, "canceled");
    eventually(Duration::from_secs(30), async || {
        let intents = shop.double.intents();
        let own = intents.iter().filter(|intent| intent["metadata"]["tollgate_customer"] == *never);
        // The first cycle, the renewal, and four more tries, all of them given up.
        let statuses: Vec<&str> = own.map(|intent| intent["status"].as_str().unwrap()).collect();
        statuses == ["succeeded", "canceled", "canceled", "canceled", "canceled", "canceled"]
    })
    .await;
    assert_eq!(shop.double.kept_of("tollgate_customer", never), 72);
    assert_eq!(shop.double.kept_of("tollgate_customer", customer), 672);
    shop.agree().await;
}

/// a last try that waits for its customer is unpaid, and with it the subscription is over. Nobody is asked to act for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_last_try_that_would_wait_for_its_customer_is_declined() {
    let shop = Shop::open().await;
    let _worker = shop.world.work();
    shop.listen(Plan::default());
    let client = shop.client();
    let customer = client.customer("ada").await;
    let bought = shop.subscribe(&customer, "lite", "pm_sandbox_succeeds").await.expect(201);
    let path = format!("/v1/subscriptions/{}", bought["subscription"]["id"].as_str().unwrap());
    let use_method = async |method: &str| {
        let method = json!({"payment_method": method});
        client.put(&format!("{path}/payment-method"), method).await.expect(200)
    };
    use_method("pm_sandbox_declines").await;
    client.advance_to("2026-03-06T00:00:00Z").await;
    use_method("pm_sandbox_pends").await;
    client.advance_to("2026-03-08T00:00:00Z").await;
    let view = client.get(&path).await.expect(200);
    assert_eq!(view["status"], "past_due", "the last try is pending");
    let pay = format!("/v1/invoices/{}/pay", view["open_invoice"].as_str().unwrap());
    let card = shop.double.card("ada", Behaviour::NeedsCustomer);
    client.post(&pay, json!({"payment_method": card})).await.expect_problem(402, "payment-declined");
    assert_eq!(shop.status_of(&bought["subscription"]["id"]).await, "canceled");
    shop.agree().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollover_is_done_once_the_top_up_is_there_that_another_one_buys() {
    let shop = Shop::open().await;
    let _worker = shop.world.work();
    let client = shop.client();
    let ada = client.customer("ada").await;
    let set = json!({"exhaustion": "topup", "payment_method": shop.double.card("ada", Behaviour::Succeeds),
        "auto_top_up": {"top_up": "topup-10m", "currency": "USD", "at_credits_left": 0, "per_cycle_max": 5}});
    client.put(&format!("/v1/customers/{ada}/exhaustion"), set).await.expect(200);
    shop.double.fault(Call::CreateIntent, Fault::Late(3_000));
    let start = async || {
        let run = client.post("/v1/rollovers", json!({})).await.expect(202);
        format!("/v1/rollovers/{}", run["id"].as_str().unwrap())
    };
    let is_done = async |run: &str| client.get(run).await.expect(200)["state"] == "done";
    let first = start().await;
    eventually(Duration::from_secs(20), async || shop.double.calls(Call::CreateIntent) == 1).await;
    let second = start().await;
    eventually(Duration::from_secs(20), async || is_done(&second).await).await;
    assert_eq!(client.available(&ada).await, 10_000_000);
    eventually(Duration::from_secs(20), async || is_done(&first).await).await;
    assert_eq!((client.available(&ada).await, shop.double.intents().len()), (10_000_000, 1));
    shop.agree().await;
}

/// What is bought without a subscription meets the same provider, and the same states.
#[tokio::test(flavor = "multi_thread")]
async fn a_top_up_waits_for_its_customer_and_is_parked_over_another_amount() {
    let shop = Shop::open().await;
    let _worker = shop.world.work();
    shop.listen(Plan::default());
    let client = shop.client();
    let top_up = |customer: &str, card: String| json!({"customer": customer, "top_up": "topup-10m", "currency": "USD", "payment_method": card});
    let ada = client.customer("ada").await;
    let card = shop.double.card("ada", Behaviour::NeedsCustomer);
    let bought = client.post("/v1/top-ups", top_up(&ada, card)).await.expect(202);
    assert_eq!(bought["payment_status"], "requires_action");
    let intent = shop.double.intents()[0].clone();
    assert_eq!(bought["invoice"]["payments"][0]["action"]["client_secret"], intent["client_secret"]);
    shop.double.authenticate(intent["id"].as_str().unwrap(), true);
    eventually(Duration::from_secs(20), async || client.available(&ada).await == 10_000_000).await;
    assert_eq!(kept(&shop, &bought["invoice"]), 100);

    let grace = client.customer("grace").await;
    shop.double.fault(Call::CreateIntent, Fault::TakeInstead(99));
    let card = shop.double.card("grace", Behaviour::Succeeds);
    client.post("/v1/top-ups", top_up(&grace, card)).await.expect(202);
    assert_eq!(client.available(&grace).await, 0);
    client.authorize("a", &grace, "mimo-v2-pro", 10, 0).await.expect_problem(409, "account-parked");
    // Given back on Stripe's own site, ada's dollar takes the Credits with it (R-22a).
    shop.double.refund(intent["id"].as_str().unwrap(), 100);
    eventually(Duration::from_secs(20), async || client.available(&ada).await == 0).await;
    shop.world.verify().await;
}
