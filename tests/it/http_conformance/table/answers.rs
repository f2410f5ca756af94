//! Lines 38 to 41: challenges, and properties of all our answers.

use crate::http_conformance::case::{Case, case};
use crate::http_conformance::world::*;

const METADATA: &str = "https://api.example.org/.well-known/oauth-protected-resource";

/// Returns a challenge with every parameter.
fn full(middle: &str) -> String {
    format!(r#"Bearer realm="shop"{middle}, resource_metadata="{METADATA}""#)
}

pub(super) fn cases() -> Vec<Case> {
    let every = |name| {
        case(&[38], name).layer(|layer| {
            layer
                .resource_metadata(METADATA)
                .error_descriptions()
                .challenge_scope("orders:read")
                .realm("shop")
        })
    };
    let invalid = concat!(
        r#", error="invalid_token", error_description="The API token is not valid.""#,
        r#", scope="orders:read""#
    );
    let ambiguous = concat!(
        r#", error="invalid_request""#,
        r#", error_description="The request carries more than one credential.""#
    );
    vec![
        every("every parameter, no token").rejected(401, &full(r#", scope="orders:read""#)),
        every("every parameter, unknown")
            .bearer(UNKNOWN)
            .rejected(401, &full(invalid))
            .loads(1, 1),
        every("every parameter, denied: no scope would help")
            .bearer(SUSPENDED)
            .rejected(403, &full(""))
            .loads(1, 1),
        every("every parameter, ambiguous")
            .authorization("")
            .authorization("")
            .rejected(400, &full(ambiguous)),
        every("every parameter, unavailable")
            .bearer(FAILING)
            .status(503)
            .loads(1, 2),
        case(&[38], "no error in a challenge, unknown")
            .layer(|layer| layer.challenge_errors(false).error_descriptions())
            .bearer(UNKNOWN)
            .rejected(401, BARE)
            .loads(1, 1),
        case(&[38], "no error in a challenge, a scope")
            .layer(|layer| layer.challenge_errors(false).require_scopes("orders:write"))
            .bearer(GOOD)
            .rejected(403, r#"Bearer realm="api", scope="orders:write""#)
            .loads(1, 1),
        case(&[38], "no error in a challenge, ambiguous")
            .layer(|layer| layer.challenge_errors(false))
            .authorization("")
            .authorization("")
            .rejected(400, BARE),
        case(&[38], "a realm that has to be quoted")
            .layer(|layer| layer.realm(r#"a "b\c", d"#))
            .rejected(401, r#"Bearer realm="a \"b\\c\", d""#),
        case(&[39], "the default body")
            .rejected(401, BARE)
            .has("content-type", &["application/problem+json"]),
        case(&[40, 41], "uncacheable, with Vary and its length")
            .bearer(SUSPENDED)
            .rejected(403, BARE)
            .loads(1, 1),
    ]
}
