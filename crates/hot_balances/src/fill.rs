//! Loads accounts after a miss: a load begins before it reads in PostgreSQL, and ends as the account is filled.

use futures_util::future::try_join_all;
use uuid::Uuid;

use crate::known_hold::{KnownHold, name};
use crate::projection::Projection;
use crate::{AccountKey, Away, CALLS_AT_ONCE, Epoch, HotBalances, KEEP_ENDED, LIFE, LOAD_MAX, micros, ms};

/// Accounts whose loads one call begins.
const ACCOUNTS_A_CALL: usize = 64;
/// The most holds that one call brings.
const HOLDS_A_CALL: usize = 500;

/// A load that has begun: what is published of its account from now on is not undone by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket(Vec<u8>);

/// What a load knows of the account's holds.
#[derive(Debug, Clone, Copy)]
pub enum FillHolds<'a> {
    /// Every live one, and ended ones that must not seem new.
    All(&'a [KnownHold]),
    /// The miss said that the live ones are there (`is_loaded`): what is to be known besides.
    Besides(&'a [KnownHold]),
}

/// What came of a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    Done,
    /// The load is over, or something newer was published since it has read. Nothing was changed.
    Passed,
    /// Redis is not in this epoch. Nothing was changed.
    Lost,
}

impl HotBalances {
    /// Begins loads of accounts, before they are read: their tickets, in the order of the accounts; none where Redis is not in this
    /// epoch.
    pub async fn begin_loads(
        &self,
        epoch: Epoch,
        accounts: &[AccountKey],
    ) -> Result<Option<Vec<Ticket>>, Away> {
        let placed = accounts.iter().copied().enumerate();
        let of_slots: Vec<_> = self.0.markers.by_slot(placed, |(_, account)| *account).collect();
        let calls: Vec<_> = of_slots.iter().flat_map(|of_slot| of_slot.chunks(ACCOUNTS_A_CALL)).collect();
        let ticket = Uuid::now_v7();
        let mut tickets = vec![None; accounts.len()];
        for some in calls.chunks(CALLS_AT_ONCE) {
            let beginning = some.iter().map(async |of_call| {
                let accounts = of_call.iter().map(|(_, account)| *account);
                let mut call = self.0.scripts.begin_load.on(accounts, epoch, &self.0.markers);
                call.arg(ms(LOAD_MAX)).arg(ticket.as_bytes());
                let tickets: Vec<Vec<u8>> = self.run(|connection| call.run(connection)).await?;
                Ok(of_call.iter().zip(tickets))
            });
            for ((place, _), ticket) in try_join_all(beginning).await?.into_iter().flatten() {
                tickets[*place] = Some(Ticket(ticket));
            }
        }
        Ok(tickets.into_iter().collect())
    }

    /// Loads an account after a miss, with what is known of its holds. An older revision than one that
    /// is here, or was published since the load began, changes no balance; nor does a load that is over, since it took longer than
    /// [`LOAD_MAX`], or another one has brought the account and it was dropped since.
    pub async fn fill(
        &self,
        account: AccountKey,
        epoch: Epoch,
        ticket: &Ticket,
        projection: &Projection,
        holds: FillHolds<'_>,
    ) -> Result<Filled, Away> {
        let (brought, holds) = match holds {
            FillHolds::All(holds) => ("all", holds),
            FillHolds::Besides(holds) => ("besides", holds),
        };
        // Many holds come in several calls, so that none keeps Redis from everybody else for long; the last
        // one brings the balance, and before it the account is a miss.
        let (most, rest) = holds.split_at(holds.len() - holds.len().min(HOLDS_A_CALL));
        for some in most.chunks(HOLDS_A_CALL) {
            match self.bring(account, epoch, ticket, projection, ("more", some)).await? {
                Filled::Done => {}
                other => return Ok(other),
            }
        }
        self.bring(account, epoch, ticket, projection, (brought, rest)).await
    }

    async fn bring(
        &self,
        account: AccountKey,
        epoch: Epoch,
        ticket: &Ticket,
        projection: &Projection,
        (brought, holds): (&str, &[KnownHold]),
    ) -> Result<Filled, Away> {
        let mut call = self.0.scripts.fill.on([account].into_iter(), epoch, &self.0.markers);
        call.arg(ms(LIFE)).arg(projection.write(account, epoch, &self.0.mac_key)).arg(brought);
        call.arg(micros(KEEP_ENDED)).arg(ticket.0.as_slice());
        for known in holds {
            call.arg(name(&known.hold.id)).arg(known.write());
        }
        let answer: String = self.run(|connection| call.run(connection)).await?;
        Ok(match answer.as_str() {
            "lost" => Filled::Lost,
            "passed" => Filled::Passed,
            _ => Filled::Done,
        })
    }
}
