//! A story that is true.

use uuid::Uuid;

use crate::check::{Evidence, Findings, check_all};
use crate::history::{
    Answer, EventAnswer, HoldUse, List, Name, Operation, Outcome, Receipt, Request, SentEvent, Try,
};
use crate::rates::{Model, Tokens};
use crate::store::{
    AccountRow, Books, EventRow, GrantRow, InvoiceRow, PurchaseRow, SubscriptionRow, TransferRow,
};
use crate::world::{Class, Customer};

/// One customer who buys `small` (2,000,000), uses 100, is allowed 50 and uses them, and reads.
pub(super) struct Story {
    pub(super) customers: Vec<Customer>,
    pub(super) operations: Vec<Operation>,
    pub(super) books: Books,
}

const CLIENT: u32 = 1;

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(super) fn name(number: u32) -> Name {
    Name { client: CLIENT, number }
}

/// Tokens of the plain model: one Credit each.
pub(super) fn event(number: u32, tokens: u32, hold: Option<Name>) -> SentEvent {
    let tokens = Tokens { input: tokens, cache_read: 0, output: 0 };
    SentEvent { name: name(number), account: 0, model: Model::Plain, tokens, is_too_old: false, hold }
}

pub(super) fn receipt(credits: i64, balance_after: i64, version: i64, hold: HoldUse) -> Receipt {
    Receipt { credits, overage: 0, balance_after, version, is_unrated: false, hold, draws: 1 }
}

/// Sent and answered within one second, the `second` of the run.
pub(super) fn operation(second: u64, key: &str, request: Request, answer: Answer) -> Operation {
    let (invoked, ended) = (second * 1_000_000, second * 1_000_000 + 500_000);
    let account = (!matches!(request, Request::CreateCustomer { .. })).then_some(0);
    let tries = vec![Try { invoked, ended, wall: 0, server: 0, outcome: Outcome::Ok(200) }];
    Operation {
        client: CLIENT,
        key: key.to_owned(),
        request,
        account,
        is_repeat: false,
        tries,
        answer: Some(answer),
    }
}

fn transfer(
    version: i64,
    debit: &str,
    credit: &str,
    credits: i64,
    cause_kind: &str,
    cause: u128,
) -> TransferRow {
    TransferRow {
        version,
        debit: debit.to_owned(),
        credit: credit.to_owned(),
        grant: Some(id(50)),
        credits,
        cause_kind: cause_kind.to_owned(),
        cause_id: id(cause),
    }
}

fn event_row(number: u32, identity: u128, of: &Receipt) -> EventRow {
    EventRow {
        customer: id(1),
        identity: id(identity),
        name: Some(name(number)),
        model: "torture-plain".to_owned(),
        input: of.credits,
        cache_read: 0,
        output: 0,
        is_unrated: false,
        captured: of.hold == HoldUse::Captured,
        credits: of.credits,
        overage: of.overage,
        balance_after: of.balance_after,
        version: of.version,
        draws: of.draws,
    }
}

