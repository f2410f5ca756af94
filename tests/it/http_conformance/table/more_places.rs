//! Lines 12, 45 and 46: more than one token, the user name of `Basic`, and the subprotocols of a WebSocket.

use tower_api_token::middleware::MultipleTokens;
use tower_api_token::{ApiTokenLayerBuilder, TokenSource};

use crate::http_conformance::case::{Case, case};
use crate::http_conformance::world::*;

pub(super) fn cases() -> Vec<Case> {
    let parts = [several_tokens(), basic(), websocket()];
    parts.into_iter().flatten().collect()
}

fn both(layer: ApiTokenLayerBuilder<()>, multiple: MultipleTokens) -> ApiTokenLayerBuilder<()> {
    let places = [TokenSource::header("x-api-key"), TokenSource::bearer()];
    layer.sources(places).multiple_tokens(multiple)
}

fn several_tokens() -> Vec<Case> {
    let equal = |name| {
        let case = case(&[12], name).layer(|layer| both(layer, MultipleTokens::AllowEqual));
        case.vary(&["x-api-key, authorization"])
    };
    let first = |name| {
        let case = case(&[12], name).layer(|layer| both(layer, MultipleTokens::UseFirst));
        case.vary(&["x-api-key, authorization"])
    };
    vec![
        equal("equal ones are allowed")
            .header("x-api-key", GOOD)
            .bearer(GOOD)
            .served("tok-good"),
        equal("equal ones are allowed, and one is empty")
            .header("x-api-key", "")
            .bearer(GOOD)
            .served("tok-good"),
        equal("equal and unknown")
            .header("x-api-key", UNKNOWN)
            .bearer(UNKNOWN)
            .rejected(401, INVALID)
            .loads(1, 1),
        equal("different ones")
            .header("x-api-key", GOOD)
            .bearer(UNKNOWN)
            .rejected(400, AMBIGUOUS),
        equal("one and a malformed one")
            .header("x-api-key", GOOD)
            .bearer("short")
            .rejected(400, AMBIGUOUS),
        equal("two malformed ones")
            .header("x-api-key", "short")
            .bearer("short")
            .rejected(400, AMBIGUOUS),
        equal("equal ones in one place")
            .bearer(GOOD)
            .bearer(GOOD)
            .rejected(400, AMBIGUOUS),
        case(&[12, 44], "equal ones of another kind")
            .layer(|layer| {
                let layer = both(layer, MultipleTokens::AllowEqual);
                layer.token_format(FORMAT).pass_other_tokens()
            })
            .header("x-api-key", OTHER_KIND)
            .bearer(OTHER_KIND)
            .unverified(),
        first("the first of two")
            .header("x-api-key", GOOD)
            .bearer(UNKNOWN)
            .served("tok-good"),
        first("the first is unknown")
            .header("x-api-key", UNKNOWN)
            .bearer(GOOD)
            .rejected(401, INVALID)
            .loads(1, 1),
        first("the first is malformed")
            .header("x-api-key", "short")
            .bearer(GOOD)
            .rejected(401, INVALID),
        first("the first is there twice")
            .header("x-api-key", GOOD)
            .header("x-api-key", GOOD)
            .bearer(GOOD)
            .rejected(400, AMBIGUOUS),
        first("only the second").bearer(GOOD).served("tok-good"),
        case(&[12, 28], "what is not used is removed too")
            .layer(|layer| both(layer, MultipleTokens::UseFirst).strip_credentials())
            .header("x-api-key", GOOD)
            .bearer(UNKNOWN)
            .served("tok-good")
            .sees("authorization", &[])
            .sees("x-api-key", &[]),
    ]
}

/// `app-Good-0123456789:` and `app-Good-0123456789:x`
const NO_PASSWORD: &str = "Basic YXBwLUdvb2QtMDEyMzQ1Njc4OTo=";
const PASSWORD: &str = "basic YXBwLUdvb2QtMDEyMzQ1Njc4OTp4";
const BASIC: &str = r#"Basic realm="api""#;
const BASIC_INVALID: &str = r#"Basic realm="api", error="invalid_token""#;

