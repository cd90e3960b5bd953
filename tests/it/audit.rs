//! Damage from outside: named, parked, repaired; and what is counted of it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use serde_json::json;

use crate::campaigns::until_done;
use crate::support::{Client, Process, World, event};

/// What a command printed, and whether it was content.
fn run(command: &mut Command) -> (bool, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_all_books_are_verified_other_jobs_are_done() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let _worker = world.work();
    client.customer("ada").await;
    let give = |tag| json!({"tag": tag, "credits": 7, "reason": "an outage", "filter": {}});
    let before = client.post("/v1/campaigns", give("before")).await.expect(202);
    until_done(client, &before).await;

    // As at the full hour of a site with eight tenants, none of whose books can be read to the end.
    let mut elsewhere = world.stores.superuser().await;
    elsewhere.batch_execute("begin; lock table usage_hours in access exclusive mode").await.unwrap();
    let due = format!(
        "insert into jobs (job_id, kind, key, payload, run_at, created_at)
         select gen_random_uuid(), 'verify_tenant', n, jsonb_build_object('tenant', '{}'), now(), now()
         from generate_series(1, 8) n",
        world.tenant
    );
    world.stores.superuser().await.batch_execute(&due).await.unwrap();
    until_it_is_asked_for(&world, "usage_hours").await;
    let meanwhile = client.post("/v1/campaigns", give("meanwhile")).await.expect(202);
    assert_eq!(until_done(client, &meanwhile).await["granted"], 1);
    elsewhere.batch_execute("rollback").await.unwrap();
}

/// Until somebody waits for a table that is locked.
async fn until_it_is_asked_for(world: &World, table: &str) {
    #[derive(diesel::QueryableByName)]
    struct Waiting {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    let waiting = format!(
        "select count(*) from pg_locks where relation = '{table}'::regclass and not granted \
             and database = (select oid from pg_database where datname = current_database())"
    );
    let mut superuser = world.stores.superuser().await;
    for _ in 0..600 {
        let waiting: Waiting = diesel::sql_query(&waiting).get_result(&mut superuser).await.unwrap();
        if waiting.count > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody asked for {table} in 30 seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_account_is_named_and_parked_and_spends_again_after_its_repair() {
    let world = World::new().await;
    let server = world.serve().await;
    let client = &server.client;
    let (ada, grace) = (client.customer("ada").await, client.customer("grace").await);
    for customer in [&ada, &grace] {
        client.subscribe(customer, "lite").await;
        let used = event(&format!("{customer}-1"), customer, "mimo-v2-pro", json!({"input": 1_000}));
        client.post("/v1/usage/events", used).await.expect(200);
    }
    let tenant = world.tenant.to_string();
    let of_ada = ["--tenant", &tenant, "--customer", &ada];
    let (is_clean, said) = run(&mut world.command("verify"));
    assert!(is_clean && said.contains("1 tenants verified, and nothing is wrong."), "{said}");
    assert!(run(&mut world.command("rebuild")).0, "every balance is the sum of its transfers");

    // Somebody gives ada 1,000 Credits back by hand.
    let ada_uuid = ada.trim_start_matches("cus_");
    let edit =
        "update credit_accounts set spent = spent - 1000, available = available + 1000 where customer_id";
    world.stores.superuser().await.batch_execute(&format!("{edit} = '{ada_uuid}'")).await.unwrap();
    let (is_clean, said) = run(world.command("verify").arg("--no-park"));
    assert!(
        !is_clean && said.contains("I-3") && said.contains("book available") && said.contains(&ada),
        "{said}"
    );
    client.authorize("before", &ada, "mimo-v2-pro", 10, 10).await.expect(201);
    let (is_clean, said) = run(world.command("verify").args(["--tenant", &tenant]));
    let unpark = format!("tollgate unpark --tenant {tenant} --customer {ada}");
    assert!(!is_clean && said.contains(&unpark) && !said.contains(&grace), "{said}");

    client.authorize("after", &ada, "mimo-v2-pro", 10, 10).await.expect_problem(409, "account-parked");
    client.authorize("other", &grace, "mimo-v2-pro", 10, 10).await.expect(201);
    let kept = event("kept", &ada, "mimo-v2-pro", json!({"input": 500}));
    client.post("/v1/usage/events", kept).await.expect(202);
    let (is_unparked, said) = run(world.command("unpark").args(of_ada));
    assert!(!is_unparked && said.contains("stays parked: 2 findings"), "{said}");

    let (is_same, said) = run(world.command("rebuild").arg("--check"));
    assert!(
        !is_same && said.contains("59999000") && said.contains("59998000"),
        "stored and recomputed: {said}"
    );
    let (is_written, said) = run(world.command("rebuild").args(["--tenant", &tenant]));
    assert!(is_written && said.contains("2 values differ, 1 accounts written"), "{said}");
    let (is_unparked, said) = run(world.command("unpark").args(of_ada));
    assert!(is_unparked && said.contains("may spend again. 1 events were charged, 1000 Credits."), "{said}");
    client.authorize("after", &ada, "mimo-v2-pro", 10, 10).await.expect(201);
    assert_eq!(client.balance(&ada).await["settled"], 60_000_000 - 3_000);
    assert!(run(&mut world.command("verify")).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_is_read_on_an_address_of_its_own() {
    let world = World::new().await;
    let mut serve = world.command("serve");
    serve.args(["--listen", "127.0.0.1:0"]).env("TOLLGATE_METRICS_LISTEN", "127.0.0.1:0");
    let mut server = Process(serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let first_with = |lines: &mut dyn Iterator<Item = std::io::Result<String>>, words: &str| {
        lines.map(Result::unwrap).find(|line| line.contains(words)).unwrap()
    };
    let mut said = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let mut printed = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let api = first_with(&mut printed, "listens on").rsplit(' ').next().unwrap().to_owned();
    let metrics = first_with(&mut said, "Metrics are on").rsplit(' ').next().unwrap().to_owned();

    let client = Client::new(&api, &world.key);
    let customer = client.customer("ada").await;
    client.balance(&customer).await;
    client.get("/metrics").await.expect_problem(404, "not-found");
    let answer = reqwest::get(metrics.as_str()).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"text/plain; charset=utf-8".parse().unwrap())
    );
    let text = answer.text().await.unwrap();
    let counted = |line: &str| assert!(text.lines().any(|counted| counted == line), "{line} in {text}");
    counted("# TYPE tollgate_requests_total counter");
    counted("# TYPE tollgate_oldest_unrecorded_hold_seconds gauge");
    counted(r#"tollgate_requests_total{method="POST",route="/v1/customers",status="201"} 1"#);
    counted(r#"tollgate_requests_total{method="GET",route="/v1/customers/{id}/balance",status="200"} 1"#);
    assert!(!text.contains(&customer), "no id is a label");
}
