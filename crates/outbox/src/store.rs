//! All SQL of the outbox.

use db::schema::outbox;
use db::{Connection, Result};
use diesel::ExpressionMethods;
use diesel_async::RunQueryDsl;
use domain::Timestamp;
use domain::id::{EventId, TenantId};

use crate::NewEvent;

pub(crate) async fn insert(
    tx: &mut Connection,
    tenant: TenantId,
    id: EventId,
    event: NewEvent,
    now: Timestamp,
) -> Result<()> {
    diesel::insert_into(outbox::table)
        .values((
            outbox::tenant_id.eq(tenant.uuid()),
            outbox::event_id.eq(id.uuid()),
            outbox::kind.eq(event.kind),
            outbox::subject.eq(event.subject),
            outbox::payload.eq(event.payload),
            outbox::occurred_at.eq(now),
        ))
        .execute(tx)
        .await?;
    Ok(())
}
