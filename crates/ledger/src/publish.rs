//! The fifth beat: publish, after the commit.

use std::collections::BTreeMap;
use std::time::Duration;

use db::{Error, Result};
use domain::hold::HoldEnd;
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{TenantScope, Timestamp};
use hot_balances::{AccountKey, Away, Epoch, Projection, Told};

use crate::{Accounts, Ledger, lock, project, still_changing};

/// How long a committed balance is told again and again, where neither Redis nor PostgreSQL takes it: as
/// long as a projection lives that does not have it.
const TELL_AGAIN: Duration = project::LIFE;
const TELL_AGAIN_EVERY: Duration = Duration::from_millis(100);
/// Epochs that one telling goes through.
const TRIES_MAX: usize = 3;

/// The holds that a change ended, and how, by their customers.
pub type EndedHolds = BTreeMap<CustomerId, Vec<(ExternalId, HoldEnd)>>;

/// What was committed, for Redis.
#[derive(Debug)]
pub struct News {
    projections: Vec<(AccountKey, Projection)>,
    ended: EndedHolds,
    now: Timestamp,
}

impl News {
    /// Of accounts as they were left at `now` by a change that ended these holds.
    pub fn of(tenant: TenantId, accounts: &Accounts, ended: EndedHolds, now: Timestamp) -> News {
        let projections =
            accounts.iter().map(|account| (project::key(tenant, account), project::projection(account, now)));
        News { projections: projections.collect(), ended, now }
    }
}

impl Ledger {
    /// Tells Redis an account as it is stored now: for the repeat of a request whose first try may
    /// have died between its commit and its publishing. Refused: `not-found`.
    pub async fn republish(&self, scope: &TenantScope, customer: CustomerId) -> Result<()> {
        let tenant = scope.tenant;
        let accounts = self.db.transaction(tenant, async |tx| lock(tx, tenant, &[customer]).await).await?;
        self.publish(tenant, &accounts, scope.now).await
    }

    /// Tells Redis the committed balances: when this returns, no server decides without them. A Redis that cannot be told is
    /// away, for all servers, and what it has of this epoch is not used again. Where PostgreSQL cannot be told that either,
    /// both are told again until one of them takes it: unavailable until then, and what was committed stays.
    pub async fn publish(&self, tenant: TenantId, accounts: &Accounts, now: Timestamp) -> Result<()> {
        self.publish_news(News::of(tenant, accounts, EndedHolds::new(), now)).await
    }

    /// The same of what is to be told, the ends of holds included.
    pub async fn publish_news(&self, news: News) -> Result<()> {
        let Err(error) = self.tell(&news).await else { return Ok(()) };
        tracing::warn!(%error, "committed balances are told again");
        tokio::spawn(self.clone().tell_again(news));
        Err(Error::Unavailable("what was changed is not known everywhere yet".to_owned()))
    }

    /// Tells Redis balances that it was told before, in the epoch that this server knows. Takes no connection, and waits for
    /// nobody.
    pub(crate) async fn tell_once(
        &self,
        tenant: TenantId,
        accounts: &Accounts,
        now: Timestamp,
    ) -> std::result::Result<(), Away> {
        let Some((epoch, true)) = self.gate.last_seen() else { return Ok(()) };
        let news = News::of(tenant, accounts, EndedHolds::new(), now);
        // Where it is in another epoch, the accounts are loaded there when they are missed.
        self.tell_in(&news, epoch).await.map(|_told| ())
    }

    async fn tell_again(self, news: News) {
        let until = tokio::time::Instant::now() + TELL_AGAIN;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(TELL_AGAIN_EVERY).await;
            if self.tell(&news).await.is_ok() {
                return;
            }
        }
        tracing::error!("committed balances were not published; they are loaded anew by now");
    }

    async fn tell(&self, news: &News) -> Result<()> {
        // Known without PostgreSQL, which may have died right after the commit.
        let mut known = self.gate.last_seen().filter(|(_, is_up)| *is_up).map(|(epoch, _)| epoch);
        for _ in 0..TRIES_MAX {
            let epoch = match known.take() {
                Some(epoch) => epoch,
                None => match self.gate.epoch_to_tell(&self.db, &self.hot).await? {
                    Some(epoch) => epoch,
                    // Others may go on for a moment with what they take for the balance.
                    None => return self.gate.until_settled(&self.db, &self.hot).await,
                },
            };
            match self.tell_in(news, epoch).await {
                Ok(Told::Done) => return Ok(()),
                Ok(Told::Lost) if self.gate.is_beginning(&self.db, &self.hot, epoch).await? => return Ok(()),
                // Emptied, or in a later epoch, in which the accounts may have been loaded before.
                Ok(Told::Lost) => self.gate.redis_is_emptied(&self.db, epoch).await?,
                // Where this epoch was over before, another one may have begun, in which the accounts were loaded before
                // the change: they are told there. It is this connection alone that Redis was away from.
                Err(away) => self.gate.redis_is_away(&self.db, epoch, &away).await?,
            }
        }
        Err(still_changing())
    }

    async fn tell_in(&self, news: &News, epoch: Epoch) -> std::result::Result<Told, Away> {
        let of_accounts = news.projections.iter().map(|(account, projection)| hot_balances::News {
            account: *account,
            projection,
            ended: news.ended.get(&account.customer).map(Vec::as_slice).unwrap_or_default(),
        });
        self.hot.publish(epoch, &of_accounts.collect::<Vec<_>>(), news.now).await
    }
}
