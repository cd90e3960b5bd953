//! What a tenant is asked to do, and what it must answer.

use super::calendar::Micros;

/// A request. Things that Tollgate made are named by their number in the order in which they were made;
/// a number that is not there stands for an id that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    CreateCustomer {
        external_id: String,
    },
    Subscribe {
        customer: usize,
        plan: String,
        currency: &'static str,
        method: String,
        promotion: Option<String>,
        /// For a year instead of a cycle.
        annual: bool,
    },
    PreviewUpgrade {
        subscription: usize,
        plan: String,
    },
    Upgrade {
        subscription: usize,
        plan: String,
        quote: Option<usize>,
        method: Option<String>,
    },
    Cancel {
        subscription: usize,
        at_once: bool,
        /// Whether what was paid for the cycle goes back; only at once.
        refund: bool,
    },
    WithdrawCancel {
        subscription: usize,
    },
    SchedulePlan {
        subscription: usize,
        plan: String,
    },
    WithdrawPlan {
        subscription: usize,
    },
    Migrate {
        subscription: usize,
    },
    WithdrawMigration {
        subscription: usize,
    },
    SetMethod {
        subscription: usize,
        method: String,
    },
    /// An operator stops it.
    Suspend {
        subscription: usize,
    },
    Resume {
        subscription: usize,
    },
    PayInvoice {
        invoice: usize,
        method: Option<String>,
    },
    BuyTopUp {
        customer: usize,
        top_up: &'static str,
        currency: &'static str,
        method: String,
    },
    /// The same, where the provider takes so many minor units instead of the first charge that it comes to.
    PayAnotherAmount {
        of: Box<Command>,
        taken: i64,
    },
    /// An operator has looked at an account. Names the events that were kept, in the order of their times.
    Unpark {
        customer: usize,
        in_order: Vec<(&'static str, String)>,
    },
    /// So much of a paid invoice, or the whole rest.
    Refund {
        invoice: usize,
        amount: Option<i64>,
    },
    /// The customer's bank decides a payment that it had left open, and the provider tells.
    DecidePayment {
        invoice: usize,
        succeeds: bool,
    },
    /// So much of a paid invoice goes back on the provider's own site, which tells.
    RefundElsewhere {
        invoice: usize,
        amount: i64,
    },
    /// What was taken instead of an invoice's amount goes back there.
    GiveBackInstead {
        invoice: usize,
    },
    /// The customer's bank wants the money back.
    OpenDispute {
        invoice: usize,
    },
    /// The bank decides, for the seller or against.
    CloseDispute {
        dispute: usize,
        is_won: bool,
    },
    /// The bank has decided against the seller, and changes its mind.
    ReverseDispute {
        dispute: usize,
    },
    /// The provider tells all over again what it has told before.
    TellAgain,
    /// The same Credits for many customers, each once a tag.
    Campaign {
        tag: &'static str,
        credits: i64,
        expires: Option<Micros>,
        whom: Whom,
    },
    /// By the token up to a cap in minor units where there is one, else nobody pays what no grant covers.
    SetExhaustion {
        customer: usize,
        cap: Option<i64>,
        method: Option<String>,
    },
    /// A top-up is bought whenever no more than so many Credits are left.
    SetAutoTopUp {
        customer: usize,
        top_up: AutoTopUp,
        method: Option<String>,
    },
    ReadExhaustion {
        customer: usize,
    },
    /// Credits by hand.
    Give {
        customer: usize,
        source: &'static str,
        credits: i64,
        expires: Option<Micros>,
    },
    Price {
        ask: Ask,
    },
    Authorize {
        id: String,
        customer: usize,
        ask: Ask,
    },
    Release {
        id: String,
        customer: usize,
    },
    /// One event by itself.
    Use {
        event: Event,
    },
    UseBatch {
        events: Vec<Event>,
    },
    /// The same of one that leaves so little that a top-up is bought.
    UseUp {
        event: Event,
    },
    /// Voids the event of this source and id.
    Void {
        source: &'static str,
        id: String,
        reason: String,
    },
    /// Advances the test clock, stopping wherever something is due.
    Advance {
        to: Micros,
    },
    /// Sets the test clock, then has a rollover run to its end.
    Jump {
        to: Micros,
    },
    ReadBalance {
        customer: usize,
    },
    ReadSubscription {
        subscription: usize,
    },
    ListGrants {
        customer: usize,
    },
    ListTransfers {
        customer: usize,
    },
    ListInvoices {
        customer: usize,
    },
    ListSubscriptions {
        customer: usize,
    },
}

