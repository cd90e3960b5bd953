//! What the clients write down: every request, every try of it, and what was answered. The checker
//! believes this and PostgreSQL, and nothing else.

use std::fmt;
use std::str::FromStr;

use crate::rates::{Model, Tokens};

/// Microseconds of monotonic time since the run began.
pub type Micros = u64;

/// A customer of the run: its place in the list of all of them.
pub type AccountIndex = usize;

/// What a client names something by: an event, an authorization or a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    pub client: u32,
    pub number: u32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}-{}", self.client, self.number)
    }
}

impl FromStr for Name {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (client, number) = text.strip_prefix('c').and_then(|rest| rest.split_once('-')).ok_or(())?;
        Ok(Name { client: client.parse().map_err(drop)?, number: number.parse().map_err(drop)? })
    }
}

/// One try of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Try {
    pub invoked: Micros,
    pub ended: Micros,
    /// Milliseconds of the machine's clock since 1970, when it was invoked.
    pub wall: u64,
    pub server: usize,
    pub outcome: Outcome,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Ok(u16),
    /// 4xx: nothing was done.
    Refused(u16),
    /// It may have been done or not.
    Unknown(Why),
    /// No server was reached: nothing was done.
    NotSent,
}

/// Why an outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// No answer in time.
    TimedOut,
    /// The connection broke.
    Broke,
    /// 503.
    Unavailable,
    /// Any other 5xx.
    Fault,
}

/// A request, with all of its tries.
#[derive(Debug, Clone, PartialEq)]
pub struct Operation {
    pub client: u32,
    /// The Idempotency-Key or the event's, authorization's or customer's own id.
    pub key: String,
    pub request: Request,
    /// The customer that it is about; a batch of events has many.
    pub account: Option<AccountIndex>,
    /// The same was sent and answered before: this is the client making sure.
    pub is_repeat: bool,
    pub tries: Vec<Try>,
    /// What the last try was answered; `None` where that is unknown still.
    pub answer: Option<Answer>,
}

impl Operation {
    /// When it was first sent.
    pub fn started(&self) -> Micros {
        self.tries.first().map_or(0, |first| first.invoked)
    }

    /// When the last try was sent.
    pub fn last_sent(&self) -> Micros {
        self.tries.last().map_or(0, |last| last.invoked)
    }

    pub fn ended(&self) -> Micros {
        self.tries.last().map_or(0, |last| last.ended)
    }

    /// Whether a try before the answered one may have had an effect.
    pub fn was_unknown(&self) -> bool {
        self.tries.iter().any(|a_try| matches!(a_try.outcome, Outcome::Unknown(_)))
    }
}

/// What was asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    Usage(Vec<SentEvent>),
    /// `estimate` is what the whole request would cost, in Credits: no more is held.
    Authorize {
        hold: Name,
        estimate: i64,
    },
    Release {
        hold: Name,
    },
    Subscribe {
        plan: &'static str,
    },
    Upgrade {
        plan: &'static str,
    },
    CancelAtOnce,
    CancelAtEnd,
    WithdrawCancel,
    Balance,
    List(List),
    CreateCustomer {
        tenant: usize,
    },
}

/// A list that is paged to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    Ledger,
    Grants,
    Invoices,
    Subscriptions,
    /// Of a tenant, by its place in the list of tenants.
    Customers(usize),
}

/// A usage event as it was sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SentEvent {
    pub name: Name,
    pub account: AccountIndex,
    pub model: Model,
    pub tokens: Tokens,
    /// Its time is before all that is accepted.
    pub is_too_old: bool,
    /// The authorization that it names.
    pub hold: Option<Name>,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One for each event.
    Usage(Vec<EventAnswer>),
    Refused {
        status: u16,
        code: String,
    },
    Held {
        credits: i64,
        version: i64,
        digest: u64,
    },
    Released {
        version: i64,
    },
    Bought {
        version: i64,
        subscription: String,
        invoice: String,
        is_paid: bool,
        digest: u64,
    },
    Subscription {
        version: i64,
        subscription: String,
        status: String,
        digest: u64,
    },
    Balance {
        version: i64,
        settled: i64,
        held: i64,
        available: i64,
    },
    /// Ids, or versions, in the order they came.
    Listed(Vec<String>),
    Created {
        customer: String,
    },
    /// 2xx with a body that is none of those.
    Strange(String),
}

/// What became of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventAnswer {
    Accepted(Receipt),
    Duplicate(Receipt),
    Unrated(Receipt),
    Conflict,
    Rejected,
    /// None of those.
    Strange,
}

/// The part of a receipt that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    pub credits: i64,
    pub overage: i64,
    pub balance_after: i64,
    pub version: i64,
    pub is_unrated: bool,
    pub hold: HoldUse,
    /// How many grants paid.
    pub draws: i64,
}

/// Whether an event captured its authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldUse {
    Captured,
    NotNamed,
    Unknown,
    Expired,
    Ended,
}
