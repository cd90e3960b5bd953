//! A credit account as its grants and the list of what happened to them.

use super::calendar::{MINUTE, Micros};

/// How long after a cycle's end its usage is still charged to it (R-32, *policy*).
const GRACE: Micros = 60 * MINUTE;

/// Credits that were bought or given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Of the invoice that paid for it, or of what was given.
    pub number: usize,
    /// Its place among all that was bought or given, by the time of that.
    pub made: usize,
    /// `purchase`, `adjustment`, or `cycle` where its year had paid for it.
    pub cause: &'static str,
    pub source: &'static str,
    pub amount: i64,
    pub spent: i64,
    pub expired: i64,
    pub revoked: i64,
    pub effective: Micros,
    /// None for ever.
    pub expiry: Option<Micros>,
    pub created: Micros,
    /// The version of the transfer that its rest expired with.
    pub expired_by: Option<i64>,
}

impl Grant {
    /// What is left.
    pub fn remaining(&self) -> i64 {
        self.amount - self.spent - self.expired - self.revoked
    }

    /// From its effective instant up to, and without, its expiry.
    pub fn is_live(&self, instant: Micros) -> bool {
        self.effective <= instant && !self.is_over(instant)
    }

    fn is_over(&self, instant: Micros) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= instant)
    }

    /// "The plan's grants".
    pub fn is_the_plans(&self) -> bool {
        self.source == "plan" || self.source == "upgrade"
    }

    ///
    pub fn priority(&self) -> i64 {
        match self.source {
            "promotion" => 50,
            "rollover" => 75,
            "adjustment" => 150,
            "top_up" => 200,
            _ => 100,
        }
    }

    /// the lowest priority, then the earliest expiry, then the earliest effective instant, then the older one.
    fn burns_before(&self, other: &Grant) -> bool {
        if self.priority() != other.priority() {
            return self.priority() < other.priority();
        }
        match (self.expiry, other.expiry) {
            (Some(own), Some(others)) if own != others => return own < others,
            (Some(_), None) => return true,
            (None, Some(_)) => return false,
            _ => {}
        }
        if self.effective != other.effective {
            return self.effective < other.effective;
        }
        self.made < other.made
    }
}

/// A movement between two books. Its version is its place in the list, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    pub debit: &'static str,
    pub credit: &'static str,
    /// The grant's number.
    pub grant: Option<usize>,
    pub credits: i64,
    pub cause: &'static str,
    pub event_time: Micros,
    pub recorded: Micros,
    /// The version of the transfer that it takes back.
    pub reverses: Option<i64>,
}

/// An event that is to be charged.
#[derive(Debug, Clone, Copy)]
pub struct Charge {
    pub cost: i64,
    /// R-19a.
    pub instant: Micros,
    /// Whether it captured a hold.
    pub is_captured: bool,
    pub event_time: Micros,
    /// When it was received: what the grace is counted to.
    pub received: Micros,
    pub now: Micros,
}

/// What an event was charged to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Charged {
    /// The numbers of the grants that paid, with what each paid.
    pub draws: Vec<(usize, i64)>,
    pub overage: i64,
    /// The versions of its transfers.
    pub versions: Vec<i64>,
}

/// A customer's account.
#[derive(Debug, Clone, Default)]
pub struct Account {
    pub grants: Vec<Grant>,
    pub transfers: Vec<Transfer>,
}

impl Account {
    /// The version of the last transfer.
    pub fn version(&self) -> i64 {
        i64::try_from(self.transfers.len()).unwrap_or(i64::MAX)
    }

    /// What the live grants have left.
    pub fn settled(&self, now: Micros) -> i64 {
        self.grants.iter().filter(|grant| grant.is_live(now)).map(Grant::remaining).sum()
    }

    /// What no grant has paid for, ever, and was not voided.
    pub fn overage(&self) -> i64 {
        let sum = |of: &dyn Fn(&&Transfer) -> bool| -> i64 {
            self.transfers.iter().filter(of).map(|transfer| transfer.credits).sum()
        };
        sum(&|transfer| transfer.debit == "overage") - sum(&|transfer| transfer.credit == "overage")
    }

