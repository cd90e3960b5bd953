//! A database that has seen a bit of everything, made by the services themselves, and copies of it.

use std::sync::Arc;
use std::time::Duration;

use audit::Audit;
use catalog::Catalogs;
use chrono::TimeDelta;
use db::Db;
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use domain::calendar::Zone;
use domain::credits::RateMilli;
use domain::dispute::DisputeReport;
use domain::id::{CustomerId, InvoiceId, PaymentId, SubscriptionId, TenantId};
use domain::policy::Policies;
use domain::scope::TenantMode;
use domain::term::Term;
use domain::usage::{Outcome, TokenCounts, UsageSource};
use domain::{Currency, Money, TenantScope, Timestamp};
use hot_balances::HotBalances;
use idempotency::RequestKey;
use invoices::Invoices;
use ledger::Ledger;
use payments::Sandbox;
use serde_json::json;
use subscriptions::{CancelAt, NewSubscription, NewUpgrade, PromotionChoice, Subscriptions};
use tenants::{NewCustomer, NewTenant, Tenants, TokenKey};
use testkit::Stores;
use usage::{AuthorizeRequest, EventResult, Usage, UsageEvent};
use uuid::Uuid;

pub const PRO: &str = "mimo-v2-pro";
pub const OMNI: &str = "mimo-v2-omni";

pub fn at(text: &str) -> Timestamp {
    domain::time::parse_rfc3339(text).unwrap()
}

/// The services on one database.
pub struct Services {
    pub tenants: Tenants,
    pub catalogs: Catalogs,
    pub ledger: Ledger,
    pub usage: Usage,
    pub subscriptions: Subscriptions,
    pub audit: Audit,
}

impl Services {
    pub fn on(database_url: &str, redis_url: &str) -> Services {
        let options = db::Options {
            url: database_url.to_owned(),
            connections_max: 4,
            deadline: Duration::from_secs(120),
        };
        let db = Db::new(options).unwrap();
        let hot = HotBalances::new(redis_url, database_url.as_bytes()).unwrap();
        let ledger = Ledger::new(db.clone(), hot);
        // As a server does: a hold that is not recorded for a second stops the next ones.
        let (stopper, stop) = tokio::sync::watch::channel(false);
        let recording = ledger.clone();
        tokio::spawn(async move {
            let _until_the_test_ends = stopper;
            recording.run_journal(stop).await;
        });
        let tenants = Tenants::new(db.clone(), TokenKey::from_pem(&TokenKey::generate().unwrap()).unwrap());
        let catalogs = Catalogs::new(db.clone());
        let usage = Usage::start(db.clone(), catalogs.clone(), ledger.clone());
        let subscriptions = Subscriptions {
            db: db.clone(),
            catalogs: catalogs.clone(),
            ledger: ledger.clone(),
            tenants: tenants.clone(),
            provider: Arc::new(Sandbox),
        };
        let audit = Audit {
            db: db.clone(),
            tenants: tenants.clone(),
            catalogs: catalogs.clone(),
            ledger: ledger.clone(),
            usage: usage.clone(),
        };
        Services { tenants, catalogs, ledger, usage, subscriptions, audit }
    }

    /// A tenant with a test clock that stands at `start`, and the reference catalogue.
    pub async fn tenant(&self, name: &str, start: &str) -> TenantId {
        let tenant = self.tenant_in_real_time(name).await;
        let scope = self.tenants.scope(tenant).await.unwrap();
        self.tenants.set_clock(&scope, at(start)).await.unwrap();
        tenant
    }

    /// The same without a clock of its own.
    pub async fn tenant_in_real_time(&self, name: &str) -> TenantId {
        let policies = Policies::default();
        let new = NewTenant { name: name.to_owned(), mode: TenantMode::Test, zone: Zone::UTC, policies };
        let tenant = self.tenants.create(new).await.unwrap();
        let reference = catalog::parse(catalog::REFERENCE).unwrap();
        let long_ago = at("2026-01-01T00:00:00Z");
        Box::pin(self.catalogs.publish(tenant, reference, long_ago, long_ago)).await.unwrap();
        tenant
    }

    pub async fn scope(&self, tenant: TenantId) -> TenantScope {
        self.tenants.scope(tenant).await.unwrap()
    }

    pub async fn advance(&self, tenant: TenantId, to: &str) {
        Box::pin(self.subscriptions.advance_clock(&self.scope(tenant).await, at(to))).await.unwrap();
    }

    pub async fn customer(&self, tenant: TenantId, name: &str) -> CustomerId {
        let new = NewCustomer { external_id: name.parse().unwrap(), name: None };
        self.tenants.create_customer(&self.scope(tenant).await, new).await.unwrap().id
    }

