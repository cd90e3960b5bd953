//! How a customer goes on without Credits.

use actix_web::http::StatusCode;
use actix_web::web::{Data, Json};
use actix_web::{HttpResponse, get, put};
use domain::Credits;
use domain::exhaustion::Exhaustion;
use domain::id::{CustomerId, ExternalId};
use idempotency::Idempotency;
use serde::{Deserialize, Serialize};
use subscriptions::{AutoTopUp, ExhaustionView, NewExhaustion, Subscriptions};
use utoipa::ToSchema;

use crate::auth::{Bills, Caller};
use crate::body::{NoQuery, object};
use crate::error::{Error, Problem};
use crate::idempotency::{IdempotencyKey, Keyed, answer, once};
use crate::path::Id;
use crate::schema;
use crate::wire::{Currency, Instant, PaymentMethod};

/// What becomes of usage that no grant covers. `absorb`: nobody pays, and nothing starts without Credits. `payg`: it is billed by
/// the token, up to the spend cap. `topup`: a top-up buys itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Policy {
    Absorb,
    Payg,
    Topup,
}

/// A top-up that buys itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SelfBought {
    #[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9._:-]+$", example = "topup-10m")]
    top_up: ExternalId,
    currency: Currency,
    /// So many Credits are left when one is bought.
    #[serde(default)]
    #[schema(value_type = i64, minimum = 0, maximum = 9_007_199_254_740_991_u64, default = 0)]
    at_credits_left: Credits,
    /// At most so many a cycle, or without a plan a calendar month. Failed ones count.
    #[schema(minimum = 1, maximum = 1_000, example = 3)]
    per_cycle_max: u32,
    /// So many minutes after one has failed none is bought.
    #[serde(default = "one_hour")]
    #[schema(minimum = 0, maximum = 44_640, default = 60)]
    cool_off_minutes: u32,
}

fn one_hour() -> u32 {
    60
}

/// How a customer is to go on without Credits: all of it. What is left out is as the tenant's settings say.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetExhaustion {
    exhaustion: Option<Policy>,
    /// Of pay-as-you-go: the live subscription's where left out.
    currency: Option<Currency>,
    /// The most that a period's pay-as-you-go may come to, in minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64, example = 5_000)]
    spend_cap_minor: Option<i64>,
    /// Needed for `topup`.
    #[serde(default, deserialize_with = "optional_object")]
    auto_top_up: Option<SelfBought>,
    /// Pays top-ups and usage; the live subscription's own method where left out.
    payment_method: Option<PaymentMethod>,
}

fn optional_object<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SelfBought>, D::Error> {
    object(deserializer).map(Some)
}

/// How a customer goes on without Credits.
#[derive(Debug, Serialize, ToSchema)]
struct ExhaustionSettings {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    /// What applies: set for the customer, else the tenant's setting.
    exhaustion: Policy,
    /// Whether it is set for the customer.
    is_set: bool,
    currency: Currency,
    /// The most that a period's pay-as-you-go may come to, in minor units.
    spend_cap_minor: i64,
    /// What is not invoiced yet, in pico-units of the major unit: 1.00 is 1000000000000. A text, because it has more digits than
    /// a JSON number keeps.
    #[schema(example = "1700000000")]
    accrued_pico: String,
    /// When that is invoiced, unless a cycle ends before.
    #[schema(required)]
    accrued_due_at: Option<Instant>,
    #[schema(required)]
    auto_top_up: Option<SelfBought>,
    /// No top-up buys itself before.
    #[schema(required)]
    top_up_blocked_until: Option<Instant>,
    /// Null where the live subscription's own method pays.
    #[schema(required)]
    payment_method: Option<String>,
}