    /// The Credits of what was bought.
    pub fn issue(&mut self, grant: Grant) {
        if grant.amount == 0 {
            return;
        }
        self.transfers.push(Transfer {
            debit: "issued",
            credit: "available",
            grant: Some(grant.number),
            credits: grant.amount,
            cause: grant.cause,
            event_time: grant.effective,
            recorded: grant.created,
            reverses: None,
        });
        self.grants.push(grant);
    }

    /// Draws from whichever eligible grant burns before all others until the cost is paid or none is
    /// left; the rest is overage (R-19a, R-25, R-30). In a closed cycle that is still charged, what has
    /// expired is taken back and spent.
    pub fn charge(&mut self, of: Charge) -> Charged {
        let mut charged = Charged { draws: Vec::new(), overage: 0, versions: Vec::new() };
        let before = self.version();
        let mut left = of.cost;
        while left > 0 {
            let Some(index) = self.first_to_burn(of) else { break };
            let grant = &mut self.grants[index];
            let (number, expired_by) = (grant.number, grant.expired_by);
            let taken_back = if grant.remaining() == 0 { left.min(grant.expired) } else { 0 };
            let drawn = if taken_back > 0 { taken_back } else { left.min(grant.remaining()) };
            grant.expired -= taken_back;
            grant.spent += drawn;
            if taken_back > 0 {
                self.post_usage(("expired", "available"), Some(number), drawn, of);
                if let Some(back) = self.transfers.last_mut() {
                    back.reverses = expired_by;
                }
            }
            self.post_usage(("available", "spent"), Some(number), drawn, of);
            charged.draws.push((number, drawn));
            left -= drawn;
        }
        if left > 0 {
            self.post_usage(("overage", "spent"), None, left, of);
            charged.overage = left;
        }
        charged.versions = (before + 1..=self.version()).collect();
        charged
    }

    /// Takes the transfers of a charge back, the last one first; what goes back to a grant that is over expires
    /// at once (R-25b, R-33). Says how much can be spent again.
    pub fn void(&mut self, versions: &[i64], now: Micros) -> i64 {
        let mut spendable = 0;
        for version in versions.iter().rev() {
            let place = usize::try_from(*version - 1).unwrap_or(usize::MAX);
            let charge = self.transfers[place].clone();
            // What was taken back of an expiry was spent: that is reversed, and expires again.
            if charge.credit != "spent" {
                continue;
            }
            let back = Transfer {
                debit: charge.credit,
                credit: charge.debit,
                cause: "void",
                event_time: now,
                recorded: now,
                reverses: Some(*version),
                ..charge
            };
            self.transfers.push(back.clone());
            let expiry_version = self.version() + 1;
            let Some(grant) = self.grants.iter_mut().find(|grant| Some(grant.number) == back.grant) else {
                continue;
            };
            grant.spent -= back.credits;
            if !grant.is_over(now) {
                spendable += back.credits;
                continue;
            }
            grant.expired += back.credits;
            if grant.expired_by.is_none() {
                grant.expired_by = Some(expiry_version);
            }
            self.transfers.push(Transfer { debit: "available", credit: "expired", reverses: None, ..back });
        }
        spendable
    }

    fn post_usage(
        &mut self,
        (debit, credit): (&'static str, &'static str),
        grant: Option<usize>,
        credits: i64,
        of: Charge,
    ) {
        self.transfers.push(Transfer {
            debit,
            credit,
            grant,
            credits,
            cause: "usage",
            event_time: of.event_time,
            recorded: of.now,
            reverses: None,
        });
    }

    fn first_to_burn(&self, of: Charge) -> Option<usize> {
        let mut first: Option<usize> = None;
        for (index, grant) in self.grants.iter().enumerate() {
            if !self.is_eligible(grant, of) || grant.remaining() + grant.expired == 0 {
                continue;
            }
            let is_first = match first {
                None => true,
                Some(other) => grant.burns_before(&self.grants[other]),
            };
            if is_first {
                first = Some(index);
            }
        }
        first
    }

    /// R-19a, and R-32 where the charge instant lies in a cycle that is over.
    fn is_eligible(&self, grant: &Grant, of: Charge) -> bool {
        match self.closed_cycle(of) {
            Some(end) if of.is_captured || of.received <= end + GRACE => {
                grant.effective < end && !grant.is_over(of.instant)
            }
            // Past the grace it is charged as if it had happened now.
            Some(_) => grant.is_live(of.now),
            None => {
                let reaches = |expiry| of.now < expiry || of.is_captured || of.received <= expiry + GRACE;
                grant.effective <= of.now && !grant.is_over(of.instant) && grant.expiry.is_none_or(reaches)
            }
        }
    }

