//! When keys were last used.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tower_api_token::last_use::{LastUse, LastUseRecorder, LastUseSink as _};
use tower_api_token::test_util::ManualClock;
use tower_api_token_sqlx::KeyQuery;

use crate::world::{World, answer, issue};

crate::on_both!(
    use_is_shown_before_it_is_written,
    use_is_written_when_the_process_ends,
    time_never_moves_back,
    concurrent_batches_do_not_deadlock,
    shutdown_counts_the_uses_that_were_not_written,
);

async fn use_is_shown_before_it_is_written(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let (used, unused) = (issue(&keys).await, issue(&keys).await);
    assert_eq!(answer(&cache, &used.token).await, "valid");
    let shown = keys.get(&used.key.id).await.unwrap().unwrap().last_used_at;
    assert!(shown.is_some());
    let listed = keys.list(KeyQuery::new()).await.unwrap().keys;
    let of = |id: &str| listed.iter().find(|key| key.id == id).unwrap().last_used_at;
    assert_eq!((of(&used.key.id), of(&unused.key.id)), (shown, None));
    // Another process, without the cache, sees what is written.
    let other = world.keys().await;
    let written = other.get(&used.key.id).await.unwrap().unwrap();
    assert_eq!(written.last_used_at, None);
}

async fn use_is_written_when_the_process_ends(world: World) {
    let keys = world.keys().await;
    let cache = keys.cache().build().unwrap();
    let used = issue(&keys).await;
    assert_eq!(answer(&cache, &used.token).await, "valid");
    let shown = keys.get(&used.key.id).await.unwrap().unwrap().last_used_at;
    assert_eq!(keys.shutdown().await, 0);
    let other = world.keys().await;
    let written = other.get(&used.key.id).await.unwrap().unwrap().last_used_at;
    assert_eq!(
        written.map(|at| at.timestamp_micros()),
        shown.map(|at| at.timestamp_micros())
    );
}

async fn time_never_moves_back(world: World) {
    let keys = world.keys().await;
    let clock = ManualClock::new();
    let used = issue(&keys).await;
    let batches = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = {
        let (batches, sink) = (std::sync::Arc::clone(&batches), keys.last_use_sink());
        move |batch: Vec<tower_api_token::last_use::LastUse>| {
            batches.lock().unwrap().push(batch.clone());
            let sink = sink.clone();
            async move { sink.write(batch).await }
        }
    };
    let recorder = LastUseRecorder::new(sink).interval(Duration::from_secs(1));
    let cache = keys.cache().last_use(recorder).clock(clock.clone());
    let cache = cache.build().unwrap();
    assert_eq!(answer(&cache, &used.token).await, "valid");
    let written = async |count: usize| {
        crate::world::eventually("a batch was written", async || {
            clock.advance(Duration::from_secs(1));
            let flushed = batches.lock().unwrap().len() >= count;
            flushed
                && keys
                    .get(&used.key.id)
                    .await
                    .unwrap()
                    .unwrap()
                    .last_used_at
                    .is_some()
        })
        .await;
    };
    written(1).await;
    assert_eq!(answer(&cache, &used.token).await, "valid");
    written(2).await;
    cache.shutdown().await;
    let other = world.keys().await;
    let latest = other.get(&used.key.id).await.unwrap().unwrap().last_used_at;
    // The first batch once more, as after a lost reply.
    let first = batches.lock().unwrap()[0].clone();
    assert!(Some(first[0].last_used_at()) < latest);
    keys.last_use_sink().write(first).await.unwrap();
    let again = other.get(&used.key.id).await.unwrap().unwrap().last_used_at;
    assert_eq!(again, latest);
}

/// Each instance writes the same keys in another order.
async fn concurrent_batches_do_not_deadlock(world: World) {
    let keys = world.keys().await;
    let batches = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&batches);
    let recorder = LastUseRecorder::new(move |batch: Vec<LastUse>| {
        taken.lock().unwrap().extend(batch);
        async { Ok::<_, std::convert::Infallible>(()) }
    });
    let cache = keys.cache().last_use(recorder).build().unwrap();
    for _ in 0..8 {
        let used = issue(&keys).await;
        assert_eq!(answer(&cache, &used.token).await, "valid");
    }
    cache.shutdown().await;
    let uses = std::mem::take(&mut *batches.lock().unwrap());
    assert_eq!(uses.len(), 8);
    for _ in 0..25 {
        // Otherwise there is nothing to write, and no row is locked.
        world.execute("UPDATE ~keys SET last_used_at = NULL").await;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let (sink, mut uses) = (keys.last_use_sink(), uses.clone());
            uses.rotate_left(2 * writer);
            writers.spawn(async move { sink.write(uses).await });
        }
        while let Some(written) = writers.join_next().await {
            written.unwrap().unwrap();
        }
    }
}

async fn shutdown_counts_the_uses_that_were_not_written(world: World) {
    let keys = world.keys().await;
    let builds = || {
        let recorder = LastUseRecorder::new(|_: Vec<LastUse>| async { Err(std::fmt::Error) });
        let recorder = recorder.shutdown_timeout(Duration::from_millis(100));
        keys.cache().last_use(recorder).build().unwrap()
    };
    let used = issue(&keys).await;
    let caches = [builds(), builds()];
    for cache in &caches {
        assert_eq!(answer(cache, &used.token).await, "valid");
    }
    assert_eq!(keys.shutdown().await, 2);
}
