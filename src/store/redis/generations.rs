//! The commands that read and create generations.

use std::time::Duration;

use super::commands::{Commands, GENERATION_TTL};
use super::scripts::millis;
use super::transport::batch::Batch;
use super::transport::reply::{Reply, generation, read, unexpected};
use super::transport::tracking::{begin_caching, watch};
use crate::store::entry::{Generation, Group, ReadGeneration};
use crate::store::error::StoreError;
use crate::store::watch::Tracker;

impl Commands {
    /// Reads or creates a generation with tracking, and renews it in its last half day.
    async fn read_and_watch(
        &self,
        name: &str,
        tracker: &Tracker,
        fresh: Generation,
    ) -> Result<ReadGeneration, StoreError> {
        let (mut is_changed, mut fresh) = (false, Some(fresh));
        loop {
            let mark = tracker.mark(name);
            let mut batch = Batch::new();
            begin_caching(&mut batch);
            batch.cmd("GET").arg(name);
            batch.cmd("PTTL").arg(name);
            let (mut replies, session) = self.connection.send_tracked(&batch).await?;
            let mut last = || replies.pop().ok_or_else(unexpected);
            let (left, present, caching) = (last()?, last()?, last()?);
            let mut change = Batch::new();
            // If the key holds anything else, its creation fails.
            if let Ok(Some(generation)) = generation(present) {
                let left = time_left(left)?;
                // guard: TR11
                if is_changed || left >= GENERATION_TTL / 2 {
                    return Ok(ReadGeneration {
                        generation,
                        watch: watch(session, mark, &caching),
                        left,
                    });
                }
                let expire = change.cmd("PEXPIRE").arg(name);
                expire.arg(millis(GENERATION_TTL));
            } else if let Some(fresh) = fresh.take() {
                Commands::create(&mut change, name, fresh);
            } else {
                // It was invalidated meanwhile, and a generation is never created twice. guard: S7
                let another = Generation::new();
                return Ok(self.create_generation(name, another, false).await?.0);
            }
            // The push for our own change follows the reply to it, and precedes the next one. The read that is kept
            // comes after it, or the push would end its watch.
            change.cmd("PTTL").arg(name);
            self.connection.send(&change).await?;
            is_changed = true;
        }
    }

    /// Reads the generation of a group, or creates it as `fresh`.
    pub(super) async fn read_generation(
        &self,
        group: &Group,
        fresh: Generation,
    ) -> Result<ReadGeneration, StoreError> {
        let name = self.keys.generation(group);
        if let Some(tracker) = self.connection.tracker().filter(|tracker| tracker.is_on()) {
            return self.read_and_watch(&name, tracker, fresh).await;
        }
        let mut batch = Batch::new();
        batch.cmd("GET").arg(&name);
        batch.cmd("PTTL").arg(&name);
        let [present, left] = self.send(&batch).await?;
        // If the key holds anything else, the creation below fails.
        if let Ok(Some(generation)) = generation(present) {
            let left: i64 = read(left)?;
            if left < i64::try_from(millis(GENERATION_TTL) / 2).unwrap_or(i64::MAX) {
                let mut batch = Batch::new();
                let expire = batch.cmd("PEXPIRE").arg(&name);
                expire.arg(millis(GENERATION_TTL));
                // If this fails, the generation is lost in half a day, which costs loads.
                let _ = self.connection.send(&batch).await;
            }
            // It may have been renewed, and is read again long before its end.
            return Ok(ReadGeneration::unwatched(generation, GENERATION_TTL));
        }
        Ok(self.create_generation(&name, fresh, false).await?.0)
    }

    /// Reads or creates a generation, with tracking if that is on, and then with `epoch` reads the epoch.
    pub(super) async fn create_generation(
        &self,
        name: &str,
        fresh: Generation,
        epoch: bool,
    ) -> Result<(ReadGeneration, Option<Generation>), StoreError> {
        let tracker = self.connection.tracker().filter(|tracker| tracker.is_on());
        let mark = tracker.map(|tracker| tracker.mark(name));
        let mut batch = Batch::new();
        // In this order: with the epoch read first, an invalidation between the two would give the new
        // generation and the old epoch (G3).
        // guard: G3b
        Commands::create(&mut batch, name, fresh);
        if mark.is_some() {
            begin_caching(&mut batch);
            batch.cmd("GET").arg(name);
            batch.cmd("PTTL").arg(name);
        }
        if epoch {
            batch.begin_stage();
            batch.cmd("GET").arg(self.keys.epoch());
        }
        let (replies, session) = match mark {
            Some(_) => self.connection.send_tracked(&batch).await?,
            None => (self.connection.send(&batch).await?, None),
        };
        let mut replies = replies.into_iter();
        let mut next = || replies.next().ok_or_else(unexpected);
        let created = self.created(name, next()?, fresh).await?;
        let mut read = ReadGeneration::unwatched(created, GENERATION_TTL);
        let mut is_same = true;
        if let Some(mark) = mark {
            let (caching, present, left) = (next()?, next()?, next()?);
            // Another generation came in between: nothing is known of the order of the two and the epoch.
            is_same = matches!(generation(present), Ok(Some(present)) if present == created);
            read.watch = watch(session, mark, &caching).filter(|_| is_same);
            read.left = time_left(left)?;
        }
        let epoch = if epoch { generation(next()?)? } else { None };
        Ok((read, epoch.filter(|_| is_same)))
    }
}

/// Reads the reply to `PTTL` of a key that has to have an end. One without an end counts as at its end.
fn time_left(reply: Reply) -> Result<Duration, StoreError> {
    let left = u64::try_from(read::<i64>(reply)?);
    Ok(Duration::from_millis(left.unwrap_or(0)))
}
