//! What client tracking relies on, asked of the server itself: a push for a change of a tracked key precedes the
//! replies to all commands that run after the change, and is never inside one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::PATIENCE;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use test_support::{Feature, RedisServer};

const KEYS: usize = 4;
const CHANGES: usize = 3_000;

/// Counts the pushes for each of the keys `0` to `KEYS`.
type Counters = Arc<[AtomicUsize; KEYS]>;

async fn connect(server: &RedisServer) -> (MultiplexedConnection, Counters) {
    let counters = Counters::default();
    let counting = Arc::clone(&counters);
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let config = config.set_push_sender(move |push: PushInfo| {
        if push.kind == PushKind::Invalidate
            && let [Value::Array(names)] = &push.data[..]
        {
            for name in names {
                let name: String = redis::from_redis_value(name.clone()).unwrap();
                if let Ok(key) = name.parse::<usize>() {
                    counting[key].fetch_add(1, Ordering::SeqCst);
                }
            }
        }
        Ok::<(), redis::aio::SendError>(())
    });
    let url = format!("{}?protocol=resp3", server.url());
    let client = redis::Client::open(url).unwrap();
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    (connection.await.unwrap(), counters)
}

fn pipe(tracks: bool, key: usize) -> redis::Pipeline {
    let mut pipe = redis::pipe();
    if tracks {
        pipe.cmd("CLIENT").arg("CACHING").arg("YES").ignore();
    }
    pipe.cmd("GET").arg(key);
    pipe
}

#[tokio::test]
async fn a_push_precedes_the_replies_to_later_commands() {
    let server = RedisServer::start();
    let (mut connection, counters) = connect(&server).await;
    let mut on = redis::cmd("CLIENT");
    on.arg("TRACKING").arg("ON").arg("OPTIN");
    on.exec_async(&mut connection).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let client = redis::Client::open(server.url()).unwrap();
            let done = Arc::clone(&done);
            std::thread::spawn(move || {
                let mut connection = client.get_connection().unwrap();
                for n in 0_usize.. {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    let (key, value) = (n % KEYS, format!("{writer}-{n}"));
                    let change = match (n / KEYS) % 4 {
                        0 => redis::cmd("DEL").arg(key).to_owned(),
                        1 => redis::cmd("SETEX").arg(key).arg(9).arg(value).to_owned(),
                        2 => redis::cmd("APPEND").arg(key).arg(value).to_owned(),
                        _ => redis::cmd("SET").arg(key).arg(value).to_owned(),
                    };
                    change.exec(&mut connection).unwrap();
                }
            })
        })
        .collect();
    let mut changes = 0;
    for key in (0..KEYS).cycle() {
        let stamp = counters[key].load(Ordering::SeqCst);
        let read: (Option<String>,) = pipe(true, key).query_async(&mut connection).await.unwrap();
        let later: (Option<String>,) = pipe(false, key).query_async(&mut connection).await.unwrap();
        if read != later {
            let counted = counters[key].load(Ordering::SeqCst);
            assert!(counted > stamp, "after {changes} changes");
            changes += 1;
        }
        if changes == CHANGES {
            break;
        }
    }
    done.store(true, Ordering::SeqCst);
    writers.into_iter().for_each(|it| it.join().unwrap());
}

/// Before 7.0 (issue 8935), Redis wrote the push for a key that expires during a command into the reply to it. Then
/// each later reply of the connection goes to another command: this is why tracking is never used there.
#[tokio::test]
async fn a_push_is_inside_a_reply_only_before_redis_7() {
    let is_old = Feature::Tracking.is_missing();
    let server = if is_old {
        RedisServer::start()
    } else {
        RedisServer::start_with(&["--enable-debug-command", "yes"])
    };
    // A key ends when a command finds it expired.
    let debug = ["DEBUG", "SET-ACTIVE-EXPIRE", "0"];
    server.command(&debug).ok();
    server.command(&["MSET", "a", "of-a", "b", "of-b"]).ok();
    let (mut connection, counters) = connect(&server).await;
    let mut on = redis::cmd("CLIENT");
    on.arg("TRACKING").arg("ON");
    on.exec_async(&mut connection).await.unwrap();
    loop {
        server.command(&["SET", "0", "of-0", "PX", "100"]).ok();
        let read: (Option<String>,) = pipe(false, 0).query_async(&mut connection).await.unwrap();
        // On a busy machine it may have expired.
        if read.0.is_some() {
            break;
        }
    }
    let pushes = counters[0].load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(150)).await;
    let (mut all, mut other) = (redis::cmd("MGET"), redis::cmd("GET"));
    all.arg("a").arg("0").arg("b");
    other.arg("a");
    // Both are under way at once, as those of two requests.
    let mut same = connection.clone();
    let both = tokio::join!(
        all.query_async::<Value>(&mut connection),
        other.query_async::<Value>(&mut same)
    );
    let (all, other) = (both.0.unwrap(), both.1.unwrap());
    let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
    if is_old {
        // It got the end of the array.
        assert_eq!(other, text("of-b"), "{all:?}");
    } else {
        assert_eq!(
            all,
            Value::Array(vec![text("of-a"), Value::Nil, text("of-b")])
        );
        assert_eq!(other, text("of-a"));
        assert_eq!(counters[0].load(Ordering::SeqCst), pushes + 1);
    }
}
