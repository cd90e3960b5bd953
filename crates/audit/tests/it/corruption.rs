//! Damage planted one kind at a time: each is found by its own invariant, and named; the account is
//! parked, and the others go on.

use std::sync::Arc;

use audit::{Finding, What};
use diesel_async::SimpleAsyncConnection;
use domain::id::TenantId;
use futures_util::{FutureExt, StreamExt, stream};
use usage::EventResult;

use crate::kinds::{Kind, kinds};
use crate::lively::{Cast, PRO, Services, Template, event, tokens};

/// All that is found of these tenants and of the database.
async fn verify(services: &Services, tenants: &[TenantId], what: What) -> Vec<Finding> {
    let mut all = services.audit.verify_installation().await.unwrap();
    for &tenant in tenants {
        let scope = services.scope(tenant).await;
        all.extend(services.audit.verify(&scope, what, &|_| {}).await.unwrap());
    }
    all
}

/// What somebody does who wants the chain to look right: writes it anew over every transfer there is.
const FORGE_CHAIN: &str = "do $$
    declare each record; link bytea;
    begin
        for each in select ctid, * from transfers order by tenant_id, customer_id, version, ctid loop
            if link is null or each.version = (select min(version) from transfers
                    where tenant_id = each.tenant_id and customer_id = each.customer_id) then
                link := decode(repeat('00', 32), 'hex');
            end if;
            link := transfer_link(link, each.tenant_id, each.customer_id, each.version, each.debit, each.credit,
                each.grant_id, each.credits, each.cause_kind, each.cause_id, each.event_time, each.recorded_at,
                each.reverses);
            update transfers set chain = link where ctid = each.ctid;
            update credit_accounts set chain = link
            where tenant_id = each.tenant_id and customer_id = each.customer_id;
        end loop;
    end $$";

fn is_named(kind: &Kind, finding: &Finding) -> bool {
    finding.invariant.0 == kind.invariant
        && finding.tenant == kind.tenant
        && finding.customer == kind.customer
        && finding.table == kind.table
        && finding.key.contains(&kind.key)
}

#[track_caller]
fn named<'f>(kind: &Kind, findings: &'f [Finding], when: &str) -> &'f Finding {
    findings.iter().find(|finding| is_named(kind, finding)).unwrap_or_else(|| {
        let all: Vec<String> = findings.iter().map(Finding::to_string).collect();
        panic!(
            "{} ({when}): not found as I-{} in {} {:?}, but: {all:#?}",
            kind.name, kind.invariant, kind.table, kind.key
        )
    })
}

async fn charge(services: &Services, tenant: TenantId, customer: domain::id::CustomerId) -> EventResult {
    let event = event(customer, "afterwards", PRO, tokens(1_000, 0));
    services.record(tenant, vec![event]).await.remove(0)
}

/// Plants one kind in a copy; returns the row of the table that the test prints.
async fn plant(template: &Template, number: usize, kind: &Kind) -> Result<String, String> {
    let (services, mut superuser) = template.copy(number).await;
    let cast = &template.cast;
    superuser.batch_execute("set session_replication_role = replica").await.unwrap();
    superuser.batch_execute(&kind.sql).await.map_err(|error| format!("{}: {error}", kind.name))?;
    // The other one is looked at where the damage is there; it is clean in the others.
    let both = [cast.tenant, cast.other_tenant];
    let tenants = if kind.tenant == Some(cast.tenant) { &both[..1] } else { &both[..] };
    let without_chain = What { without_chain: true, customer: None };
    if !kind.only_by_chain {
        named(kind, &verify(&services, tenants, without_chain).await, "without the chain");
        superuser.batch_execute(FORGE_CHAIN).await.map_err(|error| format!("{}: {error}", kind.name))?;
    }
    let findings = verify(&services, tenants, What::default()).await;
    let finding = named(kind, &findings, "with the chain written anew").clone();
    if kind.customer.is_some() {
        check_parked(&services, cast, kind, &findings).await?;
    }
    drop((services, superuser));
    template.drop_copy(number).await;
    let others: std::collections::BTreeSet<String> =
        findings.iter().map(|finding| finding.invariant.to_string()).collect();
    let others = others.into_iter().collect::<Vec<_>>().join(" ");
    Ok(format!("{:48} {:5} {} | all: {others}", kind.name, finding.invariant.to_string(), finding))
}

/// The account is parked, once; the one beside it is charged as ever.
async fn check_parked(
    services: &Services,
    cast: &Cast,
    kind: &Kind,
    findings: &[Finding],
) -> Result<(), String> {
    let customer = kind.customer.ok_or("a customer")?;
    let scope = services.scope(cast.tenant).await;
    let parked = services.audit.park(&scope, findings).await.map_err(|e| format!("{}: {e}", kind.name))?;
    if !parked.contains(&customer) {
        return Err(format!("{}: {customer} is not parked, but {parked:?}", kind.name));
    }
    let again = services.audit.park(&scope, findings).await.unwrap();
    assert_eq!(again, [], "{}", kind.name);
    match charge(services, cast.tenant, cast.heidi).await {
        EventResult::Accepted(receipt) if receipt.credits.get() == 2_000 => Ok(()),
        other => Err(format!("{}: the bystander got {other:?}", kind.name)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_database_gives_no_finding_and_each_kind_of_damage_is_found_by_its_own_invariant() {
    let template = Arc::new(Template::build().await);
    let (services, superuser) = template.copy(0).await;
    let both = [template.cast.tenant, template.cast.other_tenant];
    let clean = verify(&services, &both, What::default()).await;
    assert_eq!(clean.iter().map(Finding::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    drop((services, superuser));

    let planted = stream::iter(kinds(&template.cast).into_iter().zip(1..)).map(|(kind, number)| {
        let (template, name) = (template.clone(), kind.name);
        let planted = tokio::spawn(async move { plant(&template, number, &kind).await });
        planted.map(move |planted| planted.unwrap_or_else(|panic| Err(format!("{name}: {panic}"))))
    });
    let planted: Vec<Result<String, String>> = planted.buffered(4).collect().await;
    planted.iter().flatten().for_each(|row| println!("{row}"));
    let failures: Vec<&String> = planted.iter().filter_map(|planted| planted.as_ref().err()).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}
