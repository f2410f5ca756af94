//! No text of a token is leaked into logs at level TRACE, metrics, error responses or Redis.
//!
//! One run under load provokes everything that can go wrong. All output of the server is searched for every
//! token that was sent to it: the whole text or a part, plain or encoded.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::thread;

use serde_json::Value;
use test_support::{FaultProxy, Monitor, Needles, PostgresServer, RedisServer};
use tower_api_token::TokenDigest;

use super::answer::Answer;
use super::server::{ADMIN, Demo, eventually};

/// Returns a text that cannot occur by accident: a prefix and 64 digits.
fn invented(name: &str) -> String {
    format!("app-{}", TokenDigest::of(name))
}

/// A token that the operator created.
struct Made {
    id: String,
    text: String,
}

struct Run {
    // Dropped before the servers that it uses.
    demo: Demo,
    proxy: FaultProxy,
    redis: RedisServer,
    _postgres: PostgresServer,
    /// The texts that must not be leaked.
    texts: Needles,
    /// The ids of tokens, which are shown: finding them proves that the search works.
    ids: Needles,
    /// The status lines, headers and bodies of all responses.
    answers: Mutex<String>,
    /// The commands that Redis received, and its contents.
    in_redis: String,
}

impl Run {
    fn start(layout: &str) -> Self {
        let (redis, postgres) = (RedisServer::start(), PostgresServer::start());
        let proxy = FaultProxy::start(postgres.addr());
        let demo = Demo::start(&[
            ("DATABASE_URL", &postgres.url_at(proxy.addr())),
            ("REDIS_URL", &redis.url()),
            ("KEY_LAYOUT", layout),
            // So that invented tokens are looked up too.
            ("TOKEN_FORMAT", "any"),
            ("LOG_FORMAT", "json"),
            ("RUST_LOG", "trace"),
        ]);
        let mut run = Self {
            demo,
            proxy,
            redis,
            _postgres: postgres,
            texts: Needles::new(),
            ids: Needles::new(),
            answers: Mutex::default(),
            in_redis: String::new(),
        };
        run.texts.add("the admin token", ADMIN);
        for token in run.demo.seeded() {
            run.texts.add("a token of the seed", &token.text);
        }
        run
    }

    /// Sends a request, and records the response.
    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Answer {
        let answer = self.demo.send(method, path, headers, body);
        self.keep(&answer.headers, &answer.body);
        answer
    }

    fn keep(&self, headers: &ureq::http::HeaderMap, body: &str) {
        let mut answers = self.answers.lock().unwrap();
        for (name, value) in headers {
            // Writing to a String cannot fail.
            let _ = writeln!(answers, "{name}: {}", value.as_bytes().escape_ascii());
        }
        answers.push_str(body);
        answers.push('\n');
    }

    fn ask(&self, path: &str, text: &str) -> Answer {
        let line = format!("Bearer {text}");
        self.send("GET", path, &[("authorization", &line)], None)
    }

    fn admin(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        let line = format!("Bearer {ADMIN}");
        let body = body.or((method == "POST").then_some(""));
        self.send(method, path, &[("authorization", &line)], body)
    }

    /// Creates or imports a token.
    fn make(&mut self, tenant: &str, import: Option<&str>, status: u16) -> Made {
        let body = serde_json::json!({ "tenant_id": tenant, "token_type": "app", "token": import });
        let answer = self
            .demo
            .admin("POST", "/admin/tokens", Some(&body.to_string()));
        self.shown_once(&answer.expect(status))
    }

    /// Rotates a token, and returns the successor.
    fn rotate(&mut self, id: &str) -> Made {
        let path = format!("/admin/tokens/{id}/rotate");
        let answer = self.demo.admin("POST", &path, None);
        self.shown_once(&answer.expect(201))
    }

    /// Takes the text out of a response that may contain it, and records the rest.
    fn shown_once(&mut self, answer: &Answer) -> Made {
        let made = answer.json();
        let text = |name: &str| made[name].as_str().expect(name).to_owned();
        let made = Made {
            id: text("id"),
            text: text("token"),
        };
        self.texts.add("a token that was made", &made.text);
        self.ids.add("an id", &made.id);
        self.keep(&answer.headers, &answer.body.replacen(&made.text, "", 1));
        made
    }

    /// Returns a text that never was a token.
    fn unknown_token(&mut self, name: &str) -> String {
        let text = invented(name);
        self.texts.add("a token that never existed", &text);
        text
    }

