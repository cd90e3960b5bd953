//! Holds Credits, once per hold id.

use domain::hold::{Hold, counts_until};
use domain::id::{CustomerId, ExternalId};
use domain::{Credits, Timestamp};

use crate::known_hold::KnownHold;
use crate::projection::{Projection, read_credits};
use crate::{AccountKey, Away, Epoch, HotBalances, LIFE, keep_ms, ms};

/// What an authorization asks for.
#[derive(Debug, Clone)]
pub struct HoldRequest {
    pub id: ExternalId,
    /// The whole estimate.
    pub full: Credits,
    /// The least that must be there: the prompt's cost.
    pub prompt_only: Credits,
    pub now: Timestamp,
    pub expires_at: Timestamp,
    /// Tells the same request from another one under the same id; no spaces, never empty.
    pub fingerprint: String,
}

/// What came of asking for a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldAnswer {
    /// Granted now.
    Held { hold: Hold, version: i64 },
    /// This id was granted before.
    Known { known: KnownHold, version: i64 },
    /// Not even the prompt fits into what is `unheld`.
    Short { unheld: Credits, version: i64, refills_at: Option<Timestamp> },
    /// Redis does not have the account, or what it has is no longer good.
    Miss {
        /// The account was loaded in this epoch and its live holds are all there: only its balance
        /// has run out, and a fill need not bring the holds along.
        is_loaded: bool,
    },
    /// Redis is not in this epoch: it was emptied, or a newer one has begun. Nothing was changed.
    Lost,
}

impl HoldRequest {
    /// What a hold is, in the words of the ledger.
    pub fn hold(&self, customer: CustomerId, credits: Credits, cycle_ends_at: Option<Timestamp>) -> Hold {
        Hold {
            counts_until: counts_until(self.now, self.expires_at, cycle_ends_at),
            id: self.id.clone(),
            customer,
            credits,
            granted_at: self.now,
            expires_at: self.expires_at,
        }
    }
}

impl HotBalances {
    /// Holds Credits, once per hold id.
    pub async fn hold(
        &self,
        account: AccountKey,
        epoch: Epoch,
        request: &HoldRequest,
    ) -> Result<HoldAnswer, Away> {
        let keys = account.keys(epoch);
        let marker = self.0.markers.of(account).to_owned();
        let mut call = self.0.scripts.hold.on(&[marker, keys.balance(), keys.live(), keys.hold(&request.id)]);
        call.arg(ms(LIFE)).arg(epoch.0).arg(1);
        call.arg(request.now.timestamp_micros())
            .arg(request.id.as_str())
            .arg(request.full.get())
            .arg(request.prompt_only.get())
            .arg(request.expires_at.timestamp_micros())
            .arg(&request.fingerprint)
            .arg(keep_ms(request.now, request.expires_at));
        let reply: Vec<String> = self.run(|connection| call.run(connection)).await?;
        let [projection, answer] = &reply[..] else { return Err(unreadable(&reply)) };
        match self.read_hold_answer(projection, answer, account, epoch, request) {
            Some(answer) => Ok(answer),
            None => {
                let given = if answer.starts_with("held ") { vec![request.id.clone()] } else { Vec::new() };
                self.drop_forged(account, epoch, projection, &given).await?;
                Ok(HoldAnswer::Miss { is_loaded: true })
            }
        }
    }

    /// Reads the script's answer; `None` where the projection is not one that Tollgate wrote.
    fn read_hold_answer(
        &self,
        projection: &str,
        answer: &str,
        account: AccountKey,
        epoch: Epoch,
        request: &HoldRequest,
    ) -> Option<HoldAnswer> {
        match answer {
            "lost" => return Some(HoldAnswer::Lost),
            "miss" => return Some(HoldAnswer::Miss { is_loaded: false }),
            // Was dropped before.
            "out" if projection.is_empty() => return Some(HoldAnswer::Miss { is_loaded: true }),
            _ => {}
        }
        let projection = Projection::read_signed(projection, account, epoch, &self.0.mac_key)?;
        let Projection { version, refills_at, cycle_ends_at, .. } = projection;
        match answer.split_once(' ') {
            None => (answer == "out").then_some(HoldAnswer::Miss { is_loaded: true }),
            Some(("held", credits)) => {
                let hold = request.hold(account.customer, read_credits(credits)?, cycle_ends_at);
                Some(HoldAnswer::Held { hold, version })
            }
            Some(("known", known)) => {
                let known = KnownHold::read(known, &request.id, account.customer)?;
                Some(HoldAnswer::Known { known, version })
            }
            Some(("short", unheld)) => {
                Some(HoldAnswer::Short { unheld: read_credits(unheld)?, version, refills_at })
            }
            Some(_) => None,
        }
    }
}

fn unreadable(reply: &[String]) -> Away {
    Away(format!("an answer of {} parts", reply.len()))
}
