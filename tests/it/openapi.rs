//! The OpenAPI document is the API's, and it is not stale.

use serde_json::Value;

use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_document_in_the_repository_is_the_one_that_is_served() {
    let file = testkit::checkout().join("openapi/tollgate.json");
    let stored = std::fs::read_to_string(&file).unwrap();
    let world = World::new().await;
    let printed = world.command("openapi").output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(stored == printed, "stale: run `cargo run -- openapi --out openapi/tollgate.json`");
    let server = world.serve().await;
    let served =
        server.client.send(server.client.anonymous(reqwest::Method::GET, "/openapi.json")).await.expect(200);
    assert_eq!(served, serde_json::from_str::<Value>(&stored).unwrap());
    let page = server.client.send(server.client.anonymous(reqwest::Method::GET, "/docs/")).await;
    assert_eq!(page.status, 200);
    let html = page.body.as_str().unwrap();
    assert!(
        html.contains("swagger-ui") && !html.contains("https://"),
        "a page that needs no other host: {html}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_route_wants_credentials_but_the_open_ones() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let document = client.send(client.anonymous(reqwest::Method::GET, "/openapi.json")).await.expect(200);
    let mut checked = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        if !path.starts_with("/v1/") || path.starts_with("/v1/webhooks/") {
            continue;
        }
        let concrete = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
        let concrete = concrete.collect::<Vec<_>>().join("/");
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let method: reqwest::Method = method.to_uppercase().parse().unwrap();
            let answer = client.send(client.anonymous(method.clone(), &concrete)).await;
            assert_eq!(answer.status, 401, "{method} {path}");
            checked += 1;
        }
    }
    assert!(checked >= 25, "{checked} operations");
}
