//! The ledger on real stores: transfers, and holds in Redis and without it.

use std::sync::Arc;

use chrono::{DateTime, Duration};
use db::{Db, Error};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::account::{Cause, CauseKind, EventCost, NewGrant};
use domain::calendar::Zone;
use domain::grant::GrantSource;
use domain::hold::{Fingerprint, Hold, HoldEnd};
use domain::id::{CustomerId, ExternalId, GrantId, TenantId};
use domain::scope::TenantMode;
use domain::{Credits, Refusal, TenantScope, Timestamp};
use hot_balances::{AccountKey, Epoch, FillHolds, Filled, HotBalances, Projection};
use ledger::{Accounts, Decision, EndedHolds, FoundHold, HoldRequest, Ledger, Looked, News};
use testkit::{LoneServers, Stores};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

/// A tenant with one customer, and a ledger like a server's.
struct Given {
    stores: Stores,
    db: Db,
    ledger: Ledger,
    scope: TenantScope,
    customer: CustomerId,
}

fn at(second: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn credits(count: i64) -> Credits {
    Credits::new(count).unwrap()
}

/// An account as of its first version, with 100 Credits.
fn first_version() -> Projection {
    Projection {
        revision: 1,
        version: 1,
        available: credits(100),
        valid_until: None,
        refills_at: None,
        cycle_ends_at: None,
        exhaustion: None,
    }
}

async fn given(stores: Stores) -> Given {
    let db = stores.db();
    let (tenant, customer) = (TenantId::from_uuid(Uuid::now_v7()), CustomerId::from_uuid(Uuid::now_v7()));
    let mut superuser = stores.superuser().await;
    superuser
        .batch_execute(&format!(
            "insert into tenants (tenant_id, name, mode, zone, created_at)
             values ('{}', 'T', 'test', 'UTC', now())",
            tenant.uuid()
        ))
        .await
        .unwrap();
    let scope =
        TenantScope { tenant, mode: TenantMode::Test, zone: Zone::UTC, now: at(0), policies: Arc::default() };
    let ledger = Ledger::new(db.clone(), HotBalances::new(&stores.redis_url, &stores.secret()).unwrap());
    let given = Given { stores, db, ledger, scope, customer };
    given.open(customer).await;
    given
}

impl Given {
    /// A customer without Credits.
    async fn open(&self, customer: CustomerId) {
        let (tenant, id) = (self.scope.tenant, customer.uuid());
        let insert =
            format!("insert into customers values ('{}', '{id}', '{id}', null, now())", tenant.uuid());
        self.stores.superuser().await.batch_execute(&insert).await.unwrap();
        self.db
            .transaction(tenant, async |tx| ledger::open(tx, tenant, customer, at(0)).await)
            .await
            .unwrap();
    }

    /// Another server on the same stores.
    fn other_ledger(&self) -> Ledger {
        Ledger::new(self.db.clone(), self.hot())
    }

    fn hot(&self) -> HotBalances {
        HotBalances::new(&self.stores.redis_url, &self.stores.secret()).unwrap()
    }

    fn at(&self, second: i64) -> TenantScope {
        TenantScope { now: at(second), ..self.scope.clone() }
    }

    async fn grant(&self, count: i64, expires: Option<i64>) {
        let accounts = self.grant_unpublished(count, expires).await;
        self.ledger.publish(self.scope.tenant, &accounts, at(0)).await.unwrap();
    }

    /// Grants, and dies before Redis is told.
    async fn grant_unpublished(&self, count: i64, expires: Option<i64>) -> Accounts {
        let (tenant, now) = (self.scope.tenant, at(0));
        self.db
            .transaction(tenant, async |tx| {
                let mut accounts = ledger::lock(tx, tenant, &[self.customer]).await?;
                let cause = Cause { kind: CauseKind::Purchase, id: Uuid::now_v7() };
                let grant = NewGrant {
                    id: GrantId::from_uuid(Uuid::now_v7()),
                    source: GrantSource::Plan,
                    credits: credits(count),
                    effective_at: now,
                    expires_at: expires.map(at),
                };
                accounts.get_mut(self.customer)?.issue(grant, cause, now)?;
                ledger::write(tx, tenant, &accounts, now).await?;
                Ok(accounts)
            })
            .await
            .unwrap()
    }

    /// Says when the current cycle ends.
    async fn set_refill(&self, second: i64) {
        let (tenant, now) = (self.scope.tenant, at(0));
        self.db
            .transaction(tenant, async |tx| {
                let mut accounts = ledger::lock(tx, tenant, &[self.customer]).await?;
                accounts.get_mut(self.customer)?.set_refills_at(Some(at(second)));
                ledger::write(tx, tenant, &accounts, now).await
            })
            .await
            .unwrap();
    }

    /// Charges usage, capturing a hold if one is named, as `usage` does.
    async fn charge(&self, scope: &TenantScope, cost: i64, hold: Option<&str>) {
        let (tenant, now, customer) = (scope.tenant, scope.now, self.customer);
        let named: Vec<(CustomerId, ExternalId)> =
            hold.iter().map(|id| (customer, id.parse().unwrap())).collect();
        let (accounts, writer) = self
            .db
            .transaction(tenant, async |tx| {
                let looked = ledger::find_holds(tx, &self.ledger, tenant, &named, now).await?;
                let Looked::Found(found) = looked else { panic!("{looked:?}") };
                let mut accounts = ledger::lock_for_usage(tx, &self.ledger, tenant, &[customer], now).await?;
                let cost = EventCost {
                    credits: credits(cost),
                    charge_instant: now,
                    is_captured: hold.is_some(),
                    received_at: now,
                    late: scope.policies.late_rules(),
                    cause: Cause { kind: CauseKind::Usage, id: Uuid::now_v7() },
                    event_time: now,
                };
                accounts.get_mut(customer)?.charge(&cost, now)?;
                let writer = ledger::write(tx, tenant, &accounts, now).await?;
                for found in found.values() {
                    let FoundHold::Own(known) = found else { panic!("{found:?}") };
                    let ended = [(known.hold.clone(), known.fingerprint)];
                    ledger::end_holds(tx, tenant, &ended, HoldEnd::Captured, now).await?;
                }
                Ok((accounts, writer))
            })
            .await
            .unwrap();
        let captured = named.into_iter().map(|(_, id)| (id, HoldEnd::Captured)).collect();
        let news = News::of(tenant, &accounts, EndedHolds::from([(customer, captured)]), now);
        self.ledger.remember(tenant, accounts, writer);
        self.ledger.publish_news(news).await.unwrap();
    }

    fn account(&self) -> AccountKey {
        AccountKey { tenant: self.scope.tenant, customer: self.customer }
    }

    /// Rises whenever the store that decides about holds has changed.
    async fn epoch(&self) -> i64 {
        self.hot_state().await.0.0
    }

    /// The epoch, and whether Redis is up in it.
    async fn hot_state(&self) -> (Epoch, bool) {
        use db::schema::hot_state;
        use diesel::QueryDsl;
        let state = hot_state::table.select((hot_state::epoch, hot_state::is_up));
        let (number, is_up) = state.first(&mut self.stores.superuser().await).await.unwrap();
        (Epoch(number), is_up)
    }

    async fn hold(&self, id: &str, full: i64, prompt_only: i64) -> Result<i64, Refusal> {
        hold(&self.ledger, &self.scope, self.customer, id, full, prompt_only).await
    }
}

fn request(scope: &TenantScope, id: &str, full: i64, prompt_only: i64) -> HoldRequest {
    HoldRequest {
        id: id.parse().unwrap(),
        full: credits(full),
        prompt_only: credits(prompt_only),
        now: scope.now,
        expires_at: scope.now + Duration::minutes(15),
        fingerprint: Fingerprint::from_bytes(
            ((i128::from(full) << 64) + i128::from(prompt_only)).to_be_bytes(),
        ),
    }
}

async fn hold(
    ledger: &Ledger,
    scope: &TenantScope,
    customer: CustomerId,
    id: &str,
    full: i64,
    prompt_only: i64,
) -> Result<i64, Refusal> {
    match ledger.hold(scope, customer, &request(scope, id, full, prompt_only)).await {
        Ok(Decision::Granted(granted)) => Ok(granted.hold.credits.get()),
        Ok(Decision::OutOfCredits(short)) => Err(Refusal::OutOfCredits(short.out)),
        Err(Error::Refused(refusal)) => Err(refusal),
        Err(error) => panic!("{error}"),
    }
}

async fn granted(ledger: &Ledger, scope: &TenantScope, customer: CustomerId, id: &str, full: i64) -> Hold {
    match ledger.hold(scope, customer, &request(scope, id, full, full)).await {
        Ok(Decision::Granted(granted)) => granted.hold,
        other => panic!("{other:?}"),
    }
}

fn remaining(refusal: Refusal) -> i64 {
    match refusal {
        Refusal::OutOfCredits(out) => out.remaining.get(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_takes_the_estimate_or_all_that_is_left_or_nothing() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    assert_eq!(given.hold("a", 60, 50).await, Ok(60), "the whole estimate fits");
    assert_eq!(given.hold("b", 60, 30).await, Ok(40), "only the prompt fits: all that is left");
    assert_eq!(given.hold("c", 2, 1).await.map_err(remaining), Err(0), "nothing is left");
    assert_eq!(given.hold("a", 60, 50).await, Ok(60), "the same request answers the same hold");
    assert_eq!(given.hold("a", 61, 50).await, Err(Refusal::AuthorizationReused));
    assert_eq!(given.hold("free", 0, 0).await, Ok(0), "what costs nothing is never refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_at_once_as_like_never_hold_more_than_is_left() {
    let given = given(Stores::fresh().await).await;
    given.grant(1_000, None).await;
    let servers = [given.ledger.clone(), given.other_ledger()];
    let holds = (0..128).map(|n| {
        let (ledger, scope, customer) = (servers[n % 2].clone(), given.scope.clone(), given.customer);
        tokio::spawn(async move { hold(&ledger, &scope, customer, &format!("h{n}"), 30, 30).await })
    });
    let mut granted = 0;
    for hold in holds.collect::<Vec<_>>() {
        granted += i64::from(hold.await.unwrap().is_ok());
    }
    assert_eq!(granted, 33, "33 times 30 of 1,000");
    let balance = given.ledger.balance(&given.scope, given.customer).await.unwrap();
    servers[1].balance(&given.scope, given.customer).await.unwrap();
    assert_eq!(balance.settled, credits(1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_frees_the_hold_and_charges_the_cost() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("a", 60, 50).await.unwrap();
    given.charge(&given.scope, 10, Some("a")).await;
    let balance = given.ledger.balance(&given.scope, given.customer).await.unwrap();
    assert_eq!((balance.settled, balance.held, balance.available), (credits(90), credits(0), credits(90)));
    assert_eq!(given.hold("b", 90, 90).await, Ok(90), "Redis knows it too");
    assert_eq!(given.hold("a", 60, 50).await, Err(Refusal::AuthorizationEnded));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_frees_the_hold_once() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("a", 100, 50).await.unwrap();
    let id: ExternalId = "a".parse().unwrap();
    for _ in 0..2 {
        assert_eq!(given.ledger.release(&given.scope, given.customer, &id).await.unwrap(), 1);
    }
    assert_eq!(given.hold("b", 100, 100).await, Ok(100));
    let unknown = given.ledger.release(&given.scope, given.customer, &"x".parse().unwrap()).await;
    assert!(matches!(unknown, Err(Error::Refused(Refusal::NotFound { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_released_a_hold_sees_no_older_balance_afterwards() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("a", 100, 50).await.unwrap();
    given.grant_unpublished(700, None).await;
    let released = given.ledger.release(&given.scope, given.customer, &"a".parse().unwrap()).await.unwrap();
    let decision =
        given.ledger.hold(&given.scope, given.customer, &request(&given.scope, "b", 800, 800)).await;
    let Ok(Decision::Granted(granted)) = decision else { panic!("{decision:?}") };
    assert_eq!((released, granted.version, granted.hold.credits), (2, 2, credits(800)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_died_with_its_server_is_captured_from_the_epoch_that_was_left() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("mine", 10, 10).await.unwrap();
    // Granted by a server that never records it.
    hold(&given.other_ledger(), &given.scope, given.customer, "lost", 20, 20).await.unwrap();
    let next = given.epoch().await + 1;
    let mut superuser = given.stores.superuser().await;
    let begin = format!(
        "update hot_state set epoch = {next}, left_epoch = epoch, changed_at = now() - interval '1 minute'"
    );
    superuser.batch_execute(&begin).await.unwrap();
    given.hot().begin_epoch(Epoch(next)).await.unwrap();
    // Longer than a lease: the next request reads who decides.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    given.hold("in-the-next", 10, 10).await.unwrap();
    given.charge(&given.scope, 5, Some("lost")).await;
    let balance = given.ledger.balance(&given.scope, given.customer).await.unwrap();
    assert_eq!(balance.settled, credits(95));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_died_with_its_server_is_the_same_when_it_is_asked_for_again() {
    for (redis_decides, is_renewed) in [(false, false), (false, true), (true, false), (true, true)] {
        let given = given(Stores::fresh().await).await;
        given.grant(100, None).await;
        // Granted, and heard of, by a server that never records it.
        let lost = granted(&given.other_ledger(), &given.scope, given.customer, "lost", 20).await;
        let next = given.epoch().await + 1;
        let begin = format!(
            "update hot_state set epoch = {next}, left_epoch = epoch, is_up = {redis_decides},
                 changed_at = now() - interval '1 minute'"
        );
        given.stores.superuser().await.batch_execute(&begin).await.unwrap();
        if redis_decides {
            // It was there all the time: somebody had taken it for away.
            given.hot().begin_epoch(Epoch(next)).await.unwrap();
        }
        let (server, later) = (given.other_ledger(), given.at(1));
        let again = match is_renewed {
            true => server.renew(&later, given.customer, &lost.id).await.unwrap().hold,
            false => granted(&server, &later, given.customer, "lost", 20).await,
        };
        let runs_on = Duration::seconds(i64::from(is_renewed));
        let expected = lost.renewed(lost.expires_at + runs_on, None);
        assert_eq!(again, expected, "Redis decides: {redis_decides}, renewed: {is_renewed}");
        let too_much = hold(&server, &later, given.customer, "too-much", 81, 81).await;
        assert_eq!(too_much.map_err(remaining), Err(80));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_records_what_one_that_died_had_granted() {
    let lone = LoneServers::start("adopted").await;
    let given = given(lone.stores()).await;
    given.grant(100, None).await;
    hold(&given.other_ledger(), &given.scope, given.customer, "old", 5, 5).await.unwrap();
    let later = given.at(200);
    hold(&given.other_ledger(), &later, given.customer, "a", 60, 60).await.unwrap();
    assert_eq!(given.ledger.adopt(&later).await.unwrap(), 1, "the one of a moment ago");
    lone.servers().stop_redis().unwrap();
    let without = hold(&given.ledger, &later, given.customer, "b", 41, 41).await;
    assert_eq!(without.map_err(remaining), Err(40), "a counts without Redis too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_about_to_be_recorded_is_waited_for_while_redis_goes() {
    let lone = LoneServers::start("waited").await;
    let given = given(lone.stores()).await;
    given.grant(100, None).await;
    let other = given.other_ledger();
    hold(&other, &given.scope, given.customer, "a", 60, 60).await.unwrap();
    given.hold("warm", 0, 0).await.unwrap();
    lone.servers().stop_redis().unwrap();
    // The other server records it a moment after this one was asked to release it.
    let (stopper, stop) = tokio::sync::watch::channel(false);
    let recording = tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        other.run_journal(stop).await;
    });
    assert_eq!(given.ledger.release(&given.scope, given.customer, &"a".parse().unwrap()).await.unwrap(), 1);
    let unknown = given.ledger.release(&given.scope, given.customer, &"x".parse().unwrap()).await;
    assert!(matches!(unknown, Err(Error::Refused(Refusal::NotFound { .. }))), "{unknown:?}");
    stopper.send(true).unwrap();
    recording.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_was_renewed_before_it_is_recorded_too_late_for_its_epoch_is_kept_as_it_was_last() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    let server = given.other_ledger();
    let first = granted(&server, &given.scope, given.customer, "a", 60).await;
    let renewed = server.renew(&given.at(1), given.customer, &first.id).await.unwrap().hold;
    assert_eq!(renewed.expires_at, first.expires_at + Duration::seconds(1));
    let begin =
        "update hot_state set epoch = epoch + 1, is_up = false, changed_at = now() - interval '1 minute'";
    given.stores.superuser().await.batch_execute(begin).await.unwrap();
    // Told to stop, it records what it has.
    let (_stopper, stopped) = watch::channel(true);
    server.run_journal(stopped).await;
    assert_eq!(granted(&given.other_ledger(), &given.at(2), given.customer, "a", 60).await, renewed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_runs_out_by_the_tenants_time() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("a", 100, 100).await.unwrap();
    let later = given.at(15 * 60 - 1);
    assert_eq!(hold(&given.ledger, &later, given.customer, "b", 1, 1).await.map_err(remaining), Err(0));
    let past = given.at(15 * 60);
    assert_eq!(hold(&given.ledger, &past, given.customer, "b", 100, 100).await, Ok(100));
    let too_late = given.ledger.release(&past, given.customer, &"a".parse().unwrap()).await;
    assert!(matches!(too_late, Err(Error::Refused(Refusal::AuthorizationEnded))));
}

#[tokio::test]
async fn a_balance_is_that_of_its_version_whoever_asked_first() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    // Bought at second 2 by a request that got the lock before one of second 1.
    let (tenant, now) = (given.scope.tenant, at(2));
    let bought = given.db.transaction(tenant, async |tx| {
        let mut accounts = ledger::lock(tx, tenant, &[given.customer]).await?;
        let cause = Cause { kind: CauseKind::Purchase, id: Uuid::now_v7() };
        let grant = NewGrant {
            id: GrantId::from_uuid(Uuid::now_v7()),
            source: GrantSource::Plan,
            credits: credits(700),
            effective_at: now,
            expires_at: None,
        };
        accounts.get_mut(given.customer)?.issue(grant, cause, now)?;
        ledger::write(tx, tenant, &accounts, now).await
    });
    bought.await.unwrap();
    let balance = given.ledger.balance(&given.at(1), given.customer).await.unwrap();
    assert_eq!((balance.version, balance.settled, balance.granted), (2, credits(800), credits(800)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_has_ended_is_not_held_against_whoever_has_booked_it() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, Some(60)).await;
    assert_eq!(hold(&given.ledger, &given.at(59), given.customer, "a", 10, 10).await, Ok(10));
    // Its expiry is not booked, and Redis was not told: the time alone says it.
    let ended = hold(&given.ledger, &given.at(60), given.customer, "b", 10, 10).await;
    assert_eq!(ended.map_err(remaining), Err(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_an_ended_cycle_no_longer_counts_with_redis_or_without() {
    // Whether or not another cycle follows.
    for (in_redis, refills) in [(true, true), (false, true), (true, false)] {
        let lone = LoneServers::start("cycle").await;
        let given = given(lone.stores()).await;
        given.grant(100, Some(60)).await;
        given.grant(50, None).await;
        if refills {
            given.set_refill(60).await;
        }
        if !in_redis {
            lone.servers().stop_redis().unwrap();
        }
        assert_eq!(given.hold("old", 150, 150).await, Ok(150));
        let next_cycle = given.at(60);
        assert_eq!(hold(&given.ledger, &next_cycle, given.customer, "new", 50, 50).await, Ok(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_balance_never_replaces_a_newer_one() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("warm", 0, 0).await.unwrap();
    let tenant = given.scope.tenant;
    let old = given
        .db
        .transaction(tenant, async |tx| ledger::lock(tx, tenant, &[given.customer]).await)
        .await
        .unwrap();
    given.charge(&given.scope, 70, None).await;
    given.ledger.publish(tenant, &old, given.scope.now).await.unwrap();
    assert_eq!(given.hold("a", 31, 31).await.map_err(remaining), Err(30));
}

/// no Credits move where an account is parked, so no version says that what was read before is older.
#[tokio::test(flavor = "multi_thread")]
async fn a_balance_that_comes_late_lets_no_parked_account_spend() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("warm", 0, 0).await.unwrap();
    let tenant = given.scope.tenant;
    let read = async || {
        let lock = async |tx: &mut db::Connection| ledger::lock(tx, tenant, &[given.customer]).await;
        given.db.transaction(tenant, lock).await.unwrap()
    };
    let before = read().await;
    assert!(given.ledger.park(&given.scope, given.customer, "looked at").await.unwrap());
    let parked = read().await;
    given.ledger.publish(tenant, &before, given.scope.now).await.unwrap();
    assert_eq!(given.hold("a", 10, 10).await.unwrap_err().code(), "account-parked");

    // And the other way round.
    assert!(given.ledger.unpark(&given.scope, given.customer).await.unwrap());
    assert_eq!(given.hold("a", 10, 10).await, Ok(10));
    given.ledger.publish(tenant, &parked, given.scope.now).await.unwrap();
    // Without PostgreSQL's help: Redis alone has to know better.
    let epoch = Epoch(1);
    let key = given.account();
    let here = given.hot().peek(epoch, &[key]).await.unwrap().remove(0).unwrap().projection;
    assert!(here.valid_until > Some(given.scope.now), "{here:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_set_by_hand_is_found_and_dropped() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("warm", 10, 10).await.unwrap();
    let client = redis::Client::open(given.stores.redis_url.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let key = format!("{}:balance:1", given.account().tag());
    let mut forged: Vec<u8> =
        redis::cmd("HGET").arg(&key).arg("projection").query_async(&mut redis).await.unwrap();
    // The second number is what is available.
    assert_eq!(forged[7..14], [100, 0, 0, 0, 0, 0, 0]);
    forged[9] = 1;
    redis::cmd("HSET").arg(key).arg("projection").arg(forged).query_async::<i64>(&mut redis).await.unwrap();
    assert_eq!(given.hold("a", 91, 91).await.map_err(remaining), Err(90), "the truth, holds included");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_answers_stay_right_and_with_it_again_too() {
    let lone = LoneServers::start("ledger").await;
    let given = given(lone.stores()).await;
    given.grant(100, None).await;
    assert_eq!(given.hold("a", 40, 40).await, Ok(40));

    lone.servers().stop_redis().unwrap();
    assert_eq!(given.hold("a", 40, 40).await, Ok(40), "a hold that Redis granted is known without it");
    assert_eq!(given.hold("b", 40, 40).await, Ok(40));
    let at_once = (0..16).map(|n| {
        let (ledger, scope, customer) = (given.ledger.clone(), given.scope.clone(), given.customer);
        tokio::spawn(async move { hold(&ledger, &scope, customer, &format!("h{n}"), 5, 5).await })
    });
    let mut granted = 0;
    for hold in at_once.collect::<Vec<_>>() {
        granted += i64::from(hold.await.unwrap().is_ok());
    }
    assert_eq!(granted, 4, "4 times 5 of the last 20");
    given.charge(&given.scope, 10, Some("b")).await;

    lone.servers().start_redis().unwrap();
    // Each of these is decided by whoever is in charge just then: PostgreSQL still, or Redis again.
    // 100 - 10 spent - 40 held by a - 20 held by four: 30.
    assert_eq!(given.hold("c", 31, 31).await.map_err(remaining), Err(30));
    let other = given.other_ledger();
    assert_eq!(hold(&other, &given.scope, given.customer, "d", 30, 30).await, Ok(30));
    for n in 0..30 {
        assert_eq!(given.hold(&format!("e{n}"), 1, 1).await.map_err(remaining), Err(0));
        assert_eq!(
            hold(&other, &given.scope, given.customer, &format!("f{n}"), 1, 1).await.map_err(remaining),
            Err(0)
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_add_up_in_the_database_too() {
    #[derive(diesel::QueryableByName)]
    struct Wrong {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        n: i64,
    }
    let given = given(Stores::fresh().await).await;
    given.grant(100, Some(60)).await;
    given.grant(50, None).await;
    given.charge(&given.at(1), 120, None).await;
    given.charge(&given.at(2), 40, None).await;
    let balance = given.ledger.balance(&given.at(3), given.customer).await.unwrap();
    assert_eq!((balance.settled, balance.books.overage), (credits(0), -10), "160 spent of 150");
    let transfers = given.ledger.transfers(&given.scope, given.customer, None, 0, 100).await.unwrap();
    let versions: Vec<i64> = transfers.iter().map(|transfer| transfer.version).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6], "2 issued; 100 + 20 spent; 30 spent + 10 overage");
    let wrong: Wrong = diesel::sql_query(
        "select count(*) as n from grants g where spent <> (select coalesce(sum(credits), 0) from transfers t
             where t.tenant_id = g.tenant_id and t.grant_id = g.grant_id and t.credit = 'spent')",
    )
    .get_result(&mut given.stores.superuser().await)
    .await
    .unwrap();
    assert_eq!(wrong.n, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_whose_grant_was_never_heard_of_is_recorded_when_it_is_asked_for_again() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("warm", 0, 0).await.unwrap();
    // A server that dies before it has recorded or answered what Redis gave it.
    let lost = given.other_ledger();
    assert_eq!(hold(&lost, &given.scope, given.customer, "a", 60, 60).await, Ok(60));
    drop(lost);
    assert_eq!(given.hold("a", 60, 60).await, Ok(60), "the same hold");
    given.ledger.balance(&given.scope, given.customer).await.unwrap();
    let held = given.ledger.balance(&given.scope, given.customer).await.unwrap().held;
    assert_eq!(held, credits(60), "in PostgreSQL too");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_change_is_not_loaded_after_it() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    let key = given.account();
    let hot = HotBalances::new(&given.stores.redis_url, &given.stores.secret()).unwrap();
    let epoch = hot_balances::Epoch(1);
    let old = first_version();
    // A load has read version 1; before it writes, another server charges 90 and publishes.
    let ticket = hot.begin_loads(epoch, &[key]).await.unwrap().unwrap().remove(0);
    given.charge(&given.scope, 90, None).await;
    hot.fill(key, epoch, &ticket, &old, FillHolds::All(&[])).await.unwrap();
    assert_eq!(given.hold("a", 50, 50).await.map_err(remaining), Err(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_told_of_an_account_in_use_anew_before_its_projection_runs_out() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    given.hold("a", 10, 10).await.unwrap();
    let account = given.account();
    let (hot, epoch) = (given.hot(), Epoch(given.epoch().await));
    let projection = async || hot.peek(epoch, &[account]).await.unwrap().pop().unwrap().unwrap().projection;
    let first = projection().await;
    let runs_out = (first.valid_until.unwrap() - at(0)).num_seconds();
    assert!((30..=60).contains(&runs_out), "{runs_out}");
    // Of the second version Redis is told nothing.
    given.grant_unpublished(50, None).await;

    // 11 seconds before the end nobody looks.
    assert_eq!(hold(&given.ledger, &given.at(runs_out - 11), given.customer, "b", 10, 10).await, Ok(10));
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(projection().await, first);
    // 5 seconds before it a hold has it told, without waiting.
    assert_eq!(hold(&given.ledger, &given.at(runs_out - 5), given.customer, "c", 10, 10).await, Ok(10));
    let begun = std::time::Instant::now();
    while projection().await == first {
        assert!(begun.elapsed().as_secs() < 10, "it was not told anew");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let second = projection().await;
    assert_eq!((second.version, second.available), (2, credits(150)));
    assert!(second.valid_until.unwrap() >= at(runs_out - 5 + 30), "{second:?}");
    // Its holds are those of before: 150 - 3 * 10.
    assert_eq!(
        hold(&given.ledger, &given.at(runs_out + 1), given.customer, "d", 121, 121).await.map_err(remaining),
        Err(120)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_accounts_that_are_missed_at_once_each_gets_its_own_answer() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    // 100 without Credits, a stranger, and the one with 100 Credits, asked for 10 twice.
    let customers: Vec<_> = (0..100).map(|_| CustomerId::from_uuid(Uuid::now_v7())).collect();
    for customer in &customers {
        given.open(*customer).await;
    }
    let stranger = CustomerId::from_uuid(Uuid::now_v7());
    let asked = customers.iter().copied().chain([stranger, given.customer, given.customer]);
    let asking = asked.enumerate().map(|(n, customer)| {
        let (ledger, scope) = (given.ledger.clone(), given.scope.clone());
        tokio::spawn(async move { hold(&ledger, &scope, customer, &format!("h{n}"), 10, 10).await })
    });
    let mut answers = Vec::new();
    for asked in asking.collect::<Vec<_>>() {
        answers.push(asked.await.unwrap());
    }
    assert_eq!(answers[100..], [Err(Refusal::NotFound { what: "customer" }), Ok(10), Ok(10)]);
    for answer in &answers[..100] {
        assert_eq!(answer.clone().map_err(remaining), Err(0));
    }
    assert_eq!(given.hold("more", 81, 81).await.map_err(remaining), Err(80));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_an_ended_hold_is_not_free_again_when_redis_has_forgotten_it() {
    let lone = LoneServers::start("forgotten").await;
    let given = given(lone.stores()).await;
    given.grant(100, None).await;
    given.hold("a", 10, 10).await.unwrap();
    given.ledger.release(&given.scope, given.customer, &"a".parse().unwrap()).await.unwrap();
    let client = redis::Client::open(given.stores.redis_url.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<String>(&mut redis).await.unwrap();
    assert_eq!(given.hold("a", 10, 10).await, Err(Refusal::AuthorizationEnded));
}

/// Redis has forgotten the account when the hold ends, and loads it right after.
#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_hold_that_ended_before_its_account_was_loaded_is_kept_as_long_as_any() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    assert_eq!(given.hold("a", 10, 10).await, Ok(10));
    let account = given.account().tag();
    let client = redis::Client::open(given.stores.redis_url.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<String> =
        redis::cmd("KEYS").arg(format!("{account}:*")).query_async(&mut redis).await.unwrap();
    redis::cmd("DEL").arg(&keys).query_async::<i64>(&mut redis).await.unwrap();
    given.charge(&given.scope, 10, Some("a")).await;
    assert_eq!(given.hold("b", 10, 10).await, Ok(10), "loaded");
    let key = format!("{account}:balance:{}:kept", given.epoch().await);
    let forgotten_at: i64 = redis::cmd("ZSCORE").arg(key).arg(":a").query_async(&mut redis).await.unwrap();
    assert!(forgotten_at > (at(0) + Duration::hours(1)).timestamp_micros(), "{forgotten_at}");
    assert_eq!(given.hold("a", 10, 10).await, Err(Refusal::AuthorizationEnded));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_emptied_is_not_believed_before_everything_is_loaded_anew() {
    let lone = LoneServers::start("emptied").await;
    let given = given(lone.stores()).await;
    given.grant(100, None).await;
    assert_eq!(given.hold("a", 60, 60).await, Ok(60));
    let client = redis::Client::open(given.stores.redis_url.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("FLUSHALL").query_async::<String>(&mut redis).await.unwrap();
    assert_eq!(given.hold("b", 41, 41).await.map_err(remaining), Err(40), "a is not forgotten");
    assert_eq!(given.hold("c", 40, 40).await, Ok(40));
    assert!(given.epoch().await > 1, "what Redis had been told before is not used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_restarted_while_nobody_looked_is_not_believed() {
    let lone = LoneServers::start("restarted").await;
    let given = given(lone.stores()).await;
    given.grant(100, None).await;
    given.hold("warm", 0, 0).await.unwrap();
    // What an old dump would bring back: the balance and the epoch of before.
    let client = redis::Client::open(given.stores.redis_url.as_str()).unwrap();
    let key = format!("{}:balance:1", given.account().tag());
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let dump: Vec<(String, Vec<u8>)> = redis::cmd("HGETALL").arg(&key).query_async(&mut redis).await.unwrap();
    given.charge(&given.scope, 95, None).await;
    lone.servers().stop_redis().unwrap();
    lone.servers().start_redis().unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("HSET").arg(&key).arg(&dump).query_async::<i64>(&mut redis).await.unwrap();
    // No call fell into the outage; the next look at who decides finds another run of Redis.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    assert_eq!(given.hold("a", 50, 50).await.map_err(remaining), Err(5));
}

/// A worker seldom speaks to Redis: its connection is that of before the restart when it has something to tell.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_over_a_connection_that_broke_is_told_in_the_epoch_that_others_have_begun() {
    let lone = LoneServers::start("told").await;
    let given = given(lone.stores()).await;
    let worker = &given;
    worker.grant(100, None).await;
    let server = given.other_ledger();
    let hold = async |id: &str, full| hold(&server, &given.scope, given.customer, id, full, full).await;
    assert_eq!(hold("before", 10).await, Ok(10));
    lone.servers().stop_redis().unwrap();
    lone.servers().start_redis().unwrap();
    // Until Redis decides again, with the account loaded.
    let mut loaded = 0;
    while loaded < 3 {
        let epoch = given.epoch().await;
        hold(&format!("h{loaded}-{epoch}"), 0).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        loaded = if epoch >= 3 { loaded + 1 } else { 0 };
    }
    worker.charge(&worker.scope, 85, None).await;
    assert_eq!(hold("after", 90).await.map_err(remaining), Err(5), "100 less 85 spent and 10 held");
}

/// A server that cannot tell Redis says so in PostgreSQL, and others go on with Redis until they have read that: by then
/// the change is not answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_redis_was_not_told_of_is_answered_once_no_server_decides_without_it() {
    let lone = LoneServers::start("untold").await;
    let mut given = given(lone.stores()).await;
    given.grant(10_000, None).await;
    let (redis_url, is_stalled) = stalling(&given.stores.redis_url).await;
    let ledger = Ledger::new(given.db.clone(), HotBalances::new(&redis_url, &given.stores.secret()).unwrap());
    let other_server = std::mem::replace(&mut given.ledger, ledger);
    let server = given;
    let (_stop, stopped) = watch::channel(false);
    for ledger in [server.ledger.clone(), other_server.clone()] {
        let stopped = stopped.clone();
        tokio::spawn(async move { ledger.run_journal(stopped).await });
    }
    let version = async |id: &str| {
        let request = request(&server.scope, id, 1, 1);
        match other_server.hold(&server.scope, server.customer, &request).await.unwrap() {
            Decision::Granted(granted) => granted.version,
            Decision::OutOfCredits(short) => panic!("{short:?}"),
        }
    };
    server.hold("own", 1, 1).await.unwrap();
    for charged in 0..4 {
        is_stalled.send_replace(true);
        let asking = async {
            for asked in 0.. {
                // For its lease; what it is answered is not the point.
                let request = request(&server.scope, &format!("h{charged}-{asked}"), 1, 1);
                let _ = other_server.hold(&server.scope, server.customer, &request).await;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = asking => unreachable!("it goes on"),
            () = server.charge(&server.scope, 1, None) => {}
        }
        assert_eq!(version(&format!("after-{charged}")).await, 2 + charged);
        is_stalled.send_replace(false);
        while !server.hot_state().await.1 {
            server.hold(&format!("back-{charged}"), 0, 0).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// All servers count from there until what they had read before has run out.
#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_waited_for_a_flush_begins_when_it_is_seen_to() {
    let lone = LoneServers::start("waited").await;
    let given = given(lone.stores()).await;
    given.grant(100, None).await;
    assert_eq!(given.hold("before", 10, 10).await, Ok(10));
    let mut flush = given.stores.superuser().await;
    flush.batch_execute("begin; select from hot_state for share").await.unwrap();
    lone.servers().stop_redis().unwrap();
    let (ledger, scope, customer) = (given.ledger.clone(), given.scope.clone(), given.customer);
    let holding = tokio::spawn(async move { hold(&ledger, &scope, customer, "after", 10, 10).await });
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert!(given.hot_state().await.1, "it waits for the flush");
    flush.batch_execute("commit").await.unwrap();
    while given.hot_state().await.1 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let is_young = "do $$ begin assert (select changed_at > clock_timestamp() - interval '500 ms' from hot_state); end $$";
    given.stores.superuser().await.batch_execute(is_young).await.unwrap();
    assert_eq!(holding.await.unwrap(), Ok(10));
}

/// The URL of a Redis that takes no more calls while it is told so; those that it has taken are answered.
async fn stalling(redis_url: &str) -> (String, watch::Sender<bool>) {
    let (login, address) = redis_url.rsplit_once('@').unwrap();
    let (login, address) = (login.to_owned(), address.to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{login}@{}", listener.local_addr().unwrap());
    let (is_stalled, stalled) = watch::channel(false);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (address, mut stalled) = (address.clone(), stalled.clone());
            tokio::spawn(async move {
                let (mut calls, mut answers) = client.into_split();
                let (mut answered, mut called) = TcpStream::connect(address).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut answered, &mut answers).await });
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = calls.read(&mut bytes).await {
                    // Whoever stalled it may have ended.
                    let _ = stalled.wait_for(|is_stalled| !is_stalled).await;
                    called.write_all(&bytes[..read]).await.unwrap();
                }
            });
        }
    });
    (url, is_stalled)
}

/// Each server counts for itself when an epoch has settled: one that counts slowly is not to keep from Redis what
/// others that count faster would go on without.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_told_in_an_epoch_that_has_not_settled_for_whoever_tells() {
    let lone = LoneServers::start("unsettled").await;
    let given = given(lone.stores()).await;
    given.grant(100, None).await;
    assert_eq!(given.hold("before", 10, 10).await, Ok(10));
    lone.servers().stop_redis().unwrap();
    lone.servers().start_redis().unwrap();
    let (server, hot) = (given.other_ledger(), given.hot());
    let account = given.account();
    let old = first_version();
    // As soon as an epoch has begun with Redis, another server loads the account in it.
    let loading = async {
        for asked in 0.. {
            let id = format!("h{asked}");
            hold(&server, &given.scope, given.customer, &id, 0, 0).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let (epoch, is_up) = given.hot_state().await;
            if epoch > Epoch(1)
                && is_up
                && let Ok(Some(tickets)) = hot.begin_loads(epoch, &[account]).await
                && let holds = FillHolds::All(&[])
                && hot.fill(account, epoch, &tickets[0], &old, holds).await.ok() == Some(Filled::Done)
            {
                return epoch;
            }
        }
        unreachable!("it goes on until then")
    };
    let epoch = tokio::time::timeout(std::time::Duration::from_secs(30), loading).await.unwrap();
    given.charge(&given.scope, 85, None).await;
    let told = hot.peek(epoch, &[account]).await.unwrap().remove(0).unwrap().projection;
    assert_eq!((told.version, told.available), (2, credits(15)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_nothing_is_captured_and_released_like_any_other() {
    let given = given(Stores::fresh().await).await;
    given.grant(100, None).await;
    for (id, full) in [("a", 0), ("b", 0), ("c", 40), ("d", 60)] {
        assert_eq!(given.hold(id, full, 0).await, Ok(full));
    }
    for id in ["a", "c"] {
        given.charge(&given.scope, 1, Some(id)).await;
    }
    for id in ["b", "d"] {
        given.ledger.release(&given.scope, given.customer, &id.parse().unwrap()).await.unwrap();
    }
    assert_eq!(given.hold("e", 98, 98).await, Ok(98));
    assert_eq!(given.epoch().await, 1, "all of it in Redis, which never seemed away");
}
