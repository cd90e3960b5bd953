//! What is bought, given and given back apart from a plan (R-22a, R-24, R-25a).

use super::account::Grant;
use super::calendar::{HOUR, Micros};
use super::command::{Answer, Noun, Plain, Whom};
use super::sales::payment;
use super::tenant::{Bought, Dispute, Gift, Invoice, Model, ModelTopUp, Refunded};

/// How long an unpaid top-up stays open (*policy*).
const TOP_UP: Micros = 23 * HOUR;
/// Where the numbers of what was given begin: above those of all invoices.
const GIVEN: usize = 1_000_000_000;

impl Model {
    pub(super) fn buy_top_up(
        &mut self,
        customer: usize,
        code: &str,
        currency: &'static str,
        method: &str,
    ) -> Answer {
        if payment(method).is_none() {
            return Answer::no(422, "unknown-payment-method");
        }
        if customer >= self.customers.len() {
            return Answer::no(404, "not-found");
        }
        let catalog = self.catalog_at(self.now).cloned();
        let Some((version, top_up)) = catalog.and_then(|catalog| {
            let found = catalog.top_ups.iter().find(|top_up| top_up.code == code)?.clone();
            Some((catalog.version, found))
        }) else {
            return Answer::no(422, "unknown-top-up");
        };
        let Some(price) = self.top_up_price(code, currency) else {
            return Answer::no(409, "no-price-in-currency");
        };
        let invoice = self.open_top_up(customer, Bought::TopUp, &top_up, (currency, price));
        self.collect(invoice, method);
        let bought = &self.invoices[invoice];
        let (status, payment_status, top_up_status) = match (bought.status, bought.is_in_flight) {
            ("paid", _) => (201, "paid", "applied"),
            (_, true) => (202, self.undecided(invoice), "pending"),
            _ => {
                return Answer::no(402, "payment-declined")
                    .with("/invoice", Plain::Id(Noun::Invoice, invoice));
            }
        };
        Answer::ok(status)
            .with("/payment_status", payment_status)
            .with("/top_up/customer", Plain::Id(Noun::Customer, customer))
            .with("/top_up/top_up", code)
            .with("/top_up/catalog_version", version)
            .with("/top_up/credits", top_up.credits)
            .with("/top_up/status", top_up_status)
            .with("/top_up/automatic", false)
            .with("/top_up/expires_at", Plain::At(bought.expires))
            .with("/top_up/granted_at", bought.paid.map_or(Plain::Null, Plain::At))
            .with_all("/invoice", self.invoice_facts(invoice))
    }

    /// Somebody has paid, and not what was asked for: it grants nothing, nobody can give the payment up, and the account
    /// is parked.
    pub(super) fn take_instead(&mut self, invoice: usize, method: &str, taken: i64) {
        let own = &mut self.invoices[invoice];
        own.tried_with = method.to_owned();
        own.taken_instead = Some(taken);
        own.is_in_flight = true;
        own.is_at_bank = true;
        own.next_try = None;
        self.customers[own.customer].is_parked = true;
    }

