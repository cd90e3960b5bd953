//! The life of a dispute: a customer's bank wants a payment back (R-22a). Monotone: told late, twice or
//! out of order, it ends in the same state.
//!
//! ```text
//!  open --lost--> lost --won: the money was reinstated--> won
//!    \\__________________________won________________________^
//! ```

/// Where a dispute is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DisputeState {
    /// The bank has not decided.
    Open,
    /// The money is gone.
    Lost,
    /// The money stays, or came back.
    Won,
}

impl DisputeState {
    pub const ALL: [DisputeState; 3] = [DisputeState::Open, DisputeState::Lost, DisputeState::Won];

    pub fn name(self) -> &'static str {
        match self {
            DisputeState::Open => "open",
            DisputeState::Lost => "lost",
            DisputeState::Won => "won",
        }
    }

    /// Whether the payment's money may be gone or is gone: then nothing of it is refunded.
    pub fn holds_the_money(self) -> bool {
        match self {
            DisputeState::Open | DisputeState::Lost => true,
            DisputeState::Won => false,
        }
    }
}

/// What the provider says about a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DisputeReport {
    Opened,
    Won,
    Lost,
}

impl DisputeReport {
    pub const ALL: [DisputeReport; 3] = [DisputeReport::Opened, DisputeReport::Won, DisputeReport::Lost];
}

/// The state after a report; `None` before the first one. A chargeback that is told again after its
/// reinstatement changes nothing.
pub fn dispute_after(state: Option<DisputeState>, report: DisputeReport) -> DisputeState {
    use {DisputeReport as Report, DisputeState as State};
    match (state, report) {
        (None, Report::Opened) => State::Open,
        (None, Report::Lost) => State::Lost,
        (None, Report::Won) => State::Won,
        (Some(State::Open), Report::Opened) => State::Open,
        (Some(State::Open), Report::Lost) => State::Lost,
        (Some(State::Open), Report::Won) => State::Won,
        (Some(State::Lost), Report::Opened | Report::Lost) => State::Lost,
        (Some(State::Lost), Report::Won) => State::Won,
        (Some(State::Won), Report::Opened | Report::Lost | Report::Won) => State::Won,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_report_in_every_state_has_its_outcome() {
        use DisputeState::{Lost, Open, Won};
        // The state after: opened, won, lost.
        for (state, outcomes) in [
            (None, [Open, Won, Lost]),
            (Some(Open), [Open, Won, Lost]),
            (Some(Lost), [Lost, Won, Lost]),
            (Some(Won), [Won, Won, Won]),
        ] {
            assert_eq!(DisputeReport::ALL.map(|report| dispute_after(state, report)), outcomes, "{state:?}");
        }
    }

    #[test]
    fn reports_end_in_one_state_in_whichever_order_and_however_often_they_come() {
        for first in DisputeReport::ALL {
            for second in DisputeReport::ALL {
                for third in DisputeReport::ALL {
                    let end = |reports: [DisputeReport; 3]| {
                        reports.into_iter().fold(None, |state, report| Some(dispute_after(state, report)))
                    };
                    let once = end([first, second, third]);
                    for other in [[third, second, first], [second, first, third], [third, first, second]] {
                        assert_eq!(end(other), once);
                    }
                    let again = once.map(|state| dispute_after(Some(state), first));
                    assert_eq!(again, once, "told again");
                }
            }
        }
    }

    #[test]
    fn nothing_is_refunded_while_a_bank_may_take_it_or_has_taken_it() {
        assert_eq!(DisputeState::ALL.map(DisputeState::name), ["open", "lost", "won"]);
        assert_eq!(DisputeState::ALL.map(DisputeState::holds_the_money), [true, true, false]);
    }

    #[test]
    fn a_state_only_rises() {
        for state in DisputeState::ALL {
            for report in DisputeReport::ALL {
                assert!(dispute_after(Some(state), report) >= state, "{state:?} {report:?}");
            }
        }
    }
}