    /// The end of the cycle that the charge instant lies in, if that is over.
    fn closed_cycle(&self, of: Charge) -> Option<Micros> {
        let plans = self.grants.iter().filter(|grant| grant.is_the_plans());
        let around = plans.filter(|grant| grant.is_live(of.instant));
        around.filter_map(|grant| grant.expiry).max().filter(|end| *end <= of.now)
    }

    /// What is past its expiry expires, in burn order. Says how much of that was the plan's.
    pub fn expire(&mut self, now: Micros) -> i64 {
        let mut of_the_plan = 0;
        for index in self.in_burn_order() {
            let version = self.version() + 1;
            let grant = &mut self.grants[index];
            let credits = grant.remaining();
            let Some(expiry) = grant.expiry.filter(|expiry| *expiry <= now && credits > 0) else { continue };
            grant.expired += credits;
            grant.expired_by = Some(version);
            if grant.is_the_plans() {
                of_the_plan += credits;
            }
            self.transfers.push(Transfer {
                debit: "available",
                credit: "expired",
                grant: Some(grant.number),
                credits,
                cause: "expiry",
                event_time: expiry,
                recorded: now,
                reverses: None,
            });
        }
        of_the_plan
    }

    /// A cancel at once takes what is left, in burn order.
    pub fn revoke(&mut self, now: Micros) {
        for index in self.in_burn_order() {
            let grant = &mut self.grants[index];
            let credits = grant.remaining();
            if !grant.is_the_plans() || grant.is_over(now) || credits == 0 {
                continue;
            }
            grant.revoked += credits;
            self.transfers.push(Transfer {
                debit: "available",
                credit: "revoked",
                grant: Some(grant.number),
                credits,
                cause: "cancel",
                event_time: now,
                recorded: now,
                reverses: None,
            });
        }
    }

    /// Takes what a refund does, `target` in all, as far as it is left (R-22a). Says what it took, and what was no longer
    /// there. `given_up` was not there before already.
    pub fn refund(&mut self, number: usize, target: i64, given_up: i64, now: Micros) -> (i64, i64) {
        let Some(grant) = self.grants.iter_mut().find(|grant| grant.number == number) else { return (0, 0) };
        let gone = grant.revoked + given_up;
        let missing = if target > gone { target - gone } else { 0 };
        let left = if grant.is_over(now) { 0 } else { grant.remaining() };
        let taken = if missing < left { missing } else { left };
        if taken > 0 {
            grant.revoked += taken;
            self.transfers.push(Transfer {
                debit: "available",
                credit: "revoked",
                grant: Some(number),
                credits: taken,
                cause: "refund",
                event_time: now,
                recorded: now,
                reverses: None,
            });
        }
        (taken, missing - taken)
    }

    /// A lost dispute takes all that is left of what its payment had bought (R-22a). Says by which transfer.
    pub fn lose(&mut self, number: usize, now: Micros) -> Option<i64> {
        let grant = self.grants.iter_mut().find(|grant| grant.number == number)?;
        let credits = grant.remaining();
        if grant.is_over(now) || credits == 0 {
            return None;
        }
        grant.revoked += credits;
        self.transfers.push(Transfer {
            debit: "available",
            credit: "revoked",
            grant: Some(number),
            credits,
            cause: "dispute",
            event_time: now,
            recorded: now,
            reverses: None,
        });
        Some(self.version())
    }

    /// What this transfer took is there again; of a grant that is over it expires at once (R-25b).
    pub fn reinstate(&mut self, version: i64, now: Micros) {
        let place = usize::try_from(version - 1).unwrap_or(usize::MAX);
        let back = Transfer {
            debit: "revoked",
            credit: "available",
            event_time: now,
            recorded: now,
            reverses: Some(version),
            ..self.transfers[place].clone()
        };
        self.transfers.push(back.clone());
        let expiry_version = self.version() + 1;
        let Some(grant) = self.grants.iter_mut().find(|grant| Some(grant.number) == back.grant) else {
            return;
        };
        grant.revoked -= back.credits;
        if !grant.is_over(now) {
            return;
        }
        grant.expired += back.credits;
        if grant.expired_by.is_none() {
            grant.expired_by = Some(expiry_version);
        }
        self.transfers.push(Transfer { debit: "available", credit: "expired", reverses: None, ..back });
    }

