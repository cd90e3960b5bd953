//! No tenant, key or customer sees or changes what is another's.

use reqwest::Method;
use serde_json::{Value, json};
use tenants::Scope;

use crate::support::{World, event};

/// Everything of a problem but the request's own id.
fn but_instance(mut problem: Value) -> Value {
    problem.as_object_mut().unwrap().remove("instance");
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_ids_answer_exactly_as_ids_that_do_not_exist() {
    let world = World::new().await;
    let server = world.serve().await;
    let ours = &server.client;
    let theirs = ours.with_key(&world.other_tenant().await);
    let customer = theirs.customer("ada").await;
    let bought = theirs.subscribe(&customer, "lite").await;
    let subscription = bought["subscription"]["id"].as_str().unwrap();
    let invoice = bought["invoice"]["id"].as_str().unwrap();
    let rollover = theirs.post("/v1/rollovers", json!({})).await.expect(202);
    let rollover = rollover["id"].as_str().unwrap();
    let unknown = |id: &str| format!("{}_{}", id.split('_').next().unwrap(), "0".repeat(32));

    for (path, id) in [
        ("/v1/customers/{}", customer.as_str()),
        ("/v1/customers/{}/balance", &customer),
        ("/v1/customers/{}/grants", &customer),
        ("/v1/customers/{}/ledger", &customer),
        ("/v1/subscriptions/{}", subscription),
        ("/v1/subscriptions/{}/statement", subscription),
        ("/v1/invoices/{}", invoice),
        ("/v1/rollovers/{}", rollover),
    ] {
        let foreign = ours.get(&path.replace("{}", id)).await;
        foreign.expect_problem(404, "not-found");
        let absent = ours.get(&path.replace("{}", &unknown(id))).await;
        assert_eq!(but_instance(foreign.body), but_instance(absent.body), "{path}");
    }
    for (path, id, body) in [
        ("/v1/subscriptions/{}/upgrade", subscription, json!({"plan": "max"})),
        ("/v1/subscriptions/{}/cancel", subscription, json!({"at_once": true})),
        ("/v1/invoices/{}/pay", invoice, json!({})),
        ("/v1/customers/{}/tokens", &customer, json!({})),
    ] {
        let foreign = ours.post(&path.replace("{}", id), body.clone()).await;
        foreign.expect_problem(404, "not-found");
        let absent = ours.post(&path.replace("{}", &unknown(id)), body).await;
        assert_eq!(but_instance(foreign.body), but_instance(absent.body), "{path}");
    }
    let authorize = ours.authorize("a", &customer, "mimo-v2-pro", 10, 10).await;
    authorize.expect_problem(404, "not-found");
    let used =
        ours.post("/v1/usage/events", event("1", &customer, "mimo-v2-pro", json!({"input": 10}))).await;
    assert_eq!(used.status, 422, "{}", used.body);
    assert_eq!(theirs.available(&customer).await, 60_000_000, "nothing of theirs has changed");
    let view = theirs.get(&format!("/v1/subscriptions/{subscription}")).await.expect(200);
    assert_eq!((&view["status"], &view["plan"]), (&json!("active"), &json!("lite")));

    // The same external id, event id and Idempotency-Key mean nothing across tenants.
    let own = ours.customer("ada").await;
    assert_ne!(own, customer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_its_scopes_say_and_nothing_else() {
    let world = World::new().await;
    let server = world.serve().await;
    let admin = &server.client;
    let customer = admin.customer("ada").await;
    admin.subscribe(&customer, "lite").await;
    let balance = format!("/v1/customers/{customer}/balance");
    let charge = event("1", &customer, "mimo-v2-pro", json!({"input": 10}));

    let reader = admin.with_key(&world.key(&[Scope::Read]).await);
    reader.get(&balance).await.expect(200);
    reader.post("/v1/usage/events", charge.clone()).await.expect_problem(403, "insufficient-scope");
    reader.post("/v1/customers", json!({"external_id": "x"})).await.expect_problem(403, "insufficient-scope");

    let gateway = admin.with_key(&world.key(&[Scope::Usage]).await);
    gateway.get(&balance).await.expect_problem(403, "insufficient-scope");
    gateway.post("/v1/usage/events", charge).await.expect(200);
    gateway.post("/v1/rollovers", json!({})).await.expect_problem(403, "insufficient-scope");
    gateway
        .put("/v1/test-clock", json!({"now": "2026-02-01T00:00:00Z"}))
        .await
        .expect_problem(403, "insufficient-scope");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_token_reads_its_own_affairs_and_no_others() {
    let world = World::new().await;
    let server = world.serve().await;
    let admin = &server.client;
    let (ada, grace) = (admin.customer("ada").await, admin.customer("grace").await);
    let minted = admin.post(&format!("/v1/customers/{ada}/tokens"), json!({})).await.expect(201);
    let token = admin.with_key(minted["token"].as_str().unwrap());
    token.get(&format!("/v1/customers/{ada}/balance")).await.expect(200);
    token.get("/v1/plans").await.expect(200);
    let others = token.get(&format!("/v1/customers/{grace}/balance")).await;
    others.expect_problem(404, "not-found");
    let absent = token.get(&format!("/v1/customers/cus_{}/balance", "0".repeat(32))).await;
    assert_eq!(but_instance(others.body), but_instance(absent.body));
    token.authorize("a", &ada, "mimo-v2-pro", 1, 1).await.expect_problem(403, "insufficient-scope");
    token.get("/v1/customers").await.expect_problem(403, "insufficient-scope");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_valid_credentials_every_answer_is_the_same_401() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let get = |bearer: Option<&str>| {
        let request = client.anonymous(Method::GET, "/v1/plans");
        match bearer {
            Some(bearer) => request.header("Authorization", bearer),
            None => request,
        }
    };
    let cut = format!("Bearer {}", &world.key[..world.key.len() - 1]);
    let basic = format!("Basic {}", world.key);
    let mut bodies = Vec::new();
    for bearer in
        [None, Some("Bearer "), Some("Bearer x"), Some(cut.as_str()), Some(&basic), Some("Bearer a.b.c")]
    {
        let answer = client.send(get(bearer)).await;
        answer.expect_problem(401, "unauthenticated");
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        bodies.push(but_instance(answer.body));
    }
    assert!(bodies.iter().all(|body| body == &bodies[0]));
    let in_query = client.anonymous(Method::GET, &format!("/v1/plans?api_key={}", world.key));
    client.send(in_query).await.expect_problem(401, "unauthenticated");

    let key = world.key(&[Scope::Read]).await;
    let keys = world.tenants.keys(world.tenant).await.unwrap();
    let reader = client.with_key(&key);
    reader.get("/v1/plans").await.expect(200);
    let issued = keys.iter().find(|info| key.contains(&info.prefix)).unwrap();
    world.tenants.revoke_key(world.tenant, issued.id).await.unwrap();
    reader.get("/v1/plans").await.expect_problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_does_what_it_says_and_is_revoked() {
    let world = World::new().await;
    let server = world.serve().await;
    let admin = &server.client;
    let new = json!({"name": "gateway", "scopes": ["usage"]});
    let issued = admin.post("/v1/api-keys", new).await.expect(201);
    let gateway = admin.with_key(issued["secret"].as_str().unwrap());
    gateway.get("/v1/plans").await.expect_problem(403, "insufficient-scope");
    gateway.get("/v1/api-keys").await.expect_problem(403, "insufficient-scope");
    let listed = admin.get("/v1/api-keys").await.expect(200);
    assert!(!listed.to_string().contains(issued["secret"].as_str().unwrap()));
    let row = listed["data"].as_array().unwrap().iter().find(|key| key["id"] == issued["id"]).unwrap();
    assert_eq!((&row["name"], &row["scopes"]), (&json!("gateway"), &json!(["usage"])));
    let path = format!("/v1/api-keys/{}", issued["id"].as_str().unwrap());
    let stranger = admin.with_key(&world.other_tenant().await);
    stranger.delete(&path).await.expect_problem(404, "not-found");
    admin.delete(&path).await.expect(204);
    gateway.get("/v1/plans").await.expect_problem(401, "unauthenticated");
    for bad in
        [json!({"name": "x", "scopes": []}), json!({"name": "x", "scopes": ["root"]}), json!({"name": ""})]
    {
        admin.post("/v1/api-keys", bad).await.expect_problem(422, "invalid-field");
    }
}