/// Set how a customer goes on without Credits
///
/// Nobody pays, a top-up buys itself, or usage is billed by the token up to a spend cap: at the end of the cycle, or without a plan
/// at the end of the calendar month.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["billing"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        IdempotencyKey,
    ),
    request_body = SetExhaustion,
    responses(
        (status = 200, description = "Set", body = ExhaustionSettings),
        (status = 409, description = "`no-price-in-currency`, `usage-not-invoiced` where the currency would change under what is accrued", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-field`, `unknown-top-up`, `unknown-payment-method`", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[put("/customers/{id}/exhaustion")]
pub(super) async fn set_exhaustion(
    caller: Bills,
    _: NoQuery,
    id: Id<CustomerId>,
    new: Keyed<SetExhaustion>,
    subscriptions: Data<Subscriptions>,
    idempotency: Data<Idempotency>,
) -> Result<HttpResponse, Error> {
    let Keyed { value: new, key } = new;
    once(&idempotency, caller.scope(), key, move |scope, key| async move {
        let set = subscriptions.set_exhaustion(&scope, id.0, new.into(), &key).await?;
        answer(StatusCode::OK, &ExhaustionSettings::of(set)?)
    })
    .await
}

/// Read how a customer goes on without Credits
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["read", "customer"])),
    params(("id" = schema::CustomerId, Path, description = "The customer")),
    responses((status = 200, description = "The settings", body = ExhaustionSettings)),
)]
#[get("/customers/{id}/exhaustion")]
pub(super) async fn read_exhaustion(
    caller: Caller,
    _: NoQuery,
    id: Id<CustomerId>,
    subscriptions: Data<Subscriptions>,
) -> Result<Json<ExhaustionSettings>, Error> {
    caller.sees(id.0, "customer")?;
    let view = subscriptions.read_exhaustion(caller.scope(), id.0).await?;
    Ok(Json(ExhaustionSettings::of(view)?))
}

impl From<SetExhaustion> for NewExhaustion {
    fn from(new: SetExhaustion) -> Self {
        NewExhaustion {
            exhaustion: new.exhaustion.map(|policy| match policy {
                Policy::Absorb => Exhaustion::Absorb,
                Policy::Payg => Exhaustion::Payg,
                Policy::Topup => Exhaustion::TopUp,
            }),
            currency: new.currency.map(Into::into),
            spend_cap_minor: new.spend_cap_minor,
            auto_top_up: new.auto_top_up.map(|auto| AutoTopUp {
                top_up_code: auto.top_up.to_string(),
                currency: auto.currency.into(),
                at_credits_left: auto.at_credits_left,
                per_cycle_max: auto.per_cycle_max,
                cool_off_minutes: auto.cool_off_minutes,
            }),
            payment_method: new.payment_method.map(String::from),
        }
    }
}

impl ExhaustionSettings {
    fn of(view: ExhaustionView) -> db::Result<ExhaustionSettings> {
        let auto_top_up = view.auto_top_up.map(|auto| {
            let top_up =
                auto.top_up_code.parse().map_err(|_| db::Error::broken("a code outside its grammar"))?;
            Ok::<_, db::Error>(SelfBought {
                top_up,
                currency: auto.currency.into(),
                at_credits_left: auto.at_credits_left,
                per_cycle_max: auto.per_cycle_max,
                cool_off_minutes: auto.cool_off_minutes,
            })
        });
        Ok(ExhaustionSettings {
            customer: view.customer,
            exhaustion: match view.exhaustion {
                Exhaustion::Absorb => Policy::Absorb,
                Exhaustion::Payg => Policy::Payg,
                Exhaustion::TopUp => Policy::Topup,
            },
            is_set: view.set.is_some(),
            currency: view.currency.into(),
            spend_cap_minor: view.spend_cap_minor,
            accrued_pico: view.accrued.to_string(),
            accrued_due_at: view.due_at.map(Instant),
            auto_top_up: auto_top_up.transpose()?,
            top_up_blocked_until: view.top_up_blocked_until.map(Instant),
            payment_method: view.payment_method,
        })
    }
}
