//! What happens at the payment provider, and what comes of it once Tollgate has heard (R-10a, R-14b, R-22a).

use super::command::{Answer, Plain};
use super::tenant::{Bought, Dispute, Invoice, Model};

impl Model {
    /// The bank, or the customer at it, decides a payment that was left open. Money for what is over goes back, and
    /// changes nothing.
    pub(super) fn decide(&mut self, number: usize, succeeds: bool) -> Answer {
        if !self.can_be_decided(number) {
            return Model::told();
        }
        self.decided(number, succeeds);
        // What only waited for the bank is due now.
        self.do_what_is_due();
        Model::told()
    }

    fn decided(&mut self, number: usize, succeeds: bool) {
        let Invoice { bought, subscription, is_customers_turn, .. } = self.invoices[number];
        self.invoices[number].is_at_bank = false;
        if self.invoices[number].status != "open" {
            return;
        }
        self.invoices[number].is_in_flight = false;
        self.invoices[number].is_customers_turn = false;
        match (succeeds, subscription) {
            (true, _) if self.is_too_late(number) => {
                self.invoices[number].status = "void";
                self.invoices[number].next_try = None;
            }
            (true, Some(subscription)) => {
                if bought == Bought::FirstCycle {
                    let method = self.invoices[number].tried_with.clone();
                    self.subscriptions[subscription].method = method;
                }
                self.take_effect(number);
            }
            (true, None) => self.take_effect(number),
            (false, Some(_)) if bought == Bought::Upgrade => self.invoices[number].status = "void",
            // A try that waited for its customer has counted as failed already.
            (false, Some(subscription)) if bought == Bought::Renewal && !is_customers_turn => {
                self.renewal_failed(number, subscription);
            }
            (false, None) => self.automatic_failed(number),
            (false, _) => {}
        }
    }

    /// Whether the provider has a payment of it that somebody still has to decide.
    pub fn can_be_decided(&self, number: usize) -> bool {
        self.invoices.get(number).is_some_and(|of| {
            !self.is_taken_instead(number) && (of.is_at_bank || of.is_in_flight && of.is_customers_turn)
        })
    }

    /// Whether what it is for is over (R-10a, R-14b).
    fn is_too_late(&self, number: usize) -> bool {
        let invoice = &self.invoices[number];
        let Some(own) = invoice.subscription.map(|subscription| &self.subscriptions[subscription]) else {
            return false;
        };
        let runs = own.cycle.is_some_and(|cycle| cycle.number == invoice.cycle && self.now < cycle.end);
        match invoice.bought {
            Bought::FirstCycle => own.status != "incomplete",
            Bought::Upgrade => own.status != "active" || !runs,
            Bought::Renewal => !own.is_live() || !runs,
            Bought::WithinYear | Bought::TopUp | Bought::AutomaticTopUp | Bought::Usage => false,
        }
    }

    /// Whether Stripe has taken its money.
    pub fn is_paid_at_stripe(&self, number: usize) -> bool {
        let of = self.invoices.get(number);
        of.is_some_and(|of| of.status == "paid" && of.total > 0 && of.tried_with.starts_with("pm_stripe_"))
    }

    /// Whether the provider has money of it that is not what it asks for.
    pub fn is_taken_instead(&self, number: usize) -> bool {
        self.invoices.get(number).is_some_and(|of| of.taken_instead.is_some() && !of.is_given_back)
    }

    /// Once all of what was taken instead is back, the payment can be given up, and the invoice be paid anew.
    pub(super) fn give_back_instead(&mut self, number: usize) -> Answer {
        if self.is_taken_instead(number) {
            self.invoices[number].is_given_back = true;
            self.invoices[number].is_at_bank = false;
            // What only waited for that is due now.
            self.do_what_is_due();
        }
        Model::told()
    }

    pub(super) fn refund_elsewhere(&mut self, number: usize, amount: i64) -> Answer {
        if self.is_paid_at_stripe(number)
            && self.invoices[number].refunded + amount <= self.invoices[number].total
        {
            self.give_back(number, amount);
        }
        Model::told()
    }

    pub(super) fn open_dispute(&mut self, number: usize) -> Answer {
        if self.is_paid_at_stripe(number) {
            self.disputes.push(Dispute { invoice: number, state: "open", revoked_by: Vec::new() });
        }
        Model::told()
    }

    /// A lost one takes what is left of what its payment had bought, and suspends. One that was lost can still be
    /// won, which gives both back; one that was won stays so.
    pub(super) fn close_dispute(&mut self, dispute: usize, is_won: bool) -> Answer {
        let Some(Dispute { invoice, state, .. }) = self.disputes.get(dispute).cloned() else {
            return Model::told();
        };
        match (state, is_won) {
            ("open", true) => self.disputes[dispute].state = "won",
            ("lost", true) => {
                self.disputes[dispute].state = "won";
                self.reinstate(invoice);
            }
            ("open", false) => {
                self.disputes[dispute].state = "lost";
                let Invoice { customer, subscription, .. } = self.invoices[invoice];
                let grant = self.running_part(invoice).unwrap_or(invoice);
                let account = &mut self.customers[customer].account;
                self.disputes[dispute].revoked_by.extend(account.lose(grant, self.now));
                if let Some(own) = subscription.map(|subscription| &mut self.subscriptions[subscription])
                    && ["active", "past_due"].contains(&own.status)
                {
                    own.status = "suspended";
                    own.is_suspended_by_dispute = true;
                }
            }
            _ => {}
        }
        Model::told()
    }

    /// The Credits come back once no dispute of the payment is lost any more, the subscription goes on once none about
    /// it is, unless an operator has stopped it as well.
    fn reinstate(&mut self, invoice: usize) {
        let Invoice { customer, subscription, .. } = self.invoices[invoice];
        let is_lost = |dispute: &Dispute| dispute.state == "lost";
        if !self.disputes.iter().any(|dispute| dispute.invoice == invoice && is_lost(dispute)) {
            for dispute in self.disputes.iter_mut().filter(|dispute| dispute.invoice == invoice) {
                for version in dispute.revoked_by.drain(..) {
                    self.customers[customer].account.reinstate(version, self.now);
                }
            }
            // What went back while it was lost takes its part now.
            for of in self.refunds.clone().iter().filter(|of| of.invoice == invoice) {
                self.take_back(invoice, of.refunded, of.short);
            }
        }
        let Some(subscription) = subscription else { return };
        let is_about_it =
            |dispute: &Dispute| self.invoices[dispute.invoice].subscription == Some(subscription);
        if self.subscriptions[subscription].status == "suspended"
            && self.subscriptions[subscription].is_suspended_by_dispute
            && !self.disputes.iter().any(|dispute| is_lost(dispute) && is_about_it(dispute))
        {
            self.resume(subscription);
        }
    }

    /// Whether the money of an invoice is with the bank, or may go there.
    pub(super) fn is_disputed(&self, number: usize) -> bool {
        self.disputes.iter().any(|dispute| dispute.invoice == number && dispute.state != "won")
    }

    /// All that was told is settled, and nothing is left for anybody to look at.
    pub(super) fn told() -> Answer {
        Answer::ok(200).with("/parked", Plain::Length(0)).with("/waiting", Plain::Length(0))
    }
}
