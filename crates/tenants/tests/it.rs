//! Who asks, on a real database: keys, clocks, customers and their tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use db::Error;
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::calendar::Zone;
use domain::id::{CustomerId, TenantId};
use domain::policy::Policies;
use domain::scope::TenantMode;
use domain::{Refusal, TenantScope, Timestamp};
use sha2::{Digest, Sha256};
use tenants::{Access, Customer, NewCustomer, NewTenant, Principal, Scope, Tenants, TokenKey};
use testkit::Stores;
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

/// Two servers on the same stores, with the same token key.
struct Given {
    stores: Stores,
    tenants: Tenants,
    other_server: Tenants,
}

async fn given() -> Given {
    let stores = Stores::fresh().await;
    let pem = TokenKey::generate().unwrap();
    let server = || Tenants::new(stores.db(), TokenKey::from_pem(&pem).unwrap());
    Given { tenants: server(), other_server: server(), stores }
}

impl Given {
    async fn tenant(&self, mode: TenantMode) -> TenantId {
        let new = NewTenant { name: "Mi".to_owned(), mode, zone: Zone::UTC, policies: Policies::default() };
        self.tenants.create(new).await.unwrap()
    }

    /// The scope of a new test tenant.
    async fn scope(&self) -> TenantScope {
        let tenant = self.tenant(TenantMode::Test).await;
        self.tenants.scope(tenant).await.unwrap()
    }

    async fn customer(&self, scope: &TenantScope, external_id: &str) -> db::Result<Customer> {
        let new = NewCustomer { external_id: external_id.parse().unwrap(), name: None };
        self.tenants.create_customer(scope, new).await
    }

    async fn token(&self, scope: &TenantScope, customer: CustomerId) -> db::Result<String> {
        let minted = self.tenants.mint_customer_token(scope, customer, Duration::from_secs(60)).await?;
        Ok(minted.token)
    }

    async fn change_by_hand(&self, sql: &str) {
        self.stores.superuser().await.batch_execute(sql).await.unwrap();
    }

