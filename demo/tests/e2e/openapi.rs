//! `/openapi.json`: a valid document of exactly the routes, which the responses conform to.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use test_support::python;
use test_support::{FaultProxy, PostgresServer, RedisServer};
use tower_api_token_sqlx::admin_openapi;

use super::answer::Answer;
use super::server::{ADMIN, Database, Demo, unknown};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn document(demo: &Demo) -> Value {
    let answer = demo.get("/openapi.json").expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.json()
}

/// Returns `get /path` for every operation of the document.
fn described(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let methods = METHODS.iter().filter(|method| item.get(**method).is_some());
        methods.map(move |method| format!("{method} {path}"))
    });
    operations.collect()
}

/// The live page and its streams, which are not an API.
const NO_API: [&str; 3] = ["get /", "get /live", "get /admin/live"];

/// Returns `get /path` for every `.route(` in the sources, because a router cannot list its routes, and for the keys'
/// router, whose own tests compare it with its document.
fn routed() -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/routes");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(sources).expect("the sources") {
        let file = entry.expect("a file").path();
        let prefix = if file.ends_with("admin.rs") {
            "/admin"
        } else {
            ""
        };
        let source = std::fs::read_to_string(&file).expect("a text");
        for call in source.split(".route(").skip(1) {
            let (path, methods) = arguments(call);
            for method in METHODS {
                // Not the end of another word, such as `target(`.
                let named = methods
                    .split(|character: char| !character.is_alphanumeric() && character != '(')
                    .any(|word| word.starts_with(&format!("{method}(")));
                if named {
                    found.insert(format!("{method} {prefix}{path}"));
                }
            }
        }
    }
    for page in NO_API {
        assert!(found.remove(page), "{page}");
    }
    let keys = described(&admin_openapi());
    found.extend(keys.iter().map(|route| route.replace(" /", " /admin/")));
    found
}

/// Returns the path and the methods of the arguments of a `.route(`.
fn arguments(call: &str) -> (&str, &str) {
    let mut depth = 1;
    let end = call.find(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let arguments = call[..end.expect("a closed call")].trim_start();
    let path = arguments.strip_prefix('"').expect("a literal path");
    path.split_once('"').expect("a literal path")
}

#[test]
fn document_has_exactly_the_routes() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let described = described(&document(&demo));
    assert!(described.len() >= 12, "{described:?}");
    assert_eq!(described, routed());
    for operation in described {
        let (method, path) = operation.split_once(' ').unwrap();
        let method = method.to_ascii_uppercase();
        let answer = demo.admin(&method, &path.replace("{id}", "none"), None);
        let routed = answer.status != 405
            && (answer.status != 404
                || answer.header("content-type") == "application/problem+json")
            && !answer.body.contains("no such route");
        assert!(routed, "{operation}: {answer:?}");
    }
}

/// The responses to operations, which are checked together.
struct Answers(Vec<Value>);

impl Answers {
    #[track_caller]
    fn keep(&mut self, method: &str, path: &str, status: u16, answer: Answer) -> Answer {
        let answer = answer.expect(status);
        let media_type = answer.header("content-type").split(';').next().unwrap();
        let body = if media_type.ends_with("json") {
            answer.json()
        } else {
            Value::String(answer.body.clone())
        };
        self.0.push(json!({
            "method": method, "path": path, "status": status, "media_type": media_type, "body": body,
        }));
        answer
    }

    /// Returns the validator's errors. Asserts that every operation was called with success, so that none is
    /// left unchecked.
    fn check(&self, document: &Value) -> String {
        let succeeded: BTreeSet<_> = self
            .0
            .iter()
            .filter(|answer| answer["status"].as_u64().is_some_and(|status| status < 300))
            .map(|answer| {
                let text = |name: &str| answer[name].as_str().unwrap().to_owned();
                format!("{} {}", text("method").to_lowercase(), text("path"))
            })
            .collect();
        assert_eq!(succeeded, described(document));
        complaints(&json!({ "document": document, "answers": self.0 }))
    }
}

