//! Lines 18 to 22, 24, 26 and 27: the answers to a token.

use std::time::Duration;

use tower_api_token::{ApiTokenLayerBuilder, Rejection, TokenSource};

use crate::http_conformance::case::{Case, case};
use crate::http_conformance::world::*;

pub(super) fn cases() -> Vec<Case> {
    let parts = [verdicts(), unavailable(), policies()];
    parts.into_iter().flatten().collect()
}

fn verdicts() -> Vec<Case> {
    let dataset = |layer: ApiTokenLayerBuilder<()>| layer.token_type("dataset");
    let mut cases = vec![
        case(&[21], "a valid token of the layer's type")
            .layer(dataset)
            .bearer(OTHER_TYPE)
            .served("tok-dataset"),
        case(&[21], "a valid token of another type")
            .layer(dataset)
            .bearer(GOOD)
            .rejected(401, INVALID)
            .loads(1, 1),
        case(&[22], "a denial, loaded and cached")
            .bearer(SUSPENDED)
            .rejected(403, BARE)
            .loads(1, 1),
    ];
    // 19: the second time it is a negative entry.
    for (reason, token) in [
        ("unknown", UNKNOWN),
        ("revoked", REVOKED),
        ("expired", EXPIRED),
        ("of another type", OTHER_TYPE),
    ] {
        let bad = case(&[18, 19, 20], reason).bearer(token).loads(1, 1);
        cases.push(bad.clone().rejected(401, INVALID));
        let optional = bad.layer(|layer| layer.optional());
        let optional = optional.line(27);
        cases.push(optional.rejected(401, INVALID));
    }
    let described = concat!(
        r#"Bearer realm="api", error="invalid_token""#,
        r#", error_description="The API token is not valid.""#
    );
    for (reason, token, loads) in [
        ("unknown, described", UNKNOWN, 1),
        ("revoked, described", REVOKED, 1),
        ("expired, described", EXPIRED, 1),
        ("malformed, described", "short", 0),
    ] {
        let bad = case(&[20], reason).layer(|layer| layer.error_descriptions());
        cases.push(
            bad.bearer(token)
                .rejected(401, described)
                .loads(loads, loads),
        );
    }
    cases
}

fn unavailable() -> Vec<Case> {
    let cannot_tell = |lines, name, token| {
        let case = case(lines, name).bearer(token).status(503).loads(1, 2);
        case.has("retry-after", &["1"])
    };
    vec![
        cannot_tell(&[24], "the loader fails", FAILING),
        cannot_tell(&[24, 42], "the loader answers for another token", MISTAKEN),
        cannot_tell(&[26], "the loader panics", PANICKING),
        cannot_tell(&[24, 27], "optional, the loader fails", FAILING)
            .layer(|layer| layer.optional()),
    ]
}

