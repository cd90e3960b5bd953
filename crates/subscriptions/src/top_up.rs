//! Buys Credits apart from a plan: granted once they are paid, and nobody's cycle ends them (R-25a).

use chrono::TimeDelta;
use db::{Connection, Result};
use domain::catalog::{Catalog, TopUp};
use domain::id::{CustomerId, PurchaseId, TenantId};
use domain::{Credits, Currency, Money, Refusal, TenantScope, Timestamp};
use idempotency::{Claim, RequestKey};
use invoices::{InvoiceView, Line, LineKind};
use uuid::Uuid;

use crate::collect::to_publish;
use crate::sale::{self, NewSale, Sale, Sold, SoldTopUp};
use crate::subscribe::Bought;
use crate::subscription::PurchaseStatus;
use crate::view::{Settlement, SoldToCustomer};
use crate::{Subscriptions, store};

/// What a customer wants to buy. The price is the catalogue's.
#[derive(Debug, Clone)]
pub struct NewTopUp {
    pub customer: CustomerId,
    pub top_up_code: String,
    pub currency: Currency,
    /// The saved method of the customer's live subscription where none is named.
    pub payment_method: Option<String>,
}

/// A top-up that was bought, or is to be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUpView {
    pub id: PurchaseId,
    pub customer: CustomerId,
    pub top_up_code: String,
    pub catalog_version: u32,
    pub credits: Credits,
    pub status: PurchaseStatus,
    pub is_automatic: bool,
    pub invoice: domain::id::InvoiceId,
    /// When it is given up, if it is not paid by then.
    pub expires_at: Timestamp,
    pub granted_at: Option<Timestamp>,
    pub created_at: Timestamp,
}

/// What a request to buy a top-up came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoughtTopUp {
    pub top_up: TopUpView,
    pub invoice: InvoiceView,
    pub settlement: Settlement,
}

impl Subscriptions {
    /// Makes an invoice and a payment, and collects that. Refused: `not-found` (the customer),
    /// `unknown-top-up`, `no-price-in-currency`, `unknown-payment-method`, `card-data-refused`,
    /// `invalid-field` where no method is named and none is saved, and `payment-declined`: then the invoice
    /// can be paid again until the top-up is given up.
    pub async fn buy_top_up(
        &self,
        scope: &TenantScope,
        new: NewTopUp,
        request: &RequestKey,
    ) -> Result<BoughtTopUp> {
        if let Some(method) = &new.payment_method {
            self.fingerprint(scope, method).await?;
        }
        let history = self.catalogs.history(scope.tenant).await?;
        let catalog = history.at(scope.now).ok_or(Refusal::UnknownTopUp)?;
        let bought = self
            .db
            .transaction(scope.tenant, async |tx| {
                let id = PurchaseId::from_uuid(Uuid::now_v7());
                match idempotency::claim(tx, scope.tenant, request, id.uuid(), scope.now).await? {
                    Claim::New => buy(tx, scope, catalog, id, &new).await,
                    Claim::Unfinished { fact } => {
                        let sale = found(tx, scope.tenant, PurchaseId::from_uuid(fact)).await?;
                        let accounts = to_publish(tx, scope, sale.customer, None).await?;
                        Ok(Bought { invoice: sale.invoice, accounts: Some(accounts) })
                    }
                }
            })
            .await?;
        let SoldToCustomer { sale, invoice, settlement } = self.finish_sale(scope, bought).await?;
        Ok(BoughtTopUp { top_up: view(sale)?, invoice, settlement })
    }

    /// Refused: `not-found`.
    pub async fn read_top_up(&self, scope: &TenantScope, id: PurchaseId) -> Result<TopUpView> {
        let tenant = scope.tenant;
        view(self.db.transaction(tenant, async |tx| found(tx, tenant, id).await).await?)
    }

    /// A customer's top-ups from the oldest, `limit` of those after `after`. A customer that does not
    /// exist has none: callers that must tell the two apart ask `tenants`.
    pub async fn top_ups(
        &self,
        scope: &TenantScope,
        customer: CustomerId,
        after: Option<PurchaseId>,
        limit: u32,
    ) -> Result<Vec<TopUpView>> {
        let tenant = scope.tenant;
        let sales = self
            .db
            .transaction(tenant, async |tx| store::sales::top_ups(tx, tenant, customer, after, limit).await)
            .await?;
        sales.into_iter().map(view).collect()
    }