impl Command {
    /// The names of all kinds.
    pub const KINDS: [&'static str; 45] = [
        "create-customer",
        "subscribe",
        "preview-upgrade",
        "upgrade",
        "cancel",
        "withdraw-cancel",
        "schedule-plan",
        "withdraw-plan",
        "migrate",
        "withdraw-migration",
        "set-method",
        "pay-invoice",
        "buy-top-up",
        "pay-another-amount",
        "unpark",
        "refund",
        "suspend",
        "resume",
        "decide-payment",
        "refund-elsewhere",
        "give-back-instead",
        "open-dispute",
        "close-dispute",
        "reverse-dispute",
        "tell-again",
        "campaign",
        "set-exhaustion",
        "set-auto-top-up",
        "read-exhaustion",
        "give",
        "price",
        "authorize",
        "release",
        "use",
        "use-batch",
        "use-up",
        "void",
        "advance",
        "jump",
        "read-balance",
        "read-subscription",
        "list-grants",
        "list-transfers",
        "list-invoices",
        "list-subscriptions",
    ];

    /// The name of its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Command::CreateCustomer { .. } => "create-customer",
            Command::Subscribe { .. } => "subscribe",
            Command::PreviewUpgrade { .. } => "preview-upgrade",
            Command::Upgrade { .. } => "upgrade",
            Command::Cancel { .. } => "cancel",
            Command::WithdrawCancel { .. } => "withdraw-cancel",
            Command::SchedulePlan { .. } => "schedule-plan",
            Command::WithdrawPlan { .. } => "withdraw-plan",
            Command::Migrate { .. } => "migrate",
            Command::WithdrawMigration { .. } => "withdraw-migration",
            Command::SetMethod { .. } => "set-method",
            Command::PayInvoice { .. } => "pay-invoice",
            Command::BuyTopUp { .. } => "buy-top-up",
            Command::PayAnotherAmount { .. } => "pay-another-amount",
            Command::Unpark { .. } => "unpark",
            Command::Refund { .. } => "refund",
            Command::Suspend { .. } => "suspend",
            Command::Resume { .. } => "resume",
            Command::DecidePayment { .. } => "decide-payment",
            Command::RefundElsewhere { .. } => "refund-elsewhere",
            Command::GiveBackInstead { .. } => "give-back-instead",
            Command::OpenDispute { .. } => "open-dispute",
            Command::CloseDispute { .. } => "close-dispute",
            Command::ReverseDispute { .. } => "reverse-dispute",
            Command::TellAgain => "tell-again",
            Command::Campaign { .. } => "campaign",
            Command::SetExhaustion { .. } => "set-exhaustion",
            Command::SetAutoTopUp { .. } => "set-auto-top-up",
            Command::ReadExhaustion { .. } => "read-exhaustion",
            Command::Give { .. } => "give",
            Command::Price { .. } => "price",
            Command::Authorize { .. } => "authorize",
            Command::Release { .. } => "release",
            Command::Use { .. } => "use",
            Command::UseBatch { .. } => "use-batch",
            Command::UseUp { .. } => "use-up",
            Command::Void { .. } => "void",
            Command::Advance { .. } => "advance",
            Command::Jump { .. } => "jump",
            Command::ReadBalance { .. } => "read-balance",
            Command::ReadSubscription { .. } => "read-subscription",
            Command::ListGrants { .. } => "list-grants",
            Command::ListTransfers { .. } => "list-transfers",
            Command::ListInvoices { .. } => "list-invoices",
            Command::ListSubscriptions { .. } => "list-subscriptions",
        }
    }

    /// Whether it happens at the payment provider, and Tollgate hears of it by webhook.
    pub fn is_the_providers(&self) -> bool {
        matches!(
            self,
            Command::DecidePayment { .. }
                | Command::RefundElsewhere { .. }
                | Command::GiveBackInstead { .. }
                | Command::OpenDispute { .. }
                | Command::CloseDispute { .. }
                | Command::ReverseDispute { .. }
                | Command::TellAgain
        )
    }

    /// Whether it is sent with an Idempotency-Key: sent again, it is answered as it was.
    pub fn has_key(&self) -> bool {
        match self {
            Command::PayAnotherAmount { of, .. } => of.has_key(),
            Command::Subscribe { .. }
            | Command::Upgrade { .. }
            | Command::Cancel { .. }
            | Command::WithdrawCancel { .. }
            | Command::SchedulePlan { .. }
            | Command::WithdrawPlan { .. }
            | Command::Migrate { .. }
            | Command::WithdrawMigration { .. }
            | Command::SetMethod { .. }
            | Command::PayInvoice { .. }
            | Command::BuyTopUp { .. }
            | Command::Refund { .. }
            | Command::Suspend { .. }
            | Command::Resume { .. }
            | Command::Campaign { .. }
            | Command::SetExhaustion { .. }
            | Command::SetAutoTopUp { .. }
            | Command::Give { .. } => true,
            Command::CreateCustomer { .. }
            | Command::Unpark { .. }
            | Command::DecidePayment { .. }
            | Command::RefundElsewhere { .. }
            | Command::GiveBackInstead { .. }
            | Command::OpenDispute { .. }
            | Command::CloseDispute { .. }
            | Command::ReverseDispute { .. }
            | Command::TellAgain
            | Command::ReadExhaustion { .. }
            | Command::PreviewUpgrade { .. }
            | Command::Price { .. }
            | Command::Authorize { .. }
            | Command::Release { .. }
            | Command::Use { .. }
            | Command::UseBatch { .. }
            | Command::UseUp { .. }
            | Command::Void { .. }
            | Command::Advance { .. }
            | Command::Jump { .. }
            | Command::ReadBalance { .. }
            | Command::ReadSubscription { .. }
            | Command::ListGrants { .. }
            | Command::ListTransfers { .. }
            | Command::ListInvoices { .. }
            | Command::ListSubscriptions { .. } => false,
        }
    }
}

