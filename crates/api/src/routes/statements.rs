//! Statements: what a cycle granted, cost and left.

use actix_web::http::header::{Accept, CONTENT_TYPE, Header};
use actix_web::web::Data;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, get};
use domain::id::{CustomerId, SubscriptionId};
use domain::statement::{Entries, ModelUse, Statement as Summed};
use ledger::{Cut, Ledger, Movements};
use serde::{Deserialize, Deserializer, Serialize};
use subscriptions::{CycleView, Subscriptions};
use usage::Usage;
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::body::Query;
use crate::error::{Error, Problem};
use crate::path::Id;
use crate::schema;
use crate::wire::{Instant, code};

/// Which cycle, and in which form.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatementQuery {
    /// The number of the cycle, 0 for the first; the latest one where it is left out.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 2147483647)]
    cycle: Option<CycleNumber>,
    /// `json` or `csv`; where it is left out, what the `Accept` header prefers.
    #[param(inline)]
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy)]
struct CycleNumber(u32);

impl<'de> Deserialize<'de> for CycleNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_plain = text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse().ok().filter(|number| is_plain && i32::try_from(*number).is_ok());
        number.map(CycleNumber).ok_or_else(|| serde::de::Error::custom(code::OUT_OF_RANGE))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    Json,
    Csv,
}

impl Format {
    /// The first of the two that a client says it takes, best first; JSON where it says nothing of them.
    fn preferred(request: &impl HttpMessage) -> Format {
        let Ok(accept) = Accept::parse(request) else { return Format::Json };
        let preferred =
            accept.ranked().into_iter().find_map(|media| match (media.type_(), media.subtype()) {
                (of, is) if of == "text" && is == "csv" => Some(Format::Csv),
                (of, is) if of == "application" && is == "json" => Some(Format::Json),
                (of, _) if of == "*" => Some(Format::Json),
                _ => None,
            });
        preferred.unwrap_or(Format::Json)
    }
}

/// A cycle's statement, in Credits. Always: `opening` + all of `granted` + `taken_back` + `voided` + `reinstated` -
/// `spent` - `expired` - `revoked` = `closing`.
///
/// It is about what was recorded from the start of the cycle until it was closed; it never changes after that.
/// Usage of a cycle that comes when it is closed is in the statement of the next one: it takes back what had
/// expired, and spends it. An event that is voided stays in the statement that it was charged in; what it gives back
/// is in the one of when it was voided, as `voided`, and in `expired` too where it went back to a grant that had ended.
#[derive(Debug, Serialize, ToSchema)]
struct Statement {
    #[schema(value_type = schema::SubscriptionId)]
    subscription: SubscriptionId,
    #[schema(value_type = schema::CustomerId)]
    customer: CustomerId,
    /// 0 for the first.
    cycle: u32,
    /// The plan that the cycle began with.
    plan: String,
    start: Instant,
    /// When it ends, or ended: an immediate cancel ends it early.
    end: Instant,
    /// Whether the cycle is closed. Of an open one this is what was recorded until now.
    is_final: bool,
    /// The first transfer is the version after this one.
    after_version: i64,
    /// The version of the last transfer.
    to_version: i64,
    /// What all grants had left when it began.
    opening: i64,
    granted: Vec<Granted>,
    /// What late usage of an earlier cycle took back of what had expired; it is a part of `spent` too.
    taken_back: i64,
    /// What voided usage gave back to the grants that had paid.
    voided: i64,
    /// What had been revoked for money that did not go back in the end: a refund failed, a lost dispute was won. In
    /// `expired` too where it went back to a grant that had ended.
    reinstated: i64,
    spent: i64,
    expired: i64,
    revoked: i64,
    /// What all grants had left when it was closed.
    closing: i64,
    /// Usage that no grant paid for; it is no part of `spent`.
    overage: i64,
    /// Overage of voided usage; it is no part of `voided`.
    overage_voided: i64,
    /// Sums up to `spent`, `overage`, `voided` and `overage_voided`.
    usage: Vec<UsageOfModel>,
}

/// Credits that came from one source.
#[derive(Debug, Serialize, ToSchema)]
struct Granted {
    source: schema::GrantSource,
    credits: i64,
}

/// What the usage of one model cost.
#[derive(Debug, Serialize, ToSchema)]
struct UsageOfModel {
    /// Empty for usage that is old enough to have been dropped.
    model: String,
    spent: i64,
    overage: i64,
    voided: i64,
    overage_voided: i64,
}

/// A line of the CSV form: the cycle, and one amount of its statement.
#[derive(Debug, Serialize)]
struct Line<'a> {
    subscription: SubscriptionId,
    cycle: u32,
    start: Instant,
    end: Instant,
    is_final: bool,
    entry: &'static str,
    /// The source of what was granted, the model of what was used.
    detail: &'a str,
    credits: i64,
}