    /// Publishes, collects, and answers from what is stored then.
    pub(crate) async fn finish_sale(&self, scope: &TenantScope, bought: Bought) -> Result<SoldToCustomer> {
        self.publish(scope, bought.accounts).await?;
        self.collect_in_flight(scope, bought.invoice).await?;
        self.sold(scope, bought.invoice).await
    }
}

async fn found(tx: &mut Connection, tenant: TenantId, id: PurchaseId) -> Result<Sale> {
    let sale = store::sales::find(tx, tenant, id).await?;
    Ok(sale.filter(|sale| sale.sold != Sold::Usage).ok_or(Refusal::NotFound { what: "top-up" })?)
}

async fn buy(
    tx: &mut Connection,
    scope: &TenantScope,
    catalog: &Catalog,
    id: PurchaseId,
    new: &NewTopUp,
) -> Result<Bought> {
    store::subscriptions::lock_customer(tx, scope.tenant, new.customer).await?;
    let top_up = catalog.top_up(&new.top_up_code)?;
    let method = match &new.payment_method {
        Some(method) => method.clone(),
        None => saved_method(tx, scope.tenant, new.customer).await?,
    };
    let is_automatic = false;
    let terms = Terms { currency: new.currency, method, is_automatic };
    open(tx, scope, catalog, top_up, (id, new.customer), terms).await
}

/// How a top-up is sold.
pub(crate) struct Terms {
    pub(crate) currency: Currency,
    pub(crate) method: String,
    pub(crate) is_automatic: bool,
}

/// Opens a top-up, and grants it at once where it costs nothing. Refused: `no-price-in-currency`.
pub(crate) async fn open(
    tx: &mut Connection,
    scope: &TenantScope,
    catalog: &Catalog,
    top_up: &TopUp,
    (id, customer): (PurchaseId, CustomerId),
    terms: Terms,
) -> Result<Bought> {
    let (tenant, now) = (scope.tenant, scope.now);
    let price = top_up.price(terms.currency)?;
    let open_for = TimeDelta::minutes(scope.policies.top_up_minutes.into());
    let sold = SoldTopUp {
        code: top_up.code.clone(),
        catalog_version: catalog.version(),
        credits: top_up.credits,
        lasts_days: top_up.lasts_days,
        is_automatic: terms.is_automatic,
        expires_at: now.checked_add_signed(open_for).ok_or(Refusal::AmountOverflow)?,
    };
    let new = NewSale {
        id,
        customer,
        sold: Sold::TopUp(sold),
        currency: terms.currency,
        lines: vec![line(top_up, price)],
        payment_method: Some(terms.method),
    };
    let mut opened = sale::open(tx, scope, new).await?;
    let mut bought = Bought { invoice: opened.invoice.id, accounts: None };
    if opened.payment.is_none() {
        let mut accounts = ledger::lock(tx, tenant, &[customer]).await?;
        sale::take(tx, scope, &mut opened.sale, accounts.get_mut(customer)?, now).await?;
        ledger::write(tx, tenant, &accounts, now).await?;
        bought.accounts = Some(accounts);
    }
    Ok(bought)
}

fn line(top_up: &TopUp, price: Money) -> Line {
    Line {
        kind: LineKind::TopUp,
        description: format!("Top-up {}: {} Credits", top_up.code, top_up.credits),
        amount_minor: price.amount_minor,
    }
}

/// What pays for a customer where nothing is named: the saved method of the live subscription. Refused:
/// `invalid-field` where there is none.
pub(crate) async fn saved_method(
    tx: &mut Connection,
    tenant: TenantId,
    customer: CustomerId,
) -> Result<String> {
    let saved = store::sales::saved_method(tx, tenant, customer).await?;
    Ok(saved.ok_or_else(|| Refusal::invalid_field("/payment_method", "missing"))?)
}

fn view(sale: Sale) -> Result<TopUpView> {
    let Sold::TopUp(top_up) = sale.sold else { return Err(Refusal::NotFound { what: "top-up" }.into()) };
    Ok(TopUpView {
        id: sale.id,
        customer: sale.customer,
        top_up_code: top_up.code,
        catalog_version: top_up.catalog_version,
        credits: top_up.credits,
        status: sale.status,
        is_automatic: top_up.is_automatic,
        invoice: sale.invoice,
        expires_at: top_up.expires_at,
        granted_at: sale.granted_at,
        created_at: sale.created_at,
    })
}
