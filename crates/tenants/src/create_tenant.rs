//! Creates tenants and lists them.

use db::Result;
use domain::calendar::Zone;
use domain::id::TenantId;
use domain::policy::Policies;
use domain::refusal::FieldError;
use domain::scope::TenantMode;
use domain::{Refusal, Timestamp};
use uuid::Uuid;

use crate::settings::real_now;
use crate::{Tenants, name, store};

/// A tenant to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTenant {
    pub name: String,
    pub mode: TenantMode,
    /// Cuts calendar days and cycles only.
    pub zone: Zone,
    pub policies: Policies,
}

/// A provider that sells token plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub id: TenantId,
    pub name: String,
    pub mode: TenantMode,
    pub zone: Zone,
    pub policies: Policies,
    /// Where the test clock stands, if it was set.
    pub clock_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

impl Tenants {
    /// Creates a tenant, without keys, customers or a catalogue. Refused with `invalid-field`.
    pub async fn create(&self, new: NewTenant) -> Result<TenantId> {
        name::check(&new.name)?;
        check_policies(&new.policies)?;
        let tenant = TenantId::from_uuid(Uuid::now_v7());
        let now = real_now();
        self.db.transaction(tenant, async |tx| store::insert_tenant(tx, tenant, &new, now).await).await?;
        Ok(tenant)
    }

    /// All tenants, the oldest first: for the operator's commands.
    pub async fn list(&self) -> Result<Vec<Tenant>> {
        self.db.all_tenants_transaction(async |tx| store::tenants_all_tenants(tx).await).await
    }
}

/// Every problem is told at its field, by whose name its sentence begins.
fn check_policies(policies: &Policies) -> std::result::Result<(), Refusal> {
    let errors: Vec<FieldError> = policies
        .problems()
        .iter()
        .map(|problem| FieldError {
            pointer: format!("/policies/{}", problem.split(' ').next().unwrap_or_default()),
            code: "out-of-range".to_owned(),
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Refusal::InvalidFields(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_out_of_range_is_told_at_its_field() {
        let policies = Policies { hold_minutes: 0, out_of_credits_status: 200, ..Policies::default() };
        let Err(Refusal::InvalidFields(errors)) = check_policies(&policies) else { panic!("refused") };
        let pointers: Vec<_> = errors.iter().map(|error| error.pointer.as_str()).collect();
        assert_eq!(pointers, ["/policies/hold_minutes", "/policies/out_of_credits_status"]);
        assert_eq!(check_policies(&Policies::default()), Ok(()));
    }
}
