//! What becomes of a subscription after it was bought.

use super::account::Grant;
use super::calendar::{DAY, Micros, months_after};
use super::command::{Answer, Fact, Noun, Plain};
use super::tenant::{Bought, Cycle, Invoice, Model};

impl Model {
    /// Whether its plan can be changed or a cancel be set.
    pub(super) fn check_changeable(&self, subscription: usize) -> Result<(), Answer> {
        let own = &self.subscriptions[subscription];
        match own.status {
            "active" if own.cycle.is_some_and(|cycle| cycle.end <= self.now) => {
                Err(Answer::no(409, "cycle-ended"))
            }
            "active" => Ok(()),
            "incomplete" => Err(Answer::no(409, "subscription-incomplete")),
            "past_due" => Err(Answer::no(409, "subscription-past-due")),
            _ => Err(Answer::no(409, "subscription-ended")),
        }
    }

    pub(super) fn cancel(&mut self, subscription: usize, at_once: bool) -> Answer {
        let Some(own) = self.subscriptions.get(subscription) else { return Answer::no(404, "not-found") };
        let (status, customer) = (own.status, own.customer);
        if status == "incomplete" {
            self.give_up_first(subscription);
        } else if !at_once {
            if let Err(no) = self.check_changeable(subscription) {
                return no;
            }
            self.subscriptions[subscription].cancels_at_end = true;
        } else if !self.subscriptions[subscription].is_live() {
            return Answer::no(409, "subscription-ended");
        } else {
            let now = self.now;
            self.subscriptions[subscription].status = "canceled";
            self.subscriptions[subscription].ended = Some(now);
            self.void_open(subscription);
            self.customers[customer].account.expire(now);
            self.customers[customer].account.revoke(now);
        }
        self.shown(subscription)
    }

    /// An incomplete subscription ends, and its promotion is free again.
    fn give_up_first(&mut self, subscription: usize) {
        self.void_open(subscription);
        let now = self.now;
        let own = &mut self.subscriptions[subscription];
        own.status = "expired";
        own.ended = Some(now);
        own.promotion = None;
    }

    fn void_open(&mut self, subscription: usize) {
        for invoice in &mut self.invoices {
            if invoice.subscription == subscription && invoice.status == "open" {
                invoice.status = "void";
                invoice.is_in_flight = false;
                invoice.next_try = None;
            }
        }
    }

    pub(super) fn withdraw_cancel(&mut self, subscription: usize) -> Answer {
        if subscription >= self.subscriptions.len() {
            return Answer::no(404, "not-found");
        }
        if let Err(no) = self.check_changeable(subscription) {
            return no;
        }
        if !self.subscriptions[subscription].cancels_at_end {
            return Answer::no(409, "nothing-scheduled");
        }
        self.subscriptions[subscription].cancels_at_end = false;
        self.shown(subscription)
    }

    pub(super) fn schedule(&mut self, subscription: usize, plan: &str) -> Answer {
        let Some(own) = self.subscriptions.get(subscription) else { return Answer::no(404, "not-found") };
        if own.scheduled.as_deref() == Some(plan) {
            return self.shown(subscription);
        }
        if let Err(no) = self.check_changeable(subscription) {
            return no;
        }
        let Some(to) = self.catalog_at(self.now).and_then(|catalog| catalog.plan(plan)) else {
            return Answer::no(422, "unknown-plan");
        };
        if to.price(own.currency, own.is_annual).is_none() {
            return Answer::no(409, "no-price-in-currency");
        }
        if to.rank >= self.plan_of(&own.plan, own.catalog).rank {
            return Answer::no(409, "not-a-downgrade");
        }
        self.subscriptions[subscription].scheduled = Some(plan.to_owned());
        self.shown(subscription)
    }

    pub(super) fn withdraw_plan(&mut self, subscription: usize) -> Answer {
        if subscription >= self.subscriptions.len() {
            return Answer::no(404, "not-found");
        }
        if let Err(no) = self.check_changeable(subscription) {
            return no;
        }
        if self.subscriptions[subscription].scheduled.take().is_none() {
            return Answer::no(409, "nothing-scheduled");
        }
        self.shown(subscription)
    }

    pub(super) fn migrate(&mut self, subscription: usize) -> Answer {
        if let Err(no) = self.check_runs(subscription) {
            return no;
        }
        self.subscriptions[subscription].migrates = true;
        self.shown(subscription)
    }

