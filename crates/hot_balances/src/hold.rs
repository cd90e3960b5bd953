//! Holds Credits, once per hold id.

use std::collections::BTreeMap;

use domain::exhaustion::Exhaustion;
use domain::hold::{Fingerprint, Hold, counts_until};
use domain::id::{CustomerId, ExternalId};
use domain::{Credits, Timestamp};
use redis::Value;

use crate::gather::Asked;
use crate::known_hold::{KnownHold, name, write};
use crate::packed::{Packed, Unpacked};
use crate::projection::Projection;
use crate::scripts::ScriptCall;
use crate::{AccountKey, Away, Epoch, HotBalances, KEEP_ENDED, LIFE, micros, ms};

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
    /// Tells the same request from another one under the same id.
    pub fingerprint: Fingerprint,
}

/// What came of asking for a hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldAnswer {
    /// Granted now, on a projection that is good until then.
    Held { hold: Hold, version: i64, valid_until: Option<Timestamp> },
    /// This id was granted before.
    Known { known: KnownHold, version: i64 },
    /// Not even the prompt fits into what is `unheld`.
    Short {
        unheld: Credits,
        refills_at: Option<Timestamp>,
        /// How the customer goes on without Credits; the tenant's policy where none.
        exhaustion: Option<Exhaustion>,
        valid_until: Option<Timestamp>,
    },
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
    /// Sends holds of one epoch in one call and answers each. The error is theirs already, and says that
    /// others need not try.
    pub(crate) async fn send(&self, epoch: Epoch, asked: Vec<Asked>) -> Result<(), Away> {
        let call = self.call_of(epoch, &asked);
        match self.run(|connection| call.run::<Vec<Value>>(connection)).await {
            Ok(reply) if reply.is_empty() => {
                for asked in asked {
                    asked.answer(Ok(HoldAnswer::Lost));
                }
                Ok(())
            }
            Ok(reply) => self.answer(epoch, asked, reply.into_iter()).await,
            Err(away) => {
                for asked in asked {
                    asked.answer(Err(away.clone()));
                }
                Err(away)
            }
        }
    }

    /// The script's call.
    fn call_of(&self, epoch: Epoch, asked: &[Asked]) -> ScriptCall {
        let accounts = asked.iter().map(|asked| asked.account);
        let mut call = self.0.scripts.hold.on(accounts, epoch, &self.0.markers);
        let prompts = Packed::with_capacity(7 * asked.len());
        let prompts = asked.iter().fold(prompts, |prompts, asked| prompts.credits(asked.request.prompt_only));
        call.arg(ms(LIFE)).arg(micros(KEEP_ENDED)).arg(prompts.0);
        for Asked { request: HoldRequest { id, full, now, expires_at, fingerprint, .. }, .. } in asked {
            let in_full = write(*full, *expires_at, (*now, *expires_at), None, *fingerprint);
            call.arg(name(id)).arg(in_full);
        }
        call
    }

    /// Gives each its part of the reply: its account's projection, then the answer.
    async fn answer(
        &self,
        epoch: Epoch,
        asked: Vec<Asked>,
        mut reply: impl Iterator<Item = Value>,
    ) -> Result<(), Away> {
        let mut forged: BTreeMap<AccountKey, Forged> = BTreeMap::new();
        for asked in asked {
            let (Some(Value::BulkString(written)), Some(answer)) = (reply.next(), reply.next()) else {
                break;
            };
            let account = asked.account;
            let projection = Projection::read_signed(&written, account, epoch, &self.0.mac_key);
            match read_answer(&answer, projection, written.is_empty(), &asked) {
                Some(answer) => asked.answer(Ok(answer)),
                None => {
                    let of_account = forged.entry(account).or_default();
                    if matches!(answer, Value::Int(_)) {
                        of_account.given.push(asked.request.id.clone());
                    }
                    of_account.projection = written;
                    of_account.asked.push(asked);
                }
            }
        }
        // All of an account's at once: nobody who asks again is to be answered one that is about to be taken back.
        for (account, Forged { projection, asked, given }) in forged {
            let dropped = self.drop_forged(account, epoch, &projection, &given).await;
            for asked in asked {
                asked.answer(dropped.clone().map(|()| HoldAnswer::Miss { is_loaded: true }));
            }
        }
        Ok(())
    }
}

/// What was asked of an account whose projection Tollgate did not write, and the holds that were given on it.
#[derive(Default)]
struct Forged {
    projection: Vec<u8>,
    asked: Vec<Asked>,
    given: Vec<ExternalId>,
}

/// Reads one answer of the script; `None` where it rests on a projection that Tollgate did not write.
fn read_answer(
    answer: &Value,
    projection: Option<Projection>,
    is_dropped: bool,
    asked: &Asked,
) -> Option<HoldAnswer> {
    let Asked { account, request, .. } = asked;
    let text = match answer {
        Value::BulkString(text) => text.as_slice(),
        _ => b"",
    };
    match text {
        b"miss" => return Some(HoldAnswer::Miss { is_loaded: false }),
        b"out" if is_dropped => return Some(HoldAnswer::Miss { is_loaded: true }),
        _ => {}
    }
    let Projection { version, refills_at, cycle_ends_at, exhaustion, valid_until, .. } = projection?;
    if let Value::Int(credits) = answer {
        let hold = request.hold(account.customer, Credits::new(*credits).ok()?, cycle_ends_at);
        return Some(HoldAnswer::Held { hold, version, valid_until });
    }
    if text == b"out" {
        return Some(HoldAnswer::Miss { is_loaded: true });
    }
    match text.split_at_checked(5)? {
        (b"known", known) => {
            let known = KnownHold::read(known, &request.id, account.customer)?;
            Some(HoldAnswer::Known { known, version })
        }
        (b"short", unheld) => {
            let unheld = Unpacked(unheld).credits()?;
            Some(HoldAnswer::Short { unheld, refills_at, exhaustion, valid_until })
        }
        _ => None,
    }
}