/// Whom a campaign is for: all for whom everything holds that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whom {
    /// These.
    pub customers: Option<Vec<usize>>,
    /// With a subscription of this plan: of this status, or a live one.
    pub plan: Option<String>,
    pub status: Option<&'static str>,
}

/// A top-up that buys itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoTopUp {
    pub code: &'static str,
    pub currency: &'static str,
    /// So many Credits are left when one is bought.
    pub at: i64,
    /// At most so many a cycle, failed ones too.
    pub per_cycle: i64,
    /// So long after one has failed none is bought.
    pub cool_off_minutes: i64,
}

/// A model call that wants to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    pub model: &'static str,
    /// Tokens of input, cache read and cache write.
    pub prompt: [u64; 3],
    pub output_max: Option<u64>,
}

/// A model call that has been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub source: &'static str,
    pub id: String,
    pub customer: usize,
    pub model: &'static str,
    /// Tokens of input, cache read, cache write and output.
    pub tokens: [u64; 4],
    /// The part of the output that was reasoning.
    pub reasoning: u64,
    pub outcome: &'static str,
    pub usage_source: &'static str,
    pub time: Option<Micros>,
    pub authorization: Option<String>,
}

/// What kind of thing an id names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Noun {
    Customer,
    Subscription,
    Invoice,
    /// Numbered as the invoice that paid for it, or as what was given.
    Grant,
    Quote,
}

/// A value that an answer must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plain {
    Number(i64),
    Text(String),
    Flag(bool),
    At(Micros),
    /// The id of the thing of this number.
    Id(Noun, usize),
    /// A list of this length.
    Length(usize),
    Null,
}

impl From<i64> for Plain {
    fn from(number: i64) -> Self {
        Plain::Number(number)
    }
}

impl From<u32> for Plain {
    fn from(number: u32) -> Self {
        Plain::Number(number.into())
    }
}

impl From<bool> for Plain {
    fn from(flag: bool) -> Self {
        Plain::Flag(flag)
    }
}

impl From<&str> for Plain {
    fn from(text: &str) -> Self {
        Plain::Text(text.to_owned())
    }
}

impl<T: Into<Plain>> From<Option<T>> for Plain {
    fn from(value: Option<T>) -> Self {
        value.map_or(Plain::Null, Into::into)
    }
}

/// The value at a JSON pointer of an answer's body.
pub type Fact = (String, Plain);

/// An answer: of its body, the parts that can be told beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// The code of a problem.
    pub code: Option<&'static str>,
    pub facts: Vec<Fact>,
}

impl Answer {
    /// A success.
    pub fn ok(status: u16) -> Answer {
        Answer { status, code: None, facts: Vec::new() }
    }

    /// A "no".
    pub fn no(status: u16, code: &'static str) -> Answer {
        Answer { status, code: Some(code), facts: Vec::new() }
    }

    /// With one more fact.
    pub fn with(mut self, pointer: impl Into<String>, value: impl Into<Plain>) -> Answer {
        self.facts.push((pointer.into(), value.into()));
        self
    }

    /// With these facts below `pointer`.
    pub fn with_all(mut self, pointer: &str, facts: Vec<Fact>) -> Answer {
        self.facts.extend(facts.into_iter().map(|(rest, value)| (format!("{pointer}{rest}"), value)));
        self
    }
}
