//! Takes Credits back from one grant, because the money that paid for it went back (R-22a), and gives them back where
//! it did not in the end: a refund failed after all, or a dispute was won after it had been lost.

use super::{Account, Book, Cause, Draw, Posting, Transfer};
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

    /// Reverses a transfer that revoked. The grant has to be loaded, whatever is left of it: `not-found`, and the
    /// account is not to be written, where it is not. What goes back to a grant that has ended since expires at once
    /// (R-25b).
    pub fn reinstate(&mut self, revoked: &Transfer, now: Timestamp) -> Result<(), Refusal> {
        let recorded_at = self.recording_time(now);
        let index = self.grants.iter().position(|loaded| Some(loaded.id) == revoked.grant);
        let index = index.ok_or(Refusal::NotFound { what: "grant" })?;
        let &Transfer { credits, cause, grant, .. } = revoked;
        let back = Posting {
            debit: Book::Revoked,
            credit: Book::Available,
            grant,
            credits,
            cause,
            event_time: now,
            reverses: Some(revoked.version),
        };
        self.grants[index].revoked = self.grants[index].revoked.minus_floor_zero(credits);
        self.post(back, now)?;
        let grant = &mut self.grants[index];
        if grant.expires_at.is_none_or(|expiry| expiry > recorded_at) {
            return Ok(());
        }
        grant.expired = grant.expired.plus(credits)?;
        let expires = Posting {
            debit: Book::Available,
            credit: Book::Expired,
            grant: Some(grant.id),
            credits,
            cause,
            event_time: now,
            reverses: None,
        };
        self.post(expires, now)?;
        self.grants[index].expiry_version.get_or_insert(self.head.version);
        Ok(())
    }

    fn revocable(&self, grant: &Grant, now: Timestamp) -> Credits {
        let recorded_at = self.recording_time(now);
        let is_over = grant.expires_at.is_some_and(|expiry| expiry <= recorded_at);
        if is_over { Credits::ZERO } else { grant.remaining() }
    }
}
