//! Lines 1 to 11 and 13: reading `Authorization`.

use tower_api_token::TokenSource;

use super::GOOD_BEARER;
use crate::http_conformance::case::{Case, case};
use crate::http_conformance::world::*;

pub(super) fn cases() -> Vec<Case> {
    let parts = [authorization(), caches(), malformed()];
    parts.into_iter().flatten().collect()
}

fn authorization() -> Vec<Case> {
    let mut cases = vec![
        case(&[1], "no token").rejected(401, BARE),
        case(&[2], "optional, no token")
            .layer(|layer| layer.optional())
            .anonymous()
            .has("vary", &["authorization"])
            .has("cache-control", &[]),
        case(&[2], "another scheme, which is configured")
            .layer(|layer| layer.sources([TokenSource::authorization("ApiKey")]))
            .authorization("apikey app-Good-0123456789")
            .served("tok-good"),
        case(&[2, 38], "the default scheme while another is configured")
            .layer(|layer| layer.sources([TokenSource::authorization("ApiKey")]))
            .authorization(GOOD_BEARER)
            .rejected(401, r#"ApiKey realm="api""#),
        case(&[2, 38], "two schemes, no token")
            .layer(|layer| {
                layer.sources([TokenSource::bearer(), TokenSource::authorization("Token")])
            })
            .authorization("Basic YTpi")
            .rejected(401, BARE)
            .rejected(401, r#"Token realm="api""#),
        case(&[4, 5, 42], "a valid token")
            .bearer(GOOD)
            .served("tok-good"),
        case(&[4], "a valid token in another case")
            .bearer("APP-Good-0123456789")
            .rejected(401, INVALID)
            .loads(1, 1),
        case(&[10], "two lines, the same token")
            .authorization(GOOD_BEARER)
            .authorization(GOOD_BEARER)
            .rejected(400, AMBIGUOUS),
        case(&[10], "two lines, another scheme first")
            .authorization("Basic YTpi")
            .authorization(GOOD_BEARER)
            .rejected(400, AMBIGUOUS),
        case(&[10], "optional, two lines")
            .layer(|layer| layer.optional())
            .authorization(GOOD_BEARER)
            .authorization("")
            .rejected(400, AMBIGUOUS),
        case(&[13], "a query parameter that is not a source")
            .target("/a?access_token=app-Good-0123456789")
            .rejected(401, BARE),
        case(&[13], "a cookie and a header that are not sources")
            .header("cookie", "token=app-Good-0123456789")
            .header("x-api-key", GOOD)
            .rejected(401, BARE),
        case(
            &[13],
            "what is not a source reaches the inner service unchanged",
        )
        .target("/a?access_token=other&b=2")
        .header("cookie", "token=other")
        .bearer(GOOD)
        .served("tok-good")
        .sees_target("/a?access_token=other&b=2")
        .sees("cookie", &["token=other"])
        .sees("authorization", &[GOOD_BEARER]),
        case(&[9], "a token of the greatest length")
            .bearer(&format!("{ANY}{}", "a".repeat(508)))
            .served("tok-any"),
        case(&[7], "a wider alphabet")
            .layer(|layer| layer.visible_ascii_tokens())
            .bearer("any-!\"#$%&'(),:;")
            .served("tok-any"),
    ];
    for value in [
        "",
        "Basic YTpi",
        "Token app-Good-0123456789",
        "ApiKey x",
        "Bearerx y",
    ] {
        let other = case(&[2], "another scheme").authorization(value);
        cases.push(other.clone().rejected(401, BARE));
        cases.push(other.layer(|layer| layer.optional()).anonymous());
    }
    for scheme in ["bearer", "BEARER", "bEaReR", "Bearer   "] {
        let value = format!("{scheme} {GOOD}");
        let any_case = case(&[4, 5], "the scheme in any case, with spaces");
        cases.push(any_case.authorization(value).served("tok-good"));
    }
    for value in [
        " \t Bearer app-Good-0123456789",
        "Bearer app-Good-0123456789 \t",
    ] {
        let blanks = case(&[6], "whitespace around the value");
        cases.push(blanks.authorization(value).served("tok-good"));
    }
    cases
}

/// Responses to `Authorization` are marked for shared caches, some of which do not know that rule.
fn caches() -> Vec<Case> {
    let good = |name| case(&[15], name).bearer(GOOD).served("tok-good");
    let mut cases = vec![
        good("a response without cache headers")
            .has("vary", &["authorization"])
            .has("cache-control", &["private"]),
        good("optional, a valid token")
            .layer(|layer| layer.optional())
            .has("vary", &["authorization"])
            .has("cache-control", &["private"]),
        case(&[15], "optional, an anonymous response may be stored")
            .layer(|layer| layer.optional())
            .inner("cache-control", "max-age=60")
            .anonymous()
            .has("vary", &["authorization"])
            .has("cache-control", &["max-age=60"]),
    ];
    for said in [
        "max-age=60",
        "max-age=60, must-revalidate",
        "proxy-revalidate",
        "no-cache",
        r#"private="x-a""#,
        r#"x="public""#,
    ] {
        let unshared = good("a response that must not be shared").inner("cache-control", said);
        cases.push(unshared.has("cache-control", &[said, "private"]));
    }
    for said in [
        "public, max-age=60",
        "max-age=1, S-MaxAge=60",
        "private, max-age=60",
        "no-store",
    ] {
        let left = good("a response that says who may store it").inner("cache-control", said);
        let left = left.has("vary", &["authorization"]);
        cases.push(left.has("cache-control", &[said]));
    }
    cases
}

fn malformed() -> Vec<Case> {
    let long = "a".repeat(513);
    let values: &[(u8, &[u8])] = &[
        (3, b"Bearer"),
        (3, b"Bearer  \t"),
        (5, b"Bearer\tapp-Good-0123456789"),
        (5, b"Bearer \tapp-Good-0123456789"),
        (6, b"Bearer app-Good -0123456789"),
        (6, b"Bearer app-Good\t-0123456789"),
        (7, b"Bearer app-Good=0123456789"),
        (7, b"Bearer \"app-Good-0123456789\""),
        (7, b"Bearer app_Good:0123456789"),
        (7, b"Bearer ========="),
        (8, b"Bearer app-Good-012345678\xe9"),
        (8, b"Bearer \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"),
        (8, b"Bearer\xa0app-Good-0123456789"),
        (9, b"Bearer 1234567"),
        (
            11,
            b"Bearer app-Good-0123456789, Bearer app-Good-0123456789",
        ),
        (11, b"Bearer app-Good-0123456789,"),
    ];
    let mut cases: Vec<Case> = values
        .iter()
        .map(|(line, value)| case(&[*line], "malformed").authorization(value))
        .collect();
    cases.push(case(&[9], "too long").bearer(&long));
    let optional = cases[0].clone().layer(|layer| layer.optional());
    cases.push(optional);
    let rejected = cases.into_iter().map(|case| case.rejected(401, INVALID));
    rejected.collect()
}
