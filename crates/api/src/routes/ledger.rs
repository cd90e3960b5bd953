//! Customers' Credits: balances, grants and the ledger, now and as of a point in the past.

use std::collections::BTreeMap;

use actix_web::get;
use actix_web::web::{Data, Json};
use adjustments::{Adjustment, Adjustments};
use domain::Refusal;
use domain::account::CauseKind;
use domain::calendar::Cycle;
use domain::grant::GrantSource;
use domain::id::{ApiKeyId, CustomerId, GrantId, PurchaseId};
use ledger::{AsOf, GrantRow, Ledger, PastBalance, TransferRow};
use serde::{Deserialize, Deserializer, Serialize};
use subscriptions::Subscriptions;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::auth::Caller;
use crate::body::Query;
use crate::error::{Error, Problem};
use crate::page::{Limit, List, PageQuery};
use crate::path::Id;
use crate::schema;
use crate::wire::{Instant, Page, code};

/// A customer's Credits, now or as of a point in the past.
#[derive(Debug, Serialize, ToSchema)]
struct Balance {
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    /// Rises by one with every transfer.
    account_version: i64,
    /// What the live grants have left.
    settled: i64,
    /// What running authorizations set aside; null as of the past, of which it is not known.
    #[schema(required)]
    held: Option<i64>,
    /// What the next authorization can get: `settled` less `held`. Null as of the past.
    #[schema(required)]
    available: Option<i64>,
    /// What the live grants were made with: the limit of `used`.
    granted: i64,
    /// `granted` less `settled`.
    used: i64,
    /// When the current cycle of the customer's plan began; null without one, and as of the past.
    #[schema(required)]
    period_start: Option<Instant>,
    /// When it ends.
    #[schema(required)]
    period_end: Option<Instant>,
    /// When the first of the live grants ends.
    #[schema(required)]
    expires_next_at: Option<Instant>,
    /// When the pool fills again; null while no paid renewal is ahead, and as of the past.
    #[schema(required)]
    resets_at: Option<Instant>,
    /// Usage ever, in Credits, that no grant paid for, less what was voided.
    overage: i64,
    /// The point in the past that this is as of; null for now.
    #[schema(required)]
    as_of: Option<Instant>,
}

/// Credits from one source. `amount` is always `spent + expired + revoked + remaining`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Grant {
    #[schema(value_type = schema::GrantId)]
    id: GrantId,
    source: schema::GrantSource,
    /// The lower number is spent first.
    priority: i16,
    amount: i64,
    spent: i64,
    expired: i64,
    revoked: i64,
    remaining: i64,
    effective_at: Instant,
    #[schema(required)]
    expires_at: Option<Instant>,
    /// What was bought: a cycle, an upgrade or a top-up. Null where nothing was.
    #[schema(value_type = Option<schema::PurchaseId>, required)]
    purchase: Option<PurchaseId>,
    created_at: Instant,
}

/// A movement of Credits from the debit book to the credit book.
#[derive(Debug, Serialize, ToSchema)]
struct Transfer {
    version: i64,
    debit: schema::Book,
    credit: schema::Book,
    /// The grant whose Credits move.
    #[schema(value_type = Option<schema::GrantId>, required)]
    grant: Option<GrantId>,
    #[schema(minimum = 1)]
    credits: i64,
    cause: Cause,
    /// When what caused it happened.
    event_time: Instant,
    recorded_at: Instant,
    /// The version of the earlier transfer that this one takes back: a late charge takes an expiry back, a void a charge.
    #[schema(required)]
    reverses: Option<i64>,
}

/// Why a transfer was made.
#[derive(Debug, Serialize, ToSchema)]
struct Cause {
    kind: schema::CauseKind,
    /// The UUID of what caused it: the purchase, the event that was charged or voided, the grant that expired, the
    /// subscription that was canceled or the adjustment. In their own ids it is the part after the prefix.
    id: Uuid,
    /// Of an adjustment, the API key of the operator who made it.
    #[schema(value_type = Option<schema::ApiKeyId>, required)]
    made_by: Option<ApiKeyId>,
    /// Of an adjustment, the operator's words.
    #[schema(required)]
    reason: Option<String>,
    /// Of an adjustment, the tag of the campaign that it is a part of.
    #[schema(required)]
    campaign: Option<String>,
}

/// A point in an account's past.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct AsOfQuery {
    /// As of this instant, which is not to come. Not together with `version`.
    #[param(value_type = Option<String>, format = DateTime)]
    at: Option<Instant>,
    /// As of this version of the account. Not together with `at`.
    #[param(value_type = Option<i64>, minimum = 1)]
    version: Option<AccountVersion>,
}