impl Story {
    pub(super) fn true_one() -> Story {
        let first = receipt(100, 1_999_900, 2, HoldUse::NotNamed);
        let second = receipt(50, 1_999_850, 3, HoldUse::Captured);
        let bought = Answer::Bought {
            version: 1,
            subscription: format!("sub_{:032x}", 30),
            invoice: format!("inv_{:032x}", 40),
            is_paid: true,
            digest: 7,
        };
        let usage = |events: Vec<SentEvent>| Request::Usage(events);
        let accepted = |receipt| Answer::Usage(vec![EventAnswer::Accepted(receipt)]);
        let versions = ["1", "2", "3"].map(str::to_owned).to_vec();
        let customer = format!("cus_{:032x}", 1);
        let mut again = operation(8, "c1-3", usage(vec![event(2, 100, None)]), accepted(first));
        again.is_repeat = true;
        again.answer = Some(Answer::Usage(vec![EventAnswer::Duplicate(first)]));
        let operations = vec![
            operation(1, "c1-1", Request::Subscribe { plan: "small" }, bought),
            operation(2, "c1-3", usage(vec![event(2, 100, None)]), accepted(first)),
            operation(
                3,
                "c1-4",
                Request::Authorize { hold: name(4), estimate: 60 },
                Answer::Held { credits: 60, version: 2, digest: 9 },
            ),
            operation(4, "c1-6", usage(vec![event(5, 50, Some(name(4)))]), accepted(second)),
            operation(
                5,
                "",
                Request::Balance,
                Answer::Balance { version: 3, settled: 1_999_850, held: 0, available: 1_999_850 },
            ),
            operation(6, "", Request::List(List::Ledger), Answer::Listed(versions)),
            operation(7, "", Request::List(List::Customers(0)), Answer::Listed(vec![customer.clone()])),
            again,
        ];
        let account = AccountRow {
            customer: id(1),
            version: 3,
            issued: -2_000_000,
            available: 1_999_850,
            spent: 150,
            expired: 0,
            revoked: 0,
            overage: 0,
        };
        let grant = GrantRow {
            customer: id(1),
            grant: id(50),
            amount: 2_000_000,
            spent: 150,
            expired: 0,
            revoked: 0,
            remaining: 1_999_850,
        };
        let transfers = vec![
            transfer(1, "issued", "available", 2_000_000, "purchase", 60),
            transfer(2, "available", "spent", 100, "usage", 2),
            transfer(3, "available", "spent", 50, "usage", 5),
        ];
        let books = Books {
            accounts: vec![account],
            grants: vec![grant],
            transfers: [(id(1), transfers)].into(),
            events: vec![event_row(2, 2, &first), event_row(5, 5, &second)],
            subscriptions: vec![SubscriptionRow { subscription: id(30), status: "active".to_owned() }],
            invoices: vec![InvoiceRow { customer: id(1), invoice: id(40), status: "paid".to_owned() }],
            purchases: vec![PurchaseRow {
                purchase: id(60),
                invoice: id(40),
                status: "applied".to_owned(),
                credits: 2_000_000,
            }],
        };
        Story {
            customers: vec![Customer { tenant: 0, class: Class::Tight, id: customer }],
            operations,
            books,
        }
    }

    pub(super) fn findings(&self) -> Findings {
        let Story { customers, operations, books } = self;
        let mut findings = Findings::default();
        check_all(&Evidence { customers, operations, books, redis_faults: &[] }, &mut findings);
        findings
    }

    pub(super) fn transfers(&mut self) -> &mut Vec<TransferRow> {
        self.books.transfers.get_mut(&id(1)).expect("the customer's")
    }

    pub(super) fn answer(&mut self, index: usize, answer: Answer) {
        self.operations[index].answer = Some(answer);
    }

    /// The same customer buys the plan that is above, and 7,000,000 Credits come at version 4.
    pub(super) fn with_upgrade(mut self) -> Story {
        let bought = Answer::Bought {
            version: 4,
            subscription: format!("sub_{:032x}", 30),
            invoice: format!("inv_{:032x}", 41),
            is_paid: true,
            digest: 8,
        };
        self.operations.push(operation(9, "c1-9", Request::Upgrade { plan: "medium" }, bought));
        let mut granted = transfer(4, "issued", "available", 7_000_000, "purchase", 61);
        granted.grant = Some(id(51));
        self.transfers().push(granted);
        self.books.grants.push(GrantRow {
            grant: id(51),
            amount: 7_000_000,
            spent: 0,
            remaining: 7_000_000,
            ..self.books.grants[0].clone()
        });
        let account = &mut self.books.accounts[0];
        (account.version, account.issued, account.available) = (4, -9_000_000, 8_999_850);
        self.books.invoices.push(InvoiceRow { customer: id(1), invoice: id(41), status: "paid".to_owned() });
        self.books.purchases.push(PurchaseRow {
            purchase: id(61),
            invoice: id(41),
            status: "applied".to_owned(),
            credits: 7_000_000,
        });
        self
    }
}
