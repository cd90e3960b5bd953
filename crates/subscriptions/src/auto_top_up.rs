//! Buys the top-up that a customer is set to, because the Credits ran out (R-30 `topup`): one in flight, at most so
//! many a cycle, or without one a calendar month, and none for a while after one has failed.

use chrono::TimeDelta;
use db::{Connection, Error, Result};
use domain::catalog::Catalog;
use domain::exhaustion::Exhaustion;
use domain::id::{CustomerId, PurchaseId};
use domain::{Refusal, TenantScope, Timestamp};
use uuid::Uuid;

use crate::roll_over::BATCH;
use crate::subscribe::Bought;
use crate::top_up::{Terms, open};
use crate::{Subscriptions, store};

/// What came of looking for top-ups that are to be bought.
#[derive(Default)]
pub(crate) struct TopUps {
    pub(crate) any_bought: bool,
    /// Those of customers who wait for one that is being paid, by whomever: it may not be enough.
    pub(crate) in_flight: Vec<PurchaseId>,
    /// Why one was not looked for, where it is worth another try.
    pub(crate) unavailable: Option<Error>,
}

/// What came of looking for one.
enum Buying {
    Opened(Bought),
    InFlight(PurchaseId),
    /// None is to be bought, or may be.
    Nothing,
}

impl Subscriptions {
    /// Buys one if the customer is set to, is down to where one is bought, and may: else nothing happens. Where that was not
    /// enough, another one.
    pub(crate) async fn top_up_automatically(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
    ) -> Result<TopUps> {
        let mut found = TopUps::default();
        let history = self.catalogs.history(scope.tenant).await?;
        let Some(catalog) = history.at(scope.now) else { return Ok(found) };
        loop {
            let buying =
                self.db.transaction(scope.tenant, async |tx| buy(tx, scope, catalog, customer).await).await?;
            let Bought { invoice, accounts } = match buying {
                Buying::Opened(bought) => bought,
                Buying::InFlight(purchase) => {
                    found.in_flight.push(purchase);
                    return Ok(found);
                }
                Buying::Nothing => return Ok(found),
            };
            found.any_bought = true;
            self.publish(scope, accounts).await?;
            self.collect_in_flight(scope, invoice).await?;
            if self.sold(scope, invoice).await?.sale.granted_at.is_none() {
                return Ok(found);
            }
        }
    }

    /// The same for all who wait for one: a cool-off that is over, a cycle that is new, a job that was lost.
    pub(crate) async fn top_up_all(&self, scope: &TenantScope) -> Result<TopUps> {
        let tenant = scope.tenant;
        let mut found = TopUps::default();
        let mut after = None;
        loop {
            let waiting = self
                .db
                .transaction(tenant, async |tx| {
                    store::payg::waiting_for_top_up(tx, tenant, scope.now, after, BATCH).await
                })
                .await?;
            let Some(last) = waiting.last() else { return Ok(found) };
            after = Some(*last);
            for customer in waiting {
                match self.top_up_automatically(scope, customer).await {
                    Ok(of_customer) => {
                        found.any_bought |= of_customer.any_bought;
                        found.in_flight.extend(of_customer.in_flight);
                    }
                    // The others go on; this one waits for the next run.
                    Err(error) => {
                        tracing::warn!(%customer, %error, "no top-up was bought");
                        let is_worth_a_try = matches!(error, Error::Unavailable(_));
                        found.unavailable = found.unavailable.or(is_worth_a_try.then_some(error));
                    }
                }
            }
        }
    }
}

async fn buy(
    tx: &mut Connection,
    scope: &TenantScope,
    catalog: &Catalog,
    customer: CustomerId,
) -> Result<Buying> {
    let (tenant, now) = (scope.tenant, scope.now);
    // Whoever subscribes or buys for the customer at the same time waits here.
    store::subscriptions::lock_customer(tx, tenant, customer).await?;
    let settings = store::payg::settings(tx, tenant, customer).await?;
    let mut accounts = ledger::lock(tx, tenant, &[customer]).await?;
    let account = accounts.get_mut(customer)?;
    let overflow = *account.overflow();
    // Nobody pays for what an operator, or a lost dispute, has stopped.
    let is_low = overflow.top_up_at.is_some_and(|at| account.level(now).available <= at);
    let may = is_low && overflow.tops_up(&scope.policies, now) && account.check_authorizes().is_ok();
    let Some(top_up) = settings.top_up.filter(|_| may) else { return Ok(Buying::Nothing) };
    if let Some(purchase) = store::payg::automatic_in_flight(tx, tenant, customer).await? {
        return Ok(Buying::InFlight(purchase));
    }
    if store::payg::has_moved_on(tx, tenant, now).await? {
        // What is due there is bought there.
        return Ok(Buying::Nothing);
    }
    let cycle = store::payg::running_cycle(tx, tenant, customer).await?;
    let is_over = cycle.is_some_and(|(_, end)| end <= now);
    if is_over || store::payg::is_renewal_collected(tx, tenant, customer).await? {
        // Its plan may go on this very moment: whoever sees to that looks here after it.
        return Ok(Buying::Nothing);
    }
    let (since, until) = cycle.unwrap_or((scope.zone.month_start(now), scope.zone.month_end(now)));
    if store::payg::automatic_since(tx, tenant, customer, since).await? >= top_up.per_cycle_max {
        account.block_top_ups(until);
        ledger::write(tx, tenant, &accounts, now).await?;
        return Ok(Buying::Nothing);
    }
    let sold = catalog.top_up(&top_up.code).and_then(|sold| sold.price(top_up.currency).map(|_| sold));
    let method = store::sales::saved_method(tx, tenant, customer).await?;
    let (Ok(sold), Some(method)) = (sold, method) else {
        // No longer sold, or nothing to pay with: looked at again after the cool-off.
        account.block_top_ups(cool_off(top_up.cool_off_minutes, now)?);
        ledger::write(tx, tenant, &accounts, now).await?;
        return Ok(Buying::Nothing);
    };
    let id = PurchaseId::from_uuid(Uuid::now_v7());
    let terms = Terms { currency: top_up.currency, method, is_automatic: true };
    open(tx, scope, catalog, sold, (id, customer), terms).await.map(Buying::Opened)
}

fn cool_off(minutes: u32, now: Timestamp) -> std::result::Result<Timestamp, Refusal> {
    now.checked_add_signed(TimeDelta::minutes(minutes.into())).ok_or(Refusal::AmountOverflow)
}

/// Until when none is bought after one has failed.
pub(crate) async fn blocked_until(
    tx: &mut Connection,
    scope: &TenantScope,
    customer: CustomerId,
) -> Result<Timestamp> {
    let settings = store::payg::settings(tx, scope.tenant, customer).await?;
    let minutes = settings.top_up.map_or(0, |top_up| top_up.cool_off_minutes);
    Ok(cool_off(minutes, scope.now)?)
}

/// As the database calls those who are set to it.
pub(crate) fn topping_up() -> &'static str {
    Exhaustion::TopUp.name()
}
