//! The commands that both key layouts send.

use std::sync::Arc;
use std::time::Duration;

use redis::{ToRedisArgs, Value as Raw};

use super::connection::Connection;
use super::scripts::{
    COMPARE_AND_SET, clear_unless_set, compare_and_delete, millis, set_if_missing,
};
use super::transport::batch::Batch;
use super::transport::reply::{Reply, generation, is_wrong_type, read, unexpected};
use crate::store::entry::{Bounds, Generation};
use crate::store::error::StoreError;
use crate::store::keys::{EntryKey, Keys};
use crate::store::watch::TrackingSession;
use crate::util::task::spawn_stealable;

/// The TTL of generations and of the epoch. To lose one costs loads, and is safe.
pub(super) const GENERATION_TTL: Duration = Duration::from_secs(86_400);

pub(super) struct Commands {
    pub(super) connection: Arc<Connection>,
    pub(super) keys: Arc<Keys>,
}

impl Commands {
    /// Sends `N` commands once.
    pub(super) async fn send<const N: usize>(
        &self,
        batch: &Batch,
    ) -> Result<[Reply; N], StoreError> {
        let replies = self.connection.send(batch).await?;
        replies.try_into().map_err(|_| unexpected())
    }

    /// Sends `N` commands once, of which some read with tracking. Returns the session of their connection too.
    pub(super) async fn send_tracked<const N: usize>(
        &self,
        batch: &Batch,
    ) -> Result<([Reply; N], Option<Arc<TrackingSession>>), StoreError> {
        let (replies, session) = self.connection.send_tracked(batch).await?;
        Ok((replies.try_into().map_err(|_| unexpected())?, session))
    }

    /// Sends commands of which the first takes a lease or a lock. If no reply says whether it did, the lease
    /// is taken back.
    pub(super) async fn take<const N: usize>(
        &self,
        batch: &Batch,
        name: &str,
        value: &str,
    ) -> Result<[Reply; N], StoreError> {
        let replies = self.send(batch).await;
        let is_known =
            |replies: &[Reply; N]| !matches!(&replies[0], Err(error) if error.has_no_reply());
        // guard: E1
        if !replies.as_ref().is_ok_and(is_known) {
            self.take_back(name.to_owned(), value.to_owned());
        }
        replies
    }

    /// Deletes a lease or a lock that may exist, in a task: no caller waits for it.
    ///
    /// The command follows the one that may have taken the lease on the same connection, and so is executed
    /// after it, however late that is. It is sent whatever failed before, and follows a key to another node.
    pub(super) fn take_back(&self, name: String, value: String) {
        let connection = Arc::clone(&self.connection);
        spawn_stealable(async move {
            let mut batch = Batch::new();
            compare_and_delete(&mut batch, &name, value.as_bytes());
            // If the connection ends meanwhile, it is sent once more, over another one. If that fails too,
            // the lease expires.
            // guard: E3 E7
            let sent = connection.send_in_background(&batch).await;
            // guard: E8
            if sent.is_err_and(|error| error.is_not_connected()) {
                let _ = connection.send_in_background(&batch).await;
            }
        });
    }

