//! Commands that are sent together, and the wire that takes them.

use redis::aio::MultiplexedConnection;
#[cfg(feature = "redis-cluster")]
use redis::cluster_async::ClusterConnection;
use redis::{Cmd, Pipeline, RedisResult, Value};

pub(super) type Replies = Vec<RedisResult<Value>>;

/// Commands for one round trip. On one server they are one write, and run in their order. On a
/// cluster, where their keys may lie on different nodes, they are sent at once, unless their order
/// counts.
#[derive(Default)]
pub(super) struct Batch {
    commands: Vec<Cmd>,
    #[cfg_attr(
        not(feature = "redis-cluster"),
        expect(dead_code, reason = "one server keeps it")
    )]
    ordered: bool,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Each command is sent after the reply to the one before, where they do not share a server.
    pub(super) fn ordered() -> Self {
        Self {
            commands: Vec::new(),
            ordered: true,
        }
    }

    /// Adds a command, whose arguments follow.
    pub(super) fn cmd(&mut self, name: &str) -> &mut Cmd {
        self.commands.push(redis::cmd(name));
        self.commands.last_mut().expect("one was pushed")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    fn pipeline(&self) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(self.commands.len());
        pipeline.ignore_errors();
        for command in &self.commands {
            pipeline.add_command(command.clone());
        }
        pipeline
    }
}

/// A connection to one server, or to a cluster. Clones share it.
#[derive(Clone)]
pub(super) enum Wire {
    Single(MultiplexedConnection),
    #[cfg(feature = "redis-cluster")]
    Cluster(ClusterConnection),
}

impl Wire {
    /// Sends each command once.
    pub(super) async fn send(&mut self, batch: &Batch) -> RedisResult<Replies> {
        match self {
            Self::Single(connection) => batch.pipeline().query_async(connection).await,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => cluster::send(connection, batch).await,
        }
    }
}

#[cfg(feature = "redis-cluster")]
mod cluster {
    use super::*;

    /// A command that is refused is an answer; one that got none fails the batch.
    pub(super) async fn send(
        connection: &ClusterConnection,
        batch: &Batch,
    ) -> RedisResult<Replies> {
        let mut replies = Vec::with_capacity(batch.commands.len());
        if batch.ordered || batch.commands.len() == 1 {
            for command in &batch.commands {
                replies.push(answered(one(connection, command).await)?);
            }
            return Ok(replies);
        }
        let mut together = tokio::task::JoinSet::new();
        for (place, command) in batch.commands.iter().enumerate() {
            let (connection, command) = (connection.clone(), command.clone());
            together.spawn(async move { (place, one(&connection, &command).await) });
        }
        let mut placed = together.join_all().await;
        placed.sort_by_key(|(place, _)| *place);
        placed
            .into_iter()
            .map(|(_, reply)| answered(reply))
            .collect()
    }

    async fn one(connection: &ClusterConnection, command: &Cmd) -> RedisResult<Value> {
        command.query_async(&mut connection.clone()).await
    }

    fn answered(reply: RedisResult<Value>) -> RedisResult<RedisResult<Value>> {
        match reply {
            Err(error) if error.is_timeout() || error.is_io_error() => Err(error),
            reply => Ok(reply),
        }
    }
}
