//! Top-ups that buy themselves (R-30 `topup`).

use super::calendar::{MINUTE, Micros, month_start_after};
use super::tenant::{Bought, Model, Subscription};

impl Model {
    /// Whether a top-up will be there for what the Credits do not pay for.
    pub fn tops_up(&self, customer: usize) -> bool {
        let own = &self.customers[customer].on_account;
        own.top_up.is_some() && own.blocked_until.is_none_or(|until| until <= self.now)
    }

    /// Whether a customer is down to where one is bought, and nothing speaks against it: it is what the next run, or a job
    /// after the usage, looks at.
    fn is_top_up_due_of(&self, customer: usize) -> bool {
        let of = &self.customers[customer];
        let is_low = of.on_account.top_up.as_ref().is_some_and(|own| of.account.settled(self.now) <= own.at);
        let is_stopped = of.is_parked || self.is_suspended(customer);
        let cycle = self.live_of(customer).and_then(|own| own.cycle);
        // While the bank has not said whether its plan goes on, nobody buys for it.
        let is_over = cycle.is_some_and(|cycle| cycle.end <= self.now);
        is_low && self.tops_up(customer) && !is_stopped && !is_over && !self.has_one_in_flight(customer)
    }

    /// The same of anybody.
    pub fn is_top_up_due(&self) -> bool {
        (0..self.customers.len()).any(|customer| self.is_top_up_due_of(customer))
    }

    /// Whether anybody is set to it.
    pub fn has_automatic_top_ups(&self) -> bool {
        self.customers.iter().any(|of| of.on_account.top_up.is_some())
    }

    fn has_one_in_flight(&self, customer: usize) -> bool {
        let mut automatic = self.invoices.iter().filter(|of| of.bought == Bought::AutomaticTopUp);
        automatic.any(|of| of.customer == customer && of.status == "open")
    }

    /// How many a cycle may still bring.
    pub fn top_ups_left(&self, customer: usize) -> i64 {
        let Some(own) = &self.customers[customer].on_account.top_up else { return 0 };
        let (since, _) = self.period(customer);
        let tried = self.invoices.iter().filter(|of| of.bought == Bought::AutomaticTopUp);
        let tried = tried.filter(|of| of.customer == customer && of.created >= since).count();
        own.per_cycle - i64::try_from(tried).unwrap_or(i64::MAX)
    }

    /// The running cycle, without one the month.
    fn period(&self, customer: usize) -> (Micros, Micros) {
        match self.live_of(customer).and_then(|own| own.cycle) {
            Some(cycle) => (cycle.start, cycle.end),
            None => (month_start_after(self.now, 0), month_start_after(self.now, 1)),
        }
    }

    fn live_of(&self, customer: usize) -> Option<&Subscription> {
        self.subscriptions.iter().find(|own| own.customer == customer && own.is_live())
    }

    pub(super) fn top_up_all(&mut self) {
        for customer in 0..self.customers.len() {
            while self.is_top_up_due_of(customer) {
                self.top_up(customer);
            }
        }
    }

    fn top_up(&mut self, customer: usize) {
        let Some(own) = self.customers[customer].on_account.top_up.clone() else { return };
        let now = self.now;
        if self.top_ups_left(customer) <= 0 {
            let (_, until) = self.period(customer);
            self.customers[customer].on_account.blocked_until = Some(until);
            return;
        }
        let sold = self.catalog_at(now).and_then(|catalog| {
            let top_up = catalog.top_ups.iter().find(|top_up| top_up.code == own.code)?.clone();
            Some((top_up, self.top_up_price(own.code, own.currency)?))
        });
        let of_plan = self.live_of(customer).map(|own| own.method.clone());
        let method = self.customers[customer].on_account.method.clone().or(of_plan);
        match (sold, method) {
            (Some((top_up, price)), Some(method)) => {
                let terms = (own.currency, price);
                let invoice = self.open_top_up(customer, Bought::AutomaticTopUp, &top_up, terms);
                self.collect(invoice, &method);
            }
            // No longer sold, or nothing to pay with.
            _ => self.cool_off(customer),
        }
    }

    /// A payment without a subscription has brought no money: nobody is there to pay a top-up that bought itself.
    pub(super) fn automatic_failed(&mut self, number: usize) {
        if self.invoices[number].bought == Bought::AutomaticTopUp {
            self.invoices[number].status = "void";
            self.cool_off(self.invoices[number].customer);
        }
    }

    fn cool_off(&mut self, customer: usize) {
        let own = &mut self.customers[customer].on_account;
        let minutes = own.top_up.as_ref().map_or(0, |top_up| top_up.cool_off_minutes);
        own.blocked_until = Some(self.now + minutes * MINUTE);
    }
}
