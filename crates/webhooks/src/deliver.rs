//! Sends what is due to one endpoint.

use std::time::Duration;

use db::{Error, Result};
use domain::id::{EndpointId, TenantId};
use futures_util::future::join_all;
use tokio::time::Instant;
use url::Url;

use crate::secret::Secret;
use crate::send::Answer;
use crate::store::{self, Attempt, AttemptEnd, Delivery, Leased};
use crate::{Webhooks, retry};

/// Messages under way to one endpoint at a time.
const BATCH: i64 = 8;
/// After this long no further batch is begun. With the last one's timeout it is far less than the lease.
const RUN_MAX: Duration = Duration::from_secs(10);
/// How long an endpoint stays a dead worker's.
const LEASE: Duration = Duration::from_secs(60);

impl Webhooks {
    /// Sends until nothing is due, or for [`RUN_MAX`]. Does nothing where another job is at it.
    pub(crate) async fn deliver(&self, tenant: TenantId, id: EndpointId) -> Result<()> {
        let leased =
            self.db.transaction(tenant, async |tx| store::lease(tx, tenant, id, LEASE).await).await?;
        let Some(endpoint) = leased else { return Ok(()) };
        // After an error the lease is left to run out, so that what is broken is not tried all the time.
        self.deliver_leased(tenant, id, &endpoint).await?;
        self.db.transaction(tenant, async |tx| store::release(tx, tenant, id, &endpoint).await).await
    }

    async fn deliver_leased(&self, tenant: TenantId, id: EndpointId, endpoint: &Leased) -> Result<()> {
        let url = Url::parse(&endpoint.url).map_err(|_| Error::broken(format!("the URL of {id}")))?;
        let secret = self.key.open(&endpoint.sealed_secret, tenant, id)?;
        let started = Instant::now();
        while started.elapsed() < RUN_MAX {
            let due = self.db.transaction(tenant, async |tx| store::due(tx, tenant, id, BATCH).await).await?;
            if due.is_empty() {
                break;
            }
            let attempts = self.attempt(&url, &secret, &due).await?;
            self.record(tenant, id, &attempts).await?;
        }
        Ok(())
    }

    /// Sends these, at the same time. No transaction is open.
    async fn attempt(&self, url: &Url, secret: &Secret, due: &[Delivery]) -> Result<Vec<Attempt>> {
        let client = self.sender.client().await?;
        let answers = join_all(due.iter().map(|delivery| self.sender.send(client, url, secret, delivery)));
        let ended = answers.await.into_iter().zip(due).map(|(answer, delivery)| {
            let end = match answer {
                Answer::Delivered { status } => AttemptEnd::Delivered { status },
                Answer::Gone => AttemptEnd::Gone,
                Answer::Failed { status, error } => {
                    let pause = retry::pause(delivery.attempts + 1, delivery.event);
                    AttemptEnd::Failed { status, error, pause }
                }
            };
            Attempt { event: delivery.event, attempts_before: delivery.attempts, end }
        });
        Ok(ended.collect())
    }

    async fn record(&self, tenant: TenantId, id: EndpointId, attempts: &[Attempt]) -> Result<()> {
        let is_gone = attempts.iter().any(|attempt| attempt.end == AttemptEnd::Gone);
        self.db
            .transaction(tenant, async |tx| {
                if is_gone {
                    store::disable(tx, tenant, id).await?;
                }
                store::record(tx, tenant, id, attempts).await?;
                if is_gone {
                    store::give_up_waiting(tx, tenant, id, "the endpoint is gone (410)").await?;
                }
                Ok(())
            })
            .await?;
        if is_gone {
            tracing::warn!(%tenant, endpoint = %id, "a webhook endpoint answered 410 and was disabled");
        }
        let dead = attempts
            .iter()
            .filter(|attempt| matches!(attempt.end, AttemptEnd::Failed { pause: None, .. }))
            .count();
        if dead > 0 {
            tracing::warn!(%tenant, endpoint = %id, dead, "webhooks failed for the last time");
        }
        Ok(())
    }
}
