//! Runs of campaigns, and whom they come to.

use std::collections::BTreeSet;

use db::schema::{campaign_tags, campaigns, customers};
use db::{Connection, Result};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::id::{ApiKeyId, CampaignId, CustomerId, TenantId};
use domain::subscription::Status;
use domain::{Credits, Refusal, Timestamp};
use uuid::Uuid;

use super::by_name;
use crate::campaign::{Campaign, CampaignState, NewCampaign};

#[derive(Queryable, Selectable)]
#[diesel(table_name = campaigns, check_for_backend(diesel::pg::Pg))]
struct Row {
    campaign_id: Uuid,
    tag: String,
    reason: String,
    made_by: Uuid,
    state: String,
    granted: i64,
    skipped: i64,
    requested_at: Timestamp,
    finished_at: Option<Timestamp>,
}

/// What a tag gives.
type Gift = (i64, Option<Timestamp>);

fn campaign((row, (credits, expires_at)): (Row, Gift)) -> Result<Campaign> {
    Ok(Campaign {
        id: CampaignId::from_uuid(row.campaign_id),
        tag: row.tag,
        credits: Credits::new(credits)?,
        expires_at,
        reason: row.reason,
        made_by: ApiKeyId::from_uuid(row.made_by),
        state: by_name(&CampaignState::ALL, CampaignState::name, &row.state)?,
        granted: row.granted,
        skipped: row.skipped,
        requested_at: row.requested_at,
        finished_at: row.finished_at,
    })
}

/// Where a run is, and whom it is for.
#[derive(Queryable, Selectable)]
#[diesel(table_name = campaigns, check_for_backend(diesel::pg::Pg))]
pub(crate) struct Place {
    done_to: Uuid,
    customers: Option<Vec<Uuid>>,
    plan_code: Option<String>,
    status: Option<String>,
    used_from: Option<Timestamp>,
    used_to: Option<Timestamp>,
}

/// What a batch has done.
pub(crate) struct Step {
    /// The last customer that was looked at; none where none was left.
    pub(crate) done_to: Option<CustomerId>,
    pub(crate) granted: i64,
    pub(crate) skipped: i64,
    pub(crate) is_last: bool,
}

/// Those of these customers that are there.
pub(crate) async fn known(
    tx: &mut Connection,
    tenant: TenantId,
    asked: &[CustomerId],
) -> Result<BTreeSet<CustomerId>> {
    let ids: Vec<Uuid> = asked.iter().map(|customer| customer.uuid()).collect();
    let found: Vec<Uuid> = customers::table
        .filter(customers::tenant_id.eq(tenant.uuid()))
        .filter(customers::customer_id.eq_any(ids))
        .select(customers::customer_id)
        .load(tx)
        .await?;
    Ok(found.into_iter().map(CustomerId::from_uuid).collect())
}

/// Keeps what the tag gives. False where it gives something else already.
pub(crate) async fn keep_tag(tx: &mut Connection, tenant: TenantId, new: &NewCampaign) -> Result<bool> {
    diesel::insert_into(campaign_tags::table)
        .values((
            campaign_tags::tenant_id.eq(tenant.uuid()),
            campaign_tags::tag.eq(new.tag.as_str()),
            campaign_tags::credits.eq(new.credits.get()),
            campaign_tags::expires_at.eq(new.expires_at),
        ))
        .on_conflict_do_nothing()
        .execute(tx)
        .await?;
    let gift: Gift = campaign_tags::table
        .find((tenant.uuid(), new.tag.as_str()))
        .select((campaign_tags::credits, campaign_tags::expires_at))
        .first(tx)
        .await?;
    Ok(gift == (new.credits.get(), new.expires_at))
}

pub(crate) async fn insert(
    tx: &mut Connection,
    tenant: TenantId,
    id: CampaignId,
    new: &NewCampaign,
    now: Timestamp,
) -> Result<()> {
    let named = new.selection.customers.as_ref();
    let named: Option<Vec<Uuid>> = named.map(|all| all.iter().map(|customer| customer.uuid()).collect());
    diesel::insert_into(campaigns::table)
        .values((
            campaigns::tenant_id.eq(tenant.uuid()),
            campaigns::campaign_id.eq(id.uuid()),
            campaigns::tag.eq(new.tag.as_str()),
            campaigns::reason.eq(&new.reason),
            campaigns::made_by.eq(new.made_by.uuid()),
            campaigns::customers.eq(named),
            campaigns::plan_code.eq(&new.selection.plan_code),
            campaigns::status.eq(new.selection.status.map(Status::name)),
            campaigns::used_from.eq(new.selection.had_usage.map(|(from, _)| from)),
            campaigns::used_to.eq(new.selection.had_usage.map(|(_, to)| to)),
            campaigns::state.eq(CampaignState::Queued.name()),
            campaigns::requested_at.eq(now),
        ))
        .execute(tx)
        .await?;
    Ok(())
}

