//! Damage planted one kind at a time: each is found by its own invariant, and named.

use audit::{Finding, What};

use crate::lively::Template;

async fn verify(
    services: &crate::lively::Services,
    tenant: domain::id::TenantId,
    what: What,
) -> Vec<Finding> {
    let scope = services.scope(tenant).await;
    services.audit.verify(&scope, what, &|_| {}).await.unwrap()
}

fn print(findings: &[Finding]) {
    for finding in findings {
        println!("  {:?} {finding}", finding.customer.map(|customer| customer.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_database_gives_no_finding() {
    let template = Template::build().await;
    let (services, _) = template.copy(0).await;
    let mut all = services.audit.verify_installation().await.unwrap();
    for tenant in [template.cast.tenant, template.cast.other_tenant] {
        all.extend(verify(&services, tenant, What::default()).await);
    }
    print(&all);
    assert_eq!(all, []);
}
