//! The command by which a server shows that it is alive and a master.

use super::batch::Batch;
use super::reply::Reply;
use crate::store::error::StoreError;

/// A script with keys of two slots. It does nothing.
const TWO_KEYS: &str = "return 0";

/// A `DEL` of a key that never exists. It is a write that changes nothing: unlike a `PING`, a demoted
/// master, a replica and an isolated master refuse it.
#[derive(Clone)]
pub(crate) struct Heartbeat {
    pub(crate) name: String,
    pub(crate) kind: ServerKind,
}

/// The part that a server is expected to have.
#[derive(Clone)]
pub(crate) enum ServerKind {
    /// The server is the only one. The names are keys of two slots, which never exist either: what is a
    /// cluster behind one address refuses a script that names both.
    Single([String; 2]),
    /// The server is a node of a cluster. A reply that the key's slot has moved, or is being moved, shows
    /// that the node is well: it says so of each key that is not its own.
    #[cfg(feature = "redis-cluster")]
    Node,
}

impl Heartbeat {
    pub(super) fn command(&self, batch: &mut Batch) {
        batch.cmd("DEL").arg(&self.name);
    }

    /// Adds a command that a cluster refuses, if this server may be one. Returns whether it did. It is
    /// sent once per connection.
    pub(super) fn probe_slots(&self, batch: &mut Batch) -> bool {
        match &self.kind {
            ServerKind::Single(names) => {
                // A script, because the proxy of Redis Software sends the parts of a `DEL` or `MGET` to several
                // servers, and accepts it.
                // guard: C22
                batch.cmd("EVAL").arg(TWO_KEYS).arg(names.len()).arg(names);
                true
            }
            #[cfg(feature = "redis-cluster")]
            ServerKind::Node => false,
        }
    }

    fn may_move(&self) -> bool {
        !matches!(self.kind, ServerKind::Single(_))
    }

    /// Checks the reply to [`command`](Self::command).
    ///
    /// # Errors
    /// Returns the server's error: the command was not executed.
    pub(super) fn check(&self, reply: Reply) -> Result<(), StoreError> {
        match reply {
            // guard: C9 C10
            Err(error) if self.may_move() && matches!(error.code(), Some("MOVED" | "ASK")) => {
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }
}

#[cfg(all(test, feature = "redis-cluster"))]
mod tests {
    use super::super::reply::ReplyError;
    use super::*;

    #[test]
    fn only_a_node_of_a_cluster_may_say_that_the_key_is_elsewhere() {
        let single = ServerKind::Single(["one", "other"].map(str::to_owned));
        for (kind, elsewhere) in [(single, false), (ServerKind::Node, true)] {
            let name = "never".to_owned();
            let heartbeat = Heartbeat { name, kind };
            for (line, is_well) in [
                (":0", true),
                ("-MOVED 1 127.0.0.1:1", elsewhere),
                ("-ASK 1 127.0.0.1:1", elsewhere),
                (
                    "-READONLY You can't write against a read only replica.",
                    false,
                ),
            ] {
                let value = redis::parse_redis_value(format!("{line}\r\n").as_bytes());
                let reply = value.unwrap().extract_error().map_err(ReplyError::Server);
                assert_eq!(heartbeat.check(reply).is_ok(), is_well, "{line}");
            }
        }
    }
}
