//! Takes Credits back from one grant, because the money that paid for it went back (R-22a).

use super::{Account, Book, Cause, Draw, Posting};
use crate::grant::Grant;
use crate::id::GrantId;
use crate::refund::Bought;
use crate::{Credits, Refusal, Timestamp};

impl Account {
    /// A grant as a refund sees it; `None` where it was not loaded. What is past its expiry is left to
    /// expire, so nothing of it remains.
    pub fn bought(&self, grant: GrantId, now: Timestamp) -> Option<Bought> {
        let grant = self.grants.iter().find(|loaded| loaded.id == grant)?;
        let remaining = self.revocable(grant, now);
        Some(Bought { granted: grant.amount, revoked: grant.revoked, remaining })
    }

    /// Revokes up to `credits_max` of what is left of a grant, and says how much. No other grant is
    /// touched.
    pub fn revoke(
        &mut self,
        grant: GrantId,
        credits_max: Credits,
        cause: Cause,
        now: Timestamp,
    ) -> Result<Option<Draw>, Refusal> {
        let Some(index) = self.grants.iter().position(|loaded| loaded.id == grant) else { return Ok(None) };
        let credits = self.revocable(&self.grants[index], now).min(credits_max);
        if credits.is_zero() {
            return Ok(None);
        }
        self.grants[index].revoked = self.grants[index].revoked.plus(credits)?;
        let (debit, credit, event_time) = (Book::Available, Book::Revoked, now);
        let posting =
            Posting { debit, credit, grant: Some(grant), credits, cause, event_time, reverses: None };
        self.post(posting, now)?;
        Ok(Some(Draw { grant, credits }))
    }

    fn revocable(&self, grant: &Grant, now: Timestamp) -> Credits {
        let recorded_at = self.recording_time(now);
        let is_over = grant.expires_at.is_some_and(|expiry| expiry <= recorded_at);
        if is_over { Credits::ZERO } else { grant.remaining() }
    }
}