    /// Whatever comes of it: a payment may be declined.
    pub async fn subscribe(
        &self,
        tenant: TenantId,
        customer: CustomerId,
        plan: &str,
        method: &str,
    ) -> Option<SubscriptionId> {
        self.subscribe_for(tenant, customer, plan, Term::Monthly, method).await
    }

    pub async fn subscribe_for(
        &self,
        tenant: TenantId,
        customer: CustomerId,
        plan: &str,
        term: Term,
        method: &str,
    ) -> Option<SubscriptionId> {
        let new = NewSubscription {
            customer,
            plan_code: plan.to_owned(),
            term,
            currency: Currency::Usd,
            payment_method: method.to_owned(),
            promotion: PromotionChoice::Best,
        };
        let bought = Box::pin(self.subscriptions.subscribe(&self.scope(tenant).await, new, &key())).await;
        bought.ok().map(|bought| bought.subscription.id)
    }

    /// The invoice and the payment of a customer's first cycle.
    async fn first_invoice(&self, tenant: TenantId, customer: CustomerId) -> (InvoiceId, PaymentId) {
        let invoices = Invoices::new(self.subscriptions.db.clone());
        let first = invoices.of_customer(tenant, customer, None, 1).await.unwrap().remove(0);
        (first.id, invoices.read(tenant, first.id).await.unwrap().payments[0].id)
    }

    pub async fn upgrade(&self, tenant: TenantId, subscription: SubscriptionId, plan: &str) {
        let new = NewUpgrade { plan_code: plan.to_owned(), quote: None, payment_method: None };
        Box::pin(self.subscriptions.upgrade(&self.scope(tenant).await, subscription, new, &key()))
            .await
            .unwrap();
    }

    pub async fn authorize(&self, tenant: TenantId, customer: CustomerId, id: &str) {
        let request = AuthorizeRequest {
            id: id.parse().unwrap(),
            customer,
            model: PRO.parse().unwrap(),
            prompt: tokens(1_000, 0),
            output_tokens_max: Some(100),
        };
        Box::pin(self.usage.authorize(&self.scope(tenant).await, request)).await.unwrap();
    }

    pub async fn void(&self, tenant: TenantId, id: &str) {
        let scope = self.scope(tenant).await;
        Box::pin(self.usage.void(&scope, "urn:test", id, "the gateway counted a retry", None)).await.unwrap();
    }

    pub async fn record(&self, tenant: TenantId, events: Vec<UsageEvent>) -> Vec<EventResult> {
        Box::pin(self.usage.record(&self.scope(tenant).await, events)).await.unwrap()
    }
}

pub fn key() -> RequestKey {
    RequestKey::new(Some(&Uuid::now_v7().to_string()), "POST", "/test", &json!({})).unwrap()
}

pub fn tokens(input: u64, output: u64) -> TokenCounts {
    TokenCounts { input, cache_read: 0, cache_write: 0, output, reasoning: 0 }
}

pub fn event(customer: CustomerId, id: &str, model: &str, usage: TokenCounts) -> UsageEvent {
    UsageEvent {
        source: "urn:test".into(),
        id: id.into(),
        customer,
        model: model.parse().unwrap(),
        usage: usage.into(),
        outcome: Outcome::Completed,
        usage_source: UsageSource::Provider,
        time: None,
        authorization: None,
        api_key: None,
        first_received_at: None,
        is_backfill: false,
    }
}

/// Who is who in the lively database.
#[derive(Debug, Clone, Copy)]
pub struct Cast {
    pub tenant: TenantId,
    pub other_tenant: TenantId,
    /// Upgraded, ran through two cycles, was late once, captured and released holds.
    pub ada: CustomerId,
    /// Ran out.
    pub bob: CustomerId,
    /// Canceled at once.
    pub carol: CustomerId,
    /// Two cycles of pro.
    pub grace: CustomerId,
    /// A bystander that nothing is done to.
    pub heidi: CustomerId,
    /// Never paid.
    pub erin: CustomerId,
    /// Had usage voided: in its cycle, after it, and more than there was.
    pub ivan: CustomerId,
    /// Paid for a year.
    pub judy: CustomerId,
    /// Her card does not pay the second renewal.
    pub kate: CustomerId,
    /// Got half of its money back.
    pub nina: CustomerId,
    /// Lost its money's worth to a dispute, and is suspended.
    pub mallory: CustomerId,
}

const GOOD: &str = "pm_sandbox_succeeds";

