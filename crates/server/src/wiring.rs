//! Makes the services of their parts: the only place where they meet.

use std::sync::Arc;
use std::time::Duration;

use adjustments::Adjustments;
use audit::Audit;
use catalog::Catalogs;
use db::Db;
use hot_balances::HotBalances;
use idempotency::Idempotency;
use invoices::Invoices;
use ledger::Ledger;
use provider_accounts::{CredentialKey, ProviderAccounts};
use provider_events::ProviderEvents;
use scheduler::{Slot, Tick, Ticker, Worker, handler};
use stripe::Stripe;
use subscriptions::{Subscriptions, jobs};
use tenants::{Tenants, TokenKey};
use usage::{MonthsKept, Usage};
use webhooks::{WebhookKey, Webhooks};

use crate::config::Settings;
use crate::shutdown::Stop;

/// A request's transactions end within this, or answer 503: a gateway waits two seconds at most.
const REQUEST_DEADLINE: Duration = Duration::from_millis(1_800);
/// A job may wait longer for a lock or a slow disk.
const JOB_DEADLINE: Duration = Duration::from_secs(60);
/// A query over all of a tenant's history, that somebody asked for by hand.
const CHECK_DEADLINE: Duration = Duration::from_secs(1_800);
/// How long one call to Stripe may take: it may have to wait for a bank.
const STRIPE_TIMEOUT: Duration = Duration::from_secs(8);
const REQUEST_CONNECTIONS: usize = 16;
const JOB_CONNECTIONS: usize = 8;
/// Endpoints that are sent to at the same time.
const WEBHOOK_JOBS_MAX: usize = 32;

/// Who waits for the answer.
#[derive(Clone, Copy)]
pub(crate) enum For {
    Requests,
    Jobs,
    Checks,
}

/// The services, wired to one pool.
pub(crate) struct Services {
    pub(crate) db: Db,
    pub(crate) tenants: Tenants,
    pub(crate) catalogs: Catalogs,
    pub(crate) ledger: Ledger,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) webhooks: Webhooks,
    pub(crate) provider_accounts: ProviderAccounts,
    pub(crate) provider_events: ProviderEvents,
    pub(crate) idempotency: Idempotency,
}

impl Services {
    pub(crate) fn new(settings: &Settings, waits: For) -> anyhow::Result<Services> {
        let Settings { stores, secrets, webhook_allow, stripe_api } = settings;
        let (deadline, connections_max) = match waits {
            For::Requests => (REQUEST_DEADLINE, REQUEST_CONNECTIONS),
            For::Jobs => (JOB_DEADLINE, JOB_CONNECTIONS),
            For::Checks => (CHECK_DEADLINE, JOB_CONNECTIONS),
        };
        let url = stores.postgres.database_url.clone();
        let db = Db::new(db::Options { url, connections_max, deadline })?;
        let hot = HotBalances::new(&stores.redis_url, &secrets.balance_secret)?;
        let ledger = Ledger::new(db.clone(), hot);
        let tenants = Tenants::new(db.clone(), TokenKey::from_pem(&secrets.token_key_pem)?);
        let catalogs = Catalogs::new(db.clone());
        let stripe = Stripe::new(stripe::Options { api: stripe_api.clone(), timeout: STRIPE_TIMEOUT })?;
        let credential_key = CredentialKey::derive(&secrets.balance_secret)?;
        let provider_accounts = ProviderAccounts::new(db.clone(), credential_key, stripe);
        let subscriptions = Subscriptions {
            db: db.clone(),
            catalogs: catalogs.clone(),
            ledger: ledger.clone(),
            tenants: tenants.clone(),
            provider: Arc::new(provider_accounts.clone()),
        };
        let provider_events = ProviderEvents {
            db: db.clone(),
            tenants: tenants.clone(),
            accounts: provider_accounts.clone(),
            subscriptions: subscriptions.clone(),
        };
        let webhook_key = WebhookKey::derive(&secrets.balance_secret)?;
        let webhooks = Webhooks::new(db.clone(), webhook_key, webhook_allow.clone());
        let idempotency = Idempotency::new(db.clone());
        Ok(Services {
            db,
            tenants,
            catalogs,
            ledger,
            subscriptions,
            webhooks,
            provider_accounts,
            provider_events,
            idempotency,
        })
    }

    /// Refuses to serve with a login that no wall between tenants holds. A database that is away says
    /// nothing of it: what cannot connect cannot do harm either.
    pub(crate) async fn check_login(&self) -> anyhow::Result<()> {
        match self.db.check_login().await {
            Err(error @ db::Error::Unavailable(_)) => {
                tracing::warn!(%error, "starting without the database");
                Ok(())
            }
            answer => Ok(answer?),
        }
    }

    /// Checks what is stored. Starts gathering usage, for what un-parking charges.
    pub(crate) fn audit(&self) -> Audit {
        Audit {
            db: self.db.clone(),
            tenants: self.tenants.clone(),
            catalogs: self.catalogs.clone(),
            ledger: self.ledger.clone(),
            usage: Usage::start(self.db.clone(), self.catalogs.clone(), self.ledger.clone()),
        }
    }

