//! Lines 12, 14 to 16 and 28: the other sources, and stripping the credential.

use tower_api_token::TokenSource;

use super::GOOD_BEARER;
use crate::http_conformance::case::{Case, case};
use crate::http_conformance::world::*;

pub(super) fn cases() -> Vec<Case> {
    let parts = [several_places(), query(), cookie(), header(), removal()];
    parts.into_iter().flatten().collect()
}

fn several_places() -> Vec<Case> {
    let everywhere = |name| {
        case(&[12], name)
            .layer(|layer| {
                layer.sources([
                    TokenSource::bearer(),
                    TokenSource::header("x-api-key"),
                    TokenSource::cookie("token"),
                    TokenSource::query("access_token"),
                ])
            })
            .vary(&["authorization, x-api-key, cookie"])
    };
    vec![
        everywhere("in none").rejected(401, BARE),
        everywhere("in Authorization")
            .bearer(GOOD)
            .served("tok-good")
            .has("vary", &["authorization, x-api-key, cookie"])
            .has("cache-control", &["private"]),
        everywhere("in the header")
            .header("x-api-key", GOOD)
            .served("tok-good")
            .has("cache-control", &["private"]),
        everywhere("in the cookie")
            .header("cookie", "token=app-Good-0123456789")
            .served("tok-good"),
        everywhere("in the query")
            .target("/?access_token=app-Good-0123456789")
            .served("tok-good"),
        everywhere("another scheme and the header")
            .authorization("Basic YTpi")
            .header("x-api-key", GOOD)
            .served("tok-good"),
        everywhere("empty ones and Authorization")
            .target("/?access_token=")
            .header("x-api-key", "")
            .header("cookie", "token=")
            .bearer(GOOD)
            .served("tok-good"),
        everywhere("Authorization and the header, equal")
            .bearer(GOOD)
            .header("x-api-key", GOOD)
            .rejected(400, AMBIGUOUS),
        everywhere("Authorization and the cookie")
            .bearer(GOOD)
            .header("cookie", "token=app-unknown-0123456")
            .rejected(400, AMBIGUOUS),
        everywhere("the header and the query")
            .header("x-api-key", UNKNOWN)
            .target("/?access_token=app-Good-0123456789")
            .rejected(400, AMBIGUOUS),
        everywhere("the cookie and the query")
            .header("cookie", "token=app-Good-0123456789")
            .target("/?access_token=app-Good-0123456789")
            .rejected(400, AMBIGUOUS),
        everywhere("a valid one and a malformed one")
            .bearer(GOOD)
            .header("x-api-key", "short")
            .rejected(400, AMBIGUOUS),
        everywhere("an ambiguous one and no other")
            .header("x-api-key", GOOD)
            .header("x-api-key", GOOD)
            .rejected(400, AMBIGUOUS),
    ]
}

