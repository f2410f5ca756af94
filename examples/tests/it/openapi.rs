//! The examples `openapi` and `aide`: what the layer answers is what the document says.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use test_support::{Answer, Example};

/// The printed commands, by their index.
const DOCUMENT: usize = 0;
const ALL: usize = 1;
const NOT_READ: usize = 2;
const NO_QUOTA: usize = 3;
const SUSPENDED: usize = 4;
const UNREACHABLE: usize = 5;

fn start() -> Example {
    Example::start(Path::new(env!("CARGO_BIN_EXE_openapi")), &[])
}

fn document(example: &Example) -> Value {
    let answer = example.paste(DOCUMENT).expect(200);
    assert_eq!(answer.header("content-type"), "application/json");
    serde_json::from_str(&answer.body).unwrap()
}

/// Returns what `path` points to (RFC 6901), and what a reference there points to.
#[track_caller]
fn at<'a>(document: &'a Value, within: &'a Value, path: &str) -> &'a Value {
    let found = within.pointer(path);
    let found = found.unwrap_or_else(|| panic!("no {path} in {within:#}"));
    match found["$ref"].as_str() {
        Some(target) => document.pointer(target.trim_start_matches('#')).unwrap(),
        None => found,
    }
}

/// Asserts that `value` has the properties of an object's schema and no others.
#[track_caller]
fn matches_schema(schema: &Value, value: &Value) {
    let properties = schema["properties"].as_object().unwrap();
    let value = value.as_object().unwrap();
    let names = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect();
    let (has, documented): (BTreeSet<String>, BTreeSet<String>) = (names(value), names(properties));
    assert_eq!(has, documented);
    for (name, property) in properties {
        let is_right = match property["type"].as_str().unwrap() {
            "string" => value[name].is_string(),
            "integer" => value[name].is_u64(),
            other => panic!("{other}"),
        };
        assert!(is_right, "{name} of {value:?}");
    }
    for name in schema["required"].as_array().unwrap() {
        assert!(value.contains_key(name.as_str().unwrap()), "{name}");
    }
}

/// Asserts that the operation documents the answer: its status, its headers, and its body.
#[track_caller]
fn is_documented(document: &Value, operation: &Value, answer: &Answer) {
    let response = at(
        document,
        operation,
        &format!("/responses/{}", answer.status),
    );
    for name in ["www-authenticate", "retry-after"] {
        let is_documented = !response["headers"][name].is_null();
        let is_sent = !answer.header(name).is_empty();
        assert_eq!(is_documented, is_sent, "{name} of {answer:?}");
    }
    let schema = at(
        document,
        response,
        "/content/application~1problem+json/schema",
    );
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    matches_schema(schema, &body);
    assert_eq!(body["status"], answer.status);
}

#[test]
fn the_layers_answers_are_those_of_the_document() {
    let example = start();
    let document = document(&example);
    let operation = at(&document, &document, "/paths/~1orders/get");
    let api_key = format!("x-api-key: {}", example.token(ALL, "Bearer "));
    for (answer, status) in [
        (example.curl("/orders", &[]), 401),
        (example.curl_as("demo_unknown", "/orders", &[]), 401),
        (
            example.curl_as("demo_unknown", "/orders", &["-H", &api_key]),
            400,
        ),
        (example.paste(NOT_READ), 403),
        (example.paste(SUSPENDED), 403),
        (example.paste(NO_QUOTA), 429),
        (example.paste(UNREACHABLE), 503),
    ] {
        is_documented(&document, operation, &answer.expect(status));
    }
    // All that is documented was sent, apart from the success.
    let responses = operation["responses"].as_object().unwrap();
    let statuses: BTreeSet<&str> = responses.keys().map(String::as_str).collect();
    assert_eq!(statuses, ["200", "400", "401", "403", "429", "503"].into());
    let other = &document["paths"]["/orders"]["post"]["responses"];
    for status in ["400", "401", "403", "429", "503"] {
        assert_eq!(other[status], responses[status]);
    }
}

/// Sends the token where the document says.
#[test]
fn the_documents_schemes_are_the_layers_sources() {
    let example = start();
    let document = document(&example);
    let token = example.token(ALL, "Bearer ");
    let schemes = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    let mut sent = 0;
    for (name, scheme) in schemes {
        let header = match scheme["type"].as_str().unwrap() {
            "http" => format!(
                "authorization: {} {token}",
                scheme["scheme"].as_str().unwrap()
            ),
            "apiKey" => {
                assert_eq!(scheme["in"], "header");
                format!("{}: {token}", scheme["name"].as_str().unwrap())
            }
            other => panic!("{other}"),
        };
        let answer = example.curl("/orders", &["-H", &header]).expect(200);
        assert_eq!(answer.body, "orders of tok-1\n", "{name}");
        sent += 1;
    }
    assert_eq!(sent, 2);
}

/// The scopes of each operation are those that the layer asks for.
#[test]
fn the_documents_scopes_are_the_layers() {
    let example = start();
    let document = document(&example);
    let operations = document["paths"]["/orders"].as_object().unwrap();
    for (method, token) in [("get", NOT_READ), ("post", NO_QUOTA)] {
        let token = example.token(token, "Bearer ");
        let arguments = ["-X", &method.to_uppercase()];
        let refused = example.curl_as(token, "/orders", &arguments).expect(403);
        let requirements = operations[method]["security"].as_array().unwrap();
        assert_eq!(requirements.len(), 2);
        for requirement in requirements {
            let scopes = requirement.as_object().unwrap().values().next().unwrap();
            let scope = scopes[0].as_str().unwrap();
            let challenge = refused.header("www-authenticate");
            assert!(
                challenge.contains(&format!("scope=\"{scope}\"")),
                "{challenge}"
            );
        }
    }
    let token = example.token(ALL, "Bearer ");
    let answer = example
        .curl_as(token, "/orders", &["-d", "tea"])
        .expect(200);
    assert_eq!(answer.body, "tok-1 orders tea\n");
}

#[test]
fn aide_documents_a_type_around_the_token() {
    let example = Example::start(Path::new(env!("CARGO_BIN_EXE_aide")), &[]);
    let document = document(&example);
    let operation = at(&document, &document, "/paths/~1whoami/get");
    let scheme = operation["security"][0].as_object().unwrap();
    let (name, _) = scheme.iter().next().unwrap();
    let scheme = at(
        &document,
        &document,
        &format!("/components/securitySchemes/{name}"),
    );
    assert_eq!(
        (&scheme["type"], &scheme["scheme"]),
        (&"http".into(), &"bearer".into())
    );
    for token in [&[][..], &["-H", "authorization: Bearer demo_unknown"]] {
        let refused = example.curl("/whoami", token).expect(401);
        let response = at(&document, operation, "/responses/401");
        assert!(
            response["content"][refused.header("content-type")].is_object(),
            "{refused:?}"
        );
    }
    for command in [1, 2] {
        assert_eq!(example.paste(command).expect(200).body, "tok-1\n");
    }
    let quietly = at(&document, &document, "/paths/~1quietly/get");
    assert!(quietly["security"].is_null(), "{quietly:#}");
}