/// Read a cycle's statement
///
/// As JSON, or as CSV with `format=csv` or `Accept: text/csv`: a line an amount, with the columns `subscription`,
/// `cycle`, `start`, `end`, `is_final`, `entry`, `detail` and `credits`.
#[utoipa::path(
    tag = "Subscriptions",
    security(("bearer" = ["read", "customer"])),
    params(
        ("id" = schema::SubscriptionId, Path, description = "The subscription"),
        StatementQuery,
    ),
    responses(
        (status = 200, description = "The statement", content((Statement = "application/json"), (String = "text/csv"))),
        (status = 404, description = "`not-found`: no such subscription, or it has no such cycle", body = Problem, content_type = "application/problem+json"),
    ),
)]
#[get("/subscriptions/{id}/statement")]
pub(super) async fn read_statement(
    caller: Caller,
    id: Id<SubscriptionId>,
    query: Query<StatementQuery>,
    request: HttpRequest,
    subscriptions: Data<Subscriptions>,
    ledger: Data<Ledger>,
    usage: Data<Usage>,
) -> Result<HttpResponse, Error> {
    let (scope, StatementQuery { cycle, format }) = (caller.scope(), query.0);
    let subscription = subscriptions.read(scope, id.0).await?;
    caller.sees(subscription.customer, "subscription")?;
    let cycle = subscriptions.read_cycle(scope, id.0, cycle.map(|number| number.0)).await?;
    let from = Cut { at: cycle.cycle.start, done_at: cycle.opened_at };
    let to = cycle.ended_at().zip(cycle.closed_at).map(|(at, done_at)| Cut { at, done_at });
    let moved = ledger.movements(scope, cycle.customer, from, to).await?;
    let uses = usage.by_model(scope, cycle.customer, moved.after_version, moved.to_version).await?;
    let Movements { after_version, to_version, opening, closing, movements } = moved;
    let summed = Summed::of(Entries { opening, movements, uses, closing });
    let summed = summed.map_err(|error| db::Error::broken(error.to_string()))?;
    let statement = Statement::of(cycle, (after_version, to_version), summed);
    match format.unwrap_or_else(|| Format::preferred(&request)) {
        Format::Json => Ok(HttpResponse::Ok().json(statement)),
        Format::Csv => {
            let text = statement.csv().map_err(|error| db::Error::broken(error.to_string()))?;
            Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, "text/csv; charset=utf-8")).body(text))
        }
    }
}

impl Statement {
    fn of(cycle: CycleView, (after_version, to_version): (i64, i64), summed: Summed) -> Statement {
        Statement {
            end: Instant(cycle.ended_at().unwrap_or(cycle.cycle.end)),
            subscription: cycle.subscription,
            customer: cycle.customer,
            cycle: cycle.cycle.number,
            plan: cycle.plan_code,
            start: Instant(cycle.cycle.start),
            is_final: cycle.closed_at.is_some(),
            after_version,
            to_version,
            opening: summed.opening.get(),
            granted: summed
                .granted
                .into_iter()
                .map(|(source, credits)| Granted {
                    source: schema::GrantSource(source),
                    credits: credits.get(),
                })
                .collect(),
            taken_back: summed.taken_back.get(),
            voided: summed.voided.get(),
            reinstated: summed.reinstated.get(),
            spent: summed.spent.get(),
            expired: summed.expired.get(),
            revoked: summed.revoked.get(),
            closing: summed.closing.get(),
            overage: summed.overage.get(),
            overage_voided: summed.overage_voided.get(),
            usage: summed.uses.into_iter().map(UsageOfModel::from).collect(),
        }
    }

    fn csv(&self) -> Result<Vec<u8>, csv::Error> {
        let mut entries = vec![("opening", "", self.opening)];
        entries.extend(self.granted.iter().map(|of| ("granted", of.source.0.name(), of.credits)));
        entries.push(("taken_back", "", self.taken_back));
        entries.extend(self.usage.iter().map(|of| ("voided", of.model.as_str(), of.voided)));
        entries.push(("reinstated", "", self.reinstated));
        entries.extend(self.usage.iter().map(|of| ("spent", of.model.as_str(), of.spent)));
        entries.push(("expired", "", self.expired));
        entries.push(("revoked", "", self.revoked));
        entries.push(("closing", "", self.closing));
        entries.extend(self.usage.iter().map(|of| ("overage", of.model.as_str(), of.overage)));
        entries.extend(self.usage.iter().map(|of| ("overage_voided", of.model.as_str(), of.overage_voided)));
        let mut writer = csv::Writer::from_writer(Vec::new());
        for (entry, detail, credits) in entries {
            let Statement { subscription, cycle, start, end, is_final, .. } = *self;
            writer.serialize(Line { subscription, cycle, start, end, is_final, entry, detail, credits })?;
        }
        Ok(writer.into_inner().map_err(|error| error.into_error())?)
    }
}

impl From<ModelUse> for UsageOfModel {
    fn from(of: ModelUse) -> Self {
        UsageOfModel {
            model: of.model,
            spent: of.spent.get(),
            overage: of.overage.get(),
            voided: of.voided.get(),
            overage_voided: of.overage_voided.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn the_form_is_the_one_that_the_client_prefers() {
        for (accept, format) in [
            ("text/csv", Format::Csv),
            ("application/json;q=0.5, text/csv", Format::Csv),
            ("text/csv;q=0.5, application/json", Format::Json),
            ("*/*", Format::Json),
            ("image/png", Format::Json),
            ("nonsense", Format::Json),
        ] {
            let request = TestRequest::default().insert_header(("Accept", accept)).to_http_request();
            assert_eq!(Format::preferred(&request), format, "{accept}");
        }
        assert_eq!(Format::preferred(&TestRequest::default().to_http_request()), Format::Json);
    }
}
