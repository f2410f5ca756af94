//! Lines 31, 33, 34 and 37: methods and gRPC.

use tower_api_token::{Rejection, TokenSource};

use super::GOOD_BEARER;
use crate::http_conformance::case::{Case, case};
use crate::http_conformance::world::*;

pub(super) fn cases() -> Vec<Case> {
    let parts = [methods(), grpc()];
    parts.into_iter().flatten().collect()
}

fn methods() -> Vec<Case> {
    let preflight = |name| {
        case(&[31], name)
            .method("OPTIONS")
            .header("origin", "https://example.org")
            .header("access-control-request-method", "PUT")
    };
    let allowed = |name| preflight(name).layer(|layer| layer.allow_cors_preflight());
    let head = |name| case(&[33], name).method("HEAD");
    vec![
        preflight("a preflight").rejected(401, BARE),
        preflight("a preflight with a valid token")
            .bearer(GOOD)
            .served("tok-good"),
        preflight("a preflight in optional mode")
            .layer(|layer| layer.optional())
            .anonymous(),
        allowed("an allowed preflight")
            .header("access-control-request-headers", "authorization")
            .header("content-length", "0")
            .anonymous()
            .has("vary", &["authorization"])
            .has("cache-control", &[]),
        allowed("an allowed preflight past a policy")
            .layer(|layer| {
                let layer = layer.allow_cors_preflight();
                layer.policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE))
            })
            .anonymous(),
        allowed("an allowed preflight with an invalid token")
            .bearer(UNKNOWN)
            .rejected(401, INVALID)
            .loads(1, 1),
        allowed("an allowed preflight with a valid token")
            .bearer(GOOD)
            .served("tok-good"),
        allowed("with a credential of another scheme")
            .authorization("Basic YTpi")
            .rejected(401, BARE),
        allowed("with a cookie")
            .header("cookie", "session=1")
            .rejected(401, BARE),
        allowed("with a key in a header that is a source")
            .layer(|layer| {
                let layer = layer.allow_cors_preflight();
                layer.sources([TokenSource::header("x-api-key")])
            })
            .header("x-api-key", UNKNOWN)
            .vary(&["x-api-key"])
            .rejected(401, INVALID)
            .loads(1, 1),
        allowed("with a content type")
            .header("content-type", "text/plain")
            .rejected(401, BARE),
        allowed("of two origins")
            .header("origin", "https://example.com")
            .rejected(401, BARE),
        allowed("for two methods")
            .header("access-control-request-method", "GET")
            .rejected(401, BARE),
        case(&[31], "for an invalid method")
            .layer(|layer| layer.allow_cors_preflight())
            .method("OPTIONS")
            .header("origin", "https://example.org")
            .header("access-control-request-method", "a b")
            .rejected(401, BARE),
        case(&[31], "for an empty method")
            .layer(|layer| layer.allow_cors_preflight())
            .method("OPTIONS")
            .header("origin", "https://example.org")
            .header("access-control-request-method", "")
            .rejected(401, BARE),
        case(&[31], "a plain OPTIONS")
            .method("OPTIONS")
            .rejected(401, BARE),
        case(&[31], "OPTIONS with only an origin")
            .method("OPTIONS")
            .header("origin", "https://example.org")
            .rejected(401, BARE),
        case(&[31], "GET with the headers of a preflight")
            .header("origin", "https://example.org")
            .header("access-control-request-method", "PUT")
            .rejected(401, BARE),
        head("HEAD without a token").rejected(401, BARE),
        head("HEAD, unknown")
            .bearer(UNKNOWN)
            .rejected(401, INVALID)
            .loads(1, 1),
        head("HEAD, denied")
            .bearer(SUSPENDED)
            .rejected(403, BARE)
            .loads(1, 1),
        head("HEAD, unavailable")
            .bearer(FAILING)
            .status(503)
            .loads(1, 2),
        case(&[33], "HEAD, good")
            .method("HEAD")
            .bearer(GOOD)
            .served("tok-good"),
        case(&[34], "the header is unchanged")
            .bearer(GOOD)
            .served("tok-good")
            .sees("authorization", &[GOOD_BEARER]),
    ]
}

fn grpc() -> Vec<Case> {
    let mut cases = Vec::new();
    for content_type in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc-web+proto",
        "application/grpc-web-text",
    ] {
        let call = |name| {
            let call = case(&[37], name)
                .method("POST")
                .header("content-type", content_type);
            call.has("content-type", &[content_type])
        };
        cases.extend([
            call("gRPC, no token").grpc("16"),
            call("gRPC, unknown").bearer(UNKNOWN).grpc("16").loads(1, 1),
            call("gRPC, malformed").authorization("Bearer").grpc("16"),
            call("gRPC, denied").bearer(SUSPENDED).grpc("7").loads(1, 1),
            call("gRPC, rejected by a policy")
                .layer(|layer| layer.policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE)))
                .bearer(GOOD)
                .grpc("7")
                .loads(1, 1),
            call("gRPC, unavailable")
                .bearer(FAILING)
                .grpc("14")
                .loads(1, 2),
            call("gRPC, ambiguous")
                .authorization(GOOD_BEARER)
                .authorization(GOOD_BEARER)
                .grpc("3"),
        ]);
    }
    let cookie = case(&[37, 40], "gRPC, another source").method("POST");
    cases.push(
        cookie
            .layer(|layer| layer.sources([TokenSource::cookie("token")]))
            .header("content-type", "application/grpc-web+proto")
            .vary(&["cookie"])
            .grpc("16"),
    );
    for (method, content_type) in [
        ("GET", "application/grpc"),
        ("POST", "application/grpcish"),
        ("POST", "application/json"),
    ] {
        let not_grpc = case(&[37], "not gRPC").method(method);
        let not_grpc = not_grpc.header("content-type", content_type);
        cases.push(not_grpc.rejected(401, BARE));
    }
    cases
}
