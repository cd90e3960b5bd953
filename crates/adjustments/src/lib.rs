//! What operators give and take by hand: grants, revokes, and campaigns that give many customers the same.
//!
//! Each of them is an *adjustment*: a row that says who and why, written in the transaction of its transfers,
//! which name it as their cause. A grant is made under the adjustment's own id.
//!
//! # The walk of a campaign
//! The request stores the run and enqueues a job. The job takes the customers in the order of their ids, a batch
//! a transaction: lock the run, take the next customers, write the adjustments that are not there yet, lock the
//! accounts, issue, write, move the run on, commit, publish. A customer has one adjustment a tag, by the database's
//! own key: so a run that was killed goes on where it was, two runs with one tag give once, and any number of
//! processes may do the same run.
//!
//! | verb | statements |
//! |---|---|
//! | [`Adjustments::grant`], [`Adjustments::revoke`] | 8 in 1 transaction |
//! | [`Adjustments::run_campaign`] | 10 a batch, and an event a customer |

mod campaign;
mod grant;
pub mod jobs;
mod read;
mod revoke;
mod run_campaign;
mod store;

use db::Db;
use domain::id::{AdjustmentId, ApiKeyId, CustomerId, GrantId};
use domain::{Credits, Refusal, Timestamp};
use ledger::{GrantRow, Ledger};
use tenants::Tenants;

pub use campaign::{Campaign, CampaignState, NewCampaign, Selection};
pub use grant::NewAdjustment;
pub use revoke::Revoke;

/// The service; cheap to clone.
#[derive(Clone)]
pub struct Adjustments {
    pub db: Db,
    pub ledger: Ledger,
    pub tenants: Tenants,
}

/// Who gave or took what, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    pub id: AdjustmentId,
    pub customer: CustomerId,
    pub kind: Kind,
    /// The grant that it made, or took from.
    pub grant: GrantId,
    pub credits: Credits,
    /// The operator's words.
    pub reason: String,
    /// The API key that it was made with.
    pub made_by: ApiKeyId,
    pub made_at: Timestamp,
    /// The campaign's, where it is a part of one.
    pub campaign_tag: Option<String>,
}

/// Which way the Credits went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Grant,
    Revoke,
}

impl Kind {
    pub const ALL: [Kind; 2] = [Kind::Grant, Kind::Revoke];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Grant => "grant",
            Kind::Revoke => "revoke",
        }
    }
}

/// An adjustment with its grant as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjusted {
    pub adjustment: Adjustment,
    pub grant: GrantRow,
    /// The version of the customer's credit account as of this answer (R-35a).
    pub account_version: i64,
}

/// A reason is kept for whoever asks later, and no card's number is. Refused: `card-data-refused`.
fn check_reason(reason: &str) -> Result<(), Refusal> {
    if domain::card::contains_card_number(reason) { Err(Refusal::CardDataRefused) } else { Ok(()) }
}