/// Two tenants, thirteen customers, two cycles and a bit.
pub async fn live(services: &Services) -> Cast {
    let tenant = services.tenant("Lively", "2026-01-31T10:00:00Z").await;
    let ada = services.customer(tenant, "ada").await;
    let ada_buys = services.subscribe(tenant, ada, "lite", &format!("{GOOD}:ada")).await.unwrap();
    let bob = services.customer(tenant, "bob").await;
    services.subscribe(tenant, bob, "lite", &format!("{GOOD}:bob")).await.unwrap();
    let carol = services.customer(tenant, "carol").await;
    let carol_buys = services.subscribe(tenant, carol, "standard", GOOD).await.unwrap();
    let grace = services.customer(tenant, "grace").await;
    services.subscribe(tenant, grace, "pro", GOOD).await.unwrap();
    let heidi = services.customer(tenant, "heidi").await;
    services.subscribe(tenant, heidi, "pro", GOOD).await.unwrap();
    let nina = services.customer(tenant, "nina").await;
    services.subscribe(tenant, nina, "lite", &format!("{GOOD}:nina")).await.unwrap();
    let (invoice, _) = services.first_invoice(tenant, nina).await;
    let scope = services.scope(tenant).await;
    Box::pin(services.subscriptions.refund_invoice(&scope, invoice, Some(36), None, &key())).await.unwrap();
    let mallory = services.customer(tenant, "mallory").await;
    services.subscribe(tenant, mallory, "lite", &format!("{GOOD}:mallory")).await.unwrap();
    let (_, payment) = services.first_invoice(tenant, mallory).await;
    let disputed = Money { amount_minor: 72, currency: Currency::Usd };
    services
        .subscriptions
        .apply_dispute(&scope, payment, "dp_1", DisputeReport::Lost, disputed, scope.now)
        .await
        .unwrap();
    let dave = services.customer(tenant, "dave").await;
    services.subscribe(tenant, dave, "lite", "pm_sandbox_declines").await;
    let erin = services.customer(tenant, "erin").await;
    services.subscribe(tenant, erin, "lite", "pm_sandbox_pends").await;

    let ivan = services.customer(tenant, "ivan").await;
    services.subscribe(tenant, ivan, "lite", &format!("{GOOD}:ivan")).await.unwrap();

    let judy = services.customer(tenant, "judy").await;
    services.subscribe_for(tenant, judy, "lite", Term::Annual, &format!("{GOOD}:judy")).await.unwrap();
    let kate = services.customer(tenant, "kate").await;
    let kate_buys = services.subscribe(tenant, kate, "lite", &format!("{GOOD}:kate")).await.unwrap();

    services.advance(tenant, "2026-02-02T08:00:00Z").await;
    services.authorize(tenant, ada, "hold-1").await;
    services.authorize(tenant, ada, "hold-2").await;
    let mut captures = event(ada, "ada-held", PRO, tokens(1_000, 90));
    captures.authorization = Some("hold-1".parse().unwrap());
    services.record(tenant, vec![captures]).await;
    let scope = services.scope(tenant).await;
    Box::pin(services.usage.release(&scope, ada, &"hold-2".parse().unwrap())).await.unwrap();
    // Both bands, another model, a free one, one without a rate.
    services
        .record(
            tenant,
            vec![
                event(ada, "ada-1", PRO, tokens(262_144, 10)),
                event(ada, "ada-2", PRO, tokens(262_145, 10)),
                event(ada, "ada-3", OMNI, tokens(500, 500)),
                event(ada, "ada-free", "mimo-v2-tts", tokens(500, 500)),
                event(ada, "ada-unrated", "mimo-v2-flash", tokens(500, 500)),
                event(grace, "grace-1", PRO, tokens(10_000, 500)),
                event(carol, "carol-1", PRO, tokens(10_000, 500)),
            ],
        )
        .await;
    services.upgrade(tenant, ada_buys, "standard").await;

    services.advance(tenant, "2026-02-10T08:00:00Z").await;
    // 16 x 4,194,304: more than lite's pool, so the upgrade's grant is drawn upon next.
    let long = (0..16).map(|n| event(ada, &format!("ada-long-{n}"), PRO, tokens(1_048_576, 0))).collect();
    services.record(tenant, long).await;
    // 15 x 4,194,304 = 62,914,560: 2,914,560 more than bob has.
    let long = (0..15).map(|n| event(bob, &format!("bob-long-{n}"), PRO, tokens(1_048_576, 0))).collect();
    services.record(tenant, long).await;
    let scope = services.scope(tenant).await;
    services
        .subscriptions
        .cancel(&scope, carol_buys, CancelAt::Once { refund: false }, &key())
        .await
        .unwrap();
    // The last of 15 calls of 4,194,304 is 2,914,560 more than ivan has; the first is voided with it.
    let long = (0..15).map(|n| event(ivan, &format!("ivan-long-{n}"), PRO, tokens(1_048_576, 0))).collect();
    services.record(tenant, long).await;
    services.void(tenant, "ivan-long-14").await;
    services.void(tenant, "ivan-long-0").await;

    // From the middle of February on, mimo-v2-omni costs twice as much.
    let mut dearer = catalog::parse(catalog::REFERENCE).unwrap();
    let omni = dearer.models.iter_mut().find(|model| model.code == OMNI).unwrap();
    omni.bands[0].credit_rates_milli = Some(domain::catalog::CreditRates::Uniform(RateMilli(2_000)));
    let middle = at("2026-02-15T00:00:00Z");
    Box::pin(services.catalogs.publish(tenant, dearer, middle, scope.now)).await.unwrap();
    services.advance(tenant, "2026-02-20T08:00:00Z").await;
    services
        .record(
            tenant,
            vec![
                event(ada, "ada-dearer", OMNI, tokens(1_000, 0)),
                event(grace, "grace-2", OMNI, tokens(1_000, 0)),
            ],
        )
        .await;

    // Cycles end on 28 February at 10:00; what ada used before is told half an hour later.
    services.advance(tenant, "2026-02-28T10:30:00Z").await;
    let mut late = event(ada, "ada-late", PRO, tokens(10_000, 0));
    late.time = Some(at("2026-02-28T10:00:00Z") - TimeDelta::minutes(5));
    let mut too_late = event(bob, "bob-too-late", PRO, tokens(10_000, 0));
    too_late.time = Some(at("2026-02-28T10:00:00Z") - TimeDelta::hours(30));
    services.record(tenant, vec![late, event(ada, "ada-march", PRO, tokens(10_000, 0)), too_late]).await;
    // Of a cycle that is over: it expires at once, and is late usage's again.
    services.void(tenant, "ivan-long-1").await;
    let mut late = event(ivan, "ivan-late", PRO, tokens(1_000_000, 0));
    late.time = Some(at("2026-02-28T10:00:00Z") - TimeDelta::minutes(5));
    services.record(tenant, vec![late]).await;
    services.void(tenant, "ivan-late").await;
    let (scope, declines) = (services.scope(tenant).await, "pm_sandbox_declines");
    Box::pin(services.subscriptions.set_payment_method(&scope, kate_buys, declines, &key())).await.unwrap();
    services.advance(tenant, "2026-04-02T08:00:00Z").await;
    services.record(tenant, vec![event(ada, "ada-april", PRO, tokens(10_000, 0))]).await;
    services.record(tenant, vec![event(ada, "ada-last", PRO, tokens(20_000, 0))]).await;

    let other_tenant = services.tenant("Other", "2026-03-01T00:00:00Z").await;
    let fay = services.customer(other_tenant, "fay").await;
    services.subscribe(other_tenant, fay, "pro", GOOD).await.unwrap();
    services.record(other_tenant, vec![event(fay, "fay-1", PRO, tokens(10_000, 0))]).await;
    Cast { tenant, other_tenant, ada, bob, carol, grace, heidi, erin, ivan, judy, kate, nina, mallory }
}