    pub(super) fn withdraw_migration(&mut self, subscription: usize) -> Answer {
        if let Err(no) = self.check_runs(subscription) {
            return no;
        }
        if !self.subscriptions[subscription].migrates {
            return Answer::no(409, "nothing-scheduled");
        }
        self.subscriptions[subscription].migrates = false;
        self.shown(subscription)
    }

    /// Whether it may renew.
    fn check_runs(&self, subscription: usize) -> Result<(), Answer> {
        match self.subscriptions.get(subscription).map(|own| own.status) {
            None => Err(Answer::no(404, "not-found")),
            Some("active" | "past_due") => Ok(()),
            Some("incomplete") => Err(Answer::no(409, "subscription-incomplete")),
            Some(_) => Err(Answer::no(409, "subscription-ended")),
        }
    }

    pub(super) fn set_method(&mut self, subscription: usize, method: &str) -> Answer {
        if !method.starts_with("pm_sandbox_") {
            return Answer::no(422, "unknown-payment-method");
        }
        let Some(own) = self.subscriptions.get(subscription) else { return Answer::no(404, "not-found") };
        if own.method != method {
            if !own.is_live() {
                return Answer::no(409, "subscription-ended");
            }
            if own.status == "incomplete" && !self.move_to_card(subscription, method) {
                let first = self.open_of(subscription).next().map(|(_, invoice)| invoice.list_price);
                return Answer::no(409, "promotion-used").with("/list_price/amount_minor", first);
            }
            self.subscriptions[subscription].method = method.to_owned();
        }
        self.shown(subscription)
    }

    pub(super) fn advance(&mut self, to: Micros) -> Answer {
        if to < self.now {
            return Answer::no(409, "clock-moves-back");
        }
        loop {
            self.do_what_is_due();
            if self.now == to {
                return Answer::ok(200).with("/now", Plain::At(self.now)).with("/is_set", true);
            }
            let next = self.due_instants().into_iter().filter(|at| *at > self.now).min();
            self.now = match next {
                Some(next) if next < to => next,
                _ => to,
            };
        }
    }

    pub(super) fn jump(&mut self, to: Micros) -> Answer {
        if to < self.now {
            return Answer::no(409, "clock-moves-back");
        }
        self.now = to;
        self.do_what_is_due();
        Answer::ok(200).with("/state", "done")
    }

    fn due_instants(&self) -> Vec<Micros> {
        let ends = self.subscriptions.iter().filter(|own| own.is_live()).filter_map(|own| own.cycle);
        let open = self.invoices.iter().filter(|invoice| invoice.status == "open");
        let grants = self.customers.iter().flat_map(|own| &own.account.grants);
        let left = grants.filter(|grant| grant.remaining() > 0).map(|grant| grant.expiry);
        let retries = self.invoices.iter().filter_map(|invoice| invoice.next_try);
        let ends = ends.map(|cycle| cycle.end).chain(retries);
        ends.chain(open.map(|invoice| invoice.expires)).chain(left).collect()
    }

    /// A payment of a renewal has brought no money: the next try is 1, 3, 5 or 7 days after the cycle's start, or
    /// after the invoice, where that came when the first of them was over.
    pub(super) fn try_ended(&mut self, number: usize) {
        let Invoice { subscription, created, .. } = self.invoices[number];
        let Some(cycle) = self.subscriptions[subscription].cycle else { return };
        let from = if created - cycle.start >= DAY { created } else { cycle.start };
        let mut next = None;
        for days in [7, 5, 3, 1] {
            let at = from + days * DAY;
            if at > self.now && at < cycle.end {
                next = Some(at);
            }
        }
        self.invoices[number].next_try = next;
        self.invoices[number].failed_tries += 1;
    }

    /// The last try has failed: it is over now, not only at the cycle's end.
    pub(super) fn end_unpaid(&mut self, subscription: usize) {
        let now = self.now;
        self.void_open(subscription);
        let own = &mut self.subscriptions[subscription];
        own.status = "canceled";
        own.ended = Some(now);
        let customer = own.customer;
        self.customers[customer].account.expire(now);
    }

    fn retry(&mut self) {
        for number in 0..self.invoices.len() {
            let Invoice { next_try, expires, .. } = self.invoices[number];
            if next_try.is_some_and(|at| at <= self.now) && self.now < expires {
                let subscription = self.invoices[number].subscription;
                let method = self.subscriptions[subscription].method.clone();
                self.collect(number, &method);
            }
        }
    }

