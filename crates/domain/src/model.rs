//! A slow and obvious model of the rules, for tests to compare the real code with. It calls none
//! of it: Credits are moved one at a time, bands are searched from the first, and every amount is a
//! plain number (Credits, minor units, seconds).

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

/// A line of a model's rate card.
#[derive(Debug, Clone)]
pub(crate) struct ModelBand {
    pub(crate) upper: Option<u64>,
    pub(crate) is_inclusive: bool,
    /// Milli-Credits a token of input, cache read, cache write and output.
    pub(crate) rates: Option<[Option<u32>; 4]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelCost {
    Credits(i128),
    Unrated(&'static str),
    Overflow,
}

/// by the letter. `counts` as [`ModelBand::rates`].
pub(crate) fn cost(bands: &[ModelBand], counts: [u64; 4]) -> ModelCost {
    let prompt: i128 = counts[..3].iter().map(|count| i128::from(*count)).sum();
    if prompt > i128::from(i64::MAX) || i128::from(counts[3]) > i128::from(i64::MAX) {
        return ModelCost::Overflow;
    }
    let mut shortest = 0;
    for band in bands {
        let longest = match band.upper {
            None => i128::MAX - 1,
            Some(upper) if band.is_inclusive => i128::from(upper),
            Some(upper) => i128::from(upper) - 1,
        };
        if shortest <= prompt && prompt <= longest {
            let Some(rates) = band.rates else { return ModelCost::Unrated("no-credit-rate") };
            let mut milli = 0;
            for (count, rate) in counts.into_iter().zip(rates) {
                match rate {
                    Some(rate) => milli += i128::from(count) * i128::from(rate),
                    None if count == 0 => {}
                    None => return ModelCost::Unrated("no-rate-for-token-kind"),
                }
            }
            let whole = if milli % 1_000 == 0 { milli / 1_000 } else { milli / 1_000 + 1 };
            let count_max = 9_007_199_254_740_991;
            return if whole > count_max { ModelCost::Overflow } else { ModelCost::Credits(whole) };
        }
        shortest = longest + 1;
    }
    ModelCost::Unrated("prompt-above-last-band")
}

/// What the first cycle of a plan costs: the part that is not taken off, a started minor unit
/// counting whole.
pub(crate) fn discounted(list_minor: i64, off_bps: i64) -> i64 {
    let pays = i128::from(list_minor) * i128::from(10_000 - off_bps);
    let whole = if pays % 10_000 == 0 { pays / 10_000 } else { pays / 10_000 + 1 };
    i64::try_from(whole).unwrap()
}

/// Everything paid within a cycle, from the list prices of the plan that was bought and of the
/// highest that was reached.
pub(crate) fn paid_within_cycle(bought_list: i64, highest_list: i64, off_bps: i64, carries: bool) -> i64 {
    if carries {
        discounted(highest_list, off_bps)
    } else {
        discounted(bought_list, off_bps) + highest_list - bought_list
    }
}
