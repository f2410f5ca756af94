//! Line 48: required scopes.

use tower_api_token::Rejection;

use crate::http_conformance::case::{Case, case};
use crate::http_conformance::world::*;

type Builder = tower_api_token::ApiTokenLayerBuilder<()>;

fn lacks(scope: &str) -> String {
    format!(r#"Bearer realm="api", error="insufficient_scope", scope="{scope}""#)
}

pub(super) fn cases() -> Vec<Case> {
    let requires = |name, layer: fn(Builder) -> Builder| case(&[48], name).layer(layer);
    vec![
        requires("a scope that the token has", |layer| {
            layer.require_scopes("orders:read")
        })
        .bearer(GOOD)
        .served("tok-good"),
        requires("several scopes in any order", |layer| {
            layer.require_scopes("stock orders:read")
        })
        .bearer(GOOD)
        .served("tok-good"),
        requires("a scope that the token lacks", |layer| {
            layer.require_scopes("orders:write")
        })
        .bearer(GOOD)
        .rejected(403, &lacks("orders:write"))
        .loads(1, 1),
        requires("the beginning of a scope", |layer| {
            layer.require_scopes("orders")
        })
        .bearer(GOOD)
        .rejected(403, &lacks("orders"))
        .loads(1, 1),
        requires("one of two, and each once in the challenge", |layer| {
            let layer = layer.require_scopes("stock orders:write");
            layer.require_scopes("orders:write orders:read")
        })
        .bearer(GOOD)
        .rejected(403, &lacks("stock orders:write orders:read"))
        .loads(1, 1),
        requires("a token without any", |layer| layer.require_scopes("stock"))
            .bearer("any-0123456789")
            .rejected(403, &lacks("stock"))
            .loads(1, 1),
        requires("an unknown token", |layer| layer.require_scopes("stock"))
            .bearer(UNKNOWN)
            .rejected(401, INVALID)
            .loads(1, 1),
        requires("no token", |layer| layer.require_scopes("stock")).rejected(401, BARE),
        requires("before the policies", |layer| {
            let layer = layer.policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE));
            layer.require_scopes("orders:write")
        })
        .bearer(GOOD)
        .rejected(403, &lacks("orders:write"))
        .loads(1, 1),
        case(&[37, 48], "gRPC, a scope that the token lacks")
            .layer(|layer| layer.require_scopes("orders:write"))
            .method("POST")
            .header("content-type", "application/grpc")
            .bearer(GOOD)
            .grpc("7")
            .loads(1, 1),
        requires("report only", |layer| {
            let layer = layer.require_scopes_report_only("orders:write");
            layer.policy_report_only(|_, _| Err(Rejection::INSUFFICIENT_SCOPE))
        })
        .bearer(GOOD)
        .served("tok-good"),
    ]
}
