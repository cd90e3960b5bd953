//! What goes wrong, and when.

/// A kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    CreateCustomer,
    AttachMethod,
    ReadMethod,
    CreateIntent,
    ReadIntent,
    ListIntents,
    CancelIntent,
    Refund,
    Setup,
    Checkout,
    ListEvents,
    Other,
}

impl Call {
    /// Whether it changes something.
    pub(crate) fn is_change(self) -> bool {
        !matches!(
            self,
            Call::ReadMethod | Call::ReadIntent | Call::ListIntents | Call::ListEvents | Call::Other
        )
    }
}

/// How a call goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is done, and answered so many milliseconds later.
    Late(u64),
    /// It is not done, and the connection is cut.
    Lost,
    /// It is done, and the connection is cut.
    ActThenReset,
    /// It is not done: 429.
    RateLimited,
    /// It is not done: 500, which is kept for its key as any answer is.
    Error,
    /// It is done, and answered with 500.
    ActThenError,
    /// It is done, and its answer is not JSON.
    Garbled,
    /// A payment takes so many minor units instead of its amount.
    TakeInstead(i64),
    /// A payment is taken in this currency instead of its own.
    TakeIn(String),
}

/// The faults that were ordered, and those that come by themselves.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    ordered: Vec<(Call, Fault)>,
    /// Of the changing calls.
    pub(crate) percent: u8,
}

impl Faults {
    pub(crate) fn order(&mut self, call: Call, fault: Fault) {
        self.ordered.push((call, fault));
    }

    pub(crate) fn forget(&mut self) {
        self.ordered.clear();
    }

    /// How many were ordered that no call has met yet.
    pub(crate) fn waiting(&self) -> usize {
        self.ordered.len()
    }

    /// The fault of a call that has just come in.
    pub(crate) fn take(&mut self, call: Call, random: &mut fastrand::Rng) -> Option<Fault> {
        if let Some(at) = self.ordered.iter().position(|(of, _)| *of == call) {
            return Some(self.ordered.remove(at).1);
        }
        if !call.is_change() || self.percent == 0 || random.u8(0..100) >= self.percent {
            return None;
        }
        let faults = [
            Fault::Late(50),
            Fault::Lost,
            Fault::ActThenReset,
            Fault::RateLimited,
            Fault::ActThenError,
            Fault::Garbled,
        ];
        Some(faults[random.usize(0..faults.len())].clone())
    }
}
