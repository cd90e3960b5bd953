//! After damage: parked, rebuilt, verified once more, un-parked. And what is no damage.

use std::sync::Arc;

use audit::{Audit, ChargedKept, Finding, Unparked, What, jobs};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use domain::id::{CustomerId, TenantId};
use domain::rating::Unrated;
use hot_balances::{AccountKey, Epoch, HotBalances};
use serde_json::json;
use usage::EventResult;

use crate::lively::{PRO, Services, Template, event, live, tokens};

async fn verify(services: &Services, tenant: TenantId) -> Vec<Finding> {
    let scope = services.scope(tenant).await;
    services.audit.verify(&scope, What::default(), &|_| {}).await.unwrap()
}

fn texts(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(Finding::to_string).collect()
}

/// Takes 1 Credit from what a customer has spent, behind the ledger's back.
async fn edit_balance(superuser: &mut AsyncPgConnection, customer: CustomerId) {
    let edit = "update credit_accounts set spent = spent - 1, available = available + 1 where customer_id";
    superuser.batch_execute(&format!("{edit} = '{}'", customer.uuid())).await.unwrap();
}

async fn outbox(superuser: &mut AsyncPgConnection, kind: &str) -> i64 {
    #[derive(diesel::QueryableByName)]
    struct Count {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    diesel::sql_query(format!("select count(*) from outbox where kind = '{kind}'"))
        .get_result::<Count>(superuser)
        .await
        .unwrap()
        .count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_account_keeps_its_usage_until_its_balances_are_rebuilt_and_it_verifies() {
    let template = Template::build().await;
    let (services, mut superuser) = template.copy(1).await;
    let (tenant, grace) = (template.cast.tenant, template.cast.grace);
    let scope = services.scope(tenant).await;
    let audit = &services.audit;
    edit_balance(&mut superuser, grace).await;

    // The hourly job finds it and parks it, with an event in the same transaction.
    let [_, (_, verify_tenant)] = jobs::verifying(&Arc::new(audit.clone()));
    verify_tenant(json!({"tenant": tenant})).await.unwrap();
    assert_eq!((audit.parked_count().await.unwrap(), outbox(&mut superuser, "account.parked").await), (1, 1));
    verify_tenant(json!({"tenant": tenant})).await.unwrap();
    assert_eq!(outbox(&mut superuser, "account.parked").await, 1, "parked once");

    // 1,000 tokens at 2 Credits are kept, not charged.
    let kept = services.record(tenant, vec![event(grace, "kept", PRO, tokens(1_000, 0))]).await;
    assert!(
        matches!(&kept[0], EventResult::Unrated(receipt) if receipt.unrated_reason == Some(Unrated::AccountParked))
    );
    let Unparked::StillDamaged(damage) = audit.unpark(&scope, grace).await.unwrap() else {
        panic!("a damaged account was un-parked")
    };
    assert_eq!(
        damage.iter().map(|finding| finding.key.as_str()).collect::<Vec<_>>(),
        ["book available", "book spent"]
    );

    // A look first, which writes nothing; then the repair.
    let looked = audit.rebuild(&scope, true, &|_| {}).await.unwrap();
    assert_eq!((looked.differences.len(), looked.written.len()), (2, 0));
    let rebuilt = audit.rebuild(&scope, false, &|_| {}).await.unwrap();
    assert_eq!((rebuilt.differences, rebuilt.written.len()), (looked.differences, 1));
    let charged = audit.unpark(&scope, grace).await.unwrap();
    let credits = domain::Credits::new(2_000).unwrap();
    assert_eq!(charged, Unparked::Charged(ChargedKept { events: 1, credits }));
    assert_eq!(audit.unpark(&scope, grace).await.unwrap(), Unparked::NotParked);
    assert_eq!(texts(&verify(&services, tenant).await), Vec::<String>::new());
    assert_eq!(outbox(&mut superuser, "account.unparked").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rebuilt_of_transfers_that_are_not_whole() {
    let template = Template::build().await;
    let (services, mut superuser) = template.copy(2).await;
    let (tenant, grace) = (template.cast.tenant, template.cast.grace);
    let scope = services.scope(tenant).await;
    let sound = services.audit.rebuild(&scope, false, &|_| {}).await.unwrap();
    assert_eq!((sound.accounts, sound.differences), (12, vec![]), "everybody agrees");

    // The last transfer is gone: the head knows one more than there are.
    let remove = format!(
        "set session_replication_role = replica; delete from transfers where customer_id = '{0}'
         and version = (select max(version) from transfers where customer_id = '{0}')",
        grace.uuid()
    );
    superuser.batch_execute(&remove).await.unwrap();
    let refused = services.audit.rebuild(&scope, false, &|_| {}).await.unwrap();
    assert!(!refused.differences.is_empty());
    assert_eq!((refused.written.len(), refused.refused.len(), refused.refused[0].0), (0, 1, grace));
    assert_eq!(refused.refused[0].1.key, "version");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_that_is_not_postgresqls_is_dropped_by_the_sweep() {
    let stores = testkit::Stores::fresh().await;
    let services = Services::on(&stores.database_url, &stores.redis_url);
    let cast = live(&services).await;
    services.authorize(cast.tenant, cast.ada, "hot").await;
    let scope = services.scope(cast.tenant).await;
    let sweep = async || services.ledger.sweep(&scope).await.unwrap().unwrap();
    let first = sweep().await;
    assert_eq!((first.accounts, first.wrong, first.stale), (12, 0, 0));
    assert!(first.absent < 12, "at least ada's is there");

    // Raised by hand: the check of its MAC fails.
    let client = redis::Client::open(stores.redis_url.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let key = AccountKey { tenant: cast.tenant, customer: cast.ada };
    let pattern = format!("{}:balance:?", key.tag());
    let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
    let raise = "local p = redis.call('HGET', KEYS[1], 'projection')
        local forged = p:sub(1, 7) .. struct.pack('<i7', 999999999) .. p:sub(15)
        return redis.call('HSET', KEYS[1], 'projection', forged)";
    let _: i64 = redis::cmd("EVAL").arg(raise).arg(1).arg(&keys[0]).query_async(&mut redis).await.unwrap();
    assert_eq!(sweep().await.wrong, 1);
    assert_eq!(
        (sweep().await.wrong, services.ledger.balance(&scope, cast.ada).await.unwrap().version),
        (0, 33)
    );

    // Signed, and of a revision that PostgreSQL does not have.
    services.authorize(cast.tenant, cast.ada, "again").await;
    let hot = HotBalances::new(&stores.redis_url, stores.database_url.as_bytes()).unwrap();
    let epoch = Epoch(keys[0].rsplit(':').next().unwrap().parse().unwrap());
    let peeked = hot.peek(epoch, &[key]).await.unwrap().remove(0).unwrap();
    let mut later = peeked.projection.clone();
    later.revision += 1;
    let news = hot_balances::News { account: key, projection: &later, ended: &[] };
    hot.publish(epoch, &[news], scope.now).await.unwrap();
    assert_eq!(sweep().await.wrong, 1);
    assert_eq!(hot.peek(epoch, &[key]).await.unwrap(), [None], "the next use loads it anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_write_meanwhile_gives_no_false_alarm() {
    let stores = testkit::Stores::fresh().await;
    let services = Arc::new(Services::on(&stores.database_url, &stores.redis_url));
    let cast = live(&services).await;
    let writer = services.clone();
    let writing = tokio::spawn(async move {
        for round in 0..60 {
            let event = |who: CustomerId| event(who, &format!("{who}-{round}"), PRO, tokens(100, 0));
            writer.record(cast.tenant, vec![event(cast.ada), event(cast.grace), event(cast.bob)]).await;
        }
    });
    let mut runs = 0;
    while !writing.is_finished() || runs == 0 {
        assert_eq!(texts(&verify(&services, cast.tenant).await), Vec::<String>::new());
        runs += 1;
    }
    writing.await.unwrap();
    let scope = services.scope(cast.tenant).await;
    let audit: &Audit = &services.audit;
    assert_eq!(audit.rebuild(&scope, true, &|_| {}).await.unwrap().differences, []);
}

/// A request for an upgrade that has its id may wait for one that was made after it.
#[tokio::test(flavor = "multi_thread")]
async fn purchases_are_priced_again_in_the_order_of_their_invoices() {
    let stores = testkit::Stores::fresh().await;
    let services = Services::on(&stores.database_url, &stores.redis_url);
    let tenant = services.tenant_in_real_time("Real").await;
    let ada = services.customer(tenant, "ada").await;
    let subscription = services.subscribe(tenant, ada, "lite", "pm_sandbox_succeeds").await.unwrap();
    services.upgrade(tenant, subscription, "standard").await;
    services.upgrade(tenant, subscription, "pro").await;
    let later_id = "set session_replication_role = replica;
        update purchases set purchase_id = 'ffffffff-ffff-7fff-8fff-ffffffffffff' where plan_code = 'standard'";
    stores.superuser().await.batch_execute(later_id).await.unwrap();
    let priced = |finding: &Finding| finding.invariant.0 == 21;
    assert_eq!(verify(&services, tenant).await.into_iter().filter(priced).collect::<Vec<_>>(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_work_is_named_and_parks_nobody() {
    let stores = testkit::Stores::fresh().await;
    let services = Services::on(&stores.database_url, &stores.redis_url);
    let tenant = services.tenant_in_real_time("Real").await;
    let ada = services.customer(tenant, "ada").await;
    services.subscribe(tenant, ada, "lite", "pm_sandbox_succeeds").await.unwrap();
    let mut superuser = stores.superuser().await;
    let late = async |ago: &str, superuser: &mut AsyncPgConnection| {
        let earlier = format!(
            "update subscriptions set cycle_start = now() - interval '2 days',
            cycle_end = now() - interval '{ago}'"
        );
        superuser.batch_execute(&earlier).await.unwrap();
        let findings = verify(&services, tenant).await;
        findings.into_iter().filter(|finding| finding.invariant.0 == 30).collect::<Vec<_>>()
    };
    assert_eq!(late("55 minutes", &mut superuser).await, [], "a worker has an hour");
    let found = late("65 minutes", &mut superuser).await;
    assert_eq!((found.len(), found[0].customer, found[0].damaged_account()), (1, Some(ada), None));
    let scope = services.scope(tenant).await;
    assert_eq!(services.audit.park(&scope, &found).await.unwrap(), []);
}
