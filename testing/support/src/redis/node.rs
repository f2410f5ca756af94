//! A node of a cluster, in the words of the server's version.

use super::version::is_before_7;
use super::{RedisServer, program};
use crate::process::free_port;
use crate::redis::plain_args;

/// The difference between the ports of the cluster bus and of clients, where it cannot be chosen.
const OFFSET: u16 = 10_000;

/// The arguments of a node, beside those of any server.
pub(crate) fn node_args() -> Vec<String> {
    let mut args: Vec<String> = ["--cluster-enabled", "yes"].map(str::to_owned).into();
    if !is_before_7() {
        // By default it is among the ephemeral ports.
        args.extend(["--cluster-port".to_owned(), free_port().to_string()]);
    }
    args
}

impl RedisServer {
    /// Starts a node of a cluster that has no slots and knows no other node.
    pub fn start_node() -> Self {
        Self::start_in(&program(), |_, port| {
            [plain_args(port), node_args()].concat()
        })
    }

    /// Gives this node the slots from `first` to `last`.
    #[track_caller]
    pub fn add_slots(&self, first: u16, last: u16) {
        let (command, slots) = if is_before_7() {
            ("ADDSLOTS", (first..=last).collect())
        } else {
            ("ADDSLOTSRANGE", vec![first, last])
        };
        let slots: Vec<String> = slots.iter().map(u16::to_string).collect();
        let mut words = vec!["CLUSTER", command];
        words.extend(slots.iter().map(String::as_str));
        self.command(&words).ok();
    }

    /// The port that the other nodes speak to.
    pub(crate) fn bus_port(&self) -> String {
        let chosen = self.command(&["CONFIG", "GET", "cluster-port"]).array();
        match chosen.into_iter().nth(1) {
            Some(port) => port.text(),
            None => (self.port() + OFFSET).to_string(),
        }
    }
}
