//! A stream of events, one a line: recorded in batches while they arrive, and answered one a line.

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::{Bytes, BytesMut};
use domain::TenantScope;
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;
use usage::{BATCH_EVENTS_MAX, Usage};

use crate::body::{BODY_BYTES_MAX, BODY_TIME_MAX, NotJson};
use crate::error::{Error, Problem};
use crate::routes::usage::record_all;
use crate::routes::usage_events::Element;

/// A batch is recorded once its lines come to this, should there be fewer than its most.
const BATCH_BYTES: usize = 1 << 20;

/// The lines that are yet to be answered.
pub(super) struct Lines {
    payload: Payload,
    usage: Usage,
    scope: TenantScope,
    is_backfill: bool,
    received: BytesMut,
    is_received: bool,
    is_over: bool,
}

/// Why the stream ends before all of it was recorded.
#[derive(Serialize)]
struct LastLine {
    problem: Problem,
}

impl Lines {
    pub(super) fn new(payload: Payload, usage: Usage, scope: TenantScope, is_backfill: bool) -> Lines {
        let received = BytesMut::new();
        Lines { payload, usage, scope, is_backfill, received, is_received: false, is_over: false }
    }

    /// The answers, a batch at a time. No more is read before a batch is recorded: a client that sends faster waits.
    pub(super) fn answers(self) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        stream::unfold(self, |mut lines| async move {
            if lines.is_over {
                return None;
            }
            let answer = match lines.answer_batch().await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::debug!(%error, "a stream of usage ends early");
                    lines.is_over = true;
                    let last = LastLine { problem: error.problem() };
                    let mut line = serde_json::to_vec(&last).unwrap_or_default();
                    line.push(b'\n');
                    line
                }
            };
            Some((Ok(Bytes::from(answer)), lines))
        })
    }

    async fn answer_batch(&mut self) -> Result<Vec<u8>, Error> {
        let elements = self.next_batch().await?;
        let results = record_all(&self.usage, &self.scope, elements, self.is_backfill).await?;
        let mut answer = Vec::new();
        for result in results {
            serde_json::to_writer(&mut answer, &result)
                .map_err(|error| db::Error::broken(error.to_string()))?;
            answer.push(b'\n');
        }
        Ok(answer)
    }

    /// The lines of the next batch; the last batch may be empty.
    async fn next_batch(&mut self) -> Result<Vec<Element>, Error> {
        let (mut elements, mut bytes) = (Vec::new(), 0);
        while elements.len() < BATCH_EVENTS_MAX && bytes < BATCH_BYTES {
            let Some(line) = self.next_line().await? else {
                self.is_over = true;
                break;
            };
            bytes += line.len();
            let line = std::str::from_utf8(&line).map_err(|_| NotJson::Syntax)?.trim_ascii();
            if !line.is_empty() {
                elements.push(Element::of_line(line)?);
            }
        }
        Ok(elements)
    }

    async fn next_line(&mut self) -> Result<Option<BytesMut>, Error> {
        let mut looked_at = 0;
        loop {
            if let Some(end) = self.received[looked_at..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.received.split_to(looked_at + end + 1);
                line.truncate(looked_at + end);
                return Ok(Some(line));
            }
            looked_at = self.received.len();
            if looked_at > BODY_BYTES_MAX {
                return Err(Error::BodyTooLarge { limit_bytes: BODY_BYTES_MAX });
            }
            if self.is_received {
                let rest = self.received.split();
                return Ok((!rest.is_empty()).then_some(rest));
            }
            let chunk = tokio::time::timeout(BODY_TIME_MAX, self.payload.next());
            let chunk: Option<Result<Bytes, PayloadError>> = chunk.await.map_err(|_| Error::BodyTimeout)?;
            match chunk {
                Some(chunk) => self.received.extend_from_slice(&chunk.map_err(|_| Error::BodyIncomplete)?),
                None => self.is_received = true,
            }
        }
    }
}
