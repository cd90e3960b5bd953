//! What is told of a balance, by whatever changes it: of one shape.

use db::{Connection, Result};
use domain::Timestamp;
use domain::account::Account;
use domain::alert::Alert;
use domain::id::TenantId;
use serde_json::json;

use crate::{NewEvent, emit};

pub const DROPPED: &str = "balance.dropped";
pub const DEPLETED: &str = "balance.depleted";
pub const RECOVERED: &str = "balance.recovered";

/// Tells what a change of an account came to: payload {customer, threshold, available, limit, account_version}, as
/// the account is now.
pub async fn emit_alert(
    tx: &mut Connection,
    tenant: TenantId,
    account: &Account,
    alert: Alert,
    now: Timestamp,
) -> Result<()> {
    let (kind, threshold) = match alert {
        Alert::UsedPercent(percent) => (DROPPED, json!({"used_percent": percent})),
        Alert::Left(credits) => (DROPPED, json!({"credits_left": credits})),
        Alert::Depleted => (DEPLETED, json!(null)),
        Alert::Recovered => (RECOVERED, json!(null)),
    };
    let level = account.level(account.last_recorded_at().max(now));
    let payload = json!({
        "customer": account.customer(),
        "threshold": threshold,
        "available": level.available,
        "limit": level.limit,
        "account_version": account.version(),
    });
    let event = NewEvent { kind, subject: account.customer().to_string(), payload };
    emit(tx, tenant, event, now).await.map(drop)
}

/// Tells that there is something again, if there is, of an account that was used up before.
pub async fn emit_recovered(
    tx: &mut Connection,
    tenant: TenantId,
    account: &Account,
    now: Timestamp,
) -> Result<()> {
    if account.available(account.last_recorded_at().max(now)).is_zero() {
        return Ok(());
    }
    emit_alert(tx, tenant, account, Alert::Recovered, now).await
}
