//! The first-cycle promotion: which one applies, and that it is used once.

use db::{Connection, Result};
use domain::catalog::{Catalog, Promotion};
use domain::id::{CustomerId, InvoiceId};
use domain::{Money, Refusal, TenantScope};

use crate::store;
use crate::store::promotions::Use;
use crate::subscription::Subscription;

/// Which promotion a buyer asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum PromotionChoice {
    /// The largest discount there is for the plan; a returning customer pays list price.
    #[default]
    Best,
    /// List price.
    None,
    /// This one, or nothing.
    Code(String),
}

/// The promotion that a purchase gets. Refused: `unknown-promotion` where the one asked for is not
/// in the catalogue or not for this plan, `promotion-used` where it is asked for by its code and
/// the customer has had one. The caller holds the customer's lock.
pub async fn choose<'a>(
    tx: &mut Connection,
    scope: &TenantScope,
    catalog: &'a Catalog,
    customer: CustomerId,
    plan_code: &str,
    choice: &PromotionChoice,
    list_price: Money,
) -> Result<Option<&'a Promotion>> {
    let (promotion, is_named) = match choice {
        PromotionChoice::None => return Ok(None),
        PromotionChoice::Best => (catalog.promotions_for(plan_code).into_iter().next(), false),
        PromotionChoice::Code(code) => (Some(catalog.promotion(code)?), true),
    };
    let Some(promotion) = promotion else { return Ok(None) };
    if !promotion.applies_to(plan_code) {
        return Err(Refusal::UnknownPromotion.into());
    }
    if !store::promotions::is_used(tx, scope.tenant, customer).await? {
        return Ok(Some(promotion));
    }
    if is_named { Err(Refusal::PromotionUsed { list_price }.into()) } else { Ok(None) }
}

/// A year has no first-cycle promotion (R-22b). Refused with `unknown-promotion` where one is asked for by its code.
pub fn none_for_a_year(choice: &PromotionChoice) -> Result<Option<&'static Promotion>> {
    match choice {
        PromotionChoice::Best | PromotionChoice::None => Ok(None),
        PromotionChoice::Code(_) => Err(Refusal::UnknownPromotion.into()),
    }
}

/// Reserves it before charging. Refused with `promotion-used` where another customer has used it
/// with the same card.
pub async fn reserve(
    tx: &mut Connection,
    scope: &TenantScope,
    mut used: Use<'_>,
    list_price: Money,
) -> Result<()> {
    if !scope.policies.promotion_once_per_fingerprint {
        used.fingerprint = None;
    }
    if store::promotions::reserve(tx, scope.tenant, used, scope.now).await? {
        Ok(())
    } else {
        Err(Refusal::PromotionUsed { list_price }.into())
    }
}

/// Reserves the promotion of an unpaid first cycle again, for the card that is to pay it now (R-11:
/// once per card). Refused: `promotion-used`.
pub async fn move_to_card(
    tx: &mut Connection,
    scope: &TenantScope,
    subscription: &Subscription,
    invoice: InvoiceId,
    fingerprint: Option<&str>,
) -> Result<()> {
    let Some(promotion_code) = store::promotions::release(tx, scope.tenant, subscription.id).await? else {
        return Ok(());
    };
    let list_price = invoices::read(tx, scope.tenant, invoice).await?.list_price()?;
    let used = Use {
        customer: subscription.customer,
        promotion_code: &promotion_code,
        subscription: subscription.id,
        fingerprint,
    };
    reserve(tx, scope, used, list_price).await
}