    /// Gives a lease or a lock back. If this fails, a task tries again.
    pub(super) async fn give_back(&self, name: String, value: String) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        compare_and_delete(&mut batch, &name, value.as_bytes());
        let deleted = self.send(&batch).await;
        let deleted = deleted.and_then(|[deleted]| read::<bool>(deleted));
        deleted
            .map(drop)
            .inspect_err(|_| self.take_back(name, value))
    }

    /// Replaces an entry, if it still is the old one.
    pub(super) fn compare_and_set(
        &self,
        batch: &mut Batch,
        key: &EntryKey,
        old: impl ToRedisArgs,
        new: impl ToRedisArgs,
        ttl: Duration,
    ) {
        let script = batch.cmd("EVAL").arg(COMPARE_AND_SET).arg(1);
        script
            .arg(self.keys.entry(key))
            .arg(old)
            .arg(new)
            .arg(millis(ttl));
    }

    /// Reads a generation, or creates it as `fresh`, as [`created`](Self::created) reads from the reply.
    pub(super) fn create(batch: &mut Batch, name: &str, fresh: Generation) {
        set_if_missing(batch, name, &fresh.to_string(), GENERATION_TTL);
    }

    /// Reads the reply to [`create`](Self::create). A key that holds something else is deleted, so that the
    /// next call creates it: that is as good as an invalidation.
    pub(super) async fn created(
        &self,
        name: &str,
        reply: Reply,
        fresh: Generation,
    ) -> Result<Generation, StoreError> {
        if matches!(reply, Ok(Raw::Nil)) {
            return Ok(fresh);
        }
        let wrong_type = is_wrong_type(&reply);
        let present = generation(reply);
        if wrong_type || matches!(present, Ok(None)) {
            let mut batch = Batch::new();
            batch.cmd("DEL").arg(name);
            // If this fails, the next call tries again.
            let _ = self.connection.send(&batch).await;
        }
        present?.ok_or_else(unexpected)
    }

    /// Sends commands of which the first adds to a set. A key that does not hold a set is deleted, and the
    /// commands are sent again: to add twice is to add once.
    pub(super) async fn add<const N: usize>(
        &self,
        set: &str,
        batch: &Batch,
    ) -> Result<[Reply; N], StoreError> {
        let replies = self.send(batch).await?;
        // guard: W11
        if !replies.first().is_some_and(is_wrong_type) {
            return Ok(replies);
        }
        let mut clear = Batch::new();
        clear_unless_set(&mut clear, set);
        let [cleared] = self.send(&clear).await?;
        cleared?;
        self.send(batch).await
    }

    /// Deletes one stage after the other, and then reads the registry, on one server in one round trip.
    ///
    /// If the registry was read before the deletion, it could lack the bound of an instance that keeps what
    /// is deleted.
    pub(super) async fn delete_all<const N: usize>(
        &self,
        stages: [&[String]; N],
        bounds: bool,
    ) -> Result<Option<Bounds>, StoreError> {
        let mut batch = Batch::new();
        for names in stages {
            batch.begin_stage();
            delete_each(&mut batch, names);
        }
        if bounds {
            // guard: C19
            batch.begin_stage();
            batch.cmd("SMEMBERS").arg(self.keys.bounds());
        }
        if batch.is_empty() {
            return Ok(None);
        }
        let mut replies = self.connection.send_retrying(&batch).await?;
        let members = if bounds { replies.pop() } else { None };
        for deleted in replies {
            let _: i64 = read(deleted)?;
        }
        if !bounds {
            return Ok(None);
        }
        let members = members.ok_or_else(unexpected)?;
        self.bounds(members).await.map(Some)
    }

    /// Reads the registry from the reply to `SMEMBERS`.
    ///
    /// A key of another type means that the registry was lost, which is an error. The key is deleted, so that
    /// bounds can be entered again.
    pub(super) async fn bounds(&self, members: Reply) -> Result<Bounds, StoreError> {
        // guard: W12
        if is_wrong_type(&members) {
            let mut batch = Batch::new();
            clear_unless_set(&mut batch, &self.keys.bounds());
            // If this fails, the next invalidation tries again.
            let _ = self.connection.send_retrying(&batch).await;
        }
        let members: Vec<Vec<u8>> = read(members)?;
        Ok(members
            .iter()
            .filter_map(|member| parse_bound(member))
            .collect())
    }
}

/// Adds a `DEL` for each name: keys of several slots cannot share a command.
pub(super) fn delete_each(batch: &mut Batch, names: &[String]) {
    for name in names {
        batch.cmd("DEL").arg(name);
    }
}

/// Reads a bound in milliseconds. Other members of the registry are ignored.
fn parse_bound(member: &[u8]) -> Option<Duration> {
    let millis = std::str::from_utf8(member).ok()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}