macro_rules! with_gift {
    () => {
        campaigns::table
            .inner_join(campaign_tags::table.on(
                campaign_tags::tenant_id.eq(campaigns::tenant_id).and(campaign_tags::tag.eq(campaigns::tag)),
            ))
            .select((Row::as_select(), (campaign_tags::credits, campaign_tags::expires_at)))
    };
}

pub(crate) async fn find(tx: &mut Connection, tenant: TenantId, id: CampaignId) -> Result<Campaign> {
    let found: Option<(Row, Gift)> = with_gift!()
        .filter(campaigns::tenant_id.eq(tenant.uuid()))
        .filter(campaigns::campaign_id.eq(id.uuid()))
        .first(tx)
        .await
        .optional()?;
    campaign(found.ok_or(Refusal::NotFound { what: "campaign" })?)
}

pub(crate) async fn page(
    tx: &mut Connection,
    tenant: TenantId,
    after: Option<CampaignId>,
    limit: u32,
) -> Result<Vec<Campaign>> {
    let rows: Vec<(Row, Gift)> = with_gift!()
        .filter(campaigns::tenant_id.eq(tenant.uuid()))
        .filter(campaigns::campaign_id.gt(after.map_or(Uuid::nil(), CampaignId::uuid)))
        .order(campaigns::campaign_id)
        .limit(limit.into())
        .load(tx)
        .await?;
    rows.into_iter().map(campaign).collect()
}

/// Locks a run until the transaction ends.
pub(crate) async fn lock(tx: &mut Connection, tenant: TenantId, id: CampaignId) -> Result<(Campaign, Place)> {
    let place: Place = campaigns::table
        .find((tenant.uuid(), id.uuid()))
        .select(Place::as_select())
        .for_no_key_update()
        .first(tx)
        .await
        .optional()?
        .ok_or(Refusal::NotFound { what: "campaign" })?;
    Ok((find(tx, tenant, id).await?, place))
}

#[derive(QueryableByName)]
struct Customer {
    #[diesel(sql_type = SqlUuid)]
    customer_id: Uuid,
}

/// The next customers that the run is for, in the order of their ids.
pub(crate) async fn next_customers(
    tx: &mut Connection,
    tenant: TenantId,
    place: &Place,
    limit: u32,
) -> Result<Vec<CustomerId>> {
    let found: Vec<Customer> = db::sql_query(
        "select c.customer_id from customers c
         where c.tenant_id = $1 and c.customer_id > $2 and ($3 is null or c.customer_id = any($3))
             and (($4 is null and $5 is null) or exists (select from subscriptions s
                 where s.tenant_id = $1 and s.customer_id = c.customer_id
                     and ($4 is null or s.plan_code = $4)
                     and case when $5 is null then s.status in ('incomplete', 'active', 'past_due', 'suspended')
                         else s.status = $5 end))
             and ($6 is null or exists (select from usage_events e
                 where e.tenant_id = $1 and e.customer_id = c.customer_id and e.event_time >= $6
                     and e.event_time < $7))
         order by c.customer_id limit $8",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(place.done_to)
    .bind::<Nullable<Array<SqlUuid>>, _>(place.customers.clone())
    .bind::<Nullable<Text>, _>(place.plan_code.clone())
    .bind::<Nullable<Text>, _>(place.status.clone())
    .bind::<Nullable<Timestamptz>, _>(place.used_from)
    .bind::<Nullable<Timestamptz>, _>(place.used_to)
    .bind::<BigInt, _>(i64::from(limit))
    .load(tx)
    .await?;
    Ok(found.into_iter().map(|row| CustomerId::from_uuid(row.customer_id)).collect())
}

/// Counts a batch, and finishes the run with the empty one after the last. Under the run's lock.
pub(crate) async fn move_on(
    tx: &mut Connection,
    tenant: TenantId,
    id: CampaignId,
    step: &Step,
    now: Timestamp,
) -> Result<Campaign> {
    let state = if step.is_last { CampaignState::Done } else { CampaignState::Running };
    let row = campaigns::table.find((tenant.uuid(), id.uuid()));
    diesel::update(row)
        .set((
            campaigns::state.eq(state.name()),
            campaigns::finished_at.eq(step.is_last.then_some(now)),
            campaigns::granted.eq(campaigns::granted + step.granted),
            campaigns::skipped.eq(campaigns::skipped + step.skipped),
        ))
        .execute(tx)
        .await?;
    if let Some(done_to) = step.done_to {
        diesel::update(row).set(campaigns::done_to.eq(done_to.uuid())).execute(tx).await?;
    }
    find(tx, tenant, id).await
}