fn basic() -> Vec<Case> {
    let only =
        |name| case(&[45], name).layer(|layer| layer.sources([TokenSource::basic_username()]));
    let beside = |name| {
        case(&[45], name)
            .layer(|layer| layer.sources([TokenSource::bearer(), TokenSource::basic_username()]))
    };
    let mut cases = vec![
        only("no token").rejected(401, BASIC),
        only("another scheme").bearer(GOOD).rejected(401, BASIC),
        only("without a password")
            .authorization(NO_PASSWORD)
            .served("tok-good")
            .has("cache-control", &["private"])
            .has("vary", &["authorization"]),
        only("any password")
            .authorization(PASSWORD)
            .served("tok-good"),
        // `app-unknown-0123456:`
        only("unknown")
            .authorization("Basic YXBwLXVua25vd24tMDEyMzQ1Njo=")
            .rejected(401, BASIC_INVALID)
            .loads(1, 1),
        only("twice")
            .authorization(NO_PASSWORD)
            .authorization(NO_PASSWORD)
            .rejected(400, r#"Basic realm="api", error="invalid_request""#),
        beside("beside Bearer, no token")
            .rejected(401, BARE)
            .rejected(401, BASIC),
        beside("beside Bearer, Basic")
            .authorization(NO_PASSWORD)
            .served("tok-good"),
        beside("beside Bearer, Bearer")
            .bearer(GOOD)
            .served("tok-good"),
        case(&[28, 45], "removed")
            .layer(|layer| {
                let layer = layer.sources([TokenSource::basic_username()]);
                layer.strip_credentials()
            })
            .authorization(NO_PASSWORD)
            .served("tok-good")
            .sees("authorization", &[]),
    ];
    for malformed in [
        "Basic",
        "Basic YXBwLUdvb2QtMDEyMzQ1Njc4OQ==",
        "Basic OmE=",
        "Basic a:b",
    ] {
        let malformed = only("malformed").authorization(malformed);
        cases.push(malformed.rejected(401, BASIC_INVALID));
    }
    cases
}

const PROTOCOLS: &str = "sec-websocket-protocol";
const VARY: &str = "authorization, sec-websocket-protocol";

fn websocket() -> Vec<Case> {
    let page = |name| {
        let case = case(&[46], name).vary(&[VARY]);
        case.layer(|layer| {
            let protocol = TokenSource::websocket_protocol("bearer.");
            layer.sources([TokenSource::bearer(), protocol])
        })
    };
    vec![
        page("no protocol").rejected(401, BARE),
        page("a protocol without a token")
            .header(PROTOCOLS, "v1, bearer")
            .rejected(401, BARE),
        page("an empty token")
            .header(PROTOCOLS, "v1, bearer.")
            .rejected(401, BARE),
        page("a token")
            .header(PROTOCOLS, "v1, bearer.app-Good-0123456789, v2")
            .served("tok-good")
            .sees(PROTOCOLS, &["v1, v2"])
            .has("vary", &[VARY]),
        page("a token in a line of its own")
            .header(PROTOCOLS, "bearer.app-Good-0123456789")
            .header(PROTOCOLS, "v1")
            .served("tok-good")
            .sees(PROTOCOLS, &["v1"]),
        page("an empty token beside Authorization")
            .header(PROTOCOLS, "v1, bearer.")
            .bearer(GOOD)
            .served("tok-good")
            .sees(PROTOCOLS, &["v1"]),
        page("unknown")
            .header(PROTOCOLS, "v1, bearer.app-unknown-0123456")
            .rejected(401, INVALID)
            .loads(1, 1),
        page("malformed")
            .header(PROTOCOLS, "v1, bearer.short")
            .rejected(401, INVALID),
        page("nothing to answer with")
            .header(PROTOCOLS, "bearer.app-Good-0123456789")
            .rejected(400, AMBIGUOUS)
            .has("content-type", &["application/problem+json"]),
        page("two tokens")
            .header(PROTOCOLS, "v1, bearer.app-Good-0123456789, bearer.x")
            .rejected(400, AMBIGUOUS),
        page("beside Authorization")
            .header(PROTOCOLS, "v1, bearer.app-Good-0123456789")
            .bearer(GOOD)
            .rejected(400, AMBIGUOUS),
        page("optional, nothing to answer with")
            .layer(|layer| {
                let protocol = TokenSource::websocket_protocol("bearer.");
                layer.sources([protocol]).optional()
            })
            .vary(&[PROTOCOLS])
            .header(PROTOCOLS, "bearer.app-Good-0123456789")
            .rejected(400, AMBIGUOUS),
        case(&[13, 46], "a protocol that is not a source")
            .header(PROTOCOLS, "v1, bearer.app-Good-0123456789")
            .bearer(GOOD)
            .served("tok-good")
            .sees(PROTOCOLS, &["v1, bearer.app-Good-0123456789"]),
    ]
}