    fn in_burn_order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = Vec::new();
        for (index, grant) in self.grants.iter().enumerate() {
            let place = order.iter().position(|other| grant.burns_before(&self.grants[*other]));
            order.insert(place.unwrap_or(order.len()), index);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::GrantSource;
    use crate::model::{Fate, ModelAccount, ModelUsage};
    use proptest::prelude::*;

    /// Something that happens to an account: a purchase, usage, an expiry or a cancel.
    #[derive(Debug, Clone)]
    enum Happening {
        Issue {
            is_upgrade: bool,
            amount: i64,
            lives: i64,
        },
        Charge {
            cost: i64,
            ago: i64,
            is_captured: bool,
        },
        Expire,
        Revoke,
        /// The last charge that was not voided.
        Void,
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            (any::<bool>(), 1i64..60, 1i64..60).prop_map(|(is_upgrade, amount, lives)| Happening::Issue {
                is_upgrade,
                amount,
                lives
            }),
            (0i64..90, 0i64..200, any::<bool>()).prop_map(|(cost, ago, is_captured)| Happening::Charge {
                cost,
                ago,
                is_captured
            }),
            Just(Happening::Expire),
            Just(Happening::Revoke),
            Just(Happening::Void),
        ]
    }

    proptest! {
        #[test]
        fn amounts_are_what_moving_credits_one_by_one_comes_to(
            happenings in prop::collection::vec((0i64..50, happening()), 1..30)
        ) {
            let (mut own, mut one_by_one) = (Account::default(), ModelAccount::new(0));
            let mut charges = Vec::new();
            let mut now = 0;
            for (index, (minutes, happening)) in happenings.into_iter().enumerate() {
                now += minutes * MINUTE;
                match happening {
                    Happening::Issue { is_upgrade, amount, lives } => {
                        let expiry = now + lives * MINUTE;
                        own.issue(Grant {
                            number: index,
                            made: index,
                            cause: "purchase",
                            source: if is_upgrade { "upgrade" } else { "plan" },
                            amount,
                            spent: 0,
                            expired: 0,
                            revoked: 0,
                            effective: now,
                            expiry: Some(expiry),
                            created: now,
                            expired_by: None,
                        });
                        let source = if is_upgrade { GrantSource::Upgrade } else { GrantSource::Plan };
                        let id = u128::try_from(index).unwrap();
                        let amount = usize::try_from(amount).unwrap();
                        one_by_one.issue(id, source, amount, (now, Some(expiry)), now);
                    }
                    Happening::Charge { cost, ago, is_captured } => {
                        let instant = now - ago * MINUTE;
                        let charged = own.charge(Charge {
                            cost,
                            instant,
                            is_captured,
                            event_time: instant,
                            received: now,
                            now,
                        });
                        let usage = ModelUsage {
                            charge_instant: instant,
                            received: now,
                            is_captured,
                            grace: GRACE,
                            absorbs_past_grace: false,
                        };
                        let drawn = one_by_one.charge(usize::try_from(cost).unwrap(), &usage, now);
                        let overage = drawn.iter().filter(|grant| grant.is_none()).count();
                        prop_assert_eq!(charged.overage, i64::try_from(overage).unwrap());
                        charges.push((charged.versions, drawn));
                    }
                    Happening::Void => {
                        let Some((versions, drawn)) = charges.pop() else { continue };
                        let spendable = one_by_one.void(&drawn, now);
                        prop_assert_eq!(own.void(&versions, now), i64::try_from(spendable).unwrap());
                    }
                    Happening::Expire => {
                        own.expire(now);
                        one_by_one.expire(now);
                    }
                    Happening::Revoke => {
                        own.revoke(now);
                        one_by_one.revoke_the_plans(now);
                    }
                }
                for (grant, other) in own.grants.iter().zip(&one_by_one.grants) {
                    let counted = [Fate::Spent, Fate::Expired, Fate::Revoked].map(|fate| other.count(fate));
                    let counted = counted.map(|count| i64::try_from(count).unwrap());
                    prop_assert_eq!([grant.spent, grant.expired, grant.revoked], counted);
                }
            }
        }
    }
}
