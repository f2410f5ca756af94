//! Line 44: tokens of other kinds.

use tower_api_token::{ApiTokenLayerBuilder, Rejection, TokenSource};

use crate::http_conformance::case::{Case, case};
use crate::http_conformance::world::*;

fn passing(layer: ApiTokenLayerBuilder<()>) -> ApiTokenLayerBuilder<()> {
    // Shorter than the other kind's.
    let layer = layer.token_length(8..=128);
    layer.token_format(FORMAT).pass_other_tokens()
}

pub(super) fn cases() -> Vec<Case> {
    let passes = |name| case(&[44], name).layer(passing);
    let mut cases = vec![
        passes("ours, and valid")
            .bearer(OF_THE_FORMAT)
            .served("tok-format"),
        passes("another kind")
            .bearer(OTHER_KIND)
            .unverified()
            .has("vary", &["authorization"])
            .has("cache-control", &["private"]),
        passes("no token").rejected(401, BARE),
        passes("another scheme")
            .authorization("Basic YTpi")
            .rejected(401, BARE),
        case(&[44], "optional, no token")
            .layer(|layer| passing(layer).optional())
            .anonymous(),
        case(&[44], "no policy sees another kind")
            .layer(|layer| passing(layer).policy(|_, _| Err(Rejection::INSUFFICIENT_SCOPE)))
            .bearer(OTHER_KIND)
            .unverified(),
        case(&[44], "another kind is rejected by default")
            .layer(|layer| layer.token_format(FORMAT))
            .bearer(OTHER_KIND)
            .rejected(401, INVALID),
        case(&[44], "another kind in the query, in escapes")
            .layer(|layer| passing(layer).sources([TokenSource::query("t")]))
            .target(format!("/a?t=%65{}&b=1", &OTHER_KIND[1..]))
            .unverified()
            .has("cache-control", &["private"])
            .sees_target("/a?b=1"),
        case(&[44], "two kinds in two places")
            .layer(|layer| {
                let places = [TokenSource::bearer(), TokenSource::header("x-api-key")];
                passing(layer).sources(places)
            })
            .vary(&["authorization, x-api-key"])
            .bearer(OTHER_KIND)
            .header("x-api-key", OF_THE_FORMAT)
            .rejected(400, AMBIGUOUS),
        case(&[28, 44], "another kind is removed like ours")
            .layer(|layer| passing(layer).strip_credentials())
            .bearer(OTHER_KIND)
            .unverified()
            .sees("authorization", &[]),
        case(&[37, 44], "gRPC, another kind")
            .layer(passing)
            .method("POST")
            .header("content-type", "application/grpc")
            .bearer(OTHER_KIND)
            .unverified(),
        case(&[37, 44], "gRPC, a damaged token of ours")
            .layer(passing)
            .method("POST")
            .header("content-type", "application/grpc")
            .bearer("acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18")
            .grpc("16"),
    ];
    for damaged in [
        "acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq18",
        "acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq1",
        "acme_",
        "a b",
        "eyJ.é",
        "eyJhbGci, acme_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17",
        "",
    ] {
        let optional = |layer| passing(layer).optional();
        let damaged = case(&[44], "neither ours nor another's").bearer(damaged);
        let rejected = damaged.rejected(401, INVALID);
        cases.push(rejected.clone().layer(passing));
        cases.push(rejected.layer(optional));
    }
    cases
}
