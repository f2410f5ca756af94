//! Moving slots between masters.

use super::RedisCluster;
use crate::redis::Reply;

impl RedisCluster {
    /// Moves a slot with its keys from one master to another, and waits until the cluster agrees.
    ///
    /// Calls [`begin_migration`](Self::begin_migration), [`migrate_keys`](Self::migrate_keys) and
    /// [`end_migration`](Self::end_migration), which a test can also call one by one.
    ///
    /// # Panics
    ///
    /// Panics if `from` does not own the slot, or `to` is not a master.
    #[track_caller]
    pub fn migrate_slot(&self, slot: u16, from: usize, to: usize) {
        self.begin_migration(slot, from, to);
        self.migrate_keys(slot, from, to);
        self.end_migration(slot, from, to);
    }

    /// Opens a slot for migration. From now on `from` answers `ASK` (to `to`) for a key that it does not have, and
    /// `TRYAGAIN` for a command with several keys of which it lacks some.
    ///
    /// # Panics
    ///
    /// Panics if `from` does not own the slot, or `to` is not a master.
    #[track_caller]
    pub fn begin_migration(&self, slot: u16, from: usize, to: usize) {
        let (source, target) = (self.id(from), self.id(to));
        // In this order, so that ASK never redirects to a node that is not importing the slot.
        self.set_slot(to, slot, &["IMPORTING", &source]);
        self.set_slot(from, slot, &["MIGRATING", &target]);
    }

    /// Moves all keys of an opened slot.
    ///
    /// # Panics
    ///
    /// Panics if a node rejects the command.
    #[track_caller]
    pub fn migrate_keys(&self, slot: u16, from: usize, to: usize) {
        let (source, slot) = (self.node(from), slot.to_string());
        let port = self.node(to).port().to_string();
        loop {
            let list = ["CLUSTER", "GETKEYSINSLOT", &slot, "100"];
            let keys = source.command(&list).array();
            if keys.is_empty() {
                return;
            }
            let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            let mut migrate: Vec<_> = migrate.iter().map(|arg| arg.as_bytes().to_vec()).collect();
            migrate.extend(keys.into_iter().map(Reply::bytes));
            let moved = source.command(&migrate).text();
            // All keys may have expired in the meantime.
            assert!(moved == "OK" || moved == "NOKEY", "MIGRATE: {moved}");
        }
    }

    /// Assigns an opened slot to its new owner, and waits until the cluster agrees. Keys that were not moved are lost.
    ///
    /// # Panics
    ///
    /// Panics if a node rejects the command.
    #[track_caller]
    pub fn end_migration(&self, slot: u16, from: usize, to: usize) {
        let target = self.id(to);
        // The new owner first: it takes a new epoch, so that its claim prevails.
        self.set_slot(to, slot, &["NODE", &target]);
        self.set_slot(from, slot, &["NODE", &target]);
        self.wait_until_ok();
        assert!(self.where_(|member| member.owns(slot)) == [to]);
    }

    #[track_caller]
    fn set_slot(&self, node: usize, slot: u16, args: &[&str]) {
        let slot = slot.to_string();
        let command = [&["CLUSTER", "SETSLOT", &slot], args].concat();
        self.node(node).command(&command).ok();
    }
}