    /// Sends the text in every valid and invalid way: in its place, in a wrong one, malformed.
    fn present(&self, text: &str) {
        for path in [
            "/v1/whoami",
            "/v1/datasets",
            "/metrics",
            "/readyz",
            "/nowhere",
        ] {
            self.ask(path, text);
        }
        let bearer = |rest: &str| format!("Bearer {text}{rest}");
        for line in [
            bearer(" and more"),
            bearer(&format!(", Bearer {text}")),
            bearer("=x"),
            bearer(&"x".repeat(600)),
            format!("bearer   {text}"),
            format!("Basic {text}"),
            format!("Token {text}"),
            text.to_owned(),
        ] {
            self.send("GET", "/v1/whoami", &[("authorization", &line)], None);
            self.send(
                "POST",
                "/admin/tokens",
                &[("authorization", &line)],
                Some("{}"),
            );
        }
        let line = bearer("");
        let twice = [("authorization", line.as_str()), ("authorization", &line)];
        self.send("GET", "/v1/whoami", &twice, None);
        self.send("HEAD", "/v1/whoami", &twice[..1], None);
        self.send("OPTIONS", "/v1/whoami", &twice[..1], None);
        let elsewhere = [("cookie", text), ("x-api-key", text), ("user-agent", text)];
        self.send(
            "GET",
            &format!("/v1/whoami?access_token={text}"),
            &elsewhere,
            None,
        );
        self.send(
            "DELETE",
            &format!("/admin/tokens/{text}"),
            &twice[..1],
            None,
        );
    }

