//! The connections: to one Redis, or to a cluster of them.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{
    MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, Slot, SlotAddr,
};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisFuture, RedisResult, Value};
use tokio::runtime;
use tokio::sync::OnceCell;

use crate::CONNECT_TIMEOUT;
use crate::keys::Markers;

/// When the client gives a call up by itself. Later than any of ours does: what it reports as a broken
/// connection must be one.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where Redis is.
pub(crate) enum Target {
    One(redis::Client),
    Cluster(Box<ClusterClient>),
}

/// `redis-cluster://[user:password@]host:port,host:port`: some of the cluster's masters.
const CLUSTER_SCHEME: &str = "redis-cluster://";

impl Target {
    pub(crate) fn parse(url: &str) -> RedisResult<Target> {
        let Some(rest) = url.strip_prefix(CLUSTER_SCHEME) else {
            return redis::Client::open(url).map(Target::One);
        };
        let (login, hosts) = rest.rsplit_once('@').map_or(("", rest), |(login, hosts)| (login, hosts));
        let at = if login.is_empty() { "" } else { "@" };
        let nodes = hosts.split(',').map(|host| format!("redis://{login}{at}{host}"));
        ClusterClientBuilder::new(nodes)
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(CLIENT_TIMEOUT)
            .retries(1)
            .build()
            .map(|client| Target::Cluster(Box::new(client)))
    }

    async fn connect(&self) -> RedisResult<Connection> {
        match self {
            Target::One(client) => {
                // One that breaks stays broken: it never turns into one to another run of Redis.
                let config = AsyncConnectionConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(CLIENT_TIMEOUT));
                client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::One)
            }
            Target::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }

    /// Connects and asks which run of Redis that is.
    pub(crate) async fn connect_to_run(&self) -> RedisResult<Connected> {
        let connection = self.connect().await?;
        let run_id = connection.clone().run_id().await?;
        Ok(Connected { connection, run_id })
    }
}

/// A connection, and the run of Redis that it leads to.
pub(crate) struct Connected {
    pub(crate) connection: Connection,
    run_id: String,
}

/// A connection for each runtime that calls: its answers arrive where they are waited for, and wake no
/// other thread.
#[derive(Default)]
pub(crate) struct Connections(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_runtime: HashMap<runtime::Id, Arc<OnceCell<Connected>>>,
    /// The run of Redis that all servers use; none before that was first asked.
    run_id: Option<String>,
}

impl Connections {
    /// The one of the runtime that asks; empty before it was first connected.
    pub(crate) fn of_this_runtime(&self) -> Arc<OnceCell<Connected>> {
        self.locked().by_runtime.entry(runtime::Handle::current().id()).or_default().clone()
    }

    /// Once one connection is broken the others are too, if only they have not seen it yet: it is not to
    /// be found out, and Redis taken for away, once more by each of them.
    pub(crate) fn forget_all(&self) {
        self.locked().by_runtime.clear();
    }

    /// From now on this run of Redis is the one that is used.
    pub(crate) fn use_run(&self, run_id: &str) {
        let mut known = self.locked();
        if known.run_id.as_deref() != Some(run_id) {
            known.run_id = Some(run_id.to_owned());
        }
    }

    /// Whether a connection leads to the run that is used: a thread that connects right after Redis was
    /// restarted meets another one, maybe with the balances of an old dump.
    pub(crate) fn is_used(&self, connected: &Connected) -> bool {
        self.locked().run_id.as_ref().is_none_or(|run_id| *run_id == connected.run_id)
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves these whole: every change to them is one call.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
pub(crate) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Which run of Redis this is; of a cluster, which runs of its masters.
    pub(crate) async fn run_id(mut self) -> RedisResult<String> {
        let mut info = redis::cmd("INFO");
        info.arg("server");
        let texts: Vec<String> = match &mut self {
            Connection::One(one) => vec![info.query_async(one).await?],
            Connection::Cluster(cluster) => {
                let to_all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let answers: HashMap<String, String> =
                    redis::from_redis_value(cluster.route_command(info, to_all).await?)?;
                answers.into_values().collect()
            }
        };
        let run_id =
            |text: &String| text.lines().find_map(|line| Some(line.strip_prefix("run_id:")?.to_owned()));
        let mut run_ids: Vec<String> = texts.iter().filter_map(run_id).collect();
        run_ids.sort();
        Ok(run_ids.join(" "))
    }

    /// Runs reads of any number of slots: one pipeline, or in a cluster one call each, side by side.
    pub(crate) async fn read_all(mut self, reads: &[Cmd]) -> RedisResult<Vec<Value>> {
        match &mut self {
            Connection::One(one) => {
                let mut pipeline = redis::pipe();
                for read in reads {
                    pipeline.add_command(read.clone());
                }
                pipeline.query_async(one).await
            }
            Connection::Cluster(cluster) => {
                let reading = reads.iter().map(|read| {
                    let mut cluster = cluster.clone();
                    async move { cluster.req_packed_command(read).await }
                });
                try_join_all(reading).await
            }
        }
    }

    /// Gives all markers this value; in a cluster pipelined by master.
    pub(crate) async fn mark(mut self, markers: &Markers, value: i64) -> RedisResult<()> {
        match (&mut self, markers) {
            (_, Markers::One(name)) => redis::cmd("SET").arg(name).arg(value).query_async(&mut self).await,
            (Connection::One(one), Markers::PerSlot(names)) => {
                set_all(names.values().map(String::as_str), value).query_async(one).await
            }
            (Connection::Cluster(cluster), Markers::PerSlot(names)) => {
                for slots in slot_ranges(cluster).await? {
                    let slots: Vec<Slot> = slots.filter_map(Slot::new).collect();
                    for chunk in slots.chunks(MARKERS_A_CALL) {
                        let pipeline = set_all(chunk.iter().map(|slot| names[slot].as_str()), value);
                        let route = Route::with_slot(chunk[0], SlotAddr::Master);
                        let master = SingleNodeRoutingInfo::SpecificNode(route);
                        cluster.route_pipeline(pipeline, 0, chunk.len(), master).await?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// How many markers are set in one pipeline.
const MARKERS_A_CALL: usize = 512;

fn set_all<'n>(names: impl Iterator<Item = &'n str>, value: i64) -> Pipeline {
    let mut pipeline = redis::pipe();
    for name in names {
        pipeline.set(name, value).ignore();
    }
    pipeline
}

/// Which slots lie together on a master.
async fn slot_ranges(cluster: &mut ClusterConnection) -> RedisResult<Vec<RangeInclusive<u16>>> {
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("SLOTS");
    let to_any = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
    // Each range: first slot, last slot, then the nodes that have it.
    let ranges: Vec<Vec<Value>> = redis::from_redis_value(cluster.route_command(slots, to_any).await?)?;
    let mut read = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut ends = range.into_iter().take(2).map(redis::from_redis_value::<u16>);
        if let (Some(first), Some(last)) = (ends.next(), ends.next()) {
            read.push(first?..=last?);
        }
    }
    Ok(read)
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Connection::One(one) => one.req_packed_command(command),
            Connection::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Connection::One(one) => one.req_packed_commands(pipeline, offset, count),
            Connection::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Connection::One(one) => one.get_db(),
            Connection::Cluster(cluster) => cluster.get_db(),
        }
    }
}
