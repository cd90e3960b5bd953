//! Work that is not given up half way.

use std::future::Future;

use tracing::Instrument;

/// Runs a verb that moves money to its end, whatever becomes of the request: a handler may be dropped
/// at any await, and a transaction must not be. The task is the worker's own, on its thread.
pub(crate) async fn unbroken<T: 'static>(
    verb: impl Future<Output = db::Result<T>> + 'static,
) -> db::Result<T> {
    actix_web::rt::spawn(verb.in_current_span()).await.map_err(|error| db::Error::Fault(Box::new(error)))?
}