    /// Sends the text where the operator's requests must not have one.
    fn slip(&self, text: &str) {
        self.admin("DELETE", &format!("/admin/tokens/{text}"), None);
        self.admin("POST", &format!("/admin/tenants/{text}/suspend"), None);
        self.admin("DELETE", &format!("/admin/tokens/1?wait={text}"), None);
        for body in [
            text.to_owned(),
            format!(r#"["{text}"]"#),
            format!(r#"{{"tenant_id":"acme","token_type":"{text}"}}"#),
            format!(r#"{{"tenant_id":"{text}","token_type":"app"}}"#),
            format!(r#"{{"tenant_id":"acme","token_type":"app","expires_at":"{text}"}}"#),
            format!(r#"{{"tenant_id":"acme","token_type":"app","{text}":1}}"#),
            format!(r#"{{"tenant_id":"acme","token_type":"app","token":"{text} "}}"#),
            // Imported before, so it is a duplicate.
            format!(r#"{{"tenant_id":"acme","token_type":"app","token":"{text}"}}"#),
        ] {
            let answer = self.admin("POST", "/admin/tokens", Some(&body));
            assert!(answer.status >= 400, "{answer:?}");
        }
    }

    /// Sends requests from four clients at once.
    fn load(&self, texts: &[&str]) {
        thread::scope(|scope| {
            for client in 0..4 {
                scope.spawn(move || {
                    for (number, text) in texts.iter().enumerate() {
                        self.ask("/v1/whoami", text);
                        if number % 4 == client {
                            self.present(text);
                        }
                    }
                });
            }
        });
    }

    /// Records everything that is stored in Redis, readable and as `DUMP` returns it.
    fn look_into_redis(&mut self) {
        self.in_redis += &String::from_utf8_lossy(&self.redis.contents());
    }

    fn overhear(&mut self, monitor: &mut Monitor) {
        self.in_redis += &monitor.take().join("\n");
    }

    /// Provokes hits, misses, revocations, a suspended tenant, an outage of Redis and one of the database.
    fn run(&mut self) {
        let good: Vec<_> = (0..8).map(|_| self.make("acme", None, 201)).collect();
        let imported = invented("imported");
        let imported = self.make("globex", Some(&imported), 201);
        let wrong = self.unknown_token("a wrong admin token");
        let bad: Vec<_> = (0..4)
            .map(|n| self.unknown_token(&format!("bad {n}")))
            .collect();
        let mut texts: Vec<_> = good.iter().map(|made| made.text.as_str()).collect();
        texts.extend(bad.iter().map(String::as_str));
        texts.extend([imported.text.as_str(), &wrong, ADMIN]);

        let mut monitor = self.redis.monitor();
        self.load(&texts);
        self.ask("/v1/whoami", &good[0].text).expect(200);
        self.slip(&imported.text);
        self.look_into_redis();
        self.admin("POST", "/admin/tenants", Some(r#"{"id":"initech"}"#))
            .expect(201);
        self.admin("POST", "/admin/tenants/acme/suspend", None)
            .expect(200);
        self.ask("/v1/whoami", &good[0].text).expect(403);
        self.load(&texts[..4]);
        self.admin("POST", "/admin/tenants/acme/resume?wait=true", None)
            .expect(200);
        self.admin(
            "DELETE",
            &format!("/admin/tokens/{}?wait=true", good[0].id),
            None,
        )
        .expect(200);
        self.ask("/v1/whoami", &good[0].text).expect(401);
        let successor = self.rotate(&good[3].id);
        self.ask("/v1/whoami", &successor.text).expect(200);
        self.admin("GET", "/admin/tokens", None).expect(200);
        self.load(&texts);
        self.overhear(&mut monitor);

        self.redis.kill();
        self.load(&texts[..4]);
        self.admin("DELETE", &format!("/admin/tokens/{}", good[1].id), None)
            .expect(503);
        let import = self.unknown_token("imported without Redis");
        let unconfirmed = self.make("globex", Some(&import), 503);
        self.ask("/v1/whoami", &unconfirmed.text).expect(200);
        self.redis.restart();
        let mut monitor = self.redis.monitor();
        eventually("the store answers again", || {
            self.send("GET", "/readyz", &[], None).json()["store"] == "ok"
        });
        eventually("Redis, empty after its restart, is filled again", || {
            self.ask("/v1/whoami", &unconfirmed.text).expect(200);
            let digest = TokenDigest::of(&unconfirmed.text).to_string();
            let keys = self.redis.keys("*");
            keys.iter()
                .any(|key| key.contains(&digest) || key.ends_with(&unconfirmed.text))
        });
        self.load(&texts);

        self.proxy.cut();
        self.ask("/v1/whoami", &self.demo.token("globex", "app").text)
            .expect(503);
        self.admin("DELETE", &format!("/admin/tokens/{}", good[2].id), None)
            .expect(503);
        self.slip_without_database(&imported.text);
        self.proxy.heal();
        eventually("the database answers again", || {
            self.send("GET", "/readyz", &[], None).status == 200
        });
        self.load(&texts[..4]);
        self.send("GET", "/metrics", &[], None).expect(200);
        self.overhear(&mut monitor);
        self.look_into_redis();
    }

    /// Sends texts while the database is down, whose errors must not contain them.
    fn slip_without_database(&self, text: &str) {
        let body = format!(r#"{{"tenant_id":"acme","token_type":"app","token":"{text}"}}"#);
        self.admin("POST", "/admin/tokens", Some(&body)).expect(503);
    }

    /// Returns everything that the server wrote, with the name of the place.
    fn places(&self) -> [(&'static str, String); 3] {
        [
            ("the logs", self.demo.logs()),
            ("standard output", self.demo.printed()),
            ("an answer", self.answers.lock().unwrap().clone()),
        ]
    }
}

/// Asserts that every crate that logs anything did, and that each line is a JSON object. (hyper, and the Redis
/// client with one server, log nothing at any level.)
fn everything_was_logged(logs: &str) {
    let mut targets = std::collections::BTreeSet::new();
    for line in logs.lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["level"].is_string() && line["timestamp"].is_string(),
            "{line}"
        );
        targets.insert(line["target"].as_str().expect("a target").to_owned());
    }
    for who in [
        "tower_api_token",
        "demo::",
        "tower_api_token_sqlx::",
        "sqlx::query",
        "sqlx_core::pool",
    ] {
        assert!(
            targets.iter().any(|target| target.starts_with(who)),
            "{who} is not among {targets:?}"
        );
    }
}

fn no_text_is_leaked(layout: &str) -> Run {
    let mut run = Run::start(layout);
    run.run();
    for (place, text) in run.places() {
        run.texts.assert_none_in(place, &text);
    }
    let [(_, logs), _, (_, answers)] = run.places();
    everything_was_logged(&logs);
    assert!(
        logs.contains("INSERT INTO api_token_keys") && logs.contains("$1"),
        "statements are logged"
    );
    // The same search finds the ids, which are shown.
    assert!(run.ids.find(logs.as_bytes()).is_some() && run.ids.find(answers.as_bytes()).is_some());
    run
}

#[test]
fn no_token_text_is_leaked_in_the_digest_layout() {
    let run = no_text_is_leaked("digest");
    run.texts.assert_none_in("Redis", &run.in_redis);
    assert!(
        run.ids.find(run.in_redis.as_bytes()).is_some(),
        "records are legible"
    );
    for told in ["\"SET\"", "\"DEL\"", "\"EVAL\""] {
        assert!(run.in_redis.contains(told), "{told} was recorded");
    }
}

/// In this layout the database and Redis hold the texts, and nothing else does.
#[test]
fn no_token_text_is_leaked_in_the_dify_layout() {
    let run = no_text_is_leaked("dify");
    assert!(
        run.texts.find(run.in_redis.as_bytes()).is_some(),
        "the keys hold the texts"
    );
}
