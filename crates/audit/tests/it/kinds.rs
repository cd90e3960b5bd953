//! The kinds of damage: what is planted, which invariant it breaks, and what a finding has to name.

use domain::id::{CustomerId, TenantId};

use crate::lively::Cast;

/// Damage to plant.
pub struct Kind {
    pub name: &'static str,
    pub invariant: u8,
    /// Where the finding is, and which part of the row's key it names.
    pub tenant: Option<TenantId>,
    pub customer: Option<CustomerId>,
    pub table: &'static str,
    pub key: String,
    /// Run with triggers and foreign keys off.
    pub sql: String,
    /// Whether the chain alone can know: a forger who writes it anew is not found.
    pub only_by_chain: bool,
}

/// All kinds.
pub fn kinds(cast: &Cast) -> Vec<Kind> {
    let Cast { tenant, other_tenant, ada, bob, carol, grace, erin, ivan, judy, kate, nina, mallory, .. } =
        *cast;
    let t = tenant.uuid();
    let own = |customer: CustomerId| format!("tenant_id = '{t}' and customer_id = '{}'", customer.uuid());
    let (of_ada, of_bob, of_grace, of_ivan) = (own(ada), own(bob), own(grace), own(ivan));
    let subscription = |customer: CustomerId| {
        format!(
            "(select subscription_id from subscriptions where {} order by created_at limit 1)",
            own(customer)
        )
    };
    // The first purchase of a customer, and the identity of an event.
    let purchase = |customer: CustomerId, column: &str| {
        format!(
            "(select {column} from purchases where tenant_id = '{t}' and subscription_id = {} and cycle_number = 0
              and kind = 'first_cycle')",
            subscription(customer)
        )
    };
    let identity = |id: &str| {
        format!("(select identity from usage_events where tenant_id = '{t}' and event_id = '{id}')")
    };
    let charge_of = |customer: CustomerId, id: &str| {
        format!("{} and cause_id = {} and credit = 'spent'", own(customer), identity(id))
    };
    // Every constraint that would refuse to store the damage.
    let unchecked = |table: &str| {
        format!(
        "do $$ declare r record; begin
             for r in select conname from pg_constraint where conrelid = '{table}'::regclass and contype in ('c', 'p', 'u')
             loop execute format('alter table {table} drop constraint %I cascade', r.conname); end loop;
         end $$;"
    )
    };
    let mut kinds = Vec::new();
    let mut add = |invariant: u8,
                   name: &'static str,
                   customer: Option<CustomerId>,
                   table: &'static str,
                   key: &str,
                   sql: String| {
        kinds.push(Kind {
            name,
            invariant,
            tenant: customer.map(|_| tenant),
            customer,
            table,
            key: key.to_owned(),
            sql,
            only_by_chain: false,
        });
    };

    add(
        1,
        "a transfer that its cause does not make",
        Some(grace),
        "transfers",
        "version",
        format!(
            "update transfers set debit = 'revoked', credit = 'issued', grant_id = null where {}",
            charge_of(grace, "grace-1")
        ),
    );
    add(
        2,
        "a balance one higher",
        Some(grace),
        "credit_accounts",
        "all books",
        format!(
            "{} update credit_accounts set available = available + 1 where {of_grace}",
            unchecked("credit_accounts")
        ),
    );
    add(
        3,
        "a balance moved between two books",
        Some(grace),
        "credit_accounts",
        "book spent",
        format!("update credit_accounts set spent = spent - 1, available = available + 1 where {of_grace}"),
    );
    add(
        3,
        "a transfer removed from the middle",
        Some(ada),
        "transfers",
        "version",
        format!("delete from transfers where {}", charge_of(ada, "ada-1")),
    );
    add(
        3,
        "a hole in the versions",
        Some(grace),
        "transfers",
        "version",
        format!(
            "update transfers set version = version + 1000 where {of_grace} and version >= 3;
            update credit_accounts set version = version + 1000 where {of_grace}"
        ),
    );
    add(
        3,
        "a version twice",
        Some(grace),
        "transfers",
        "version",
        format!(
            "{} insert into transfers select * from transfers where {}",
            unchecked("transfers"),
            charge_of(grace, "grace-1")
        ),
    );
    add(
        4,
        "a grant's rest edited",
        Some(grace),
        "grants",
        "remaining",
        format!(
            "{} alter table grants alter remaining drop expression;
            update grants set remaining = remaining + 1 where {of_grace} and expires_at > '2026-04-02'",
            unchecked("grants")
        ),
    );
    add(
        4,
        "a grant's spending edited",
        Some(grace),
        "grants",
        "spent",
        format!("update grants set spent = spent - 1 where {of_grace} and spent > 0"),
    );
    add(
        5,
        "a grant overspent",
        Some(bob),
        "transfers",
        "version",
        format!("update transfers set credits = credits + 100000000 where {}", charge_of(bob, "bob-long-0")),
    );
    add(
        6,
        "a hold captured twice",
        Some(ada),
        "usage_events",
        "hold-1",
        format!(
            "update usage_events set hold = 'captured', hold_reason = null, hold_id = 'hold-1'
            where {of_ada} and event_id = 'ada-2'"
        ),
    );
    add(
        6,
        "a captured hold live again",
        Some(ada),
        "holds",
        "hold-1",
        format!("update holds set ended_as = null, ended_at = null where {of_ada} and hold_id = 'hold-1'"),
    );
    add(
        6,
        "a hold that counts past its end",
        Some(ada),
        "holds",
        "hold-2",
        format!(
            "{} update holds set counts_until = expires_at + interval '1 day' where {of_ada} and hold_id = 'hold-2'",
            unchecked("holds")
        ),
    );
    add(
        8,
        "a reversal of another transfer",
        Some(ada),
        "transfers",
        "version",
        format!("update transfers set reverses = 1 where {of_ada} and reverses is not null"),
    );
    add(
        8,
        "a charge taken back twice",
        Some(ivan),
        "transfers",
        "version",
        format!(
            "update transfers set reverses = (select min(reverses) from transfers where {of_ivan} and {back})
             where {of_ivan} and {back}",
            back = "cause_kind = 'void' and debit = 'spent' and credit = 'available'"
        ),
    );
    add(
        9,
        "Credits given back for an event that was not voided",
        Some(ivan),
        "transfers",
        "version",
        format!("delete from usage_voids where {of_ivan} and identity = {}", identity("ivan-long-0")),
    );
    add(
        9,
        "a void that says that more became spendable",
        Some(ivan),
        "usage_voids",
        "event",
        format!(
            "update usage_voids set spendable = credits where {of_ivan} and identity = {}",
            identity("ivan-long-1")
        ),
    );
    add(9, "the last transfer removed, with the head put right", Some(ada), "usage_events", "ada-last",
        format!("update grants g set spent = g.spent - t.credits from transfers t
            where g.tenant_id = t.tenant_id and g.grant_id = t.grant_id and t.tenant_id = '{t}'
                and t.customer_id = '{c}' and t.cause_id = {id};
            delete from transfers where {last};
            update credit_accounts set version = version - 1, spent = spent - 40000, available = available + 40000
            where {of_ada}", c = ada.uuid(), id = identity("ada-last"), last = charge_of(ada, "ada-last")));
    add(
        9,
        "amounts of two transfers swapped",
        Some(ada),
        "usage_events",
        "ada-2",
        format!(
            "update transfers set credits = case cause_id when {one} then 1048620 else 524308 end
            where {of_ada} and cause_id in ({one}, {two})",
            one = identity("ada-1"),
            two = identity("ada-2")
        ),
    );
    add(
        9,
        "a transfer without its event",
        Some(ada),
        "transfers",
        "version",
        format!(
            "delete from usage_identities where tenant_id = '{t}' and identity = {id};
            delete from usage_events where {of_ada} and event_id = 'ada-last'",
            id = identity("ada-last")
        ),
    );
    add(
        9,
        "a granted purchase without its transfer",
        Some(erin),
        "purchases",
        "pur_",
        format!(
            "{} update purchases set granted_at = now() where tenant_id = '{t}' and purchase_id = {}",
            unchecked("purchases"),
            purchase(erin, "purchase_id")
        ),
    );
    add(
        10,
        "recording time falls",
        Some(ada),
        "transfers",
        "version",
        format!(
            "update transfers set recorded_at = recorded_at - interval '40 days' where {}",
            charge_of(ada, "ada-march")
        ),
    );
    add(
        10,
        "a hold that lives too long",
        Some(ada),
        "holds",
        "hold-1",
        format!(
            "update holds set expires_at = expires_at + interval '1 day' where {of_ada} and hold_id = 'hold-1'"
        ),
    );
    add(12, "an event's effect doubled", Some(ada), "transfers", "ada-last",
        format!("insert into transfers (tenant_id, customer_id, version, debit, credit, grant_id, credits, cause_kind,
                cause_id, event_time, recorded_at, chain)
            select tenant_id, customer_id, version + 1, debit, credit, grant_id, credits, cause_kind, cause_id,
                event_time, recorded_at, chain from transfers where {last};
            update grants set spent = spent + 40000 where tenant_id = '{t}' and grant_id =
                (select grant_id from transfers where {last} limit 1);
            update credit_accounts set version = version + 1, spent = spent + 40000, available = available - 40000
            where {of_ada}", last = charge_of(ada, "ada-last")));
    add(
        12,
        "an event twice",
        Some(ada),
        "usage_events",
        "ada-1",
        format!("insert into usage_events select * from usage_events where {of_ada} and event_id = 'ada-1'"),
    );
    add(
        12,
        "an event without its identity",
        Some(ada),
        "usage_events",
        "ada-1",
        format!("delete from usage_identities where tenant_id = '{t}' and identity = {}", identity("ada-1")),
    );
    add(
        13,
        "a receipt with more overage",
        Some(bob),
        "usage_events",
        "bob-long-14",
        format!("update usage_events set overage = overage + 1 where {of_bob} and event_id = 'bob-long-14'"),
    );
    add(
        13,
        "an hour with a Credit more",
        Some(ada),
        "usage_hours",
        "mimo-v2",
        format!("update usage_hours set credits = credits + 1 where {of_ada}"),
    );
    add(
        13,
        "an hour that still has a voided event",
        Some(ivan),
        "usage_hours",
        "mimo-v2",
        format!("update usage_hours set events = events + 1 where {of_ivan}"),
    );
    add(
        14,
        "a wrong rate stored",
        Some(grace),
        "usage_events",
        "grace-1",
        format!(
            "update usage_events set rates = '[[\"input\", 1000], [\"output\", 1000]]' where {of_grace} and event_id = 'grace-1'"
        ),
    );
    add(
        14,
        "tokens taken off an event",
        Some(grace),
        "usage_events",
        "grace-1",
        format!("update usage_events set input_tokens = 9000 where {of_grace} and event_id = 'grace-1'"),
    );
    add(
        14,
        "an event rated by an older catalogue",
        Some(grace),
        "usage_events",
        "grace-2",
        format!(
            "update usage_events set catalog_version = 1, rates = '[[\"input\", 1000]]'
            where {of_grace} and event_id = 'grace-2'"
        ),
    );
    // The first long event's grant for the last one's, and the other way round: no sum changes.
    add(
        15,
        "another grant drawn upon first",
        Some(ada),
        "transfers",
        "version",
        format!(
            "with first as (select grant_id from transfers where {first}),
                last as (select grant_id from transfers where {last}),
                a as (update usage_events set draws = jsonb_build_array(jsonb_build_array('gra_'
                    || translate((select grant_id::text from last), '-', ''), 4194304))
                    where {of_ada} and event_id = 'ada-long-0'),
                b as (update usage_events set draws = jsonb_build_array(jsonb_build_array('gra_'
                    || translate((select grant_id::text from first), '-', ''), 4194304))
                    where {of_ada} and event_id = 'ada-long-15')
            update transfers set grant_id = case when cause_id = {id} then (select grant_id from last)
                else (select grant_id from first) end
            where {first} or {last}",
            first = charge_of(ada, "ada-long-0"),
            last = charge_of(ada, "ada-long-15"),
            id = identity("ada-long-0")
        ),
    );
    add(
        16,
        "a draw on a grant that was over",
        Some(grace),
        "transfers",
        "version",
        format!(
            "update grants set expires_at = '2026-02-15 00:00:00Z' where {of_grace} and expires_at < '2026-03-01'"
        ),
    );
    add(
        17,
        "an expiry missing after the close",
        Some(grace),
        "grants",
        "gra_",
        format!("update grants set expired = 0 where {of_grace} and expires_at < '2026-03-01'"),
    );
    add(
        17,
        "an expiry before its time",
        Some(grace),
        "transfers",
        "version",
        format!(
            "update transfers set recorded_at = '2026-02-27 00:00:00Z'
            where {of_grace} and cause_kind = 'expiry' and event_time < '2026-03-01'"
        ),
    );
    add(
        17,
        "an expiry that leaves some",
        Some(grace),
        "transfers",
        "version",
        format!(
            "update transfers set credits = credits - 1 where {of_grace} and cause_kind = 'expiry'
            and event_time < '2026-03-01'"
        ),
    );
    add(
        17,
        "a grant that was made to last",
        Some(grace),
        "grants",
        "gra_",
        format!(
            "update grants set expires_at = expires_at + interval '1 year' where {of_grace} and remaining > 0"
        ),
    );
    add(18, "cycles overlap", Some(grace), "cycles", "number 1",
        format!("update cycles set starts_at = starts_at - interval '1 day' where tenant_id = '{t}' and number = 1
            and subscription_id = {}", subscription(grace)));
    add(18, "a gap between cycles", Some(grace), "cycles", "number 1",
        format!("update cycles set starts_at = starts_at + interval '1 day' where tenant_id = '{t}' and number = 1
            and subscription_id = {}", subscription(grace)));
    add(18, "a cycle that is not cut from the anchor", Some(grace), "cycles", "number 0",
        format!("update cycles set ends_at = ends_at + interval '1 hour' where tenant_id = '{t}' and number = 0 and subscription_id = {s};
            update cycles set starts_at = starts_at + interval '1 hour' where tenant_id = '{t}' and number = 1 and subscription_id = {s};
            update grants set expires_at = expires_at + interval '1 hour' where {of_grace} and expires_at < '2026-03-01'",
            s = subscription(grace)));
    add(18, "a second live subscription", Some(grace), "subscriptions", "sub_",
        format!("drop index subscriptions_live;
            insert into subscriptions select tenant_id, gen_random_uuid(), customer_id, status, plan_code, catalog_version,
                currency, payment_method, discount_bps, anchor_at, anchor_zone, cycle_number, cycle_start, cycle_end,
                cancel_at_cycle_end, scheduled_plan_code, created_at, ended_at
            from subscriptions where {of_grace}"));
    add(
        19,
        "a cycle missing",
        Some(grace),
        "cycles",
        "sub_",
        format!(
            "delete from cycles where tenant_id = '{t}' and number = 1 and subscription_id = {}",
            subscription(grace)
        ),
    );
    add(
        20,
        "a plan's grant whose invoice is not paid",
        Some(grace),
        "grants",
        "gra_",
        format!(
            "update invoices set status = 'void', paid_at = null where tenant_id = '{t}' and invoice_id = {}",
            purchase(grace, "invoice_id")
        ),
    );
    add(
        20,
        "a cycle whose year has paid for it without its grant",
        Some(judy),
        "cycles",
        "number 1",
        format!(
            "delete from cycle_grants where tenant_id = '{t}' and cycle_number = 1 and subscription_id = {}",
            subscription(judy)
        ),
    );
    add(
        20,
        "a cycle that was paid for twice",
        Some(judy),
        "cycles",
        "number 0",
        format!(
            "{} insert into cycle_grants select tenant_id, subscription_id, 0, purchase_id, grant_id
            from cycle_grants where tenant_id = '{t}' and cycle_number = 1 and subscription_id = {}",
            unchecked("cycle_grants"),
            subscription(judy)
        ),
    );
    add(21, "an upgrade a cent cheaper, everywhere", Some(ada), "purchases", "pur_",
        format!("with i as (select invoice_id as id from purchases where tenant_id = '{t}' and kind = 'upgrade'),
                l as (update invoice_lines set amount_minor = amount_minor - 1 where tenant_id = '{t}' and invoice_id in (select id from i)),
                y as (update payments set amount_minor = amount_minor - 1 where tenant_id = '{t}' and invoice_id in (select id from i))
            update invoices set total_minor = total_minor - 1 where tenant_id = '{t}' and invoice_id in (select id from i)"));
    add(
        22,
        "a promotion used twice",
        Some(grace),
        "promotion_uses",
        "first-cycle",
        format!(
            "{} insert into promotion_uses select * from promotion_uses where {of_grace}",
            unchecked("promotion_uses")
        ),
    );
    add(
        22,
        "a discount that nobody had",
        Some(grace),
        "invoice_lines",
        "position 1",
        format!("delete from promotion_uses where {of_grace}"),
    );
    add(
        23,
        "a canceled subscription active again",
        Some(carol),
        "subscriptions",
        "sub_",
        format!("update subscriptions set status = 'active', ended_at = null where {}", own(carol)),
    );
    let of_kate = format!("tenant_id = '{t}' and subscription_id = {}", subscription(kate));
    add(
        23,
        "a history that has lost its end",
        Some(kate),
        "subscription_statuses",
        "position 1",
        format!("delete from subscription_statuses where {of_kate} and position = 2"),
    );
    add(
        23,
        "a change by what cannot cause it",
        Some(kate),
        "subscription_statuses",
        "position 2",
        format!(
            "{} update subscription_statuses set cause = 'renewal_paid' where {of_kate} and position = 2",
            unchecked("subscription_statuses")
        ),
    );
    add(
        23,
        "a way out of an end",
        Some(carol),
        "subscription_statuses",
        "position 3",
        format!(
            "{} insert into subscription_statuses select tenant_id, subscription_id, 3, 'canceled', 'active',
                'renewal_paid', changed_at from subscription_statuses
            where tenant_id = '{t}' and subscription_id = {} and position = 2",
            unchecked("subscription_statuses"),
            subscription(carol)
        ),
    );
    add(
        23,
        "an unpaid renewal that is said to be paid",
        Some(kate),
        "dunnings",
        "pur_",
        format!(
            "update dunnings set stage = 'recovered', next_try_at = null, ended_at = now() where {of_kate}"
        ),
    );
    add(
        23,
        "an unpaid renewal that nobody tries again",
        Some(kate),
        "dunnings",
        "pur_",
        format!("delete from dunnings where {of_kate}"),
    );
    add(
        24,
        "a paid invoice without its payment",
        Some(grace),
        "invoices",
        "inv_",
        format!(
            "delete from payments where tenant_id = '{t}' and invoice_id = {}",
            purchase(grace, "invoice_id")
        ),
    );
    add(
        24,
        "a payment of another amount",
        Some(grace),
        "invoices",
        "inv_",
        format!(
            "update payments set amount_minor = 1 where tenant_id = '{t}' and invoice_id = {}",
            purchase(grace, "invoice_id")
        ),
    );
    add(
        24,
        "a payment in another currency",
        Some(grace),
        "invoices",
        "inv_",
        format!(
            "update payments set currency = 'CNY' where tenant_id = '{t}' and invoice_id = {}",
            purchase(grace, "invoice_id")
        ),
    );
    add(
        24,
        "a subscription in another currency",
        Some(grace),
        "invoices",
        "inv_",
        format!("update subscriptions set currency = 'CNY' where {of_grace}"),
    );
    // The refund of a customer's first invoice.
    let refund_of = |customer: CustomerId| {
        format!("tenant_id = '{t}' and invoice_id = {}", purchase(customer, "invoice_id"))
    };
    add(
        9,
        "a refund that took back more than it moved",
        Some(nina),
        "refunds",
        "ref_",
        format!("update refunds set credits_revoked = credits_revoked + 1 where {}", refund_of(nina)),
    );
    add(
        9,
        "a transfer for a dispute that revoked nothing",
        Some(mallory),
        "disputes",
        "dsp_",
        format!("update disputes set credits_revoked = 0 where {}", refund_of(mallory)),
    );
    add(
        23,
        "a suspended account of an active subscription",
        Some(grace),
        "credit_accounts",
        "cus_",
        format!("update credit_accounts set suspended_at = now() where {of_grace}"),
    );
    add(
        24,
        "a payment that forgot its refund",
        Some(nina),
        "payments",
        "pay_",
        format!("update payments set refunded_minor = 0 where {}", refund_of(nina)),
    );
    add(
        24,
        "a refund without its credit note",
        Some(nina),
        "refunds",
        "ref_",
        format!("delete from credit_notes where {}", refund_of(nina)),
    );
    add(
        24,
        "a credit note of another amount",
        Some(nina),
        "refunds",
        "ref_",
        format!("update credit_notes set total_minor = 35 where {}", refund_of(nina)),
    );
    add(
        24,
        "a tax that no line has",
        Some(grace),
        "invoices",
        "inv_",
        format!("update invoices set tax_minor = 1, tax_rate_bps = 100 where {}", refund_of(grace)),
    );
    add(
        26,
        "a refund that nobody was told of",
        Some(nina),
        "refunds",
        "ref_",
        format!("delete from outbox where tenant_id = '{t}' and kind = 'refund.created'"),
    );
    add(25, "two grants for one purchase", Some(grace), "grants", "gra_",
        format!("{} insert into grants (tenant_id, grant_id, customer_id, source, priority, amount, effective_at,
                expires_at, purchase_id, created_at)
            select tenant_id, gen_random_uuid(), customer_id, source, priority, amount, effective_at, expires_at,
                purchase_id, created_at
            from grants where {of_grace} and expires_at < '2026-03-01'", unchecked("grants")));
    add(
        26,
        "an event missing from the outbox",
        Some(ada),
        "purchases",
        "pur_",
        format!("delete from outbox where tenant_id = '{t}' and kind = 'subscription.upgraded'"),
    );
    add(26, "an event of nothing", Some(erin), "outbox", "evt_",
        format!("insert into outbox select tenant_id, gen_random_uuid(), 'invoice.paid', subject, payload, occurred_at
            from outbox where tenant_id = '{t}' and kind = 'invoice.voided'"));
    add(
        28,
        "a grant of another customer",
        Some(grace),
        "transfers",
        "version",
        format!(
            "update grants set customer_id = '{}' where {of_grace} and expires_at < '2026-03-01'",
            bob.uuid()
        ),
    );
    add(
        30,
        "a cycle closed before its end",
        Some(grace),
        "cycles",
        "number 1",
        format!(
            "update cycles set closed_at = ends_at - interval '1 day' where tenant_id = '{t}' and number = 1
            and subscription_id = {}",
            subscription(grace)
        ),
    );
    add(
        7,
        "a grant's purchase moved by a microsecond",
        Some(grace),
        "transfers",
        "version 1",
        format!(
            "update transfers set event_time = event_time + interval '1 microsecond' where {of_grace} and version = 1"
        ),
    );
    add(
        7,
        "the application may change transfers",
        None,
        "transfers",
        "update",
        "grant update on transfers to tollgate_app".to_owned(),
    );
    add(
        11,
        "a float column",
        None,
        "credit_accounts",
        "rate",
        "alter table credit_accounts add column rate double precision".to_owned(),
    );
    add(
        28,
        "a key without the tenant",
        None,
        "customers",
        "customers_by_name",
        "create unique index customers_by_name on customers (external_id, customer_id)".to_owned(),
    );
    for kind in &mut kinds {
        kind.only_by_chain = kind.name == "a grant's purchase moved by a microsecond";
    }
    for (name, table, sql) in [
        (
            "a transfer with another tenant",
            "transfers",
            format!(
                "update transfers set tenant_id = '{}' where {}",
                other_tenant.uuid(),
                charge_of(ada, "ada-last")
            ),
        ),
        (
            "a customer's subscription with another tenant",
            "subscriptions",
            format!("update subscriptions set tenant_id = '{}' where {of_ada}", other_tenant.uuid()),
        ),
    ] {
        let (tenant, customer, key) = (Some(other_tenant), Some(ada), String::new());
        kinds.push(Kind { name, invariant: 28, tenant, customer, table, key, sql, only_by_chain: false });
    }
    // A tenant's numbers are no customer's: nobody is parked for them.
    kinds.push(Kind {
        name: "a number that was left out",
        invariant: 24,
        tenant: Some(tenant),
        customer: None,
        table: "invoices",
        key: "number 1000".to_owned(),
        sql: format!(
            "update invoices set number = 1000 where tenant_id = '{t}' and invoice_id = {}",
            purchase(grace, "invoice_id")
        ),
        only_by_chain: false,
    });
    kinds
}
