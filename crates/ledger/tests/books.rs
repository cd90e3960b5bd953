//! The books on a real PostgreSQL: the chain over the transfers, and parked accounts.

use std::sync::Arc;

use chrono::DateTime;
use db::{Db, Error};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection};
use domain::account::{Cause, CauseKind, EventCost, NewGrant};
use domain::calendar::Zone;
use domain::grant::GrantSource;
use domain::hold::Fingerprint;
use domain::id::{CustomerId, GrantId, TenantId};
use domain::scope::TenantMode;
use domain::{Credits, Refusal, TenantScope, Timestamp};
use hot_balances::HotBalances;
use ledger::{Decision, HoldRequest, Ledger};
use testkit::{LoneServers, Stores};
use uuid::Uuid;

fn at(second: i64) -> Timestamp {
    DateTime::from_timestamp(1_800_000_000 + second, 123_456_000).unwrap()
}

fn credits(count: i64) -> Credits {
    Credits::new(count).unwrap()
}

/// A tenant with one customer.
struct Given {
    stores: Stores,
    db: Db,
    scope: TenantScope,
    customer: CustomerId,
    /// A server's.
    ledger: Ledger,
}

/// What is done to the account.
enum Step {
    /// Credits of the plan, from now until then.
    Grant(i64, i64),
    /// Usage of this charge instant.
    Charge(i64, i64),
    Expire,
    Cancel,
}

async fn given(stores: Stores) -> Given {
    let db = stores.db();
    let (tenant, customer) = (TenantId::from_uuid(Uuid::now_v7()), CustomerId::from_uuid(Uuid::now_v7()));
    let (t, c) = (tenant.uuid(), customer.uuid());
    let rows = format!(
        "insert into tenants (tenant_id, name, mode, zone, created_at) values ('{t}', 'T', 'test', 'UTC', now());
         insert into customers values ('{t}', '{c}', 'c', null, now())"
    );
    stores.superuser().await.batch_execute(&rows).await.unwrap();
    db.transaction(tenant, async |tx| ledger::open(tx, tenant, customer, at(0)).await).await.unwrap();
    let scope =
        TenantScope { tenant, mode: TenantMode::Test, zone: Zone::UTC, now: at(0), policies: Arc::default() };
    let ledger = ledger_on(&stores);
    Given { stores, db, scope, customer, ledger }
}

fn ledger_on(stores: &Stores) -> Ledger {
    let hot = HotBalances::new(&stores.redis_url, b"the tests' own secret, 32 bytes..").unwrap();
    Ledger::new(stores.db(), hot)
}

impl Given {
    /// One transaction a step, as of `second`, by this server.
    async fn step(&self, second: i64, step: Step) {
        self.step_of(&self.ledger, second, step).await;
    }

    async fn step_of(&self, server: &Ledger, second: i64, step: Step) {
        let (tenant, now, customer) = (self.scope.tenant, at(second), self.customer);
        let step = async |tx: &mut db::Connection| {
            let mut accounts = ledger::lock_for_usage(tx, server, tenant, &[customer], at(0)).await?;
            // As in a large batch of usage: what is written after it, a subtransaction writes.
            db::savepoint(tx).await?;
            let account = accounts.get_mut(customer)?;
            let id = Uuid::now_v7();
            match step {
                Step::Grant(count, until) => account.issue(
                    NewGrant {
                        id: GrantId::from_uuid(id),
                        source: GrantSource::Plan,
                        credits: credits(count),
                        effective_at: now,
                        expires_at: Some(at(until)),
                    },
                    Cause { kind: CauseKind::Purchase, id },
                    now,
                )?,
                Step::Charge(count, instant) => {
                    let cost = EventCost {
                        credits: credits(count),
                        charge_instant: at(instant),
                        is_captured: false,
                        received_at: now,
                        late: self.scope.policies.late_rules(),
                        cause: Cause { kind: CauseKind::Usage, id },
                        event_time: at(instant),
                    };
                    account.charge(&cost, now)?;
                }
                Step::Expire => drop(account.expire(now)?),
                Step::Cancel => drop(account.revoke_the_plans(Cause { kind: CauseKind::Cancel, id }, now)?),
            }
            let writer = ledger::write(tx, tenant, &accounts, now).await?;
            Ok((accounts, writer))
        };
        let (accounts, writer) = self.db.transaction(tenant, step).await.unwrap();
        server.remember(tenant, accounts, writer);
    }

