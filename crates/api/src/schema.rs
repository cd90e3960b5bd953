//! Ids and closed lists of names, as the OpenAPI document describes them: by the domain's own prefixes
//! and lists, so that the document lacks no name that an answer can have.

use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{Object, RefOr};
use utoipa::{PartialSchema, ToSchema};

/// The part of an example's id after the prefix.
const EXAMPLE_HEX: &str = "0192f0c1d2e37a4b8c9d0e1f2a3b4c5d";

macro_rules! ids {
    ($($name:ident)+) => {$(
        /// Describes `domain::id`'s type of the same name.
        pub(crate) enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                id(domain::id::$name::PREFIX).into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

ids! {
    AdjustmentId
    ApiKeyId
    CampaignId
    CreditNoteId
    CustomerId
    DisputeId
    EndpointId
    GrantId
    InvoiceId
    PaymentId
    PurchaseId
    QuarantineId
    QuoteId
    RefundId
    RolloverId
    SubscriptionId
}

fn id(prefix: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(format!("^{prefix}_[0-9a-f]{{32}}$")))
        .examples([format!("{prefix}_{EXAMPLE_HEX}")])
        .build()
}

macro_rules! names {
    ($($(#[doc = $doc:literal])+ $name:ident = $list:ty;)+) => {$(
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct $name(pub(crate) $list);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.name())
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                one_of(<$list>::ALL.map(<$list>::name), concat!($($doc),+).trim_start()).into()
            }
        }

        impl ToSchema for $name {}
    )+};
}

names! {
    /// Where a subscription is in its life.
    SubscriptionStatus = domain::subscription::Status;
    /// Whether an invoice is still owed.
    InvoiceStatus = domain::invoice::InvoiceStatus;
    /// What became of one attempt to collect an invoice.
    CollectionStatus = domain::invoice::PaymentStatus;
    /// How far a refund is.
    RefundStatus = domain::refund::RefundStatus;
    /// Who wanted money to go back.
    RefundOrigin = domain::refund::RefundOrigin;
    /// How far a dispute is.
    DisputeState = domain::dispute::DisputeState;
    /// What a line of a credit note is about.
    CreditLineKind = invoices::CreditLineKind;
    /// What a line of an invoice is for.
    LineKind = invoices::LineKind;
    /// Whether a purchase waits for its payment, has taken effect, or never will.
    PurchaseStatus = subscriptions::PurchaseStatus;
    /// What Credits were granted for.
    GrantSource = domain::grant::GrantSource;
    /// A side of a transfer.
    Book = domain::account::Book;
    /// What causes a transfer.
    CauseKind = domain::account::CauseKind;
    /// Whose usage object it is: the names of its fields, and what each of them counts.
    UsageFormat = domain::usage_format::UsageFormat;
    /// A kind of token that has a rate.
    TokenKind = domain::usage::TokenKind;
    /// What became of an event that the payment provider told.
    ProviderEventState = provider_events::State;
    /// By which way it came: the provider's webhook, or a look through its list.
    ProviderEventWay = provider_events::CameBy;
    /// Whether Credits were given or taken.
    AdjustmentKind = adjustments::Kind;
    /// How far a campaign is.
    CampaignState = adjustments::CampaignState;
    /// How far a run is.
    RolloverState = subscriptions::RolloverState;
}

fn one_of<const COUNT: usize>(names: [&'static str; COUNT], description: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .enum_values(Some(names))
        .build()
}
