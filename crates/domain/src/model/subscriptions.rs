//! What becomes of a subscription after it was bought.

use super::account::Grant;
use super::calendar::{DAY, Micros};
use super::command::{Answer, Fact, Noun, Plain};
use super::sales::payment;
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
            "suspended" => Err(Answer::no(402, "subscription-suspended")),
            _ => Err(Answer::no(409, "subscription-ended")),
        }
    }

    pub(super) fn cancel(&mut self, subscription: usize, at_once: bool, refund: bool) -> Answer {
        let Some(own) = self.subscriptions.get(subscription) else { return Answer::no(404, "not-found") };
        let (status, customer) = (own.status, own.customer);
        if status == "incomplete" {
            if self.open_of(subscription).any(|(_, invoice)| invoice.is_in_flight && invoice.is_at_bank) {
                return Answer::no(409, "payment-pending");
            }
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
            let paid = if refund { self.paid_in_cycle(subscription) } else { Vec::new() };
            if paid.iter().any(|invoice| self.is_disputed(*invoice)) {
                return Answer::no(409, "payment-disputed");
            }
            self.subscriptions[subscription].status = "canceled";
            self.subscriptions[subscription].ended = Some(now);
            self.void_open(subscription);
            for invoice in paid {
                let rest = self.invoices[invoice].total - self.invoices[invoice].refunded;
                self.give_back(invoice, rest);
            }
            self.customers[customer].account.expire(now);
            self.customers[customer].account.revoke(now);
        }
        self.shown(subscription)
    }

    /// What was bought for the current cycle and paid with money that has not all gone back.
    fn paid_in_cycle(&self, subscription: usize) -> Vec<usize> {
        let cycle = self.subscriptions[subscription].cycle.map(|cycle| cycle.number);
        let is_so = |number: &usize| {
            let invoice = &self.invoices[*number];
            invoice.subscription == Some(subscription)
                && Some(invoice.cycle) == cycle
                && invoice.bought != Bought::WithinYear
                && invoice.status == "paid"
                && invoice.refunded < invoice.total
        };
        (0..self.invoices.len()).filter(is_so).collect()
    }

    pub(super) fn suspend(&mut self, subscription: usize) -> Answer {
        match self.subscriptions.get(subscription).map(|own| own.status) {
            None => Answer::no(404, "not-found"),
            Some("incomplete") => Answer::no(409, "subscription-incomplete"),
            Some("canceled" | "expired") => Answer::no(409, "subscription-ended"),
            Some(_) => {
                self.subscriptions[subscription].status = "suspended";
                self.subscriptions[subscription].is_suspended_by_dispute = false;
                self.shown(subscription)
            }
        }
    }

    /// It is active again, or past due while its cycle is unpaid.
    pub(super) fn resume(&mut self, subscription: usize) -> Answer {
        let Some(own) = self.subscriptions.get(subscription) else { return Answer::no(404, "not-found") };
        if own.status != "suspended" {
            return Answer::no(409, "subscription-not-suspended");
        }
        let is_paid = self.is_paid(subscription, own.paid_with());
        self.subscriptions[subscription].status = if is_paid { "active" } else { "past_due" };
        self.subscriptions[subscription].is_suspended_by_dispute = false;
        self.shown(subscription)
    }

    /// Whether somebody has stopped what this customer uses.
    pub fn is_suspended(&self, customer: usize) -> bool {
        self.subscriptions.iter().any(|own| own.customer == customer && own.status == "suspended")
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
            if invoice.subscription == Some(subscription) && invoice.status == "open" {
                invoice.status = "void";
                invoice.is_in_flight = false;
                invoice.is_customers_turn = false;
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
            Some("active" | "past_due" | "suspended") => Ok(()),
            Some("incomplete") => Err(Answer::no(409, "subscription-incomplete")),
            Some(_) => Err(Answer::no(409, "subscription-ended")),
        }
    }

    pub(super) fn set_method(&mut self, subscription: usize, method: &str) -> Answer {
        if payment(method).is_none() {
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

    /// The end of the cycle of a subscription that will be charged for the next one then, and before anybody is charged for
    /// anything else.
    pub fn charged_next(&self, subscription: usize) -> Option<Micros> {
        let own = &self.subscriptions[subscription];
        let end = own.cycle?.end;
        let is_renewed = own.status == "active" && own.is_last_of_term() && !own.cancels_at_end;
        let is_alone = self.customers[own.customer].on_account.accrued == 0
            && self.is_paid(subscription, own.paid_with())
            && self.open_of(subscription).next().is_none();
        let others = self.subscriptions.iter().enumerate().filter(|(number, _)| *number != subscription);
        let ends = others.filter(|(_, other)| other.is_live()).filter_map(|(_, other)| other.cycle);
        let tries = self.invoices.iter().filter_map(|invoice| invoice.next_try);
        let mut instants: Vec<Micros> = ends.map(|cycle| cycle.end).chain(tries).collect();
        for (customer, of) in self.customers.iter().enumerate() {
            instants.extend(of.on_account.due);
            // Where a top-up buys itself, it may do so at whatever makes the Credits fewer; its own cycle's end comes first.
            if of.on_account.top_up.is_some() {
                let expiries = of.account.grants.iter().filter_map(|grant| grant.expiry);
                let given_up = self.invoices.iter().filter(|of| of.customer == customer).map(|of| of.expires);
                let theirs = expiries.chain(given_up).chain(of.on_account.blocked_until);
                instants.extend(theirs.filter(|at| customer != own.customer || *at != end));
            }
        }
        instants.retain(|at| *at > self.now);
        let is_first = end > self.now && instants.iter().all(|at| *at > end);
        (is_renewed && is_alone && is_first).then_some(end)
    }

    fn due_instants(&self) -> Vec<Micros> {
        let ends = self.subscriptions.iter().filter(|own| own.is_live()).filter_map(|own| own.cycle);
        let open = self.invoices.iter().filter(|invoice| invoice.status == "open");
        let grants = self.customers.iter().flat_map(|own| &own.account.grants);
        let usage = self.customers.iter().filter_map(|own| own.on_account.due);
        let blocked = self.customers.iter().filter_map(|own| own.on_account.blocked_until);
        let left = grants.filter(|grant| grant.remaining() > 0).filter_map(|grant| grant.expiry);
        let retries = self.invoices.iter().filter_map(|invoice| invoice.next_try);
        let ends = ends.map(|cycle| cycle.end).chain(retries);
        ends.chain(open.map(|invoice| invoice.expires)).chain(left).chain(usage).chain(blocked).collect()
    }

    /// A payment of a renewal has brought no money: the next try is 1, 3, 5 or 7 days after the cycle's start, or
    /// after the invoice, where that came when the first of them was over.
    pub(super) fn try_ended(&mut self, number: usize) {
        let Invoice { subscription, created, .. } = self.invoices[number];
        let cycle = subscription.and_then(|subscription| self.subscriptions[subscription].cycle);
        let Some(cycle) = cycle else { return };
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
            let Invoice { next_try, expires, subscription, .. } = self.invoices[number];
            let is_due = next_try.is_some_and(|at| at <= self.now) && self.now < expires;
            if let Some(subscription) = subscription.filter(|_| is_due) {
                // One that waited for its customer is given up first: the bank may not ask this time.
                self.invoices[number].is_in_flight = false;
                self.invoices[number].is_customers_turn = false;
                let method = self.subscriptions[subscription].method.clone();
                self.collect(number, &method);
            }
        }
    }

    /// Unpaid purchases end, unpaid renewals are tried again, then cycles that are over are closed and the next ones opened. What a void gave back
    /// to a subscription that was canceled at once expires by itself.
    pub(super) fn do_what_is_due(&mut self) {
        for number in 0..self.invoices.len() {
            let Invoice { status, expires, bought, subscription, .. } = self.invoices[number];
            if status != "open" || self.now < expires || self.invoices[number].is_at_bank {
                continue;
            }
            match (bought, subscription) {
                (Bought::FirstCycle, Some(subscription)) => self.give_up_first(subscription),
                (Bought::Upgrade | Bought::TopUp | Bought::AutomaticTopUp, _) => {
                    self.invoices[number].status = "void"
                }
                // It ends with its cycle, below.
                _ => {}
            }
            self.invoices[number].is_in_flight = false;
            self.invoices[number].is_customers_turn = false;
        }
        self.retry();
        self.invoice_months();
        for subscription in 0..self.subscriptions.len() {
            let own = &self.subscriptions[subscription];
            let over = own.cycle.filter(|cycle| own.is_live() && cycle.end <= self.now);
            // A last try that the bank has not decided postpones the end.
            let is_undecided = |(_, of): (usize, &Invoice)| of.bought == Bought::Renewal && of.is_at_bank;
            if let Some(cycle) = over.filter(|_| !self.open_of(subscription).any(is_undecided)) {
                self.close(subscription, cycle);
            }
        }
        for customer in &mut self.customers {
            customer.account.expire(self.now);
        }
        self.top_up_all();
    }

    fn close(&mut self, subscription: usize, cycle: Cycle) {
        let is_paid = self.is_paid(subscription, self.subscriptions[subscription].paid_with());
        let is_last = self.subscriptions[subscription].is_last_of_term();
        self.void_open(subscription);
        let now = self.now;
        let customer = self.subscriptions[subscription].customer;
        let rest = self.customers[customer].account.expire(now);
        // What was used by the token is owed, whether another cycle follows or not.
        let method = self.subscriptions[subscription].method.clone();
        self.invoice_usage(customer, Some(method));
        let mut next = self.cycle_after(subscription, cycle);
        while next.end <= now {
            next = self.cycle_after(subscription, next);
        }
        let own = &mut self.subscriptions[subscription];
        let renews = is_last || next.number >= own.renewal();
        if own.cancels_at_end && renews || !is_paid {
            own.status = "canceled";
            own.ended = Some(cycle.end);
        } else {
            self.carry(subscription, cycle, rest);
            if renews {
                self.open(subscription, next);
            } else {
                self.open_within_year(subscription, next);
            }
        }
    }

    /// A share of what the cycle has left is there again, for some cycles more.
    fn carry(&mut self, subscription: usize, closed: Cycle, rest: i64) {
        let Some(policy) = self.policies.rollover else { return };
        let share = i64::try_from(i128::from(rest) * i128::from(policy.share_bps) / 10_000).unwrap_or(0);
        let amount = if share > policy.cap { policy.cap } else { share };
        let own = &self.subscriptions[subscription];
        let anchor = own.anchor.unwrap_or(closed.start);
        let (customer, expiry) = (own.customer, own.bound(anchor, closed.number + policy.cycles + 1));
        if amount == 0 || expiry <= self.now {
            return;
        }
        let (number, created) = (self.next_given(), self.now);
        self.customers[customer].account.issue(Grant {
            number,
            made: self.made,
            cause: "cycle",
            source: "rollover",
            amount,
            spent: 0,
            expired: 0,
            revoked: 0,
            effective: closed.end,
            expiry: Some(expiry),
            created,
            expired_by: None,
        });
    }

    /// The next cycle of a year: the Credits of all that has paid for it, and nothing to pay (R-22b).
    fn open_within_year(&mut self, subscription: usize, cycle: Cycle) {
        let own = &mut self.subscriptions[subscription];
        own.cycle = Some(cycle);
        let from = own.annual_from.unwrap_or(cycle.number);
        for paid_by in 0..self.invoices.len() {
            let of = &self.invoices[paid_by];
            let is_of_the_year = of.subscription == Some(subscription) && from <= of.cycle;
            let is_bought = of.bought != Bought::WithinYear && of.status == "paid" && of.credits > 0;
            if is_of_the_year && is_bought && of.cycle < cycle.number {
                self.open_part(subscription, cycle, paid_by);
            }
        }
    }

    /// What one invoice has paid for of it.
    fn open_part(&mut self, subscription: usize, cycle: Cycle, paid_by: usize) {
        let now = self.now;
        let own = &self.subscriptions[subscription];
        let (plan, catalog, customer, currency) = (own.plan.clone(), own.catalog, own.customer, own.currency);
        let credits = self.invoices[paid_by].credits;
        let number = self.open_invoice(Invoice {
            customer,
            currency,
            subscription: Some(subscription),
            made: 0,
            bought: Bought::WithinYear,
            paid_by: Some(paid_by),
            cycle: cycle.number,
            plan,
            catalog,
            credits,
            list_price: 0,
            total: 0,
            status: "paid",
            is_in_flight: false,
            is_customers_turn: false,
            is_at_bank: false,
            taken_instead: None,
            is_given_back: false,
            tried_with: String::new(),
            created: now,
            expires: cycle.end,
            paid: Some(now),
            refunded: 0,
            next_try: None,
            failed_tries: 0,
        });
        self.customers[customer].account.issue(Grant {
            number,
            made: self.made,
            cause: "cycle",
            source: "plan",
            amount: credits,
            spent: 0,
            expired: 0,
            revoked: 0,
            effective: cycle.start,
            expiry: Some(cycle.end),
            created: now,
            expired_by: None,
        });
        self.go_without(number, paid_by);
    }

    /// A year whose money has all gone back, or is with a bank for good, pays for nothing more.
    fn is_paid(&self, subscription: usize, cycle: u32) -> bool {
        let is_of_a_year = self.subscriptions[subscription].annual_from.is_some();
        self.invoices.iter().enumerate().any(|(number, invoice)| {
            let mut of_it = self.disputes.iter().filter(|dispute| dispute.invoice == number);
            let is_gone = invoice.total > 0 && invoice.refunded == invoice.total
                || of_it.any(|dispute| dispute.state == "lost");
            invoice.subscription == Some(subscription)
                && invoice.cycle == cycle
                && invoice.bought != Bought::Upgrade
                && invoice.bought != Bought::WithinYear
                && invoice.status == "paid"
                && !(is_of_a_year && is_gone)
        })
    }

    fn cycle_after(&self, subscription: usize, cycle: Cycle) -> Cycle {
        let own = &self.subscriptions[subscription];
        let anchor = own.anchor.unwrap_or(cycle.start);
        let number = cycle.number + 1;
        Cycle { number, start: own.bound(anchor, number), end: own.bound(anchor, number + 1) }
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
        own.share = (1, 1);
        own.scheduled = None;
        own.migrates = false;
        own.annual_from = if is_annual { Some(cycle.number) } else { None };
        let customer = self.subscriptions[subscription].customer;
        let invoice = self.open_invoice(Invoice {
            customer,
            currency,
            subscription: Some(subscription),
            made: 0,
            bought: Bought::Renewal,
            paid_by: None,
            cycle: cycle.number,
            plan,
            catalog,
            credits,
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
            expires: cycle.end,
            paid: None,
            refunded: 0,
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
        match own.share {
            (days, of) if days == of => fact("/month_share", Plain::Null),
            (days, of) => {
                fact("/month_share/days", days.into());
                fact("/month_share/of", of.into());
            }
        }
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