    #[track_caller]
    fn assert_unauthenticated(&self, bearer: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            for server in [&self.tenants, &self.other_server] {
                let refused = server.authenticate(bearer).await;
                let is_refused = matches!(refused, Err(Error::Refused(Refusal::Unauthenticated)));
                assert!(is_refused, "{bearer} at {caller}: {refused:?}");
            }
        }
    }
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(result: db::Result<T>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

/// A key of these parts with the checksum that belongs to it, which anybody can work out.
fn key_of(start: &str, prefix: &str, secret: &str) -> String {
    let body = format!("{start}_{prefix}_{secret}");
    let checksum: String = Sha256::digest(&body)[..3].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{body}_{checksum}")
}

/// `tg_live`, the public prefix and the secret.
fn parts_of(key: &str) -> [&str; 3] {
    let parts: Vec<&str> = key.split('_').collect();
    [&key[..7], parts[2], parts[3]]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_as_it_was_created() {
    let given = given().await;
    let policies = Policies { hold_minutes: 20, ..Policies::default() };
    let new = NewTenant {
        name: "Xiaomi".to_owned(),
        mode: TenantMode::Live,
        zone: "Asia/Shanghai".parse().unwrap(),
        policies: policies.clone(),
    };
    let before = Utc::now() - TimeDelta::milliseconds(1);
    let tenant = given.tenants.create(new.clone()).await.unwrap();
    let scope = given.other_server.scope(tenant).await.unwrap();
    assert_eq!((scope.tenant, scope.mode, scope.zone), (tenant, TenantMode::Live, new.zone));
    assert_eq!(*scope.policies, policies);
    assert!((before..=Utc::now()).contains(&scope.now), "real time: {}", scope.now);
    assert_eq!(scope.now, domain::time::truncate_to_micros(scope.now), "in microseconds");

    let test = given.tenant(TenantMode::Test).await;
    let listed = given.tenants.list().await.unwrap();
    let names: Vec<_> = listed.iter().map(|tenant| (tenant.id, tenant.name.as_str())).collect();
    assert_eq!(names, [(tenant, "Xiaomi"), (test, "Mi")]);

    let nobody = TenantId::from_uuid(Uuid::now_v7());
    let not_found = Refusal::NotFound { what: "tenant" };
    assert_eq!(refusal(given.tenants.scope(nobody).await), not_found);
    let issued = given.tenants.issue_key(nobody, "k", &[Scope::Read]).await;
    assert_eq!(refusal(issued.map(|key| key.id)), not_found);
    let no_name = NewTenant { name: String::new(), ..new.clone() };
    assert_eq!(refusal(given.tenants.create(no_name).await).code(), "invalid-field");
    let no_policy = NewTenant { policies: Policies { hold_minutes: 0, ..policies }, ..new };
    assert_eq!(refusal(given.tenants.create(no_policy).await).code(), "invalid-field");
    assert_eq!(given.tenants.list().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_speaks_for_its_tenant_within_its_scopes_and_its_secret_is_not_stored() {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        text: String,
    }
    let given = given().await;
    for (mode, start) in [(TenantMode::Live, "tg_live"), (TenantMode::Test, "tg_test")] {
        let tenant = given.tenant(mode).await;
        let scopes = [Scope::Usage, Scope::Read, Scope::Usage];
        let key = given.tenants.issue_key(tenant, "gateway", &scopes).await.unwrap();
        for server in [&given.tenants, &given.tenants, &given.other_server] {
            let Principal { scope, access, .. } = server.authenticate(&key.secret).await.unwrap();
            assert_eq!((scope.tenant, scope.mode), (tenant, mode));
            assert_eq!(access, Access::Key(Arc::new([Scope::Read, Scope::Usage])));
        }
        let [shown_start, prefix, secret] = parts_of(&key.secret);
        assert_eq!(shown_start, start);
        let listed = given.tenants.keys(tenant).await.unwrap();
        let [info] = &listed[..] else { panic!("{listed:?}") };
        assert_eq!((info.id, info.prefix.as_str(), info.name.as_str()), (key.id, prefix, "gateway"));
        assert_eq!((info.scopes.clone(), info.revoked_at), (vec![Scope::Read, Scope::Usage], None));

        let stored: Vec<Row> = diesel::sql_query("select api_keys::text as text from api_keys")
            .load(&mut given.stores.superuser().await)
            .await
            .unwrap();
        assert!(stored.iter().any(|row| row.text.contains(prefix)));
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!stored.iter().any(|row| row.text.contains(secret) || row.text.contains(&hex)));
    }
    let tenant = given.tenant(TenantMode::Live).await;
    let scopeless = given.tenants.issue_key(tenant, "none", &[]).await;
    assert_eq!(refusal(scopeless.map(|key| key.id)), Refusal::invalid_field("/scopes", "empty"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_cut_or_foreign_key_is_no_key() {
    let given = given().await;
    let tenant = given.tenant(TenantMode::Test).await;
    let key = given.tenants.issue_key(tenant, "one", &[Scope::Admin]).await.unwrap().secret;
    let other = given.tenants.issue_key(tenant, "two", &[Scope::Admin]).await.unwrap().secret;
    let ([start, prefix, secret], [_, other_prefix, other_secret]) = (parts_of(&key), parts_of(&other));
    assert_eq!(key_of(start, prefix, secret), key);
    for good in [&key, &other] {
        given.tenants.authenticate(good).await.unwrap();
    }
    for bad in [
        "",
        "tg_",
        "not a key",
        &key[..key.len() - 1],
        &key[..24],
        &format!("{key} "),
        &key_of(start, prefix, other_secret),
        &key_of(start, other_prefix, secret),
        &key_of(start, &"0".repeat(16), secret),
        &key_of("tg_live", prefix, secret),
    ] {
        given.assert_unauthenticated(bad).await;
    }
    // A key of the other mode than its tenant's, however it came about.
    given.change_by_hand("update tenants set mode = 'live'").await;
    given.assert_unauthenticated(&key).await;
}

///
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_over_here_at_once_and_elsewhere_within_two_seconds() {
    let given = given().await;
    let tenant = given.tenant(TenantMode::Live).await;
    let key = given.tenants.issue_key(tenant, "old", &[Scope::Read]).await.unwrap();
    let kept = given.tenants.issue_key(tenant, "new", &[Scope::Read]).await.unwrap();
    for server in [&given.tenants, &given.other_server] {
        server.authenticate(&key.secret).await.unwrap();
    }
    let stranger = given.tenant(TenantMode::Live).await;
    let no_key = Refusal::NotFound { what: "API key" };
    assert_eq!(refusal(given.tenants.revoke_key(stranger, key.id).await), no_key);
    given.tenants.authenticate(&key.secret).await.unwrap();

    given.tenants.revoke_key(tenant, key.id).await.unwrap();
    assert_eq!(refusal(given.tenants.authenticate(&key.secret).await), Refusal::Unauthenticated);
    let revoked_at = given.tenants.keys(tenant).await.unwrap()[0].revoked_at;
    assert!(revoked_at.is_some());
    let asked_at = Instant::now();
    while given.other_server.authenticate(&key.secret).await.is_ok() {
        assert!(asked_at.elapsed() < Duration::from_millis(2_500), "still good elsewhere");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    given.assert_unauthenticated(&key.secret).await;
    given.tenants.revoke_key(tenant, key.id).await.unwrap();
    let keys = given.tenants.keys(tenant).await.unwrap();
    assert_eq!(keys[0].revoked_at, revoked_at, "the first revocation's time stays");
    given.other_server.authenticate(&kept.secret).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_clock_stands_where_it_was_set_and_moves_forward_only() {
    let given = given().await;
    let scope = given.scope().await;
    let key = given.tenants.issue_key(scope.tenant, "k", &[Scope::Admin]).await.unwrap().secret;
    given.other_server.authenticate(&key).await.unwrap();

    // The first time any instant is taken, long past too.
    for second in [-500_000_000, 0, 0, 5] {
        let set = given.tenants.set_clock(&scope, at(second)).await.unwrap();
        assert_eq!((set.tenant, set.now), (scope.tenant, at(second)));
        let by_key = given.other_server.authenticate(&key).await.unwrap().scope.now;
        let by_job = given.other_server.scope(scope.tenant).await.unwrap().now;
        assert_eq!((by_key, by_job), (at(second), at(second)), "every server at once");
    }
    let back = given.tenants.set_clock(&scope, at(5) - TimeDelta::microseconds(1)).await;
    assert_eq!(refusal(back), Refusal::ClockMovesBack);
    let cut = given.tenants.set_clock(&scope, at(6) + TimeDelta::nanoseconds(1_999)).await.unwrap();
    assert_eq!(cut.now, at(6) + TimeDelta::microseconds(1));
    assert_eq!(given.tenants.scope(scope.tenant).await.unwrap().now, cut.now);

    let live = given.tenant(TenantMode::Live).await;
    let live = given.tenants.scope(live).await.unwrap();
    assert_eq!(refusal(given.tenants.set_clock(&live, at(9)).await), Refusal::NotATestTenant);
    let neighbour = given.scope().await;
    assert!(neighbour.now < at(0), "another tenant's clock does not move: {}", neighbour.now);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_move_a_clock_on_from_one_instant_one_does() {
    let given = given().await;
    let from = given.tenants.set_clock(&given.scope().await, at(5)).await.unwrap();
    let moved = given.tenants.move_clock_on(&from, at(6)).await.unwrap();
    assert_eq!(moved.map(|scope| scope.now), Some(at(6)));
    // What the other one read at the fifth second may have been done since: it does not pass over the sixth.
    let other = given.tenants.move_clock_on(&from, at(7)).await.unwrap();
    assert_eq!(other.map(|scope| scope.now), None);
    assert_eq!(given.tenants.scope(from.tenant).await.unwrap().now, at(6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_born_with_an_empty_credit_account() {
    #[derive(Debug, PartialEq, QueryableByName)]
    struct Account {
        #[diesel(sql_type = BigInt)]
        version: i64,
        #[diesel(sql_type = BigInt)]
        available: i64,
    }
    let given = given().await;
    let scope = given.scope().await;
    let scope = given.tenants.set_clock(&scope, at(7)).await.unwrap();
    let new = NewCustomer { external_id: "acme:1".parse().unwrap(), name: Some("Acme".to_owned()) };
    let customer = given.tenants.create_customer(&scope, new.clone()).await.unwrap();
    assert_eq!((&customer.external_id, &customer.name), (&new.external_id, &new.name));
    assert_eq!(customer.created_at, at(7), "by the tenant's clock");
    assert_eq!(given.other_server.customer(&scope, customer.id).await.unwrap(), customer);
    let accounts: Vec<Account> =
        diesel::sql_query("select version, available from credit_accounts where customer_id = $1")
            .bind::<SqlUuid, _>(customer.id.uuid())
            .load(&mut given.stores.superuser().await)
            .await
            .unwrap();
    assert_eq!(accounts, [Account { version: 0, available: 0 }]);

    let bad_name = NewCustomer { external_id: "acme:2".parse().unwrap(), name: Some("\n".to_owned()) };
    assert_eq!(refusal(given.tenants.create_customer(&scope, bad_name).await).code(), "invalid-field");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_id_names_one_customer_of_a_tenant_and_pages_do_not_mix_tenants() {
    let given = given().await;
    let (ours, theirs) = (given.scope().await, given.scope().await);
    let at_once = tokio::join!(given.customer(&ours, "0"), given.customer(&ours, "0"));
    let (created, refused) = match at_once {
        (Ok(created), refused) | (refused, Ok(created)) => (created, refused),
        neither => panic!("{neither:?}"),
    };
    assert_eq!(refusal(refused), Refusal::CustomerExists);
    let mut expected = vec![created];
    for n in 1..5 {
        given.customer(&theirs, &n.to_string()).await.unwrap();
        expected.push(given.customer(&ours, &n.to_string()).await.unwrap());
    }
    assert_eq!(refusal(given.customer(&ours, "4").await), Refusal::CustomerExists);

    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = given.tenants.customers(&ours, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        pages.push(page);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(pages.concat(), expected, "the oldest first, each once");
    assert_eq!(given.tenants.customers(&theirs, None, 100).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenants_customer_is_one_that_does_not_exist() {
    let given = given().await;
    let (ours, theirs) = (given.scope().await, given.scope().await);
    let customer = given.customer(&theirs, "c").await.unwrap();
    let nobody = CustomerId::from_uuid(Uuid::now_v7());
    for id in [customer.id, nobody] {
        let not_found = Refusal::NotFound { what: "customer" };
        assert_eq!(refusal(given.tenants.customer(&ours, id).await), not_found);
        assert_eq!(refusal(given.token(&ours, id).await), not_found, "nor is a token minted");
    }
    assert_eq!(given.tenants.customer(&theirs, customer.id).await.unwrap(), customer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_speaks_for_its_customer_until_the_customer_is_gone() {
    let given = given().await;
    let scope = given.scope().await;
    let (customer, gone) =
        (given.customer(&scope, "c").await.unwrap().id, given.customer(&scope, "gone").await.unwrap().id);
    let token = given.token(&scope, customer).await.unwrap();
    let token_of_gone = given.token(&scope, gone).await.unwrap();
    // Its minute is one of real time, wherever the test clock stands.
    given.tenants.set_clock(&scope, at(500_000_000)).await.unwrap();
    for (token, customer) in [(&token, customer), (&token_of_gone, gone)] {
        let Principal { scope: seen, access, .. } = given.other_server.authenticate(token).await.unwrap();
        assert_eq!((seen.tenant, seen.now), (scope.tenant, at(500_000_000)));
        assert_eq!(access, Access::Customer(customer));
    }

    let gone = gone.uuid();
    given
        .change_by_hand(&format!(
            "delete from credit_accounts where customer_id = '{gone}';
             delete from customers where customer_id = '{gone}'"
        ))
        .await;
    given.assert_unauthenticated(&token_of_gone).await;
    // The same customer id in another tenant is another customer.
    let theirs = given.scope().await.tenant.uuid();
    given
        .change_by_hand(&format!("insert into customers values ('{theirs}', '{gone}', 'gone', null, now())"))
        .await;
    given.assert_unauthenticated(&token_of_gone).await;

    let stranger =
        Tenants::new(given.stores.db(), TokenKey::from_pem(&TokenKey::generate().unwrap()).unwrap());
    assert_eq!(refusal(stranger.authenticate(&token).await), Refusal::Unauthenticated, "another token key");
    given.assert_unauthenticated(&token[..token.len() - 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lives_a_minute_to_a_day() {
    let given = given().await;
    let scope = given.scope().await;
    let customer = given.customer(&scope, "c").await.unwrap().id;
    for seconds in [0, 59, 86_401] {
        let minted = given.tenants.mint_customer_token(&scope, customer, Duration::from_secs(seconds)).await;
        let out_of_range = Refusal::invalid_field("/ttl_seconds", "out-of-range");
        assert_eq!(refusal(minted.map(|token| token.expires_at)), out_of_range);
    }
    for seconds in [60, 86_400] {
        let life = Duration::from_secs(seconds);
        let minted = given.tenants.mint_customer_token(&scope, customer, life).await.unwrap();
        let left = minted.expires_at - Utc::now();
        let life = TimeDelta::from_std(life).unwrap();
        assert!(left <= life && left > life - TimeDelta::seconds(5), "{left}");
        given.tenants.authenticate(&minted.token).await.unwrap();
    }
}