    fn adjustments(&self) -> Adjustments {
        Adjustments { db: self.db.clone(), ledger: self.ledger.clone(), tenants: self.tenants.clone() }
    }

    /// What the API's handlers use. Starts gathering usage.
    pub(crate) fn for_api(&self) -> api::Services {
        api::Services {
            db: self.db.clone(),
            tenants: self.tenants.clone(),
            catalogs: self.catalogs.clone(),
            ledger: self.ledger.clone(),
            usage: Usage::start(self.db.clone(), self.catalogs.clone(), self.ledger.clone()),
            invoices: Invoices::new(self.db.clone()),
            subscriptions: self.subscriptions.clone(),
            adjustments: self.adjustments(),
            webhooks: self.webhooks.clone(),
            provider_accounts: self.provider_accounts.clone(),
            provider_events: self.provider_events.clone(),
            idempotency: self.idempotency.clone(),
        }
    }

    /// Does jobs, and ticks, until told to stop; returns when the running jobs have ended.
    pub(crate) async fn work(&self, months_kept: Option<MonthsKept>, stop: Stop) -> anyhow::Result<()> {
        let usage = Usage::start(self.db.clone(), self.catalogs.clone(), self.ledger.clone());
        usage.open_months(chrono::Utc::now()).await?;
        let ticks = [
            &TICKS[..],
            &webhooks::jobs::TICKS,
            &audit::jobs::TICKS,
            &usage::jobs::TICKS,
            &provider_events::jobs::TICKS,
        ]
        .concat();
        let ticker = Ticker::start(self.db.clone(), &ticks).await?;
        let subscriptions = Arc::new(self.subscriptions.clone());
        let audit = Arc::new(self.audit());
        let (sweep, sweeping) = audit::jobs::sweeping(audit.clone());
        let mut worker = Worker::new(self.db.clone(), scheduler::Options::default()).on(sweep, sweeping);
        for (kind, handler) in jobs::handlers(&subscriptions) {
            worker = worker.on(kind, handler);
        }
        for (kind, handler) in adjustments::jobs::handlers(&Arc::new(self.adjustments())) {
            worker = worker.on(kind, handler);
        }
        for (kind, handler) in usage::jobs::handlers(&usage, &self.tenants, months_kept) {
            worker = worker.on(kind, handler);
        }
        for (kind, handler) in provider_events::jobs::handlers(&Arc::new(self.provider_events.clone())) {
            worker = worker.on(kind, handler);
        }
        let idempotency = self.idempotency.clone();
        let prune = handler(move |_| {
            let idempotency = idempotency.clone();
            async move { idempotency.prune(chrono::Utc::now()).await.map(drop) }
        });
        let ledger = self.ledger.clone();
        let prune_holds = handler(move |_| {
            let ledger = ledger.clone();
            async move { ledger.prune_holds(chrono::Utc::now()).await.map(drop) }
        });
        let worker = worker.on(PRUNE_IDEMPOTENCY_KEYS, prune).on(PRUNE_HOLDS, prune_holds);
        tokio::join!(
            worker.run(stop.clone()),
            self.webhook_worker().run(stop.clone()),
            self.verifying_worker(&audit).run(stop.clone()),
            self.rereading_worker().run(stop)
        );
        ticker.stop().await?;
        Ok(())
    }

    /// All tenants' books are due at once, each hour, and no other job waits for that. One at a time: they are read as a whole.
    fn verifying_worker(&self, audit: &Arc<Audit>) -> Worker {
        let options = scheduler::Options { jobs_max: 1, ..scheduler::Options::default() };
        let worker = Worker::new(self.db.clone(), options);
        let handlers = audit::jobs::verifying(audit);
        handlers.into_iter().fold(worker, |worker, (kind, handler)| worker.on(kind, handler))
    }

    /// All tenants' accounts are looked through at once, so where the provider does not answer no other job waits for that.
    fn rereading_worker(&self) -> Worker {
        let (kind, handler) = provider_events::jobs::rereading(Arc::new(self.provider_events.clone()));
        Worker::new(self.db.clone(), scheduler::Options::default()).on(kind, handler)
    }

    /// Webhooks wait for other people's servers, so no other job waits for them.
    fn webhook_worker(&self) -> Worker {
        let options = scheduler::Options { jobs_max: WEBHOOK_JOBS_MAX, ..scheduler::Options::default() };
        let worker = Worker::new(self.db.clone(), options);
        let handlers = webhooks::jobs::handlers(&Arc::new(self.webhooks.clone()));
        handlers.into_iter().fold(worker, |worker, (kind, handler)| worker.on(kind, handler))
    }
}

const PRUNE_HOLDS: &str = "prune_holds";
const PRUNE_IDEMPOTENCY_KEYS: &str = "prune_idempotency_keys";

/// What the clock enqueues. Due work is looked for each minute: renewals, expiries, purchases that
/// nobody paid.
const TICKS: [Tick; 3] = [
    Tick { kind: jobs::FIND_DUE, schedule: "0 * * * * *", slot: Slot::Minute },
    Tick { kind: PRUNE_HOLDS, schedule: "0 15 * * * *", slot: Slot::Hour },
    Tick { kind: PRUNE_IDEMPOTENCY_KEYS, schedule: "0 30 * * * *", slot: Slot::Hour },
];