fn policies() -> Vec<Case> {
    let insufficient = r#"Bearer realm="api", error="insufficient_scope""#;
    vec![
        case(&[21], "a policy allows it")
            .layer(|layer| {
                layer.policy(|token, request| {
                    if token.id() == "tok-good" && request.path() == "/a" {
                        Ok(())
                    } else {
                        Err(Rejection::INSUFFICIENT_SCOPE)
                    }
                })
            })
            .target("/a")
            .bearer(GOOD)
            .served("tok-good"),
        case(&[21], "a policy rejects it and names no scope")
            .layer(|layer| layer.policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE)))
            .bearer(GOOD)
            .rejected(403, insufficient)
            .loads(1, 1),
        case(&[21, 38], "a policy rejects it and names the scope")
            .layer(|layer| {
                let needed = Rejection::insufficient_scope("orders stock").unwrap();
                layer.policy(move |_, _| Err(needed.clone()))
            })
            .bearer(GOOD)
            .rejected(
                403,
                r#"Bearer realm="api", error="insufficient_scope", scope="orders stock""#,
            )
            .loads(1, 1),
        case(&[21, 38], "a policy's scope replaces the layer's")
            .layer(|layer| {
                let needed = Rejection::insufficient_scope("orders:write").unwrap();
                layer
                    .challenge_scope("orders")
                    .policy(move |_, _| Err(needed.clone()))
            })
            .bearer(GOOD)
            .rejected(
                403,
                r#"Bearer realm="api", error="insufficient_scope", scope="orders:write""#,
            )
            .loads(1, 1),
        case(&[21], "the first of two policies rejects it")
            .layer(|layer| {
                let named = |scope| Rejection::insufficient_scope(scope).unwrap();
                let (one, two) = (named("one"), named("two"));
                layer
                    .policy(|_, _| Ok(()))
                    .policy(move |_, _| Err(one.clone()))
                    .policy(move |_, _| Err(two.clone()))
            })
            .bearer(GOOD)
            .rejected(
                403,
                r#"Bearer realm="api", error="insufficient_scope", scope="one""#,
            )
            .loads(1, 1),
        case(&[49], "a policy finds too many requests")
            .layer(|layer| {
                layer.policy(|_, _| {
                    let retry_after = Duration::from_millis(1_500);
                    Err(Rejection::TooManyRequests { retry_after })
                })
            })
            .bearer(GOOD)
            .status(429)
            .has("retry-after", &["2"])
            .loads(1, 1),
        case(&[37, 49], "gRPC, a policy finds too many requests")
            .layer(|layer| {
                layer.policy(|_, _| {
                    let retry_after = Duration::from_millis(1_500);
                    Err(Rejection::TooManyRequests { retry_after })
                })
            })
            .method("POST")
            .header("content-type", "application/grpc")
            .bearer(GOOD)
            .grpc("8")
            .has("grpc-retry-pushback-ms", &["1500"])
            .loads(1, 1),
        case(&[37, 49], "gRPC, the loader fails")
            .method("POST")
            .header("content-type", "application/grpc")
            .bearer(FAILING)
            .grpc("14")
            .has("grpc-retry-pushback-ms", &["1000"])
            .loads(1, 2),
        case(&[37, 49], "gRPC, no hint to retry without a time")
            .layer(|layer| layer.policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE)))
            .method("POST")
            .header("content-type", "application/grpc")
            .bearer(GOOD)
            .grpc("7")
            .has("grpc-retry-pushback-ms", &[])
            .loads(1, 1),
        case(&[21], "a policy is not called for an invalid token")
            .layer(|layer| layer.policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE)))
            .bearer(UNKNOWN)
            .rejected(401, INVALID)
            .loads(1, 1),
        case(&[21], "a policy is not called without a token")
            .layer(|layer| {
                layer
                    .policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE))
                    .optional()
            })
            .anonymous(),
        case(
            &[14, 28],
            "a policy sees the same target as the inner service",
        )
        .layer(|layer| {
            layer
                .sources([TokenSource::query("access_token")])
                .strip_credentials()
                .policy(|_, request| {
                    let query = request.query();
                    let target = (request.path(), query.as_deref());
                    if target == ("/a", Some("b=1")) && request.method() == "GET" {
                        Ok(())
                    } else {
                        Err(Rejection::INSUFFICIENT_SCOPE)
                    }
                })
        })
        .target("/a?access_token=app-Good-0123456789&b=1")
        .bearer("another-0123456789")
        .served("tok-good"),
        no_admin("/a?admin=1"),
        no_admin("/a?admin=1&access_token=x"),
        no_admin("/a?access%5Ftoken&admin=1"),
        case(&[21], "a policy sees each line of a header")
            .layer(|layer| {
                layer.policy(|_, request| {
                    if request
                        .header_all("x-tenant")
                        .any(|tenant| tenant == "theirs")
                    {
                        return Err(Rejection::INSUFFICIENT_SCOPE);
                    }
                    Ok(())
                })
            })
            .bearer(GOOD)
            .header("x-tenant", "mine")
            .header("x-tenant", "theirs")
            .rejected(403, insufficient)
            .loads(1, 1),
    ]
}

/// A client cannot hide the query from a policy by a parameter that the layer does not read.
fn no_admin(target: &'static str) -> Case {
    case(&[14, 21], "a policy sees the rest of a query with a token")
        .layer(|layer| {
            layer.policy(|_, request| {
                if request
                    .query()
                    .is_some_and(|query| query.contains("admin=1"))
                {
                    return Err(Rejection::INSUFFICIENT_SCOPE);
                }
                Ok(())
            })
        })
        .target(target)
        .bearer(GOOD)
        .rejected(403, r#"Bearer realm="api", error="insufficient_scope""#)
        .loads(1, 1)
}