    /// Unpaid purchases end, unpaid renewals are tried again, then cycles that are over are closed and the next ones opened. What a void gave back
    /// to a subscription that was canceled at once expires by itself.
    fn do_what_is_due(&mut self) {
        for number in 0..self.invoices.len() {
            let Invoice { status, expires, bought, subscription, .. } = self.invoices[number];
            if status != "open" || self.now < expires {
                continue;
            }
            match bought {
                Bought::FirstCycle => self.give_up_first(subscription),
                Bought::Upgrade => self.invoices[number].status = "void",
                // It ends with its cycle, below.
                Bought::Renewal | Bought::WithinYear => {}
            }
            self.invoices[number].is_in_flight = false;
        }
        self.retry();
        for subscription in 0..self.subscriptions.len() {
            let own = &self.subscriptions[subscription];
            if let Some(cycle) = own.cycle.filter(|cycle| own.is_live() && cycle.end <= self.now) {
                self.close(subscription, cycle);
            }
        }
        for customer in &mut self.customers {
            customer.account.expire(self.now);
        }
    }

    fn close(&mut self, subscription: usize, cycle: Cycle) {
        let is_paid = self.is_paid(subscription, self.subscriptions[subscription].paid_with());
        let is_last = self.subscriptions[subscription].is_last_of_term();
        self.void_open(subscription);
        let now = self.now;
        let customer = self.subscriptions[subscription].customer;
        self.customers[customer].account.expire(now);
        let mut next = self.cycle_after(subscription, cycle);
        while next.end <= now {
            next = self.cycle_after(subscription, next);
        }
        let own = &mut self.subscriptions[subscription];
        let renews = is_last || next.number >= own.renewal();
        if own.cancels_at_end && renews || !is_paid {
            own.status = "canceled";
            own.ended = Some(cycle.end);
        } else if renews {
            self.open(subscription, next);
        } else {
            self.open_within_year(subscription, next);
        }
    }

    /// The next cycle of a year: its Credits, and nothing to pay (R-22b).
    fn open_within_year(&mut self, subscription: usize, cycle: Cycle) {
        let now = self.now;
        let own = &mut self.subscriptions[subscription];
        own.cycle = Some(cycle);
        let (plan, catalog, customer) = (own.plan.clone(), own.catalog, own.customer);
        let credits = self.plan_of(&plan, catalog).credits;
        let number = self.open_invoice(Invoice {
            subscription,
            bought: Bought::WithinYear,
            cycle: cycle.number,
            plan,
            catalog,
            credits,
            list_price: 0,
            total: 0,
            status: "paid",
            is_in_flight: false,
            created: now,
            expires: cycle.end,
            paid: Some(now),
            next_try: None,
            failed_tries: 0,
        });
        self.customers[customer].account.issue(Grant {
            invoice: number,
            cause: "cycle",
            source: "plan",
            amount: credits,
            spent: 0,
            expired: 0,
            revoked: 0,
            effective: cycle.start,
            expiry: cycle.end,
            created: now,
            expired_by: None,
        });
    }

    fn is_paid(&self, subscription: usize, cycle: u32) -> bool {
        self.invoices.iter().any(|invoice| {
            invoice.subscription == subscription
                && invoice.cycle == cycle
                && invoice.bought != Bought::Upgrade
                && invoice.bought != Bought::WithinYear
                && invoice.status == "paid"
        })
    }

    fn cycle_after(&self, subscription: usize, cycle: Cycle) -> Cycle {
        let anchor = self.subscriptions[subscription].anchor.unwrap_or(cycle.start);
        let number = cycle.number + 1;
        Cycle { number, start: months_after(anchor, number), end: months_after(anchor, number + 1) }
    }