/// A page of the ledger, up to a point in its past if one is given.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LedgerQuery {
    /// How many items at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
    /// The `next_cursor` of the page before; the first page without.
    cursor: Option<String>,
    /// Only what was recorded by this instant, which is not to come. Not together with `version`.
    #[param(value_type = Option<String>, format = DateTime)]
    at: Option<Instant>,
    /// Only up to this version of the account. Not together with `at`.
    #[param(value_type = Option<i64>, minimum = 1)]
    version: Option<AccountVersion>,
}

/// The version of a transfer: 1 or more.
#[derive(Debug, Clone, Copy)]
struct AccountVersion(i64);

impl<'de> Deserialize<'de> for AccountVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_plain = text.bytes().all(|b| b.is_ascii_digit());
        let version = text.parse().ok().filter(|version| is_plain && *version >= 1);
        version.map(AccountVersion).ok_or_else(|| serde::de::Error::custom(code::OUT_OF_RANGE))
    }
}

/// The point that is asked for; none for now. Refused where both are given.
fn as_of(at: Option<Instant>, version: Option<AccountVersion>) -> Result<Option<AsOf>, Refusal> {
    match (at, version) {
        (None, None) => Ok(None),
        (Some(Instant(at)), None) => Ok(Some(AsOf::Instant(at))),
        (None, Some(AccountVersion(version))) => Ok(Some(AsOf::Version(version))),
        (Some(_), Some(_)) => Err(Refusal::invalid_field("version", "not-with-at")),
    }
}

/// Read a customer's balance
///
/// From the ledger, with the authorizations that are running now; with `at` or `version`, as it was then, from
/// the transfers alone.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["read", "customer"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        AsOfQuery,
    ),
    responses(
        (status = 200, description = "The balance", body = Balance),
        (status = 422, description = "`invalid-field`: both parameters, an instant that is to come, or a version that the account does not have", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/customers/{id}/balance")]
pub(super) async fn read_balance(
    caller: Caller,
    id: Id<CustomerId>,
    query: Query<AsOfQuery>,
    ledger: Data<Ledger>,
    subscriptions: Data<Subscriptions>,
) -> Result<Json<Balance>, Error> {
    caller.sees(id.0, "customer")?;
    let balance = match as_of(query.0.at, query.0.version)? {
        None => {
            let balance = ledger.balance(caller.scope(), id.0).await?;
            Balance::of(id.0, &balance, subscriptions.current_cycle(caller.scope(), id.0).await?)
        }
        Some(as_of) => Balance::past(id.0, &ledger.balance_as_of(caller.scope(), id.0, as_of).await?),
    };
    Ok(Json(balance))
}

/// List a customer's grants
///
/// In the order they were made, spent and expired ones too.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["read", "customer"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        PageQuery,
    ),
    responses((status = 200, description = "A page of grants", body = Page<Grant>)),
)]
#[get("/customers/{id}/grants")]
pub(super) async fn list_grants(
    caller: Caller,
    id: Id<CustomerId>,
    query: Query<PageQuery>,
    ledger: Data<Ledger>,
) -> Result<Json<Page<Grant>>, Error> {
    caller.sees(id.0, "customer")?;
    let PageQuery { limit, cursor } = query.0;
    let owner = id.0.to_string();
    let list = List { tenant: caller.scope().tenant, kind: "grants", owner: &owner };
    let after = list.after(cursor.as_deref())?;
    let grants = ledger.grants(caller.scope(), id.0, after, limit.and_one().into()).await?;
    Ok(Json(list.page(grants, limit, |row| row.grant.id.to_string())))
}

