//! An account whose Credits are moved one at a time: for the tests of this crate, where a pool has a
//! few hundred. Every amount is a plain number (Credits, seconds).

use crate::grant::GrantSource;

/// What became of one Credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Spent,
    Expired,
    Revoked,
}

/// A grant and the fate of each Credit that left it.
#[derive(Debug, Clone)]
pub(crate) struct ModelGrant {
    pub(crate) id: u128,
    source: GrantSource,
    amount: usize,
    effective: i64,
    expiry: Option<i64>,
    fates: Vec<Fate>,
}

impl ModelGrant {
    pub(crate) fn remaining(&self) -> usize {
        self.amount - self.fates.len()
    }

    pub(crate) fn count(&self, fate: Fate) -> usize {
        self.fates.iter().filter(|other| **other == fate).count()
    }

    /// R-25's numbers, once more.
    fn priority(&self) -> i32 {
        match self.source {
            GrantSource::Promotion => 50,
            GrantSource::Rollover => 75,
            GrantSource::Plan => 100,
            GrantSource::Upgrade => 100,
            GrantSource::Adjustment => 150,
            GrantSource::TopUp => 200,
        }
    }

    /// R-25, criterion by criterion.
    fn burns_before(&self, other: &ModelGrant) -> bool {
        if self.priority() != other.priority() {
            return self.priority() < other.priority();
        }
        if self.expiry != other.expiry {
            return match (self.expiry, other.expiry) {
                (Some(mine), Some(others)) => mine < others,
                (Some(_), None) => true,
                (None, _) => false,
            };
        }
        if self.effective != other.effective {
            return self.effective < other.effective;
        }
        self.id < other.id
    }

    fn has_expired_by(&self, instant: i64) -> bool {
        match self.expiry {
            Some(expiry) => expiry <= instant,
            None => false,
        }
    }
}

/// What is known of an event when it is charged.
#[derive(Debug, Clone)]
pub(crate) struct ModelUsage {
    pub(crate) charge_instant: i64,
    pub(crate) received: i64,
    pub(crate) is_captured: bool,
    pub(crate) grace: i64,
    pub(crate) absorbs_past_grace: bool,
}

impl ModelUsage {
    fn reaches(&self, end: i64) -> bool {
        self.is_captured || self.received <= end + self.grace
    }
}

/// An account as its grants alone.
#[derive(Debug, Clone)]
pub(crate) struct ModelAccount {
    pub(crate) grants: Vec<ModelGrant>,
    pub(crate) overage: usize,
    /// The recording time of the last movement: time does not go back for the next.
    last_recorded: i64,
}

impl ModelAccount {
    pub(crate) fn new(opened: i64) -> ModelAccount {
        ModelAccount { grants: Vec::new(), overage: 0, last_recorded: opened }
    }

    fn recording_time(&self, now: i64) -> i64 {
        if now > self.last_recorded { now } else { self.last_recorded }
    }

    pub(crate) fn issue(
        &mut self,
        id: u128,
        source: GrantSource,
        amount: usize,
        (effective, expiry): (i64, Option<i64>),
        now: i64,
    ) {
        self.last_recorded = self.recording_time(now);
        self.grants.push(ModelGrant { id, source, amount, effective, expiry, fates: Vec::new() });
    }