    /// The account as a server locks it for usage, and remembers it when nothing came of that.
    async fn locked_by(&self, server: &Ledger) -> String {
        let (tenant, customer) = (self.scope.tenant, self.customer);
        let locked = async |tx: &mut db::Connection| {
            ledger::lock_for_usage(tx, server, tenant, &[customer], at(0)).await
        };
        let accounts = self.db.transaction(tenant, locked).await.unwrap();
        let shown = format!("{accounts:#?}");
        server.remember(tenant, accounts, None);
        shown
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_transfer_has_the_link_that_the_databases_own_function_makes_of_it() {
    let given = given(Stores::fresh().await).await;
    // 100 until 60; 30 spent, 70 expired, 20 of them taken back by late usage and 60 more with overage;
    // the next cycle is canceled.
    given.step(0, Step::Grant(100, 60)).await;
    given.step(10, Step::Charge(30, 10)).await;
    given.step(60, Step::Expire).await;
    given.step(60, Step::Grant(100, 120)).await;
    given.step(70, Step::Charge(20, 59)).await;
    given.step(71, Step::Charge(60, 59)).await;
    given.step(80, Step::Charge(5, 80)).await;
    given.step(90, Step::Cancel).await;

    #[derive(QueryableByName, Debug, PartialEq)]
    struct Checked {
        #[diesel(sql_type = BigInt)]
        version: i64,
        #[diesel(sql_type = Bool)]
        is_the_functions: bool,
        #[diesel(sql_type = Bool)]
        is_the_accounts: bool,
    }
    let transfers: Vec<Checked> = diesel::sql_query(
        "select t.version, t.chain = transfer_link(
                lag(t.chain, 1, decode(repeat('00', 32), 'hex')) over (order by t.version), t.tenant_id,
                t.customer_id, t.version, t.debit, t.credit, t.grant_id, t.credits, t.cause_kind, t.cause_id,
                t.event_time, t.recorded_at, t.reverses) as is_the_functions,
             t.chain = a.chain as is_the_accounts
         from transfers t join credit_accounts a using (tenant_id, customer_id) order by t.version",
    )
    .load(&mut given.stores.superuser().await)
    .await
    .unwrap();
    let expected: Vec<_> = (1..=11)
        .map(|version| Checked { version, is_the_functions: true, is_the_accounts: version == 11 })
        .collect();
    assert_eq!(transfers, expected);
    let history = given.ledger.transfers(&given.scope, given.customer, None, 0, 100).await.unwrap();
    let reversals: Vec<_> = history.iter().map(|transfer| transfer.reverses).collect();
    let (no, expiry) = (None, Some(3));
    assert_eq!(reversals, [no, no, no, no, expiry, no, expiry, no, no, no, no]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_remembers_of_an_account_is_what_another_one_reads_of_it() {
    let given = given(Stores::fresh().await).await;
    let other = ledger_on(&given.stores);
    // Used up, expired, canceled, with late usage of an ended cycle; the last by the other server.
    given.step(0, Step::Grant(100, 3_600)).await;
    let steps = [
        (10, Step::Charge(30, 10)),
        (20, Step::Charge(70, 20)),
        (30, Step::Grant(100, 3_600)),
        (3_600, Step::Expire),
        (3_600, Step::Grant(100, 7_200)),
        (3_700, Step::Charge(20, 3_599)),
        (3_800, Step::Cancel),
    ];
    for (second, step) in steps {
        given.step(second, step).await;
        assert_eq!(given.locked_by(&given.ledger).await, given.locked_by(&ledger_on(&given.stores)).await);
    }
    given.step_of(&other, 3_900, Step::Grant(50, 7_200)).await;
    let read = given.locked_by(&ledger_on(&given.stores)).await;
    assert_eq!([given.locked_by(&given.ledger).await, given.locked_by(&other).await], [read.clone(), read]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_nobody_has_written_since_is_not_read_again() {
    let given = given(Stores::fresh().await).await;
    given.step(0, Step::Grant(100, 3_600)).await;
    given.step(10, Step::Charge(30, 10)).await;
    let before = given.locked_by(&given.ledger).await;
    // By nobody who keeps to the rules: the account's row says nothing of it.
    let mut superuser = given.stores.superuser().await;
    superuser.batch_execute("update grants set priority = 999").await.unwrap();
    assert_eq!(given.locked_by(&given.ledger).await, before);
    assert!(given.locked_by(&ledger_on(&given.stores)).await.contains("priority: 999"));

    // Whatever of the row is written, by whomever.
    superuser.batch_execute("update credit_accounts set parked_reason = parked_reason").await.unwrap();
    assert!(given.locked_by(&given.ledger).await.contains("priority: 999"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_would_have_left_that_was_rolled_back_is_not_remembered() {
    let given = given(Stores::fresh().await).await;
    given.step(0, Step::Grant(100, 3_600)).await;
    let before = given.locked_by(&given.ledger).await;
    let (tenant, customer) = (given.scope.tenant, given.customer);
    let rolled_back = async |tx: &mut db::Connection| {
        let mut accounts = ledger::lock_for_usage(tx, &given.ledger, tenant, &[customer], at(0)).await?;
        let cause = Cause { kind: CauseKind::Cancel, id: Uuid::now_v7() };
        accounts.get_mut(customer)?.revoke_the_plans(cause, at(5))?;
        let writer = ledger::write(tx, tenant, &accounts, at(5)).await?;
        given.ledger.remember(tenant, accounts, writer);
        Err::<(), _>(Error::broken("no"))
    };
    given.db.transaction(tenant, rolled_back).await.unwrap_err();
    assert_eq!(given.locked_by(&given.ledger).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_account_gets_no_hold_whoever_decides() {
    let lone = LoneServers::start("parked-holds").await;
    let given = given(lone.stores()).await;
    given.step(0, Step::Grant(100, 600)).await;
    let ledger = &given.ledger;
    let request = |id: &str| HoldRequest {
        id: id.parse().unwrap(),
        full: credits(10),
        prompt_only: credits(5),
        now: at(1),
        expires_at: at(100),
        fingerprint: Fingerprint::from_bytes([0; 16]),
    };
    let scope = TenantScope { now: at(1), ..given.scope.clone() };
    let hold = async |id: &str| match ledger.hold(&scope, given.customer, &request(id)).await? {
        Decision::Granted(granted) => Ok(granted),
        Decision::OutOfCredits(short) => panic!("{short:?}"),
    };
    hold("before").await.unwrap();

    // Also by the clock of a server that is late.
    ledger.park(&TenantScope { now: at(3), ..scope.clone() }, given.customer, "looked at").await.unwrap();
    assert!(matches!(hold("in-redis").await, Err(Error::Refused(Refusal::AccountParked))));
    lone.servers().stop_redis().unwrap();
    assert!(matches!(hold("in-postgres").await, Err(Error::Refused(Refusal::AccountParked))));
    ledger.unpark(&scope, given.customer).await.unwrap();
    hold("after").await.unwrap();
}
