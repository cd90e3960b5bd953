//! All SQL of usage.

/// Events by their identities, of the tenant `$1`: the columns of an [`AnsweredRow`] and others, where a condition
/// holds.
macro_rules! answered {
    ($other_columns:literal, $condition:literal) => {
        concat!(
            "select i.identity, i.content, e.credits, e.overage, e.unrated_reason, e.catalog_version,
                 e.band_prompt_tokens_max, e.rates, e.calls, e.draws, e.hold_reason, e.balance_after, e.account_version,
                 p.currency as payg_currency, p.credits as payg_credits, p.pico::text as payg_pico,
                 p.past_cap_pico::text as payg_past_cap, p.lines as payg_lines, p.unrated_reason as payg_unrated",
            $other_columns,
            // One index look-up an event, whatever the planner thinks of a month that is new: hence the offset.
            " from usage_identities i
             cross join lateral (select * from usage_events e
                 where e.tenant_id = i.tenant_id and e.customer_id = i.customer_id and e.event_time = i.event_time
                     and e.identity = i.identity offset 0) e
             left join usage_payg p on p.tenant_id = i.tenant_id and p.identity = i.identity
             where i.tenant_id = $1 ",
            $condition
        )
    };
}

/// That an event was not voided: one that waits for its charge is never charged after that.
macro_rules! not_voided {
    () => {
        diesel::dsl::not(diesel::dsl::exists(
            usage_voids::table
                .filter(usage_voids::tenant_id.eq(usage_events::tenant_id))
                .filter(usage_voids::identity.eq(usage_events::identity)),
        ))
    };
}

mod as_json;
mod by_model;
mod calls;
mod events;
mod hours;
mod identities;
pub(crate) mod payg;
pub(crate) mod preview;
mod quarantine;
pub(crate) mod receipts;
pub(crate) mod retention;
mod unrated;
mod voids;

use db::{Error, Result};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use domain::id::ExternalId;
use domain::usage::TokenCounts;
use serde_json::Value;

pub(crate) use by_model::by_model;
pub(crate) use events::{insert_events, recorded_event, update_receipts};
pub(crate) use hours::{add_to_hours, sums, take_from_hour};
pub(crate) use identities::{answered, insert_identities, insert_new_identities};
pub(crate) use quarantine::{keep_in_quarantine, quarantined, quarantined_page};
pub(crate) use unrated::{customers_without_rate, kept_events, tenants_to_rerate_all_tenants, unrated_page};
pub(crate) use voids::insert_void;

fn from_json<T: serde::de::DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| Error::Fault(Box::new(error)))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Value> {
    serde_json::to_value(value).map_err(|error| Error::Fault(Box::new(error)))
}

fn count(stored: i64) -> Result<u64> {
    u64::try_from(stored).map_err(|_| Error::broken("a count below zero"))
}

/// The tokens by kind of a query in SQL.
#[derive(QueryableByName)]
struct TokenColumns {
    #[diesel(sql_type = BigInt)]
    input_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cache_read_tokens: i64,
    #[diesel(sql_type = BigInt)]
    cache_write_tokens: i64,
    #[diesel(sql_type = BigInt)]
    output_tokens: i64,
    #[diesel(sql_type = BigInt)]
    reasoning_tokens: i64,
}

impl TryFrom<TokenColumns> for TokenCounts {
    type Error = Error;

    fn try_from(row: TokenColumns) -> Result<Self> {
        token_counts([
            row.input_tokens,
            row.cache_read_tokens,
            row.cache_write_tokens,
            row.output_tokens,
            row.reasoning_tokens,
        ])
    }
}

/// In the order of the columns.
fn token_counts(stored: [i64; 5]) -> Result<TokenCounts> {
    let [input, cache_read, cache_write, output, reasoning] = stored;
    Ok(TokenCounts {
        input: count(input)?,
        cache_read: count(cache_read)?,
        cache_write: count(cache_write)?,
        output: count(output)?,
        reasoning: count(reasoning)?,
    })
}

/// The reason of a code that is stored.
fn of_code<T>(find: fn(&str) -> Option<T>, code: Option<String>) -> Result<Option<T>> {
    let reason = |code: String| find(&code).ok_or_else(|| Error::broken(format!("{code} is no reason")));
    code.map(reason).transpose()
}

fn optional_id(text: Option<String>) -> Result<Option<ExternalId>> {
    text.map(external_id).transpose()
}

fn external_id(text: String) -> Result<ExternalId> {
    text.parse().map_err(|_| Error::broken("an id outside its grammar"))
}
