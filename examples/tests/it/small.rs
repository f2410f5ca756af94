//! The examples that are one file.

use std::path::Path;

use test_support::{Answer, Example, RedisServer};
use tower_api_token::{TokenDigest, TokenFormat};

/// Starts an example of this package.
macro_rules! start {
    ($name:literal $(, $variables:expr)?) => {
        Example::start(Path::new(env!(concat!("CARGO_BIN_EXE_", $name))), start!(@ $($variables)?))
    };
    (@) => { &[] };
    (@ $variables:expr) => { $variables };
}

/// Returns an unknown token in the format of the examples.
fn invented() -> String {
    let token = TokenFormat::from_static("demo_").generate().unwrap();
    token.expose().to_owned()
}

/// Asserts a 401 with the challenge of RFC 6750 for requests without a token and with an invalid one.
#[track_caller]
fn refuses_strangers(example: &Example, path: &str) {
    let nothing = example.curl(path, &[]).expect(401);
    assert_eq!(nothing.header("www-authenticate"), "Bearer realm=\"api\"");
    refuses(example, path, &invented());
}

#[track_caller]
fn refuses(example: &Example, path: &str, token: &str) {
    let answer = example.curl_as(token, path, &[]).expect(401);
    let challenge = "Bearer realm=\"api\", error=\"invalid_token\"";
    assert_eq!(answer.header("www-authenticate"), challenge);
}

#[track_caller]
fn says(answer: Answer, body: &str) {
    assert_eq!(answer.expect(200).body, body);
}

#[test]
fn axum_accepts_a_valid_token_and_hides_its_routes() {
    let example = start!("axum");
    says(example.paste(0), "tok-1 (loaded)\n");
    says(example.paste(0), "tok-1 (local)\n");
    refuses_strangers(&example, "/");
    refuses_strangers(&example, "/no-such-route");
    let token = example.token(0, "Bearer ");
    example.curl_as(token, "/no-such-route", &[]).expect(404);
}

#[test]
fn hyper_accepts_a_valid_token_over_http1_and_http2() {
    let example = start!("hyper");
    says(example.paste(0), "hello tok-1 (loaded)\n");
    says(example.paste(0), "hello tok-1 (local)\n");
    refuses_strangers(&example, "/");
    let http2 = ["--http2-prior-knowledge"];
    let token = example.token(0, "Bearer ");
    let answer = example.curl_as(token, "/", &http2);
    assert!(answer.head.starts_with("HTTP/2 200"), "{answer:?}");
    says(answer, "hello tok-1 (local)\n");
    let answer = example.curl_as(&invented(), "/", &http2);
    assert!(answer.head.starts_with("HTTP/2 401"), "{answer:?}");
}

/// The plan is the loader's, and then the one from Redis and from the local level.
#[test]
fn metadata_uses_the_cached_plan() {
    let redis = RedisServer::start();
    for variables in [&[][..], &[("REDIS_URL", redis.url().as_str())]] {
        let example = start!("metadata", variables);
        for _ in 0..2 {
            let free = example.paste(0).expect(403);
            assert_eq!(free.body, "the plan free exports 100 rows\n");
            says(example.paste(1), "5000 rows for tok-2\n");
            let free = example.token(0, "Bearer ");
            let answer = example.curl_as(free, "/plan", &[]);
            says(answer, "tok-1 is on free: 100 rows\n");
        }
        refuses_strangers(&example, "/plan");
        let key = format!(
            "api_token:token:{{{}}}",
            TokenDigest::of(example.token(1, "Bearer "))
        );
        let entry = redis
            .get(&key)
            .map(|bytes| String::from_utf8(bytes).unwrap());
        let plan = r#""max_rows":100000"#;
        assert_eq!(
            entry.is_some_and(|entry| entry.contains(plan)),
            !variables.is_empty()
        );
    }
}