    /// The next cycle, invoiced at list price.
    fn open(&mut self, subscription: usize, cycle: Cycle) {
        let own = &self.subscriptions[subscription];
        let (currency, method, is_annual) = (own.currency, own.method.clone(), own.is_annual);
        let sold_now = |plan: &str| {
            let catalog = self.catalog_at(cycle.start)?;
            let plan = catalog.plan(plan)?;
            plan.price(currency, is_annual).map(|_| (plan.code.to_owned(), catalog.version))
        };
        let scheduled = own.scheduled.as_deref().and_then(sold_now);
        let migrated = if own.migrates { sold_now(&own.plan) } else { None };
        let (plan, catalog) = scheduled.or(migrated).unwrap_or((own.plan.clone(), own.catalog));
        let sold = self.plan_of(&plan, catalog);
        let (credits, price) = (sold.credits, sold.price(currency, is_annual));
        let price = price.unwrap_or_else(|| panic!("{plan} of version {catalog} was bought in {currency}"));
        let own = &mut self.subscriptions[subscription];
        own.cycle = Some(cycle);
        own.plan = plan.clone();
        own.catalog = catalog;
        own.discount = 0;
        own.scheduled = None;
        own.migrates = false;
        own.annual_from = if is_annual { Some(cycle.number) } else { None };
        let invoice = self.open_invoice(Invoice {
            subscription,
            bought: Bought::Renewal,
            cycle: cycle.number,
            plan,
            catalog,
            credits,
            list_price: price,
            total: price,
            status: "open",
            is_in_flight: false,
            created: self.now,
            expires: cycle.end,
            paid: None,
            next_try: None,
            failed_tries: 0,
        });
        self.collect(invoice, &method);
    }

    /// When the pool fills again: at the end of a paid cycle that another one follows (R-33a).
    pub(super) fn resets_at(&self, customer: usize) -> Option<Micros> {
        let mut own = self.subscriptions.iter().enumerate().filter(|(_, own)| own.customer == customer);
        let (number, own) = own.find(|(_, own)| own.is_live())?;
        let ends = own.cancels_at_end && own.is_last_of_term();
        (self.is_paid(number, own.paid_with()) && !ends).then_some(own.cycle?.end)
    }

    fn shown(&self, subscription: usize) -> Answer {
        Answer::ok(200).with_all("", self.subscription_facts(subscription))
    }

    pub(super) fn subscription_facts(&self, subscription: usize) -> Vec<Fact> {
        let own = &self.subscriptions[subscription];
        let mut facts: Vec<Fact> = Vec::new();
        let mut fact = |pointer: &str, value: Plain| facts.push((pointer.to_owned(), value));
        fact("/id", Plain::Id(Noun::Subscription, subscription));
        fact("/customer", Plain::Id(Noun::Customer, own.customer));
        fact("/status", own.status.into());
        fact("/plan", own.plan.as_str().into());
        fact("/catalog_version", own.catalog.into());
        fact("/currency", own.currency.into());
        fact("/payment_method", own.method.as_str().into());
        match own.cycle {
            None => fact("/cycle", Plain::Null),
            Some(cycle) => {
                fact("/cycle/number", cycle.number.into());
                fact("/cycle/start", Plain::At(cycle.start));
                fact("/cycle/end", Plain::At(cycle.end));
            }
        }
        fact("/term", if own.is_annual { "annual" } else { "monthly" }.into());
        fact("/renews_at", own.renews().map_or(Plain::Null, Plain::At));
        fact("/migrates", own.migrates.into());
        fact("/discount_bps", own.discount.into());
        fact("/cancel_at_cycle_end", own.cancels_at_end.into());
        fact("/scheduled_plan", own.scheduled.as_deref().into());
        let mut open = self.open_of(subscription);
        let cycle_invoice = open.find(|(_, invoice)| invoice.bought != Bought::Upgrade);
        let number = cycle_invoice.map_or(Plain::Null, |(number, _)| Plain::Id(Noun::Invoice, number));
        fact("/open_invoice", number);
        match self.open_of(subscription).find(|(_, invoice)| invoice.bought == Bought::Upgrade) {
            None => fact("/pending_upgrade", Plain::Null),
            Some((number, invoice)) => {
                fact("/pending_upgrade/plan", invoice.plan.as_str().into());
                fact("/pending_upgrade/credits", invoice.credits.into());
                fact("/pending_upgrade/invoice", Plain::Id(Noun::Invoice, number));
                fact("/pending_upgrade/expires_at", Plain::At(invoice.expires));
            }
        }
        match self.open_of(subscription).find(|(_, invoice)| invoice.failed_tries > 0) {
            None => fact("/dunning", Plain::Null),
            Some((_, invoice)) => {
                fact("/dunning/failed_tries", invoice.failed_tries.into());
                fact("/dunning/next_try_at", invoice.next_try.map_or(Plain::Null, Plain::At));
            }
        }
        fact("/created_at", Plain::At(own.created));
        fact("/ended_at", own.ended.map_or(Plain::Null, Plain::At));
        fact("/account_version", self.version_of(own.customer).into());
        facts
    }
}
