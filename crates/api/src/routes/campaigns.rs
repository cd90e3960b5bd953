//! Campaigns: the same Credits for many customers, once each.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, post};
use adjustments::{Adjustments, NewCampaign, Selection};
use domain::id::{ApiKeyId, CampaignId, CustomerId, ExternalId};
use domain::subscription::Status;
use domain::{Credits, Refusal};
use idempotency::Idempotency;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::refunds::Reason;
use crate::auth::{Administers, Reads};
use crate::body::{NoQuery, Query};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Keyed, answer, once};
use crate::page::{List, PageQuery};
use crate::path::Id;
use crate::schema;
use crate::wire::{Instant, Page};

/// A campaign to run: for the customers that are named, or for those that the filter finds, or for all whom both say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct StartCampaign {
    /// A customer gets what a tag gives once, however many campaigns carry it.
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "outage-2026-01-30")]
    tag: ExternalId,
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_u64, example = 5_000_000)]
    credits: Credits,
    /// Never where left out.
    expires_at: Option<Instant>,
    reason: Reason,
    /// At most 10,000.
    #[schema(value_type = Option<Vec<schema::CustomerId>>, max_items = 10_000)]
    customers: Option<Vec<CustomerId>>,
    filter: Option<Filter>,
}

/// Customers for whom all of this holds when the campaign comes to them. `{}` is everybody.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Filter {
    /// On this plan.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "lite")]
    plan: Option<ExternalId>,
    /// With a subscription of this status; a live one where left out and a plan is named.
    #[schema(value_type = Option<schema::SubscriptionStatus>)]
    status: Option<StatusName>,
    /// Who used something in this time.
    had_usage_between: Option<Span>,
}

#[derive(Debug, Clone, Copy)]
struct StatusName(Status);

impl<'de> Deserialize<'de> for StatusName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let status = Status::ALL.into_iter().find(|status| status.name() == text);
        status.map(StatusName).ok_or_else(|| serde::de::Error::custom(crate::wire::code::OUT_OF_RANGE))
    }
}

/// From an instant until before another one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Span {
    from: Instant,
    to: Instant,
}

/// A campaign and how far it is.
#[derive(Debug, Serialize, ToSchema)]
struct Campaign {
    #[schema(value_type = schema::CampaignId)]
    id: CampaignId,
    #[schema(example = "outage-2026-01-30")]
    tag: String,
    credits: i64,
    #[schema(required)]
    expires_at: Option<Instant>,
    reason: String,
    /// The API key of the operator.
    #[schema(value_type = schema::ApiKeyId)]
    made_by: ApiKeyId,
    state: schema::CampaignState,
    /// Customers that this campaign has given to.
    granted: i64,
    /// Customers that had what the tag gives before.
    skipped: i64,
    requested_at: Instant,
    #[schema(required)]
    finished_at: Option<Instant>,
}

/// Start a campaign
///
/// Gives the same Credits to many customers, as a promotion. A worker does it, and any number of campaigns with one tag
/// give a customer one grant.
#[utoipa::path(
    tag = "Adjustments",
    security(("bearer" = ["admin"])),
    params(IdempotencyKey),
    request_body = StartCampaign,
    responses(
        (status = 202, description = "Queued", body = Campaign),
        (status = 409, description = "`campaign-differs`: the tag was used with other Credits or another expiry", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-field`: neither customers nor a filter, or a customer that is not there; `card-data-refused`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/campaigns")]
pub(super) async fn start_campaign(
    caller: Administers,
    _: NoQuery,
    new: Keyed<StartCampaign>,
    adjustments: Data<Adjustments>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: new, key } = new;
    if new.customers.is_none() && new.filter.is_none() {
        return Err(Refusal::invalid_field("/customers", "missing").into());
    }
    let mut selection = Selection { customers: new.customers, ..Selection::default() };
    if let Some(filter) = new.filter {
        selection.plan_code = filter.plan.map(|plan| plan.to_string());
        selection.status = filter.status.map(|status| status.0);
        selection.had_usage = filter.had_usage_between.map(|span| (span.from.0, span.to.0));
    }
    let new = NewCampaign {
        tag: new.tag,
        credits: new.credits,
        expires_at: new.expires_at.map(|instant| instant.0),
        reason: new.reason.0,
        selection,
        made_by: caller.key()?,
    };
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let campaign = adjustments.start_campaign(&scope, new, &key).await?;
        answer(StatusCode::ACCEPTED, &Campaign::from(campaign))
    })
    .await
}

/// List campaigns
///
/// From the oldest.
#[utoipa::path(
    tag = "Adjustments",
    security(("bearer" = ["read"])),
    params(PageQuery),
    responses((status = 200, description = "A page of campaigns", body = Page<Campaign>)),
)]
#[get("/campaigns")]
pub(super) async fn list_campaigns(
    caller: Reads,
    query: Query<PageQuery>,
    adjustments: Data<Adjustments>,
) -> Result<Json<Page<Campaign>>, Error> {
    let PageQuery { limit, cursor } = query.0;
    let list = List { tenant: caller.scope().tenant, kind: "campaigns", owner: "" };
    let after = list.after(cursor.as_deref())?;
    let found = adjustments.campaigns(caller.scope(), after, limit.and_one()).await?;
    Ok(Json(list.page(found, limit, |campaign| campaign.id.to_string())))
}

/// Read a campaign's progress
#[utoipa::path(
    tag = "Adjustments",
    security(("bearer" = ["read"])),
    params(("id" = schema::CampaignId, Path, description = "The campaign")),
    responses((status = 200, description = "The campaign", body = Campaign)),
)]
#[get("/campaigns/{id}")]
pub(super) async fn read_campaign(
    caller: Reads,
    _: NoQuery,
    id: Id<CampaignId>,
    adjustments: Data<Adjustments>,
) -> Result<Json<Campaign>, Error> {
    Ok(Json(adjustments.campaign(caller.scope(), id.0).await?.into()))
}

impl From<adjustments::Campaign> for Campaign {
    fn from(campaign: adjustments::Campaign) -> Self {
        Campaign {
            id: campaign.id,
            tag: campaign.tag,
            credits: campaign.credits.get(),
            expires_at: campaign.expires_at.map(Instant),
            reason: campaign.reason,
            made_by: campaign.made_by,
            state: schema::CampaignState(campaign.state),
            granted: campaign.granted,
            skipped: campaign.skipped,
            requested_at: Instant(campaign.requested_at),
            finished_at: campaign.finished_at.map(Instant),
        }
    }
}
