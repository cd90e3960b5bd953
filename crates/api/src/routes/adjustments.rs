//! Grants and revokes by hand.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, post};
use adjustments::{Adjusted, Adjustments, NewAdjustment, Revoke};
use domain::grant::GrantSource;
use domain::id::{AdjustmentId, ApiKeyId, CustomerId, GrantId};
use domain::{Credits, Refusal};
use idempotency::Idempotency;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::ledger::Grant;
use super::refunds::Reason;
use crate::auth::Administers;
use crate::body::{NoQuery, word};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Keyed, answer, once};
use crate::path::{Id, decoded_segment};
use crate::schema;
use crate::wire::{Instant, code};

/// What Credits may be given for by hand.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum SourceByHand {
    Adjustment,
    Promotion,
}

/// Credits to give.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGrant {
    #[serde(deserialize_with = "word")]
    source: SourceByHand,
    #[schema(value_type = i64, minimum = 1, maximum = 9_007_199_254_740_991_u64, example = 5_000_000)]
    credits: Credits,
    /// Not in the past; at once where left out.
    effective_at: Option<Instant>,
    /// Never where left out.
    expires_at: Option<Instant>,
    /// The lower number is spent first; 50 for a promotion and 150 for an adjustment where left out.
    #[schema(minimum = 0, maximum = 1_000)]
    priority: Option<Priority>,
    reason: Reason,
}

/// A place in the order in which Credits are spent.
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(value_type = i16)]
struct Priority(i16);

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i16::deserialize(deserializer)?;
        if (0..=1_000).contains(&number) {
            Ok(Priority(number))
        } else {
            Err(D::Error::custom(code::OUT_OF_RANGE))
        }
    }
}

/// Credits to take.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RevokeCredits {
    /// All that is left where left out.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 9_007_199_254_740_991_u64)]
    credits: Option<Credits>,
    reason: Reason,
}

/// What was given or taken, by whom and why, and the grant as it is now.
#[derive(Debug, Serialize, ToSchema)]
struct Adjustment {
    #[schema(value_type = schema::AdjustmentId)]
    id: AdjustmentId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    kind: schema::AdjustmentKind,
    credits: i64,
    reason: String,
    /// The API key of the operator.
    #[schema(value_type = schema::ApiKeyId)]
    made_by: ApiKeyId,
    made_at: Instant,
    grant: Grant,
    /// The version of the customer's credit account as of this answer.
    account_version: i64,
}

/// Give Credits
///
/// By hand, as an adjustment or a promotion. No cycle's end, renewal or upgrade touches them.
#[utoipa::path(
    tag = "Adjustments",
    security(("bearer" = ["admin"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        IdempotencyKey,
    ),
    request_body = NewGrant,
    responses(
        (status = 201, description = "Granted", body = Adjustment),
        (status = 422, description = "`invalid-field`: no Credits, or a time that is over; `amount-overflow`; `card-data-refused`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/customers/{id}/grants")]
pub(super) async fn grant_credits(
    caller: Administers,
    _: NoQuery,
    id: Id<CustomerId>,
    new: Keyed<NewGrant>,
    adjustments: Data<Adjustments>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: new, key } = new;
    let new = NewAdjustment {
        customer: id.0,
        source: match new.source {
            SourceByHand::Adjustment => GrantSource::Adjustment,
            SourceByHand::Promotion => GrantSource::Promotion,
        },
        credits: new.credits,
        effective_at: new.effective_at.map(|instant| instant.0),
        expires_at: new.expires_at.map(|instant| instant.0),
        priority: new.priority.map(|priority| priority.0),
        reason: new.reason.0,
        made_by: caller.key()?,
    };
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let adjusted = adjustments.grant(&scope, new, &key).await?;
        answer(StatusCode::CREATED, &Adjustment::from(adjusted))
    })
    .await
}

/// Revoke Credits of a grant
///
/// What was spent stays spent, and no other grant is touched.
#[utoipa::path(
    tag = "Adjustments",
    security(("bearer" = ["admin"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        ("grant" = schema::GrantId, Path, description = "The grant"),
        IdempotencyKey,
    ),
    request_body = RevokeCredits,
    responses(
        (status = 200, description = "Revoked", body = Adjustment),
        (status = 409, description = "`more-than-remains`, with `remaining`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[post("/customers/{id}/grants/{grant}/revoke")]
pub(super) async fn revoke_grant(
    caller: Administers,
    _: NoQuery,
    id: Id<CustomerId>,
    request: HttpRequest,
    revoke: Keyed<RevokeCredits>,
    adjustments: Data<Adjustments>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let grant: Option<GrantId> = decoded_segment(&request, "grant").parse().ok();
    let Keyed { value: revoke, key } = revoke;
    let revoke = Revoke {
        customer: id.0,
        grant: grant.ok_or(Refusal::NotFound { what: "grant" })?,
        credits: revoke.credits,
        reason: revoke.reason.0,
        made_by: caller.key()?,
    };
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let adjusted = adjustments.revoke(&scope, revoke, &key).await?;
        answer(StatusCode::OK, &Adjustment::from(adjusted))
    })
    .await
}

impl From<Adjusted> for Adjustment {
    fn from(adjusted: Adjusted) -> Self {
        let Adjusted { adjustment, grant, account_version } = adjusted;
        Adjustment {
            id: adjustment.id,
            customer: adjustment.customer,
            kind: schema::AdjustmentKind(adjustment.kind),
            credits: adjustment.credits.get(),
            reason: adjustment.reason,
            made_by: adjustment.made_by,
            made_at: Instant(adjustment.made_at),
            grant: grant.into(),
            account_version,
        }
    }
}
