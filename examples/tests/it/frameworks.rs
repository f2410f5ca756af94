//! The examples `poem` and `actix`: the layer in frameworks that are not made of Tower's services.

use std::path::Path;

use test_support::{Answer, Example};
use tower_api_token::TokenFormat;

/// The printed commands, by their index.
const GOOD: usize = 0;
const UNREACHABLE: usize = 1;

/// Asserts the layer's answers to a missing, an invalid and an unknown token, and to two of them.
fn rejects(example: &Example, path: &str) {
    let unknown = TokenFormat::from_static("demo_").generate().unwrap();
    let unknown = format!("authorization: Bearer {}", unknown.expose());
    let good = format!("authorization: Bearer {}", example.token(GOOD, "Bearer "));
    let has = |answer: Answer, status: u16, challenge: &str, detail: &str| {
        let answer = answer.expect(status);
        assert_eq!(answer.header("www-authenticate"), challenge);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("vary"), "authorization");
        assert_eq!(
            answer.header("content-length"),
            answer.body.len().to_string()
        );
        assert!(answer.body.contains(detail), "{answer:?}");
        answer
    };
    let invalid = "Bearer realm=\"api\", error=\"invalid_token\"";
    let detail = "The API token is not valid.";
    has(
        example.curl(path, &[]),
        401,
        "Bearer realm=\"api\"",
        "An API token is required.",
    );
    has(example.curl(path, &["-H", &unknown]), 401, invalid, detail);
    let malformed = ["-H", "authorization: Bearer what is this"];
    has(example.curl(path, &malformed), 401, invalid, detail);
    let twice = example.curl(path, &["-H", &good, "-H", &good]);
    let request = "Bearer realm=\"api\", error=\"invalid_request\"";
    has(twice, 400, request, "more than one credential");
    let unavailable = example.paste(UNREACHABLE);
    let unavailable = has(unavailable, 503, "", "cannot be verified");
    assert_eq!(unavailable.header("retry-after"), "1");
}

#[test]
fn poem_loses_nothing_on_the_way_through_the_layer() {
    let example = Example::start(Path::new(env!("CARGO_BIN_EXE_poem")), &[]);
    let loaded = example.paste(GOOD).expect(200);
    assert_eq!(loaded.body, "order 7 of tok-1 (loaded) from 127.0.0.1: \n");
    assert_eq!(loaded.header("cache-control"), "private");
    assert_eq!(loaded.header("vary"), "authorization");
    let token = example.token(GOOD, "Bearer ");
    let cached = example
        .curl_as(token, "/orders/7", &["-d", "tea"])
        .expect(200);
    assert_eq!(
        cached.body,
        "order 7 of tok-1 (local) from 127.0.0.1: tea\n"
    );
    // An error of the handler is a response to a token too.
    let error = example.curl_as(token, "/orders/0", &[]).expect(404);
    assert_eq!(error.header("cache-control"), "private");
    rejects(&example, "/orders/7");
    // The layer is on the route.
    example.curl("/elsewhere", &[]).expect(404);
}

#[test]
fn actix_gives_the_layers_answers_without_tower() {
    let example = Example::start(Path::new(env!("CARGO_BIN_EXE_actix")), &[]);
    for body in ["tok-1 (loaded)\n", "tok-1 (local)\n"] {
        let answer = example.paste(GOOD).expect(200);
        assert_eq!(answer.body, body);
        assert_eq!(answer.header("cache-control"), "private");
        assert_eq!(answer.header("vary"), "authorization");
    }
    rejects(&example, "/");
    // Around all routes.
    example.curl("/elsewhere", &[]).expect(401);
    let token = example.token(GOOD, "Bearer ");
    example.curl_as(token, "/elsewhere", &[]).expect(404);
    example.curl("/", &["-I"]).expect(401);
}
