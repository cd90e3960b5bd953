//! The sums by the hour.

use db::schema::usage_hours;
use db::{Connection, Error, Result, Rows, column};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use domain::id::{CustomerId, ExternalId, TenantId};
use domain::{Credits, Refusal, Timestamp};

use super::{count, external_id, optional_id, token_counts};
use crate::hours::{HourKey, Hours, UsageSums};

/// Adds to the sums by the hour, one statement for all of them. Under the accounts' locks.
pub(crate) async fn add_to_hours(mut tx: &Connection, tenant: TenantId, hours: &Hours) -> Result<()> {
    if hours.is_empty() {
        return Ok(());
    }
    let count = |of: fn(&UsageSums) -> u64| -> Result<Vec<i64>> {
        let counts = hours.iter().map(|(_, sums)| i64::try_from(of(sums)));
        counts.collect::<std::result::Result<_, _>>().map_err(|_| domain::Refusal::AmountOverflow.into())
    };
    let bands = hours.iter().map(|(key, _)| i64::try_from(key.band_prompt_tokens_max.unwrap_or_default()));
    let bands: std::result::Result<Vec<i64>, _> = bands.collect();
    let api_keys = hours.iter().map(|(key, _)| key.api_key.as_ref().map_or("", ExternalId::as_str));
    Rows::default()
        .once::<SqlUuid, _>("tenant_id", tenant.uuid())
        .each([
            column::<SqlUuid, _>("customer_id", hours.iter().map(|(key, _)| key.customer.uuid()).collect()),
            column::<BigInt, _>("events", count(|sums| sums.events)?),
            column::<BigInt, _>("input_tokens", count(|sums| sums.tokens.input)?),
            column::<BigInt, _>("output_tokens", count(|sums| sums.tokens.output)?),
            column::<BigInt, _>("credits", hours.iter().map(|(_, sums)| sums.credits.get()).collect()),
        ])
        .once_if_alike([column::<Timestamptz, _>("hour", hours.iter().map(|(key, _)| key.hour).collect())])
        .once_if_alike([
            column::<Text, _>("model", hours.iter().map(|(key, _)| key.model.as_str()).collect()),
            column::<BigInt, _>(
                "band_prompt_tokens_max",
                bands.map_err(|_| Error::broken("a band's bound"))?,
            ),
        ])
        .once_if_alike([column::<Text, _>("api_key", api_keys.collect())])
        .once_if_alike([
            column::<BigInt, _>("cache_read_tokens", count(|sums| sums.tokens.cache_read)?),
            column::<BigInt, _>("cache_write_tokens", count(|sums| sums.tokens.cache_write)?),
            column::<BigInt, _>("reasoning_tokens", count(|sums| sums.tokens.reasoning)?),
        ])
        .once_if_alike([column::<BigInt, _>(
            "overage",
            hours.iter().map(|(_, sums)| sums.overage.get()).collect(),
        )])
        .insert_into("usage_hours as h")
        .then(
            " on conflict (tenant_id, customer_id, hour, model, band_prompt_tokens_max, api_key) do update
             set events = h.events + excluded.events, input_tokens = h.input_tokens + excluded.input_tokens,
                 cache_read_tokens = h.cache_read_tokens + excluded.cache_read_tokens,
                 cache_write_tokens = h.cache_write_tokens + excluded.cache_write_tokens,
                 output_tokens = h.output_tokens + excluded.output_tokens,
                 reasoning_tokens = h.reasoning_tokens + excluded.reasoning_tokens,
                 credits = h.credits + excluded.credits, overage = h.overage + excluded.overage",
        )
        .execute(&mut tx)
        .await?;
    Ok(())
}

