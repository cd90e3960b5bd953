//! The scripts, sent once and called by their digests.

use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs, Value};

use crate::connection::Connection;
use crate::keys::{AccountKey, Epoch, Markers};

/// A script and its digest.
pub(crate) struct Script {
    code: &'static str,
    digest: String,
}

impl Script {
    fn new(code: &'static str) -> Script {
        Script { digest: redis::Script::new(code).get_hash().to_owned(), code }
    }

    /// A call on accounts that have one marker: its keys are that and their balances, its first argument is the epoch; the
    /// others follow.
    pub(crate) fn on(
        &self,
        accounts: impl ExactSizeIterator<Item = AccountKey>,
        epoch: Epoch,
        markers: &Markers,
    ) -> ScriptCall {
        let count = accounts.len();
        let mut command = Cmd::with_capacity(5 + 3 * count, 128 + 192 * count);
        command.arg("EVALSHA").arg(&self.digest).arg(1 + count);
        let mut name = String::new();
        for (index, account) in accounts.enumerate() {
            if index == 0 {
                command.arg(markers.of(account));
            }
            name.clear();
            account.write_balance(epoch, &mut name);
            command.arg(&name);
        }
        command.arg(epoch.0);
        ScriptCall { code: self.code, command }
    }
}

/// A script with its keys and arguments.
pub(crate) struct ScriptCall {
    code: &'static str,
    command: Cmd,
}

impl ScriptCall {
    pub(crate) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut ScriptCall {
        self.command.arg(argument);
        self
    }

    /// Runs it; where Redis does not know the script yet, loads it first.
    pub(crate) async fn run<T: FromRedisValue>(&self, mut connection: Connection) -> RedisResult<T> {
        match self.command.query_async(&mut connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let mut load = redis::cmd("SCRIPT");
                load.arg("LOAD").arg(self.code).query_async::<Value>(&mut connection).await?;
                self.command.query_async(&mut connection).await
            }
            answer => answer,
        }
    }
}

pub(crate) struct Scripts {
    pub(crate) hold: Script,
    pub(crate) held: Script,
    pub(crate) renew: Script,
    pub(crate) begin_load: Script,
    pub(crate) fill: Script,
    pub(crate) publish: Script,
    pub(crate) drop: Script,
}

/// A script after what all of them have in common.
macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("scripts/common.lua"),
            include_str!(concat!("scripts/", $name, ".lua"))
        ))
    };
}

impl Default for Scripts {
    fn default() -> Self {
        Scripts {
            hold: script!("hold"),
            held: script!("held"),
            renew: script!("renew"),
            begin_load: script!("begin_load"),
            fill: script!("fill"),
            publish: script!("publish"),
            drop: script!("drop"),
        }
    }
}
