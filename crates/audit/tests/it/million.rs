//! How long it takes on a tenant with a million transfers. Asserts that all is well, prints how long each
//! step took, and asserts nothing of that.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use audit::{Finding, What};
use diesel_async::SimpleAsyncConnection;

use crate::lively::Services;

/// A thousand customers, each with a purchase and 999 events, as the services would have stored them.
const GENERATE: &str = r#"
set session_replication_role = replica;
create temporary table who as
    select n, gen_random_uuid() as customer, gen_random_uuid() as subscription, gen_random_uuid() as purchase,
        gen_random_uuid() as invoice, gen_random_uuid() as payment
    from generate_series(1, 1000) as n;
create temporary table at as select timestamptz '2026-01-31 10:00:00Z' as start, timestamptz '2026-02-28 10:00:00Z' as stop;
insert into customers select '$t', customer, 'c' || n, null, start from who, at;
insert into subscriptions (tenant_id, subscription_id, customer_id, status, plan_code, catalog_version, currency,
        payment_method, discount_bps, anchor_at, anchor_zone, cycle_number, cycle_start, cycle_end, created_at)
    select '$t', subscription, customer, 'active', 'pro', 1, 'USD', 'pm', 0, start, 'UTC', 0, start, stop, start from who, at;
insert into cycles (tenant_id, subscription_id, number, state, starts_at, ends_at, plan_code, opened_at)
    select '$t', subscription, 0, 'open', start, stop, 'pro', start from who, at;
insert into invoices select '$t', invoice, customer, 'paid', 'USD', 5000, start, start from who, at;
insert into invoice_lines select '$t', invoice, 0, 'plan', 'Pro', 5000 from who;
insert into payments select '$t', payment, invoice, 'succeeded', 5000, 'USD', 'pm', null, start, start from who, at;
insert into purchases select '$t', purchase, 'first_cycle', subscription, 0, 'pro', 1, 700000000, invoice, 'applied', start,
    start, start, customer from who, at;
insert into outbox
    select '$t', gen_random_uuid(), kind, 'sub_' || translate(subscription::text, '-', ''),
        jsonb_build_object('invoice', 'inv_' || translate(invoice::text, '-', ''), 'purchase',
            'pur_' || translate(purchase::text, '-', ''), 'payment', 'pay_' || translate(payment::text, '-', '')), start, start
    from who, at, unnest(array['subscription.created', 'subscription.activated', 'invoice.issued', 'invoice.paid',
        'credits.granted', 'payment.created']) as kind;
insert into grants (tenant_id, grant_id, customer_id, source, priority, amount, spent, effective_at, expires_at, purchase_id,
        created_at)
    select '$t', purchase, customer, 'plan', 100, 700000000, 999 * 2000, start, stop, purchase, start from who, at;
do $$
declare w record; link bytea; cause uuid; made timestamptz;
begin
    for w in select who.*, start from who, at loop
        link := decode(repeat('00', 32), 'hex');
        link := transfer_link(link, '$t', w.customer, 1, 'issued', 'available', w.purchase, 700000000, 'purchase', w.purchase,
            w.start, w.start, null);
        insert into transfers values ('$t', w.customer, 1, 'issued', 'available', w.purchase, 700000000, 'purchase',
            w.purchase, w.start, w.start, link, null);
        for v in 2..1000 loop
            cause := encode(substring(sha256(int8send(16) || uuid_send('$t') || int8send(8) || convert_to('urn:test', 'UTF8')
                || int8send(octet_length(w.n || '-' || v)) || convert_to(w.n || '-' || v, 'UTF8')) from 1 for 16), 'hex')::uuid;
            made := w.start + v * interval '1 minute';
            link := transfer_link(link, '$t', w.customer, v, 'available', 'spent', w.purchase, 2000, 'usage', cause, made,
                made, null);
            insert into transfers values ('$t', w.customer, v, 'available', 'spent', w.purchase, 2000, 'usage', cause, made,
                made, link, null);
        end loop;
        insert into credit_accounts (tenant_id, customer_id, version, last_recorded_at, issued, available, spent, chain)
        values ('$t', w.customer, 1000, w.start + 1000 * interval '1 minute', -700000000, 700000000 - 999 * 2000,
            999 * 2000, link);
    end loop;
end $$;
insert into usage_identities select '$t', cause_id, gen_random_uuid(), customer_id, event_time
    from transfers where cause_kind = 'usage';
insert into usage_events
    select '$t', t.cause_id, t.customer_id, 'urn:test', w.n || '-' || t.version, 'mimo-v2-pro', 1000, 0, 0, 0, 0, 'completed',
        'provider', t.event_time, t.recorded_at, null, 'none', 'not-named', null, 2000, 0, 1, 262144, '[["input", 2000]]',
        jsonb_build_array(jsonb_build_array('gra_' || translate(w.purchase::text, '-', ''), 2000)),
        700000000 - (t.version - 1) * 2000, t.version
    from transfers t join who w on w.customer = t.customer_id where t.cause_kind = 'usage';
analyze;
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes to make a million transfers"]
async fn a_million_transfers() {
    let stores = testkit::Stores::fresh().await;
    let services = Services::on(&stores.database_url, &stores.redis_url);
    let tenant = services.tenant("Million", "2026-01-31T10:00:00Z").await;
    let started = Instant::now();
    stores
        .superuser()
        .await
        .batch_execute(&GENERATE.replace("$t", &tenant.uuid().to_string()))
        .await
        .unwrap();
    println!("made in {:?}", started.elapsed());
    services.advance(tenant, "2026-02-20T08:00:00Z").await;
    let scope = services.scope(tenant).await;

    let steps: Mutex<Vec<(String, Instant)>> = Mutex::default();
    let on_step = |step: &str| steps.lock().unwrap().push((step.to_owned(), Instant::now()));
    let findings = services.audit.verify(&scope, What::default(), &on_step).await.unwrap();
    on_step("end");
    let steps = steps.into_inner().unwrap();
    let mut total = Duration::ZERO;
    for pair in steps.windows(2) {
        let took = pair[1].1 - pair[0].1;
        total += took;
        let is_a_page = pair[0].0.contains(" replayed") || pair[0].0.contains(" rated again");
        if !is_a_page || pair[0].0.contains(", 0 ") {
            println!("{took:>10.1?} {}", pair[0].0);
        }
    }
    println!("verified in {total:?}");
    assert_eq!(findings.iter().map(Finding::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    let started = Instant::now();
    let rebuilt = services.audit.rebuild(&scope, true, &|_| {}).await.unwrap();
    println!("recomputed in {:?}", started.elapsed());
    assert_eq!((rebuilt.accounts, rebuilt.differences.len()), (1_000, 0));
    let started = Instant::now();
    let swept = services.ledger.sweep(&scope).await.unwrap().unwrap();
    println!("swept in {:?}", started.elapsed());
    assert_eq!((swept.accounts, swept.wrong), (1_000, 0));
}