fn query() -> Vec<Case> {
    let query = |name| {
        case(&[14], name)
            .layer(|layer| layer.sources([TokenSource::query("access_token")]))
            .vary(&[])
    };
    let good = "/a%20b?x=%7e+%2B&access_token=app-Good-0123456789&&y=1&x=2";
    vec![
        query("other parameters keep their order and encoding")
            .target(good)
            .served("tok-good")
            .sees_target("/a%20b?x=%7e+%2B&&y=1&x=2")
            .has("cache-control", &["private"])
            .has("vary", &[]),
        query("the only parameter")
            .target("/a?access_token=app-Good-0123456789")
            .served("tok-good")
            .sees_target("/a"),
        query("escapes are decoded, in the name too")
            .target("/a?access%5Ftoken=any-0123%2B%2f%3D%3d&b")
            .served("tok-any")
            .sees_target("/a?b"),
        query("a plus sign is a space")
            .target("/a?access_token=any-0123+4567")
            .rejected(401, INVALID),
        query("a broken escape")
            .target("/a?access_token=app-Good-012345678%3")
            .rejected(401, INVALID),
        query("none, and Authorization is not a source")
            .bearer(GOOD)
            .rejected(401, BARE),
        query("an empty one")
            .target("/a?access_token=")
            .rejected(401, BARE),
        query("optional, an empty one")
            .layer(|layer| {
                let layer = layer.sources([TokenSource::query("access_token")]);
                layer.optional()
            })
            .target("/a?access_token=&b=1")
            .anonymous()
            .sees_target("/a?b=1"),
        query("twice, the same")
            .target("/a?access_token=app-Good-0123456789&access_token=app-Good-0123456789")
            .rejected(400, AMBIGUOUS),
        query("twice, one of them escaped and empty")
            .target("/a?access_token=app-Good-0123456789&access%5ftoken")
            .rejected(400, AMBIGUOUS),
        query("an unknown token")
            .target("/a?access_token=app-unknown-0123456")
            .rejected(401, INVALID)
            .loads(1, 1),
        query("a response that is stricter already")
            .target("/a?access_token=app-Good-0123456789")
            .inner("cache-control", "max-age=60, No-Store")
            .served("tok-good")
            .has("cache-control", &["max-age=60, No-Store"]),
        query("a response that is private already")
            .target("/a?access_token=app-Good-0123456789")
            .inner("cache-control", "private, max-age=60")
            .served("tok-good")
            .has("cache-control", &["private, max-age=60"]),
        query("a response that is partly private")
            .target("/a?access_token=app-Good-0123456789")
            .inner("cache-control", r#"private="x-a""#)
            .served("tok-good")
            .has("cache-control", &[r#"private="x-a""#, "private"]),
        query("a response that is public")
            .target("/a?access_token=app-Good-0123456789")
            .inner("cache-control", "public, max-age=60")
            .served("tok-good")
            .has("cache-control", &["public, max-age=60", "private"]),
        case(&[15], "shared caching is allowed")
            .layer(|layer| layer.allow_shared_caching())
            .bearer(GOOD)
            .inner("cache-control", "max-age=60")
            .served("tok-good")
            .has("vary", &["authorization"])
            .has("cache-control", &["max-age=60"]),
        case(
            &[15],
            "shared caching is allowed, but the token was in the query",
        )
        .layer(|layer| {
            let layer = layer.sources([TokenSource::query("access_token")]);
            layer.allow_shared_caching()
        })
        .vary(&[])
        .target("/a?access_token=app-Good-0123456789")
        .inner("cache-control", "max-age=60")
        .served("tok-good")
        .has("cache-control", &["max-age=60", "private"]),
        case(&[14], "a response to a token that was not in the query")
            .layer(|layer| {
                layer.sources([TokenSource::bearer(), TokenSource::query("access_token")])
            })
            .inner("cache-control", "max-age=60")
            .bearer(GOOD)
            .target("/a?b=1")
            .served("tok-good")
            .sees_target("/a?b=1")
            .has("cache-control", &["max-age=60", "private"]),
        query("a preflight keeps its URI without the token")
            .layer(|layer| {
                let layer = layer.allow_cors_preflight();
                layer.sources([TokenSource::query("access_token")])
            })
            .method("OPTIONS")
            .header("origin", "https://example.org")
            .header("access-control-request-method", "PUT")
            .target("/a?access_token=app-Good-0123456789&b=1")
            .anonymous()
            .sees_target("/a?b=1"),
    ]
}

fn cookie() -> Vec<Case> {
    let cookie = |name| {
        case(&[15], name)
            .layer(|layer| layer.sources([TokenSource::cookie("token")]))
            .vary(&["cookie"])
    };
    vec![
        cookie("among others in one line")
            .header("cookie", "a=1; token=app-Good-0123456789; b=2")
            .served("tok-good")
            .has("vary", &["cookie"])
            .has("cache-control", &["private"])
            .sees("cookie", &["a=1; token=app-Good-0123456789; b=2"]),
        cookie("in a line of its own")
            .header("cookie", "a=1")
            .header("cookie", "token=app-Good-0123456789")
            .header("cookie", "b=2")
            .served("tok-good"),
        cookie("a response that varies already")
            .header("cookie", "token=app-Good-0123456789")
            .inner("vary", "accept-encoding")
            .served("tok-good")
            .has("vary", &["accept-encoding", "cookie"]),
        cookie("a response that the service allows to be shared")
            .header("cookie", "token=app-Good-0123456789")
            .inner("cache-control", "public, max-age=60")
            .served("tok-good")
            .has("cache-control", &["public, max-age=60"]),
        cookie("a response that only has a lifetime")
            .header("cookie", "token=app-Good-0123456789")
            .inner("cache-control", "max-age=60")
            .served("tok-good")
            .has("cache-control", &["max-age=60", "private"]),
        cookie("in quotes")
            .header("cookie", "token=\"any-0123+/==\"")
            .served("tok-any"),
        cookie("not decoded")
            .header("cookie", "token=any-0123%2B4567")
            .rejected(401, INVALID),
        cookie("none").rejected(401, BARE),
        cookie("others alone")
            .header("cookie", "Token=app-Good-0123456789; token2=x; flag")
            .rejected(401, BARE),
        cookie("an empty one")
            .header("cookie", "token=")
            .rejected(401, BARE),
        cookie("twice in one line, the same")
            .header(
                "cookie",
                "token=app-Good-0123456789; token=app-Good-0123456789",
            )
            .rejected(400, AMBIGUOUS),
        cookie("twice in two lines")
            .header("cookie", "token=app-Good-0123456789")
            .header("cookie", "a=1; token=")
            .rejected(400, AMBIGUOUS),
        cookie("bytes above 0x7f")
            .header("cookie", b"token=app-Good-012345678\xe9")
            .rejected(401, INVALID),
        cookie("an unknown token")
            .header("cookie", "token=app-unknown-0123456")
            .rejected(401, INVALID)
            .loads(1, 1),
        case(&[15], "optional, an anonymous response varies too")
            .layer(|layer| layer.sources([TokenSource::cookie("token")]).optional())
            .header("cookie", "session=1; token=")
            .anonymous()
            .has("vary", &["cookie"])
            .has("cache-control", &[]),
    ]
}

fn header() -> Vec<Case> {
    let raw = |name| {
        case(&[16], name)
            .layer(|layer| layer.sources([TokenSource::header("X-API-Key")]))
            .vary(&["x-api-key"])
    };
    let prefixed = |name| {
        case(&[16], name)
            .layer(|layer| layer.sources([TokenSource::header("x-auth").scheme("Token")]))
            .vary(&["x-auth"])
    };
    vec![
        raw("raw")
            .header("x-api-key", GOOD)
            .served("tok-good")
            .has("vary", &["x-api-key"])
            .has("cache-control", &["private"]),
        raw("a response that may be shared")
            .header("x-api-key", GOOD)
            .inner("cache-control", "s-maxage=60")
            .served("tok-good")
            .has("cache-control", &["s-maxage=60"]),
        raw("whitespace around it")
            .header("x-api-key", " \tapp-Good-0123456789 ")
            .served("tok-good"),
        raw("none").bearer(GOOD).rejected(401, BARE),
        raw("empty").header("x-api-key", "").rejected(401, BARE),
        raw("blanks alone")
            .header("x-api-key", " \t ")
            .rejected(401, BARE),
        raw("with a scheme that is not configured")
            .header("x-api-key", GOOD_BEARER)
            .rejected(401, INVALID),
        raw("two lines, the same")
            .header("x-api-key", GOOD)
            .header("x-api-key", GOOD)
            .rejected(400, AMBIGUOUS),
        raw("bytes above 0x7f")
            .header("x-api-key", b"app-Good-012345678\xe9")
            .rejected(401, INVALID),
        raw("an unknown token")
            .header("x-api-key", UNKNOWN)
            .rejected(401, INVALID)
            .loads(1, 1),
        raw("two Authorization lines are ignored")
            .authorization("Basic YTpi")
            .authorization(GOOD_BEARER)
            .header("x-api-key", GOOD)
            .served("tok-good"),
        prefixed("with its scheme")
            .header("x-auth", "token app-Good-0123456789")
            .served("tok-good"),
        prefixed("without its scheme")
            .header("x-auth", GOOD)
            .rejected(401, BARE),
        prefixed("with only its scheme")
            .header("x-auth", "Token")
            .rejected(401, INVALID),
    ]
}

fn removal() -> Vec<Case> {
    let removed = |name| {
        case(&[28], name)
            .layer(|layer| {
                layer.optional().strip_credentials().sources([
                    TokenSource::bearer(),
                    TokenSource::header("x-api-key"),
                    TokenSource::cookie("token"),
                    TokenSource::query("access_token"),
                ])
            })
            .vary(&["authorization, x-api-key, cookie"])
    };
    vec![
        removed("from Authorization")
            .bearer(GOOD)
            .served("tok-good")
            .has("vary", &["authorization, x-api-key, cookie"])
            .sees("authorization", &[]),
        removed("from the header")
            .header("x-api-key", GOOD)
            .authorization("Basic YTpi")
            .served("tok-good")
            .sees("x-api-key", &[])
            .sees("authorization", &["Basic YTpi"]),
        removed("from the cookies")
            .header("cookie", "a=1; token=app-Good-0123456789;b=2")
            .served("tok-good")
            .sees("cookie", &["a=1;b=2"]),
        removed("from the cookies, the only one")
            .header("cookie", "token=app-Good-0123456789")
            .served("tok-good")
            .sees("cookie", &[]),
        removed("empty ones, as anonymous")
            .target("/a?access_token=")
            .header("cookie", "token=; a=1")
            .header("x-api-key", "")
            .anonymous()
            .sees_target("/a")
            .sees("cookie", &["a=1"])
            .sees("x-api-key", &[]),
        case(&[28], "of a preflight, from the query")
            .layer(|layer| {
                let layer = layer.allow_cors_preflight().strip_credentials();
                layer.sources([TokenSource::query("access_token")])
            })
            .method("OPTIONS")
            .header("origin", "https://example.org")
            .header("access-control-request-method", "PUT")
            .target("/a?access_token=x&b=1&access_token=y")
            .anonymous()
            .sees_target("/a?b=1"),
        case(
            &[28],
            "from Authorization while another header is the source",
        )
        .layer(|layer| {
            layer
                .strip_credentials()
                .sources([TokenSource::header("x-api-key")])
        })
        .vary(&["x-api-key"])
        .bearer("another-0123456789")
        .header("x-api-key", GOOD)
        .served("tok-good")
        .sees("authorization", &[])
        .sees("x-api-key", &[]),
        removed("after another scheme, in one line")
            .authorization("Basic YTpi, Bearer another-0123456789")
            .anonymous()
            .sees("authorization", &[]),
        removed("another scheme, with commas")
            .authorization("Digest a=b, bearer=c")
            .anonymous()
            .sees("authorization", &["Digest a=b, bearer=c"]),
        case(&[28], "another scheme that is configured")
            .layer(|layer| {
                layer
                    .sources([TokenSource::authorization("Token")])
                    .strip_credentials()
            })
            .authorization("Token app-Good-0123456789")
            .served("tok-good")
            .sees("authorization", &[]),
        case(&[28], "nothing is removed by default")
            .bearer(GOOD)
            .served("tok-good")
            .sees("authorization", &[GOOD_BEARER]),
    ]
}