    /// Draws Credit by Credit, each from whichever eligible grant burns before all others (R-19a,
    /// R-25); answers the grant of each, `None` for overage. A Credit that has expired is spent
    /// instead where the usage is that cycle's.
    pub(crate) fn charge(&mut self, cost: usize, of: &ModelUsage, now: i64) -> Vec<Option<u128>> {
        let recorded = self.recording_time(now);
        let ended = self.closed_cycle(of.charge_instant, recorded);
        let is_past_grace = ended.is_some_and(|end| !of.reaches(end));
        let mut drawn = Vec::new();
        for _ in 0..cost {
            let mut first: Option<&mut ModelGrant> = None;
            for grant in &mut self.grants {
                let has_begun = match ended {
                    Some(end) if !is_past_grace => grant.effective < end,
                    _ => grant.effective <= recorded,
                };
                let is_open = match grant.expiry {
                    None => true,
                    Some(expiry) if expiry > recorded => of.charge_instant < expiry,
                    Some(_) if is_past_grace => false,
                    // In a closed cycle that is reached, all that ended in it or since is reached.
                    Some(expiry) if ended.is_some() => of.charge_instant < expiry,
                    Some(expiry) => of.charge_instant < expiry && of.reaches(expiry),
                };
                let unspent = grant.remaining() + grant.count(Fate::Expired);
                let is_absorbed = is_past_grace && of.absorbs_past_grace;
                let is_eligible = unspent > 0 && has_begun && is_open && !is_absorbed;
                let is_first = match &first {
                    None => true,
                    Some(other) => grant.burns_before(other),
                };
                if is_eligible && is_first {
                    first = Some(grant);
                }
            }
            match first {
                Some(grant) => {
                    if grant.remaining() == 0
                        && let Some(expired) = grant.fates.iter_mut().find(|fate| **fate == Fate::Expired)
                    {
                        *expired = Fate::Spent;
                    } else {
                        grant.fates.push(Fate::Spent);
                    }
                    drawn.push(Some(grant.id));
                }
                None => {
                    self.overage += 1;
                    drawn.push(None);
                }
            }
            self.last_recorded = recorded;
        }
        drawn
    }

    /// The end of the cycle that `instant` lies in, if that is over: the latest end of the plan's
    /// grants around it.
    fn closed_cycle(&self, instant: i64, recorded: i64) -> Option<i64> {
        let mut end: Option<i64> = None;
        for grant in &self.grants {
            let is_the_plans = grant.source == GrantSource::Plan || grant.source == GrantSource::Upgrade;
            let is_around = grant.effective <= instant && !grant.has_expired_by(instant);
            if is_the_plans && is_around && grant.expiry > end {
                end = grant.expiry;
            }
        }
        end.filter(|end| *end <= recorded)
    }

    ///
    pub(crate) fn expire(&mut self, now: i64) {
        let recorded = self.recording_time(now);
        for grant in &mut self.grants {
            while grant.has_expired_by(now) && grant.remaining() > 0 {
                grant.fates.push(Fate::Expired);
                self.last_recorded = recorded;
            }
        }
    }

    /// Gives back Credit by Credit what a charge had drawn; one of a grant that is over expires (R-25b, R-33).
    /// Answers how many can be spent again.
    pub(crate) fn void(&mut self, drawn: &[Option<u128>], now: i64) -> usize {
        let recorded = self.recording_time(now);
        let mut spendable = 0;
        for from in drawn {
            self.last_recorded = recorded;
            let Some(id) = from else {
                self.overage -= 1;
                continue;
            };
            for grant in self.grants.iter_mut().filter(|grant| grant.id == *id) {
                let spent = grant.fates.iter().position(|fate| *fate == Fate::Spent);
                grant.fates.remove(spent.unwrap_or_else(|| panic!("nothing of {id} is spent")));
                if grant.has_expired_by(recorded) {
                    grant.fates.push(Fate::Expired);
                } else {
                    spendable += 1;
                }
            }
        }
        spendable
    }

    /// R-17, R-25a.
    pub(crate) fn revoke_the_plans(&mut self, now: i64) {
        let recorded = self.recording_time(now);
        for grant in &mut self.grants {
            let is_the_plans = grant.source == GrantSource::Plan || grant.source == GrantSource::Upgrade;
            while is_the_plans && !grant.has_expired_by(recorded) && grant.remaining() > 0 {
                grant.fates.push(Fate::Revoked);
                self.last_recorded = recorded;
            }
        }
    }

    pub(crate) fn available(&self, instant: i64) -> usize {
        self.grants
            .iter()
            .filter(|grant| grant.effective <= instant && !grant.has_expired_by(instant))
            .map(ModelGrant::remaining)
            .sum()
    }
}