/// List a customer's transfers
///
/// The ledger, in the order of its versions. Nothing in it ever changes: up to a point in the past it is what
/// it was then.
#[utoipa::path(
    tag = "Customers",
    security(("bearer" = ["read", "customer"])),
    params(
        ("id" = schema::CustomerId, Path, description = "The customer"),
        LedgerQuery,
    ),
    responses(
        (status = 200, description = "A page of transfers", body = Page<Transfer>),
        (status = 422, description = "`invalid-field`: both `at` and `version`, an instant that is to come, or a version that the account does not have", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/customers/{id}/ledger")]
pub(super) async fn list_transfers(
    caller: Caller,
    id: Id<CustomerId>,
    query: Query<LedgerQuery>,
    ledger: Data<Ledger>,
    adjustments: Data<Adjustments>,
) -> Result<Json<Page<Transfer>>, Error> {
    caller.sees(id.0, "customer")?;
    let LedgerQuery { limit, cursor, at, version } = query.0;
    let as_of = as_of(at, version)?;
    let owner = id.0.to_string();
    let list = List { tenant: caller.scope().tenant, kind: "ledger", owner: &owner };
    // Versions begin at 1.
    let after = list.after(cursor.as_deref())?.unwrap_or(0);
    let transfers = ledger.transfers(caller.scope(), id.0, as_of, after, limit.and_one().into()).await?;
    let causes = transfers.iter().map(|transfer| transfer.cause);
    let by_hand = causes.filter(|cause| cause.kind == CauseKind::Adjustment).map(|cause| cause.id);
    let by_hand = adjustments.of_causes(caller.scope(), &by_hand.collect::<Vec<_>>()).await?;
    let by_hand: BTreeMap<Uuid, Adjustment> = by_hand.into_iter().map(|one| (one.id.uuid(), one)).collect();
    let page: Page<Transfer> = list.page(transfers, limit, |transfer| transfer.version.to_string());
    let named = page.data.into_iter().map(|transfer| transfer.made_by(&by_hand));
    Ok(Json(Page { data: named.collect(), next_cursor: page.next_cursor }))
}

impl Transfer {
    fn made_by(mut self, by_hand: &BTreeMap<Uuid, Adjustment>) -> Transfer {
        if let Some(adjustment) = by_hand.get(&self.cause.id) {
            self.cause.made_by = Some(adjustment.made_by);
            self.cause.reason = Some(adjustment.reason.clone());
            self.cause.campaign = adjustment.campaign_tag.clone();
        }
        self
    }
}

impl Balance {
    fn of(customer: CustomerId, balance: &ledger::Balance, period: Option<Cycle>) -> Balance {
        Balance {
            customer,
            account_version: balance.version,
            settled: balance.settled.get(),
            held: Some(balance.held.get()),
            available: Some(balance.available.get()),
            granted: balance.granted.get(),
            used: balance.granted.minus_floor_zero(balance.settled).get(),
            period_start: period.map(|cycle| Instant(cycle.start)),
            period_end: period.map(|cycle| Instant(cycle.end)),
            expires_next_at: balance.expires_next_at.map(Instant),
            resets_at: balance.resets_at.map(Instant),
            // The book is a debt: never above zero.
            overage: balance.books.overage.saturating_neg(),
            as_of: None,
        }
    }

    fn past(customer: CustomerId, balance: &PastBalance) -> Balance {
        Balance {
            customer,
            account_version: balance.version,
            settled: balance.settled.get(),
            held: None,
            available: None,
            granted: balance.granted.get(),
            used: balance.granted.minus_floor_zero(balance.settled).get(),
            period_start: None,
            period_end: None,
            expires_next_at: balance.expires_next_at.map(Instant),
            resets_at: None,
            overage: balance.overage.get(),
            as_of: Some(Instant(balance.at)),
        }
    }
}

impl From<GrantRow> for Grant {
    fn from(row: GrantRow) -> Self {
        let grant = &row.grant;
        let is_bought = grant.source.is_the_plans() || grant.source == GrantSource::TopUp;
        Grant {
            id: grant.id,
            source: schema::GrantSource(grant.source),
            priority: grant.priority,
            amount: grant.amount.get(),
            spent: grant.spent.get(),
            expired: grant.expired.get(),
            revoked: grant.revoked.get(),
            remaining: grant.remaining().get(),
            effective_at: Instant(grant.effective_at),
            expires_at: grant.expires_at.map(Instant),
            purchase: is_bought.then(|| PurchaseId::from_uuid(row.purchase_id)),
            created_at: Instant(row.created_at),
        }
    }
}

impl From<TransferRow> for Transfer {
    fn from(transfer: TransferRow) -> Self {
        Transfer {
            version: transfer.version,
            debit: schema::Book(transfer.debit),
            credit: schema::Book(transfer.credit),
            grant: transfer.grant,
            credits: transfer.credits.get(),
            cause: Cause {
                kind: schema::CauseKind(transfer.cause.kind),
                id: transfer.cause.id,
                made_by: None,
                reason: None,
                campaign: None,
            },
            event_time: Instant(transfer.event_time),
            recorded_at: Instant(transfer.recorded_at),
            reverses: transfer.reverses,
        }
    }
}
