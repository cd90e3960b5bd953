//! Holds Credits, once per hold id.

use domain::exhaustion::Exhaustion;
use domain::hold::{Hold, counts_until};
use domain::id::{CustomerId, ExternalId};
use domain::{Credits, Timestamp};

use crate::gather::Asked;
use crate::known_hold::{KnownHold, name, write_rest};
use crate::projection::{Projection, read_credits};
use crate::scripts::ScriptCall;
use crate::{Away, HotBalances, KEEP_ENDED, LIFE, micros, ms};

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
    Short {
        unheld: Credits,
        version: i64,
        refills_at: Option<Timestamp>,
        /// How the customer goes on without Credits; the tenant's policy where none.
        exhaustion: Option<Exhaustion>,
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
    /// Sends holds in one call and answers each. The error is theirs already, and says that others need
    /// not try.
    pub(crate) async fn send(&self, mut asked: Vec<Asked>) -> Result<(), Away> {
        // Those of one account lie together, in the order in which they came.
        asked.sort_by_key(|asked| (asked.account, asked.epoch));
        let call = self.call_of(&asked);
        match self.run(|connection| call.run::<Vec<String>>(connection)).await {
            Ok(reply) => self.answer(asked, reply.into_iter()).await,
            Err(away) => {
                for asked in asked {
                    asked.answer(Err(away.clone()));
                }
                Err(away)
            }
        }
    }

    /// The script's call; `asked` lie together by account.
    fn call_of(&self, asked: &[Asked]) -> ScriptCall {
        let first = &asked[0];
        let mut names = vec![self.0.markers.of(first.account).to_owned()];
        let accounts = || asked.chunk_by(|one, next| (one.account, one.epoch) == (next.account, next.epoch));
        for of_account in accounts() {
            let keys = of_account[0].account.keys(of_account[0].epoch);
            names.extend([keys.balance(), keys.live(), keys.holds(), keys.kept()]);
        }
        let mut call = self.0.scripts.hold.on(&names);
        call.arg(ms(LIFE)).arg(micros(KEEP_ENDED));
        for of_account in accounts() {
            call.arg(of_account[0].epoch.0).arg(of_account.len());
            for Asked { request, .. } in of_account {
                call.arg(request.now.timestamp_micros())
                    .arg(name(&request.id))
                    .arg(request.full.get())
                    .arg(request.prompt_only.get())
                    .arg(request.expires_at.timestamp_micros())
                    .arg(write_rest(request.now, request.expires_at, &request.fingerprint));
            }
        }
        call
    }

    /// Gives each its part of the reply: of each account its projection, then an answer each.
    async fn answer(&self, asked: Vec<Asked>, mut reply: impl Iterator<Item = String>) -> Result<(), Away> {
        let mut asked = asked.into_iter().peekable();
        while let Some(Asked { account, epoch, .. }) = asked.peek() {
            let (account, epoch) = (*account, *epoch);
            let text = reply.next().unwrap_or_default();
            // Checked once for all of the account's.
            let projection = Projection::read_signed(&text, account, epoch, &self.0.mac_key);
            let mut unread = Vec::new();
            while let Some(one) = asked.next_if(|next| (next.account, next.epoch) == (account, epoch)) {
                let answer = reply.next().unwrap_or_default();
                match read_answer(&answer, projection.as_ref(), text.is_empty(), &one) {
                    Some(answer) => one.answer(Ok(answer)),
                    None => unread.push((one, answer)),
                }
            }
            if !unread.is_empty() {
                let given = unread.iter().filter(|(_, answer)| answer.starts_with("held "));
                let given: Vec<ExternalId> = given.map(|(one, _)| one.request.id.clone()).collect();
                let dropped = self.drop_forged(account, epoch, &text, &given).await;
                for (one, _) in unread {
                    one.answer(dropped.clone().map(|()| HoldAnswer::Miss { is_loaded: true }));
                }
            }
        }
        Ok(())
    }
}

/// Reads one answer of the script; `None` where it rests on a projection that Tollgate did not write.
fn read_answer(
    answer: &str,
    projection: Option<&Projection>,
    is_dropped: bool,
    asked: &Asked,
) -> Option<HoldAnswer> {
    let Asked { account, request, .. } = asked;
    match answer {
        "lost" => return Some(HoldAnswer::Lost),
        "miss" => return Some(HoldAnswer::Miss { is_loaded: false }),
        "out" if is_dropped => return Some(HoldAnswer::Miss { is_loaded: true }),
        _ => {}
    }
    let Projection { version, refills_at, cycle_ends_at, exhaustion, .. } = *projection?;
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
            Some(HoldAnswer::Short { unheld: read_credits(unheld)?, version, refills_at, exhaustion })
        }
        Some(_) => None,
    }
}
