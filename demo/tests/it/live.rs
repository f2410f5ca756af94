//! The live page and its events, without a browser.

use std::io::BufRead;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;
use test_support::RedisServer;

use super::server::{Database, Demo, eventually, unknown};

/// The next event: its name and what it holds.
#[track_caller]
fn next(stream: &mut impl BufRead) -> (String, Value) {
    let mut name = String::new();
    for line in stream.lines() {
        let line = line.expect("the stream goes on");
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            return (name, serde_json::from_str(data).expect("JSON"));
        }
    }
    panic!("the stream ended");
}

/// The first event with this name for which the condition holds.
#[track_caller]
fn until(stream: &mut impl BufRead, name: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
    loop {
        let (event, data) = next(stream);
        if event == name && holds(&data) {
            return data;
        }
    }
}

#[test]
fn samples_count_answers_by_origin_and_time_them() {
    let database = Database::sqlite();
    let redis = RedisServer::start();
    let demo = Demo::with(&database, "digest", Some(&redis));
    let mut stream = demo.stream("/live");
    let token = demo.token("acme", "app").text;
    for _ in 0..5 {
        demo.whoami(&token).expect(200);
    }
    demo.whoami(&unknown("app")).expect(401);
    // Refused before any look-up, so that the cache's own counters have none of it.
    demo.whoami("not-of-our-format").expect(401);

    let mut timed = false;
    let sample = until(&mut stream, "sample", |sample| {
        timed |= sample["latency_us"]["p50"].as_u64() > Some(0);
        sample["refused"] == 2 && sample["health"]["store"] == true
    });
    assert!(timed, "{sample}");
    assert_eq!(
        (&sample["local"], &sample["redis"], &sample["database"]),
        (&4.into(), &0.into(), &1.into()),
        "{sample}"
    );
    assert_eq!(
        (&sample["lookups"], &sample["loads"], &sample["loads_saved"]),
        (&6.into(), &2.into(), &4.into()),
        "{sample}"
    );
    assert_eq!(sample["health"]["breaker_open"], false, "{sample}");
}

#[test]
fn samples_tell_of_a_redis_that_hangs_and_of_the_open_breaker() {
    let database = Database::sqlite();
    let redis = RedisServer::start();
    // Each request asks Redis.
    let variables = [
        ("REDIS_URL", redis.url()),
        ("LOCAL_CAPACITY", "0".to_owned()),
    ];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let demo = Demo::on(&database, &variables);
    let token = demo.token("acme", "app").text;
    let mut stream = demo.stream("/live");
    until(&mut stream, "sample", |sample| {
        sample["health"]["store"] == true && sample["health"]["breaker_open"] == false
    });
    redis.pause();
    let seen = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !seen.load(Ordering::Relaxed) {
                    demo.whoami(&token).expect(200);
                }
            });
        }
        // Whatever comes of it, the others end.
        let _stop = Stop(&seen);
        until(&mut stream, "sample", |sample| {
            let health = &sample["health"];
            health["store"] == false && health["breaker_open"] == true && health["database"] == true
        });
    });
}

/// Sets the flag when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn changes_are_told_at_once_and_to_the_operator_alone() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let refused = demo.get("/admin/live").expect(401);
    assert!(!refused.header("www-authenticate").is_empty());

    let (mut public, mut operators) = (demo.stream("/live"), demo.stream("/admin/live"));
    let token = demo.token("acme", "app");
    demo.delete(&token.id).expect(200);
    demo.admin("POST", "/admin/tenants/acme/suspend", None)
        .expect(200);
    let revoked = until(&mut operators, "change", |_| true);
    assert_eq!(
        (&revoked["change"], &revoked["id"]),
        (&"revoked".into(), &token.id.into())
    );
    let suspended = until(&mut operators, "change", |_| true);
    assert_eq!(
        (&suspended["change"], &suspended["tenant_id"]),
        (&"suspended".into(), &"acme".into())
    );

    // Everything that strangers are sent up to a sample from after the changes.
    loop {
        let (name, data) = next(&mut public);
        assert_eq!(name, "sample", "{data}");
        let text = data.to_string();
        assert!(!text.contains("tok_") && !text.contains("acme"), "{text}");
        if data["at"].as_u64() > suspended["at"].as_u64() {
            break;
        }
    }
}

#[cfg(unix)]
#[test]
fn sigterm_ends_open_streams() {
    let database = Database::sqlite();
    let mut demo = Demo::on(&database, &[]);
    let mut stream = demo.stream("/live");
    until(&mut stream, "sample", |_| true);
    demo.signal("TERM");
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.logs());
    assert!(!demo.logs().contains("still open"), "{}", demo.logs());
    let rest: Result<Vec<_>, _> = stream.lines().collect();
    rest.expect("it ends, and is not cut off");
}

#[test]
fn streams_are_bounded_and_a_closed_one_makes_room() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let streams: Vec<_> = (0..64).map(|_| demo.stream("/live")).collect();
    let full = demo.get("/live").expect(503);
    assert_eq!(full.header("content-type"), "application/problem+json");
    // Strangers keep the operator out of nothing.
    let _operator = demo.stream("/admin/live");
    drop(streams);
    // The server notices at the next sample that it cannot be written.
    eventually("a closed page's place is free", || {
        demo.send("HEAD", "/live", &[], None).status == 200
    });
}

#[test]
fn the_page_lets_the_browser_run_its_own_script_alone() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let nonces = [(); 2].map(|()| {
        let page = demo.get("/").expect(200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("cache-control"), "no-store");
        let policy = page.header("content-security-policy");
        for directive in [
            "default-src 'none'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(directive), "{policy}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        let (_, nonce) = policy.split_once("script-src 'nonce-").unwrap();
        let (nonce, _) = nonce.split_once('\'').unwrap();
        assert!(page.body.contains(&format!("<script nonce=\"{nonce}\">")));
        assert!(page.body.contains(&format!("<style nonce=\"{nonce}\">")));
        assert!(!page.body.contains("{{"));
        nonce.to_owned()
    });
    assert_ne!(nonces[0], nonces[1]);
}