/// Returns the errors of the OpenAPI validator.
fn complaints(given: &Value) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/openapi.py");
    let mut child = Command::new(python())
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python starts");
    let mut input = child.stdin.take().expect("piped");
    input
        .write_all(given.to_string().as_bytes())
        .expect("the validator reads");
    drop(input);
    let output = child.wait_with_output().expect("the validator ends");
    assert!(output.status.success(), "see its output above");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Calls every operation with success, and provokes every kind of error.
fn all_kinds_of_answers(answers: &mut Answers) -> Value {
    let redis = RedisServer::start();
    let postgres = PostgresServer::start();
    let proxy = FaultProxy::start(postgres.addr());
    let demo = Demo::start(&[
        ("DATABASE_URL", &postgres.url_at(proxy.addr())),
        ("REDIS_URL", &redis.url()),
    ]);
    let document = document(&demo);
    for path in ["/metrics", "/healthz", "/readyz", "/openapi.json"] {
        answers.keep("GET", path, 200, demo.get(path));
    }
    let (app, dataset) = (demo.token("acme", "app"), demo.token("acme", "dataset"));
    for (path, token) in [("/v1/whoami", &app), ("/v1/datasets", &dataset)] {
        answers.keep("GET", path, 200, demo.get_as(path, &token.text));
        answers.keep("GET", path, 401, demo.get(path));
        let line = format!("Bearer {}", token.text);
        let twice = [("authorization", line.as_str()); 2];
        answers.keep("GET", path, 400, demo.send("GET", path, &twice, None));
    }

    let (list, one, rotate) = (
        "/admin/tokens",
        "/admin/tokens/{id}",
        "/admin/tokens/{id}/rotate",
    );
    let admin = |method: &str, path: &str, id: &str, body: Option<&str>| {
        demo.admin(method, &path.replace("{id}", id), body)
    };
    let tenants = "/admin/tenants";
    let tenant = r#"{"id":"initech","name":"Initech"}"#;
    for (status, body) in [(201, tenant), (409, tenant), (400, "["), (422, "{}")] {
        let answer = admin("POST", tenants, "", Some(body));
        answers.keep("POST", tenants, status, answer);
    }
    let text = unknown("app");
    let body = json!({ "tenant_id": "acme", "token_type": "app", "token": text, "expires_at": "2100-01-01T00:00:00Z" });
    let made = answers
        .keep(
            "POST",
            list,
            201,
            admin("POST", list, "", Some(&body.to_string())),
        )
        .json();
    let id = made["id"].as_str().unwrap();
    answers.keep(
        "POST",
        list,
        409,
        admin("POST", list, "", Some(&body.to_string())),
    );
    let large = "x".repeat(20_000);
    for (path, refused) in [
        (list, [(400, "["), (422, "{}"), (413, large.as_str())]),
        (
            rotate,
            [(400, "["), (422, r#"{"x":1}"#), (413, large.as_str())],
        ),
    ] {
        for (status, body) in refused {
            answers.keep("POST", path, status, admin("POST", path, id, Some(body)));
        }
    }
    answers.keep("POST", rotate, 404, admin("POST", rotate, "none", None));
    answers.keep("POST", rotate, 201, admin("POST", rotate, id, None));
    answers.keep("POST", rotate, 409, admin("POST", rotate, id, None));
    let rotation = "/admin/tokens/{id}/rotation";
    for (method, status, id) in [
        ("GET", 200, id),
        ("GET", 404, "none"),
        ("DELETE", 200, id),
        ("DELETE", 409, id),
    ] {
        answers.keep(method, rotation, status, admin(method, rotation, id, None));
    }
    answers.keep("GET", one, 200, admin("GET", one, id, None));
    answers.keep("GET", one, 404, admin("GET", one, "none", None));
    answers.keep("DELETE", one, 200, admin("DELETE", one, id, None));
    answers.keep("DELETE", one, 404, admin("DELETE", one, "none", None));
    answers.keep("GET", list, 200, admin("GET", list, "", None));
    answers.keep(
        "GET",
        list,
        200,
        demo.admin("GET", "/admin/tokens?limit=1", None),
    );
    answers.keep(
        "GET",
        list,
        400,
        demo.admin("GET", "/admin/tokens?limit=0", None),
    );
    answers.keep("GET", list, 401, demo.get(list));
    for path in ["/admin/tenants/{id}/suspend", "/admin/tenants/{id}/resume"] {
        answers.keep("POST", path, 200, admin("POST", path, "acme", None));
        answers.keep("POST", path, 404, admin("POST", path, "none", None));
        if path.ends_with("suspend") {
            answers.keep("GET", "/v1/whoami", 403, demo.whoami(&app.text));
        }
    }

    let all = "/admin/tenants/{id}/tokens";
    answers.keep("DELETE", all, 200, admin("DELETE", all, "globex", None));
    answers.keep("DELETE", all, 404, admin("DELETE", all, "none", None));
    answers.keep(
        "GET",
        "/admin/audit",
        200,
        admin("GET", "/admin/audit", "", None),
    );

    redis.kill();
    answers.keep(
        "DELETE",
        one,
        503,
        admin("DELETE", one, id, None).expect_unconfirmed(),
    );
    answers.keep(
        "POST",
        rotate,
        503,
        admin("POST", rotate, &app.id, None).expect_unconfirmed(),
    );
    answers.keep(
        "POST",
        list,
        503,
        admin(
            "POST",
            list,
            "",
            Some(
                &json!({ "tenant_id": "acme", "token_type": "app", "token": unknown("app") })
                    .to_string(),
            ),
        )
        .expect_unconfirmed(),
    );
    let pending = admin("GET", "/admin/pending", "", None);
    let pending = answers.keep("GET", "/admin/pending", 200, pending);
    assert_eq!(pending.json()["count"], 3);
    answers.keep("GET", "/readyz", 200, demo.get("/readyz"));
    proxy.cut();
    answers.keep("GET", "/readyz", 503, demo.get("/readyz"));
    answers.keep(
        "GET",
        "/v1/whoami",
        503,
        demo.get_as("/v1/whoami", &unknown("app")),
    );
    answers.keep("GET", list, 503, admin("GET", list, "", None));
    document
}

#[test]
fn document_is_valid_and_responses_conform_to_it() {
    let mut answers = Answers(Vec::new());
    let document = all_kinds_of_answers(&mut answers);
    let shown = document.to_string();
    assert!(!shown.contains(ADMIN), "it has no secret of the deployment");
    let complaints = answers.check(&document);
    assert!(complaints.is_empty(), "{complaints}");
}

/// Asserts that the checks fail for an invalid document and for a response that does not conform.
#[test]
fn validator_detects_an_invalid_document_and_response() {
    let mut document = document(&Demo::on(&Database::sqlite(), &[]));
    let answer = |body: Value| {
        json!({
            "method": "DELETE", "path": "/admin/tokens/{id}", "status": 200,
            "media_type": "application/json", "body": body,
        })
    };
    let check = |document: &Value, body: Value| {
        complaints(&json!({ "document": document, "answers": [answer(body)] }))
    };
    assert_eq!(check(&document, json!({ "confirmed": true })), "");
    let wrong = check(&document, json!({ "confirmed": "yes" }));
    assert!(
        wrong.starts_with("delete /admin/tokens/{id} 200: confirmed"),
        "{wrong}"
    );
    document["paths"]["/healthz"]["get"]["responses"]["200"] = json!({});
    let wrong = check(&document, json!({ "confirmed": true }));
    assert!(wrong.starts_with("document: "), "{wrong}");
}