#[test]
fn optional_accepts_no_token_and_rejects_an_invalid_one() {
    let example = start!("optional");
    let stranger = example.paste(0);
    assert_eq!(stranger.header("vary"), "authorization");
    says(stranger, "list prices\n");
    says(example.paste(1), "prices for tok-1\n");
    refuses(&example, "/prices", &invented());
    says(example.paste(2), "orders of tok-1\n");
    refuses_strangers(&example, "/orders");
}

#[test]
fn rejection_has_its_own_body_and_the_layers_headers() {
    let example = start!("rejection");
    let token = example.token(1, "Bearer ");
    let header = format!("authorization: Bearer {token}");
    let twice = ["-H", header.as_str(), "-H", header.as_str()];
    for (answer, status, code, message) in [
        (
            example.paste(0),
            401,
            "token_missing",
            "An API token is required.",
        ),
        (
            example.curl_as(&invented(), "/", &[]),
            401,
            "token_invalid",
            "The API token is not valid.",
        ),
        (
            example.curl("/", &twice),
            400,
            "token_ambiguous",
            "The request carries more than one credential.",
        ),
        (
            example.paste(2),
            403,
            "account_inactive",
            "The account is suspended.",
        ),
        (
            example.paste(3),
            503,
            "try_again",
            "The API token cannot be verified at the moment.",
        ),
    ] {
        let answer = answer.expect(status);
        let body = serde_json::json!({"error": {
            "code": code,
            "message": message,
            "help": format!("https://docs.example.com/errors#{code}"),
        }});
        assert_eq!(answer.body, body.to_string());
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.header("retry-after").is_empty(), status != 503);
        assert_eq!(answer.header("www-authenticate").is_empty(), status == 503);
    }
    says(example.paste(1), "tok-1\n");
}

#[test]
fn token_types_are_accepted_only_on_their_own_router() {
    let example = start!("token_types");
    for _ in 0..2 {
        says(example.paste(0), "tok-app, of type app\n");
        says(example.paste(1), "tok-dataset, of type dataset\n");
        refuses(&example, "/datasets/whoami", example.token(0, "Bearer "));
        refuses(&example, "/chat/whoami", example.token(1, "Bearer "));
    }
    refuses_strangers(&example, "/chat/whoami");
    refuses_strangers(&example, "/datasets/whoami");
    says(example.curl("/health", &[]), "ok\n");
}

#[cfg(feature = "jwt")]
#[test]
fn jwt_is_verified_by_the_service_and_a_key_by_the_layer() {
    let example = start!("jwt");
    says(example.paste(0), "key tok-1\n");
    says(example.paste(1), "user alice\n");
    refuses_strangers(&example, "/whoami");
    refuses_strangers(&example, "/key");
    // A handler for keys alone gives the layer's answer.
    let refused = example.paste(2).expect(401);
    let unknown = example.curl_as(&invented(), "/key", &[]).expect(401);
    assert_eq!(refused.body, unknown.body);
    refuses(&example, "/key", example.token(1, "Bearer "));

    let (key, jwt) = (example.token(0, "Bearer "), example.token(1, "Bearer "));
    let (signed, signature) = jwt.rsplit_once('.').unwrap();
    let forged: String = signature.chars().rev().collect();
    refuses(&example, "/whoami", &format!("{signed}.{forged}"));
    refuses(&example, "/whoami", "neither-key-nor-jwt");
    // A damaged key is not taken for a JWT.
    refuses(&example, "/whoami", &key[..key.len() - 1]);
    let both = [key, jwt].map(|token| format!("authorization: Bearer {token}"));
    example
        .curl("/whoami", &["-H", &both[0], "-H", &both[1]])
        .expect(400);
}

#[cfg(feature = "limits")]
#[test]
fn limits_are_counted_by_token() {
    let example = start!("limits");
    says(example.paste(0), "tok-1\n");
    says(example.paste(0), "tok-1\n");
    let refused = example.paste(0).expect(429);
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    // Neither invented tokens nor another caller's count.
    refuses_strangers(&example, "/");
    says(example.paste(1), "tok-2\n");
    example.paste(0).expect(429);
}
