//! What is bought, given and given back apart from a plan (R-22a, R-24, R-25a).

use super::account::Grant;
use super::calendar::{HOUR, Micros};
use super::command::{Answer, Noun, Plain};
use super::tenant::{Bought, Invoice, Model};

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
        if !method.starts_with("pm_sandbox_") {
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
        let price = top_up.prices.iter().find(|(of, _)| *of == currency).map(|(_, price)| *price);
        let Some(price) = price else { return Answer::no(409, "no-price-in-currency") };
        let invoice = self.open_invoice(Invoice {
            customer,
            currency,
            subscription: None,
            made: 0,
            bought: Bought::TopUp,
            cycle: 0,
            plan: code.to_owned(),
            catalog: version,
            credits: top_up.credits,
            list_price: price,
            total: price,
            status: "open",
            is_in_flight: false,
            created: self.now,
            expires: self.now + TOP_UP,
            paid: None,
            refunded: 0,
            next_try: None,
            failed_tries: 0,
        });
        self.collect(invoice, method);
        let bought = &self.invoices[invoice];
        let (status, payment_status, top_up_status) = match (bought.status, bought.is_in_flight) {
            ("paid", _) => (201, "paid", "applied"),
            (_, true) => (202, "pending", "pending"),
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
        let rest = paid.total - paid.refunded;
        if rest == 0 {
            return Answer::no(409, "already-refunded");
        }
        let amount = amount.unwrap_or(rest);
        if amount > rest {
            return Answer::no(422, "refund-too-large").with("/rest/amount_minor", rest);
        }
        let (now, refunded) = (self.now, paid.refunded + amount);
        self.invoices[invoice].refunded = refunded;
        let account = &mut self.customers[paid.customer].account;
        let (revoked, short) = account.refund(invoice, paid.total, refunded, now);
        Answer::ok(201)
            .with("/invoice", Plain::Id(Noun::Invoice, invoice))
            .with("/amount/amount_minor", amount)
            .with("/amount/currency", paid.currency)
            .with("/status", "succeeded")
            .with("/origin", "operator")
            .with("/credits_revoked", revoked)
            .with("/credits_short", short)
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
        let Some(own) = self.customers.get_mut(customer) else { return Answer::no(404, "not-found") };
        self.made += 1;
        self.given += 1;
        let number = GIVEN + self.given;
        own.account.issue(Grant {
            number,
            made: self.made,
            cause: "adjustment",
            source,
            amount: credits,
            spent: 0,
            expired: 0,
            revoked: 0,
            effective: now,
            expiry: expires,
            created: now,
            expired_by: None,
        });
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
}
