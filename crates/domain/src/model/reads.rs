//! What is shown of it all.

use super::command::{Answer, Fact, Noun, Plain};
use super::tenant::{Bought, Model};

impl Model {
    pub(super) fn read_balance(&self, customer: usize) -> Answer {
        let Some(own) = self.customers.get(customer) else { return Answer::no(404, "not-found") };
        let now = self.now;
        let settled = own.account.settled(now);
        let live = own.account.grants.iter().filter(|grant| grant.is_live(now));
        let granted: i64 = live.map(|grant| grant.amount - grant.revoked).sum();
        let left = own.account.grants.iter().filter(|grant| grant.remaining() > 0);
        let next = left.flat_map(|grant| [grant.effective, grant.expiry]).filter(|at| *at > now).min();
        Answer::ok(200)
            .with("/account_version", own.account.version())
            .with("/settled", settled)
            .with("/held", self.held(customer))
            .with("/available", self.available(customer))
            .with("/granted", granted)
            .with("/used", granted - settled)
            .with("/expires_next_at", next.map_or(Plain::Null, Plain::At))
            .with("/resets_at", self.resets_at(customer).map_or(Plain::Null, Plain::At))
            .with("/overage", own.account.overage())
    }

    pub(super) fn read_subscription(&self, subscription: usize) -> Answer {
        if subscription >= self.subscriptions.len() {
            return Answer::no(404, "not-found");
        }
        Answer::ok(200).with_all("", self.subscription_facts(subscription))
    }

    pub(super) fn list_grants(&self, customer: usize) -> Answer {
        let Some(own) = self.customers.get(customer) else { return Answer::no(404, "not-found") };
        // In the order of what paid for them, which may have been paid in another.
        let mut grants: Vec<_> = own.account.grants.iter().collect();
        grants.sort_by_key(|grant| grant.invoice);
        let rows = grants.into_iter().map(|grant| {
            facts([
                ("/id", Plain::Id(Noun::Grant, grant.invoice)),
                ("/source", grant.source.into()),
                ("/priority", 100_i64.into()),
                ("/amount", grant.amount.into()),
                ("/spent", grant.spent.into()),
                ("/expired", grant.expired.into()),
                ("/revoked", grant.revoked.into()),
                ("/remaining", grant.remaining().into()),
                ("/effective_at", Plain::At(grant.effective)),
                ("/expires_at", Plain::At(grant.expiry)),
                ("/created_at", Plain::At(grant.created)),
            ])
        });
        list(rows)
    }

    pub(super) fn list_transfers(&self, customer: usize) -> Answer {
        let Some(own) = self.customers.get(customer) else { return Answer::no(404, "not-found") };
        let rows = own.account.transfers.iter().zip(1_i64..).map(|(transfer, version)| {
            let grant = transfer.grant.map_or(Plain::Null, |grant| Plain::Id(Noun::Grant, grant));
            facts([
                ("/version", version.into()),
                ("/debit", transfer.debit.into()),
                ("/credit", transfer.credit.into()),
                ("/grant", grant),
                ("/credits", transfer.credits.into()),
                ("/cause/kind", transfer.cause.into()),
                ("/event_time", Plain::At(transfer.event_time)),
                ("/recorded_at", Plain::At(transfer.recorded)),
                ("/reverses", transfer.reverses.into()),
            ])
        });
        list(rows)
    }

    pub(super) fn list_invoices(&self, customer: usize) -> Answer {
        if customer >= self.customers.len() {
            return Answer::no(404, "not-found");
        }
        let of = |number: &usize| self.subscriptions[self.invoices[*number].subscription].customer;
        let own = (0..self.invoices.len()).filter(|number| of(number) == customer);
        let own = own.filter(|number| self.invoices[*number].bought != Bought::WithinYear);
        list(own.map(|number| self.invoice_facts(number)))
    }

    pub(super) fn invoice_facts(&self, number: usize) -> Vec<Fact> {
        let invoice = &self.invoices[number];
        let own = &self.subscriptions[invoice.subscription];
        facts([
            ("/id", Plain::Id(Noun::Invoice, number)),
            ("/customer", Plain::Id(Noun::Customer, own.customer)),
            ("/status", invoice.status.into()),
            ("/total/amount_minor", invoice.total.into()),
            ("/total/currency", own.currency.into()),
            ("/created_at", Plain::At(invoice.created)),
            ("/paid_at", invoice.paid.map_or(Plain::Null, Plain::At)),
        ])
    }

    pub(super) fn list_subscriptions(&self, customer: usize) -> Answer {
        if customer >= self.customers.len() {
            return Answer::no(404, "not-found");
        }
        let own = (0..self.subscriptions.len()).filter(|n| self.subscriptions[*n].customer == customer);
        list(own.map(|number| self.subscription_facts(number)))
    }
}

fn facts<const N: usize>(facts: [(&str, Plain); N]) -> Vec<Fact> {
    facts.into_iter().map(|(pointer, value)| (pointer.to_owned(), value)).collect()
}

/// All pages of a list as one.
fn list(rows: impl Iterator<Item = Vec<Fact>>) -> Answer {
    let rows: Vec<Vec<Fact>> = rows.collect();
    let mut answer = Answer::ok(200).with("/data", Plain::Length(rows.len()));
    for (index, row) in rows.into_iter().enumerate() {
        answer = answer.with_all(&format!("/data/{index}"), row);
    }
    answer
}