/// A database to copy, that nobody is connected to.
pub struct Template {
    stores: Stores,
    pub cast: Cast,
}

impl Template {
    pub async fn build() -> Template {
        let stores = Stores::fresh().await;
        let services = Services::on(&stores.database_url, &stores.redis_url);
        let cast = live(&services).await;
        Template { stores, cast }
    }

    /// A copy of it, with services on it, and a connection that may break it.
    pub async fn copy(&self, number: usize) -> (Services, AsyncPgConnection) {
        let (server, name) = self.stores.superuser_url.rsplit_once('/').unwrap();
        let mut admin = AsyncPgConnection::establish(&format!("{server}/postgres")).await.unwrap();
        let copy = format!("{name}_copy_{number}");
        // Pools close their connections a moment after they are dropped.
        admin
            .batch_execute(&format!(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
            ))
            .await
            .unwrap();
        admin.batch_execute(&format!("create database {copy} template {name}")).await.unwrap();
        let services = Services::on(&self.stores.database_url.replace(name, &copy), &self.stores.redis_url);
        let superuser = AsyncPgConnection::establish(&format!("{server}/{copy}")).await.unwrap();
        (services, superuser)
    }

    pub async fn drop_copy(&self, number: usize) {
        let (server, name) = self.stores.superuser_url.rsplit_once('/').unwrap();
        let mut admin = AsyncPgConnection::establish(&format!("{server}/postgres")).await.unwrap();
        admin.batch_execute(&format!("drop database {name}_copy_{number} with (force)")).await.unwrap();
    }
}