/// Takes one event from the sum of its hour. Under the account's lock.
pub(crate) async fn take_from_hour(
    tx: &mut Connection,
    tenant: TenantId,
    key: &HourKey,
    of_event: &UsageSums,
) -> Result<()> {
    let number =
        |count: u64| i64::try_from(count).map_err(|_| Error::broken("a count that was stored is too large"));
    let row = (
        tenant.uuid(),
        key.customer.uuid(),
        key.hour,
        key.model.as_str(),
        number(key.band_prompt_tokens_max.unwrap_or_default())?,
        key.api_key.as_ref().map_or("", ExternalId::as_str),
    );
    let taken = (
        usage_hours::events.eq(usage_hours::events - number(of_event.events)?),
        usage_hours::input_tokens.eq(usage_hours::input_tokens - number(of_event.tokens.input)?),
        usage_hours::cache_read_tokens
            .eq(usage_hours::cache_read_tokens - number(of_event.tokens.cache_read)?),
        usage_hours::cache_write_tokens
            .eq(usage_hours::cache_write_tokens - number(of_event.tokens.cache_write)?),
        usage_hours::output_tokens.eq(usage_hours::output_tokens - number(of_event.tokens.output)?),
        usage_hours::reasoning_tokens.eq(usage_hours::reasoning_tokens - number(of_event.tokens.reasoning)?),
        usage_hours::credits.eq(usage_hours::credits - of_event.credits.get()),
        usage_hours::overage.eq(usage_hours::overage - of_event.overage.get()),
    );
    match diesel::update(usage_hours::table.find(row)).set(taken).execute(tx).await? {
        1 => Ok(()),
        _ => Err(Error::broken("a charged event is in no hour")),
    }
}

/// A customer's sums of the hours from `from` until before `to`, those of a part of that time together: in the key is when it
/// began. `starts` has the parts' beginnings, the first not after `from`; where it is empty, each hour is by itself. Hours whose
/// events were all voided are none. Added up here, as PostgreSQL takes longer to send a month's hours than to add them.
/// Refused: `amount-overflow`.
pub(crate) async fn sums(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
    (from, to): (Timestamp, Timestamp),
    starts: &[Timestamp],
) -> Result<Vec<(HourKey, UsageSums)>> {
    // Of calls that are not the first of their event an hour may have tokens and no events.
    let rows: Vec<SumsRow> = db::sql_query_of::<SumsColumns>(
        "select coalesce(($5)[width_bucket(hour, $5)], hour), model, band_prompt_tokens_max, api_key,
             array[sum(events), sum(credits), sum(overage), sum(input_tokens), sum(cache_read_tokens),
                 sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens)]::text[]
         from usage_hours
         where tenant_id = $1 and customer_id = $2 and hour >= $3 and hour < $4
             and (events > 0 or input_tokens > 0 or cache_read_tokens > 0 or cache_write_tokens > 0
                 or output_tokens > 0)
         group by 1, 2, 3, 4",
    )
    .bind::<SqlUuid, _>(tenant.uuid())
    .bind::<SqlUuid, _>(customer.uuid())
    .bind::<Timestamptz, _>(from)
    .bind::<Timestamptz, _>(to)
    .bind::<Array<Timestamptz>, _>(starts)
    .load(tx)
    .await?;
    rows.into_iter().map(|row| row.read(customer)).collect()
}

type SumsColumns = (Timestamptz, Text, BigInt, Text, Array<Text>);

#[derive(Queryable)]
struct SumsRow {
    start: Timestamp,
    model: String,
    band_prompt_tokens_max: i64,
    api_key: String,
    /// In the order of the query; as texts, since a sum may be more than a column can have.
    sums: Vec<String>,
}

impl SumsRow {
    fn read(self, customer: CustomerId) -> Result<(HourKey, UsageSums)> {
        let band = Some(count(self.band_prompt_tokens_max)?).filter(|max| *max > 0);
        let api_key = Some(self.api_key).filter(|key| !key.is_empty());
        let key = HourKey {
            customer,
            hour: self.start,
            model: external_id(self.model)?,
            band_prompt_tokens_max: band,
            api_key: optional_id(api_key)?,
        };
        let sums = self.sums.iter().map(|sum| sum.parse::<i64>().map_err(|_| Refusal::AmountOverflow));
        let sums = sums.collect::<std::result::Result<Vec<_>, _>>()?;
        let [events, credits, overage, tokens @ ..] = sums.as_slice() else {
            return Err(Error::broken("sums that are missing"));
        };
        let tokens =
            <[i64; 5]>::try_from(tokens).map_err(|_| Error::broken("sums by kind that are missing"))?;
        let (credits, overage) = (Credits::new(*credits)?, Credits::new(*overage)?);
        Ok((key, UsageSums { events: count(*events)?, tokens: token_counts(tokens)?, credits, overage }))
    }
}
