//! Rate cards as dated data: published by API, tried on past usage first, refused where they make no sense.

use domain::policy::{DearerRates, Policies};
use reqwest::Method;
use serde_json::{Value, json};
use tenants::Scope;

use crate::support::{Client, World, event};

const VERSIONS: &str = "/v1/catalog/versions";
const PREVIEW: &str = "/v1/catalog/versions/preview";

/// The catalogue in force, to be changed.
async fn reference(client: &Client) -> Value {
    client.get(&format!("{VERSIONS}/1")).await.expect(200)["catalog"].clone()
}

/// The reference catalogue with omni at this many milli-Credits a token.
async fn omni_at(client: &Client, rate_milli: u32) -> Value {
    let mut catalog = reference(client).await;
    catalog["models"][0]["bands"][0]["credit_rates_milli"] = json!(rate_milli);
    catalog
}

fn new_model(code: &str, rate_milli: u32) -> Value {
    json!({"code": code, "bands": [{"credit_rates_milli": rate_milli}]})
}

fn used(id: &str, customer: &str, model: &str, input: u64, time: &str) -> Value {
    let mut event = event(id, customer, model, json!({"input": input}));
    event["time"] = json!(time);
    event
}

async fn receipt(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/usage/events/{id}?source=urn:test")).await.expect(200)["receipt"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_published_by_request_rates_usage_from_its_instant_on_everywhere() {
    let world = World::new().await;
    let (server, other) = (world.serve().await, world.serve().await);
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    let publisher = client.with_key(&world.key(&[Scope::Catalog]).await);
    let body = json!({"effective_at": "2026-02-01T00:00:00Z", "catalog": omni_at(client, 3_000).await});
    let published = publisher.post_as("key-1", VERSIONS, body.clone()).await.expect(201);
    assert_eq!(
        published,
        json!({"version": 2, "effective_at": "2026-02-01T00:00:00.000000Z", "is_in_force": false,
            "plans": 4, "models": 4})
    );
    let again = publisher.post_as("key-1", VERSIONS, body.clone()).await;
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(again.expect(201), published);
    publisher
        .post_as("key-1", VERSIONS, json!({"catalog": body["catalog"]}))
        .await
        .expect_problem(422, "idempotency-key-reused");

    // A second before, and at the instant, as another server sees it.
    client.advance_to("2026-02-01T10:00:00Z").await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    let events = json!([
        used("before", &ada, "mimo-v2-omni", 1_000, "2026-01-31T23:59:59.999999Z"),
        used("after", &ada, "mimo-v2-omni", 1_000, "2026-02-01T00:00:00Z"),
    ]);
    other.client.with_key(&world.key).post("/v1/usage/events", events).await.expect(200);
    for (id, credits, version) in [("before", 1_000, 1), ("after", 3_000, 2)] {
        let receipt = receipt(client, id).await;
        let seen = (&receipt["credits"], &receipt["catalog_version"]);
        assert_eq!(seen, (&json!(credits), &json!(version)), "{id}");
    }
    let listed = client.get(VERSIONS).await.expect(200);
    let seen: Vec<_> =
        listed["data"].as_array().unwrap().iter().map(|v| (&v["version"], &v["is_in_force"])).collect();
    assert_eq!(seen, [(&json!(1), &json!(false)), (&json!(2), &json!(true))]);
    let whole = client.get(&format!("{VERSIONS}/2")).await.expect(200);
    assert_eq!(whole["catalog"], body["catalog"], "as it was sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_very_same_document_changes_nothing() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let same = json!({"catalog": reference(client).await});
    assert_eq!(client.post(VERSIONS, same).await.expect(200)["version"], 1);
    assert_eq!(client.get(VERSIONS).await.expect(200)["data"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_publishers_at_once_get_a_version_each_or_are_told() {
    let world = World::new().await;
    let (server, other) = (world.serve().await, world.serve().await);
    let (one, two) = (&server.client, &other.client);
    let body =
        async |rate| json!({"effective_at": "2026-03-01T00:00:00Z", "catalog": omni_at(one, rate).await});
    let (first, second) = (body(2_000).await, body(3_000).await);
    let (a, b) = tokio::join!(one.post(VERSIONS, first.clone()), two.post(VERSIONS, second));
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{} {}", a.body, b.body);
    // One key, two servers: one version.
    let mut later = first;
    later["effective_at"] = json!("2026-04-01T00:00:00Z");
    later["catalog"]["models"][0]["bands"][0]["credit_rates_milli"] = json!(5_000);
    let (a, b) = tokio::join!(one.post_as("k", VERSIONS, later.clone()), two.post_as("k", VERSIONS, later));
    assert_eq!(a.body["version"], 3, "{}", a.body);
    assert_eq!(b.body["version"], 3, "{}", b.body);
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    assert_eq!(two.get(VERSIONS).await.expect(200)["data"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_makes_no_sense_is_refused_with_the_line() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let whole = reference(client).await;
    // Bands of mimo-v2-pro: (first prompt, bound), and what is said.
    let cases: [(Value, &[&str]); 5] = [
        (
            json!([{"prompt_tokens_max": 262_144}, {"prompt_tokens_min": 262_144}]),
            &[
                "model mimo-v2-pro, band 2: it overlaps the band before it: it begins at 262144, and that one reaches 262144",
            ],
        ),
        (
            json!([{"prompt_tokens_max": 262_144}, {"prompt_tokens_min": 300_000}]),
            &["model mimo-v2-pro, band 2: prompts of 262145 to 299999 tokens lie in a gap before it"],
        ),
        (
            json!([{"prompt_tokens_max": 262_144}, {"prompt_tokens_max": 200_000}]),
            &[
                "model mimo-v2-pro, band 2: it overlaps the band before it: it ends at 200000, and that one at 262144",
            ],
        ),
        (
            json!([{}, {"prompt_tokens_max": 200_000}]),
            &["model mimo-v2-pro, band 1: it has no upper bound, and hides the bands after it"],
        ),
        (
            json!([{"prompt_tokens_min": 1, "prompt_tokens_max": 10}, {"prompt_tokens_min": 13}]),
            &[
                "model mimo-v2-pro, band 1: prompts shorter than 1 tokens have no band",
                "model mimo-v2-pro, band 2: prompts of 11 to 12 tokens lie in a gap before it",
            ],
        ),
    ];
    for (mut bands, problems) in cases {
        for band in bands.as_array_mut().unwrap() {
            band["credit_rates_milli"] = json!(2_000);
        }
        let mut catalog = whole.clone();
        catalog["models"][1]["bands"] = bands;
        for path in [VERSIONS, PREVIEW] {
            let refused = client.post(path, json!({"catalog": catalog})).await;
            refused.expect_problem(422, "invalid-catalog");
            assert_eq!(refused.body["problems"], json!(problems), "{path}");
        }
    }
    let mut misspelt = whole.clone();
    misspelt["models"][1]["bands"][0]["credit_rate"] = json!(1);
    let refused = client.post(VERSIONS, json!({"catalog": misspelt})).await;
    refused.expect_problem(422, "invalid-field");
    assert_eq!(refused.body["errors"][0]["pointer"], "/catalog/models/1/bands/0/credit_rate");
    for (body, code) in [(json!({}), "invalid-field"), (json!({"catalog": []}), "invalid-field")] {
        client.post(VERSIONS, body).await.expect_problem(422, code);
    }
    let without_key = client.request(Method::POST, VERSIONS).json(&json!({"catalog": whole}));
    client.send(without_key).await.expect_problem(400, "idempotency-key-missing");
    assert_eq!(client.get(VERSIONS).await.expect(200)["data"].as_array().unwrap().len(), 1, "nothing of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_not_published_into_the_past_nor_at_an_instant_that_is_taken() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    client.advance_to("2026-02-10T00:00:00Z").await;
    let at = async |rate, instant: &str| {
        let body = json!({"effective_at": instant, "catalog": omni_at(client, rate).await});
        client.post(VERSIONS, body).await
    };
    at(2_000, "2026-02-09T23:59:59.999999Z").await.expect_problem(409, "catalog-in-the-past");
    at(2_000, "2026-01-31T10:00:00Z").await.expect_problem(409, "catalog-not-later");
    at(2_000, "2026-03-01T00:00:00Z").await.expect(201);
    at(3_000, "2026-03-01T00:00:00Z").await.expect_problem(409, "catalog-not-later");
    at(3_000, "2026-02-20T00:00:00Z").await.expect_problem(409, "catalog-not-later");
    at(3_000, "2026-03-01T00:00:00.000001Z").await.expect(201);
    client.get(&format!("{VERSIONS}/4")).await.expect_problem(404, "not-found");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_waits_for_a_line_is_charged_by_one_that_only_adds_it() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    client.advance_to("2026-02-03T10:00:00Z").await;
    let new = used("new", &ada, "mimo-v3", 1_000, "2026-02-02T00:00:00Z");
    client.post("/v1/usage/events", json!([new])).await.expect(200);
    let mut catalog = reference(client).await;
    catalog["models"].as_array_mut().unwrap().push(new_model("mimo-v3", 1_500));
    let body = json!({"effective_at": "2026-02-01T00:00:00Z", "catalog": catalog});
    client.post(VERSIONS, body).await.expect(201);
    assert_eq!(world.usage().rerate(&world.scope().await).await.unwrap().events, 1);
    assert_eq!(client.available(&ada).await, 60_000_000 - 1_500);
    assert_eq!(receipt(client, "new").await["catalog_version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_free_until_an_instant_and_then_has_the_rate_of_the_next_version() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    let mut catalog = reference(client).await;
    let band = json!({"credit_rates_milli": 0, "credit_rates_until": "2026-02-02T00:00:00.000000Z"});
    catalog["models"].as_array_mut().unwrap().push(json!({"code": "new", "bands": [band]}));
    client.post(VERSIONS, json!({"catalog": catalog})).await.expect_problem(409, "catalog-not-later");
    client.advance_to("2026-01-31T12:00:00Z").await;
    client.post(VERSIONS, json!({"catalog": catalog})).await.expect(201);
    client.advance_to("2026-02-03T00:00:00Z").await;
    let events = json!([
        used("free", &ada, "new", 1_000, "2026-02-01T23:59:59.999999Z"),
        used("over", &ada, "new", 1_000, "2026-02-02T00:00:00Z"),
    ]);
    let results = client.post("/v1/usage/events", events).await.expect(200);
    let status = |index: usize| results["results"][index]["status"].as_str();
    assert_eq!((status(0), status(1)), (Some("accepted"), Some("unrated")), "{results}");
    assert_eq!(client.available(&ada).await, 60_000_000, "free, or not charged yet");
    // The rate from then on comes with a version; here an operator is late and publishes its file after the fact.
    let mut file: domain::catalog::CatalogDocument = serde_json::from_value(catalog.clone()).unwrap();
    let band = &mut file.models.last_mut().unwrap().bands[0];
    band.credit_rates_milli = Some(domain::catalog::CreditRates::Uniform(domain::credits::RateMilli(2_000)));
    band.credit_rates_until = None;
    let scope = world.scope().await;
    let from = domain::time::parse_rfc3339("2026-02-02T00:00:00Z").unwrap();
    let catalogs = catalog::Catalogs::new(world.stores.db());
    catalogs.publish(world.tenant, file, from, scope.now).await.unwrap();
    assert_eq!(world.usage().rerate(&scope).await.unwrap().events, 1);
    assert_eq!(client.available(&ada).await, 60_000_000 - 2_000);
    for (id, credits, version) in [("free", 0, 2), ("over", 2_000, 3)] {
        let receipt = receipt(client, id).await;
        let seen = (&receipt["credits"], &receipt["catalog_version"]);
        assert_eq!(seen, (&json!(credits), &json!(version)), "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_says_what_last_week_would_have_cost_and_changes_nothing() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (ada, bob) = (client.customer("ada").await, client.customer("bob").await);
    client.subscribe(&ada, "lite").await;
    client.advance_to("2026-02-02T10:00:00Z").await;
    let early = json!([used("early", &ada, "mimo-v2-omni", 9_000, "2026-02-01T00:00:00Z")]);
    client.post("/v1/usage/events", early).await.expect(200);
    client.advance_to("2026-02-09T10:00:00Z").await;
    let events = json!([
        used("o1", &ada, "mimo-v2-omni", 1_000, "2026-02-08T00:00:00Z"), // 1,000
        used("o2", &bob, "mimo-v2-omni", 500, "2026-02-09T00:00:00Z"),   // 500, all overage
        used("p1", &ada, "mimo-v2-pro", 300_000, "2026-02-09T00:00:00Z"), // 1,200,000
        used("p2", &ada, "mimo-v2-pro", 100, "2026-02-09T00:00:00Z"),    // 200
        used("n1", &ada, "mimo-v3", 40, "2026-02-09T00:00:00Z"),         // unrated
        used("n2", &ada, "mimo-v4", 40, "2026-02-09T00:00:00Z"),         // unrated
        used("v1", &ada, "mimo-v2-omni", 700, "2026-02-09T00:00:00Z"),   // voided
    ]);
    client.post("/v1/usage/events", events).await.expect(200);
    client.post("/v1/usage/events/v1/void?source=urn:test", json!({"reason": "a retry"})).await.expect(200);
    let before = (client.balance(&ada).await, client.transfers(&ada).await);

    // Omni at 1.5x, pro with one band to 256K alone, and the new model at 2x.
    let mut catalog = omni_at(client, 1_500).await;
    catalog["models"][1]["bands"].as_array_mut().unwrap().truncate(1);
    catalog["models"].as_array_mut().unwrap().push(new_model("mimo-v3", 2_000));
    let publisher = client.with_key(&world.key(&[Scope::Catalog]).await);
    let body = json!({"effective_at": "2026-03-01T00:00:00Z", "catalog": catalog});
    let preview = publisher.post(PREVIEW, body.clone()).await.expect(200);
    assert_eq!(
        preview,
        json!({
            "from": "2026-02-02T10:00:00.000001Z", "to": "2026-02-09T10:00:00.000001Z", "is_complete": true,
            "total": {
                "events": 6, "credits_charged": 1_201_700, "credits_previewed": 2_250 + 200 + 80,
                "unrated": 2, "unrated_previewed": {"prompt-above-last-band": 1, "unknown-model": 1},
            },
            "by_model": [
                {"model": "mimo-v2-pro", "events": 2, "credits_charged": 1_200_200, "credits_previewed": 200,
                    "unrated": 0, "unrated_previewed": {"prompt-above-last-band": 1}},
                {"model": "mimo-v2-omni", "events": 2, "credits_charged": 1_500, "credits_previewed": 2_250,
                    "unrated": 0, "unrated_previewed": {}},
                {"model": "mimo-v3", "events": 1, "credits_charged": 0, "credits_previewed": 80,
                    "unrated": 1, "unrated_previewed": {}},
                {"model": "mimo-v4", "events": 1, "credits_charged": 0, "credits_previewed": 0,
                    "unrated": 1, "unrated_previewed": {"unknown-model": 1}},
            ],
        })
    );
    assert_eq!((client.balance(&ada).await, client.transfers(&ada).await), before);
    assert_eq!(client.get(VERSIONS).await.expect(200)["data"].as_array().unwrap().len(), 1);

    let with = |from: &str, to: &str| json!({"catalog": catalog, "from": from, "to": to});
    let day = publisher.post(PREVIEW, with("2026-02-01T00:00:00Z", "2026-02-01T00:00:01Z")).await.expect(200);
    assert_eq!((&day["total"]["events"], &day["total"]["credits_previewed"]), (&json!(1), &json!(13_500)));
    for (from, to) in [
        ("2026-02-02T00:00:00Z", "2026-02-02T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00.000001Z"),
    ] {
        publisher.post(PREVIEW, with(from, to)).await.expect_problem(422, "invalid-field");
    }
    let other = client.with_key(&world.other_tenant().await);
    assert_eq!(other.post(PREVIEW, body).await.expect(200)["total"]["events"], 0, "another tenant's usage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_reads_page_after_page() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let catalog = omni_at(client, 2_000).await;
    // 2,500 events of two customers, many at one instant: 1 + 2 + ... + 2,500 tokens.
    let (ada, bob) = (client.customer("ada").await, client.customer("bob").await);
    let of = |n: u64| {
        let customer = if n.is_multiple_of(3) { &ada } else { &bob };
        used(&format!("e{n}"), customer, "mimo-v2-omni", n, "2026-01-31T09:00:00Z")
    };
    for start in [1, 1_001, 2_001] {
        let events: Vec<Value> = (start..(start + 1_000).min(2_501)).map(of).collect();
        client.post("/v1/usage/events", json!(events)).await.expect(200);
    }
    client.set_clock("2026-01-31T11:00:00Z").await;
    let preview = client.post(PREVIEW, json!({"catalog": catalog})).await.expect(200);
    let sum = 2_500 * 2_501 / 2;
    let total = &preview["total"];
    // Before the first version nothing had a rate.
    assert_eq!((&total["events"], &total["unrated"]), (&json!(2_500), &json!(2_500)));
    assert_eq!((&total["credits_charged"], &total["credits_previewed"]), (&json!(0), &json!(2 * sum)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_publish_may_do_that_alone() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let body = json!({"catalog": omni_at(client, 2_000).await});
    for scope in [Scope::Read, Scope::Usage, Scope::Backfill, Scope::Billing] {
        let key = client.with_key(&world.key(&[scope]).await);
        for path in [VERSIONS, PREVIEW] {
            key.post(path, body.clone()).await.expect_problem(403, "insufficient-scope");
        }
    }
    let ada = client.customer("ada").await;
    let token = client.post(&format!("/v1/customers/{ada}/tokens"), json!({})).await.expect(201);
    let token = client.with_key(token["token"].as_str().unwrap());
    for path in [VERSIONS.to_owned(), format!("{VERSIONS}/1")] {
        token.get(&path).await.expect_problem(403, "insufficient-scope");
    }
    let publisher = client.with_key(&world.key(&[Scope::Catalog]).await);
    publisher.get(VERSIONS).await.expect_problem(403, "insufficient-scope");
    publisher
        .post("/v1/customers", json!({"external_id": "x"}))
        .await
        .expect_problem(403, "insufficient-scope");
    publisher.post(PREVIEW, body).await.expect(200);
    let issued = client.post("/v1/api-keys", json!({"name": "ci", "scopes": ["catalog"]})).await.expect(201);
    client
        .with_key(issued["secret"].as_str().unwrap())
        .post(PREVIEW, json!({}))
        .await
        .expect_problem(422, "invalid-field");
}

/// A world whose tenant lets dearer rates wait for the next cycle.
async fn patient_world() -> World {
    let policies = Policies { dearer_rates: DearerRates::NextCycle, ..Policies::default() };
    World::on(testkit::Stores::fresh().await, policies).await
}

async fn publish_omni(client: &Client, rate_milli: u32, effective_at: &str) {
    let body = json!({"effective_at": effective_at, "catalog": omni_at(client, rate_milli).await});
    client.post(VERSIONS, body).await.expect(201);
}

/// What a request holds and what it is then charged, and by which version: 1,000 tokens in and 500 out of omni.
async fn call(client: &Client, id: &str, customer: &str) -> (i64, i64, i64) {
    let held = client.authorize(id, customer, "mimo-v2-omni", 1_000, 500).await.expect(201);
    let mut usage = event(id, customer, "mimo-v2-omni", json!({"input": 1_000, "output": 500}));
    usage["authorization"] = json!(id);
    let charged = client.post("/v1/usage/events", usage).await.expect(200);
    let of = |value: &Value| value.as_i64().unwrap();
    let receipt = &charged["receipt"];
    (of(&held["credits_held"]), of(&receipt["credits"]), of(&receipt["catalog_version"]))
}

fn verify(world: &World) -> (bool, String) {
    let output = world.command("verify").arg("--no-park").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dearer_rate_waits_for_the_next_cycle_where_the_tenant_says_so_and_a_cheaper_one_does_not() {
    let world = patient_world().await;
    let server = world.serve().await;
    let client = &server.client;
    // Given Ada's cycle from 31 January at 1x, and omni at 3x from 10 February on,
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "standard").await;
    publish_omni(client, 3_000, "2026-02-10T00:00:00Z").await;
    client.advance_to("2026-02-12T00:00:00Z").await;
    let (bob, carol) = (client.customer("bob").await, client.customer("carol").await);
    client.subscribe(&bob, "lite").await;
    // then her 1,500 tokens still cost 1x, of what is held as of what is charged; Bob's, who bought at 3x, cost 3x,
    assert_eq!(call(client, "ada-1", &ada).await, (1_500, 1_500, 1));
    assert_eq!(call(client, "bob-1", &bob).await, (4_500, 4_500, 2));
    // and Carol's, who has paid for nothing, 3x. What happened before is at 1x for everybody.
    let events = json!([
        used("carol-1", &carol, "mimo-v2-omni", 1_000, "2026-02-12T00:00:00Z"),
        used("carol-0", &carol, "mimo-v2-omni", 1_000, "2026-02-09T23:59:59Z"),
        used("ada-2", &ada, "mimo-v2-omni", 1_000, "2026-02-12T00:00:00Z"),
    ]);
    client.post("/v1/usage/events", events).await.expect(200);
    for (id, credits, version) in [("carol-1", 3_000, 2), ("carol-0", 1_000, 1), ("ada-2", 1_000, 1)] {
        let receipt = receipt(client, id).await;
        let seen = (&receipt["credits"], &receipt["catalog_version"]);
        assert_eq!(seen, (&json!(credits), &json!(version)), "{id}");
    }
    // An upgrade adds to the cycle, and does not begin another.
    let subscriptions = client.get(&format!("/v1/subscriptions?customer={ada}")).await.expect(200);
    let upgrade = format!("/v1/subscriptions/{}/upgrade", subscriptions["data"][0]["id"].as_str().unwrap());
    client.post(&upgrade, json!({"plan": "pro"})).await.expect(200);
    assert_eq!(call(client, "ada-3", &ada).await, (1_500, 1_500, 1));
    // Usage that an account's parking kept is charged by the same rule.
    let (ledger, scope, id) = (world.ledger(), world.scope().await, ada.parse().unwrap());
    ledger.park(&scope, id, "to be looked at").await.unwrap();
    let kept = used("ada-4", &ada, "mimo-v2-omni", 1_000, "2026-02-12T00:00:00Z");
    client.post("/v1/usage/events", kept).await.expect(202);
    ledger.unpark(&scope, id).await.unwrap();
    assert_eq!(world.usage().charge_kept(&scope, id).await.unwrap().credits.get(), 1_000);

    // When omni is at 2x from 20 February on, it is cheaper for Bob at once, and dearer than before for Ada.
    publish_omni(client, 2_000, "2026-02-20T00:00:00Z").await;
    client.advance_to("2026-02-21T00:00:00Z").await;
    assert_eq!(call(client, "ada-5", &ada).await, (1_500, 1_500, 1));
    assert_eq!(call(client, "bob-2", &bob).await, (3_000, 3_000, 3));
    // In her next cycle, from 28 February on, Ada pays what everybody pays.
    client.advance_to("2026-03-01T00:00:00Z").await;
    assert_eq!(call(client, "ada-6", &ada).await, (3_000, 3_000, 3));
    // A late event of the cycle before is at the rates of that.
    let late = used("ada-7", &ada, "mimo-v2-omni", 1_000, "2026-02-28T09:59:59Z");
    client.post("/v1/usage/events", late).await.expect(200);
    assert_eq!(receipt(client, "ada-7").await["catalog_version"], 1);

    // The checks of what is stored know the rule: all is well, also once the tenant says otherwise, and what Bob
    // did not pay is found.
    let (is_clean, said) = verify(&world);
    assert!(is_clean, "{said}");
    let changed = "update tenants set policies = policies - 'dearer_rates'";
    let mut superuser = world.stores.superuser().await;
    diesel_async::SimpleAsyncConnection::batch_execute(&mut superuser, changed).await.unwrap();
    let (is_clean, said) = verify(&world);
    assert!(is_clean, "{said}");
    let forged = "update usage_events set credits = 1500, catalog_version = 1,
        rates = '[[\"input\", 1000], [\"output\", 1000]]' where event_id = 'bob-1'";
    diesel_async::SimpleAsyncConnection::batch_execute(&mut superuser, forged).await.unwrap();
    let (is_clean, said) = verify(&world);
    assert!(!is_clean && said.contains("I-14") && said.contains("bob-1") && !said.contains("ada-"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_leaves_a_paid_cycle_its_cheaper_rates_where_the_tenant_says_so() {
    // Ada's cycle is from 31 January, 10:00, on; Carol has paid for nothing. Each used 1,000 of omni at 1x.
    for (world, kept) in [(patient_world().await, 1_000), (World::new().await, 3_000)] {
        let server = world.serve().await;
        let client = &server.client;
        let (ada, carol) = (client.customer("ada").await, client.customer("carol").await);
        client.subscribe(&ada, "lite").await;
        client.advance_to("2026-02-12T10:00:00Z").await;
        let events = json!([
            used("a", &ada, "mimo-v2-omni", 1_000, "2026-02-12T00:00:00Z"),
            used("c", &carol, "mimo-v2-omni", 1_000, "2026-02-12T00:00:00Z"),
        ]);
        client.post("/v1/usage/events", events).await.expect(200);
        let previewed = async |rate_milli: u32, from: &str| {
            let catalog = omni_at(client, rate_milli).await;
            let total = client.post(PREVIEW, json!({"catalog": catalog, "from": from})).await.expect(200);
            json!([total["total"]["credits_charged"], total["total"]["credits_previewed"]])
        };
        // At 3x from 11 February on, within her cycle; as if it had been there when her cycle began; and cheaper.
        assert_eq!(previewed(3_000, "2026-02-11T00:00:00Z").await, json!([2_000, kept + 3_000]));
        assert_eq!(previewed(3_000, "2026-01-31T09:00:00Z").await, json!([2_000, 6_000]));
        assert_eq!(previewed(500, "2026-02-11T00:00:00Z").await, json!([2_000, 1_000]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dearer_rate_starts_at_once_where_the_tenant_says_nothing() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let ada = client.customer("ada").await;
    client.subscribe(&ada, "lite").await;
    publish_omni(client, 3_000, "2026-02-10T00:00:00Z").await;
    client.advance_to("2026-02-12T00:00:00Z").await;
    assert_eq!(call(client, "ada-1", &ada).await, (4_500, 4_500, 2));
    assert!(verify(&world).0);
}