    /// The invoice of a top-up that is sold now.
    pub(super) fn open_top_up(
        &mut self,
        customer: usize,
        bought: Bought,
        top_up: &ModelTopUp,
        (currency, price): (&'static str, i64),
    ) -> usize {
        let catalog = self.catalog_at(self.now).map_or(0, |catalog| catalog.version);
        self.open_invoice(Invoice {
            customer,
            currency,
            subscription: None,
            made: 0,
            bought,
            paid_by: None,
            cycle: 0,
            plan: top_up.code.to_owned(),
            catalog,
            credits: top_up.credits,
            list_price: price,
            total: price,
            status: "open",
            is_in_flight: false,
            is_customers_turn: false,
            is_at_bank: false,
            taken_instead: None,
            is_given_back: false,
            tried_with: String::new(),
            created: self.now,
            expires: self.now + TOP_UP,
            paid: None,
            refunded: 0,
            next_try: None,
            failed_tries: 0,
        })
    }

    pub(super) fn is_top_up(&self, code: &str) -> bool {
        self.catalog_at(self.now).is_some_and(|sold| sold.top_ups.iter().any(|top_up| top_up.code == code))
    }

    pub(super) fn top_up_price(&self, code: &str, currency: &str) -> Option<i64> {
        let top_up = self.catalog_at(self.now)?.top_ups.iter().find(|top_up| top_up.code == code)?;
        top_up.prices.iter().find(|(of, _)| *of == currency).map(|(_, price)| *price)
    }

    /// How long the Credits last that an invoice of a top-up pays for.
    pub(super) fn lasts_of(&self, invoice: &Invoice) -> Option<Micros> {
        let catalog = self.catalogs.iter().find(|catalog| catalog.version == invoice.catalog)?;
        catalog.top_ups.iter().find(|top_up| top_up.code == invoice.plan)?.lasts
    }

    pub(super) fn refund(&mut self, invoice: usize, amount: Option<i64>) -> Answer {
        let Some(paid) = self.invoices.get(invoice).cloned() else { return Answer::no(404, "not-found") };
        if paid.status != "paid" || paid.total == 0 {
            return Answer::no(409, "invoice-not-paid");
        }
        if self.is_disputed(invoice) {
            return Answer::no(409, "payment-disputed");
        }
        let rest = paid.total - paid.refunded;
        if rest == 0 {
            return Answer::no(409, "already-refunded");
        }
        let amount = amount.unwrap_or(rest);
        if amount > rest {
            return Answer::no(422, "refund-too-large").with("/rest/amount_minor", rest);
        }
        let (revoked, short) = self.give_back(invoice, amount);
        Answer::ok(201)
            .with("/invoice", Plain::Id(Noun::Invoice, invoice))
            .with("/amount/amount_minor", amount)
            .with("/amount/currency", paid.currency)
            .with("/status", "succeeded")
            .with("/origin", "operator")
            .with("/credits_revoked", revoked)
            .with("/credits_short", short)
    }

    /// So much of a paid invoice goes back, and takes what it had bought with it.
    pub(super) fn give_back(&mut self, invoice: usize, amount: i64) -> (i64, i64) {
        self.invoices[invoice].refunded += amount;
        let refunded = self.invoices[invoice].refunded;
        let (taken, short) = self.take_back(invoice, refunded, 0);
        self.refunds.push(Refunded { invoice, refunded, short });
        (taken, short)
    }

    /// Of the grant that it had bought; of a year, of its part of the running cycle.
    pub(super) fn take_back(&mut self, invoice: usize, refunded: i64, given_up: i64) -> (i64, i64) {
        let (now, own) = (self.now, &self.invoices[invoice]);
        let (customer, target) = (own.customer, share(own.credits, refunded, own.total));
        let grant = self.running_part(invoice).unwrap_or(invoice);
        self.customers[customer].account.refund(grant, target, given_up, now)
    }

    /// What the running cycle of a year has because an earlier one was paid with this invoice.
    pub(super) fn running_part(&self, invoice: usize) -> Option<usize> {
        let own = &self.subscriptions[self.invoices[invoice].subscription?];
        let running = own.cycle?.number;
        self.invoices.iter().position(|of| of.paid_by == Some(invoice) && of.cycle == running)
    }

    /// A cycle of a year does without what each refund and each lost dispute took, from its beginning on.
    pub(super) fn go_without(&mut self, part: usize, paid_by: usize) {
        let now = self.now;
        let Invoice { customer, credits, total, .. } = self.invoices[paid_by];
        let account = &mut self.customers[customer].account;
        for refund in self.refunds.iter().filter(|refund| refund.invoice == paid_by) {
            account.refund(part, share(credits, refund.refunded, total), 0, now);
        }
        let is_lost = |dispute: &&mut Dispute| dispute.invoice == paid_by && dispute.state == "lost";
        for dispute in self.disputes.iter_mut().filter(is_lost) {
            dispute.revoked_by.extend(account.lose(part, now));
        }
    }

    /// Everybody for whom it holds gets what the tag gives, who has not had it.
    pub(super) fn campaign(
        &mut self,
        tag: &'static str,
        credits: i64,
        expires: Option<Micros>,
        whom: &Whom,
    ) -> Answer {
        let now = self.now;
        let is_over = expires.is_some_and(|expires| expires <= now);
        let named = whom.customers.iter().flatten();
        if is_over || named.into_iter().any(|customer| *customer >= self.customers.len()) {
            return Answer::no(422, "invalid-field");
        }
        let gift = Gift { credits, expires, given_to: Vec::new() };
        let known = self.gifts.entry(tag).or_insert(gift);
        if (known.credits, known.expires) != (credits, expires) {
            return Answer::no(409, "campaign-differs");
        }
        let (mut granted, mut skipped) = (0_i64, 0_i64);
        for customer in 0..self.customers.len() {
            if !self.is_meant(customer, whom) {
                continue;
            }
            let had = self.gifts.get_mut(tag).map(|gift| &mut gift.given_to);
            let Some(had) = had.filter(|had| !had.contains(&customer)) else {
                skipped += 1;
                continue;
            };
            had.push(customer);
            granted += 1;
            self.add_gift(customer, "promotion", credits, expires);
        }
        Answer::ok(200)
            .with("/tag", tag)
            .with("/credits", credits)
            .with("/expires_at", expires.map_or(Plain::Null, Plain::At))
            .with("/state", "done")
            .with("/granted", granted)
            .with("/skipped", skipped)
    }

    fn is_meant(&self, customer: usize, whom: &Whom) -> bool {
        if whom.customers.as_ref().is_some_and(|named| !named.contains(&customer)) {
            return false;
        }
        if whom.plan.is_none() && whom.status.is_none() {
            return true;
        }
        self.subscriptions.iter().filter(|own| own.customer == customer).any(|own| {
            let has_status = whom.status.map_or(own.is_live(), |status| own.status == status);
            has_status && whom.plan.as_ref().is_none_or(|plan| *plan == own.plan)
        })
    }

    pub(super) fn give(
        &mut self,
        customer: usize,
        source: &'static str,
        credits: i64,
        expires: Option<Micros>,
    ) -> Answer {
        let now = self.now;
        if expires.is_some_and(|expires| expires <= now) {
            return Answer::no(422, "invalid-field");
        }
        if customer >= self.customers.len() {
            return Answer::no(404, "not-found");
        }
        let number = self.add_gift(customer, source, credits, expires);
        Answer::ok(201)
            .with("/customer", Plain::Id(Noun::Customer, customer))
            .with("/kind", "grant")
            .with("/credits", credits)
            .with("/made_at", Plain::At(now))
            .with("/grant/id", Plain::Id(Noun::Grant, number))
            .with("/grant/source", source)
            .with("/grant/remaining", credits)
            .with("/account_version", self.version_of(customer))
    }

    fn add_gift(
        &mut self,
        customer: usize,
        source: &'static str,
        amount: i64,
        expiry: Option<Micros>,
    ) -> usize {
        let (number, now) = (self.next_given(), self.now);
        let cause = "adjustment";
        self.customers[customer].account.issue(Grant {
            number,
            made: self.made,
            cause,
            source,
            amount,
            spent: 0,
            expired: 0,
            revoked: 0,
            effective: now,
            expiry,
            created: now,
            expired_by: None,
        });
        number
    }

    /// The number of a grant that no invoice pays for.
    pub(super) fn next_given(&mut self) -> usize {
        self.made += 1;
        self.given += 1;
        GIVEN + self.given
    }
}

/// The same part of the Credits as of the money, without what is no whole one.
fn share(credits: i64, refunded: i64, paid: i64) -> i64 {
    let part = i128::from(credits) * i128::from(refunded) / i128::from(paid);
    i64::try_from(part).unwrap_or(i64::MAX)
}
