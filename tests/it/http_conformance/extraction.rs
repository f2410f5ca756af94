//! Lines 1 to 11: reading `Authorization`.

use http::HeaderValue;

use crate::http_conformance::world::*;

const OTHER_SCHEMES: [&str; 8] = [
    "",
    "   ",
    "Basic YWxhZGRpbjpvcGVuc2VzYW1l",
    "Token app-Good-0123456789",
    "ApiKey app-Good-0123456789",
    "Bearer-App app-Good-0123456789",
    "Bearerapp-Good-0123456789",
    "app-Good-0123456789",
];

/// 2
#[tokio::test]
async fn another_scheme_is_answered_as_a_missing_token() {
    let world = World::new();
    let nothing = world.send(get(&[])).await;
    for value in OTHER_SCHEMES {
        assert_eq!(world.authorization(value).await, nothing, "{value:?}");
    }
    world.assert_no_lookup();
}

/// 2
#[tokio::test]
async fn in_optional_mode_another_scheme_or_none_is_anonymous() {
    let world = World::new().layer(|layer| layer.optional());
    world.send(get(&[])).await.assert_served();
    for value in OTHER_SCHEMES {
        world.authorization(value).await.assert_served();
    }
    assert_eq!(world.reached(), vec![None; 1 + OTHER_SCHEMES.len()]);
    world.assert_no_lookup();
}

/// 3, 5, 6, 7, 8, 9, 11: a bearer credential that is not a token is rejected like an unknown token, without
/// a lookup.
#[tokio::test]
async fn a_malformed_token_is_rejected_as_unknown_without_a_lookup() {
    let unknown = World::new().bearer(UNKNOWN).await;
    let world = World::new();
    let long = "a".repeat(513);
    let bytes = |text: &str| format!("Bearer {text}").into_bytes();
    let table: &[(u8, Vec<u8>)] = &[
        (3, b"Bearer".to_vec()),
        (3, b"Bearer ".to_vec()),
        (3, b"bearer \t  ".to_vec()),
        (5, b"Bearer\tapp-Good-0123456789".to_vec()),
        (5, b"Bearer \tapp-Good-0123456789".to_vec()),
        (5, b"Bearer\t app-Good-0123456789".to_vec()),
        (6, bytes("app-Good -0123456789")),
        (6, bytes("app-Good\t-0123456789")),
        (7, bytes("=========")),
        (7, bytes("app-Good=0123456789")),
        (7, bytes("\"app-Good-0123456789\"")),
        (7, bytes("app-Good-0123456789;")),
        (7, bytes("app_Good:0123456789")),
        (8, bytes("app-Good-012345678\u{e9}")),
        (8, b"Bearer \xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8".to_vec()),
        (8, b"Bearer\xa0app-Good-0123456789".to_vec()),
        (9, bytes("1234567")),
        (9, bytes(&long)),
        (11, bytes("app-Good-0123456789, Bearer app-Good-0123456789")),
        (11, bytes("app-Good-0123456789,Bearer app-Good-0123456789")),
        (11, bytes("app-Good-0123456789,")),
        (11, bytes("app-Good-0123456789, Basic YTpi")),
    ];
    for (line, value) in table {
        let reply = world.authorization(value).await;
        let value = String::from_utf8_lossy(value);
        assert_eq!(reply, unknown, "line {line}: {value:?}");
    }
    world.assert_no_lookup();
    assert!(world.reached().is_empty());
}

/// 5, 6
#[tokio::test]
async fn whitespace_around_a_token_is_not_part_of_it() {
    let world = World::new();
    for value in [
        "Bearer app-Good-0123456789",
        "Bearer    app-Good-0123456789",
        "  \t Bearer app-Good-0123456789",
        "Bearer app-Good-0123456789 \t ",
        "\tBearer   app-Good-0123456789\t",
    ] {
        world.authorization(value).await.assert_served();
    }
    assert_eq!(world.calls(), 1, "all of them are one token");
}

fn in_b64token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
}

/// Returns every byte that a header value can have, inside a token and at its end.
fn each_byte() -> impl Iterator<Item = (u8, bool, Vec<u8>)> {
    let values = (0..=255).filter(|byte| HeaderValue::from_bytes(&[*byte]).is_ok());
    values.flat_map(|byte| {
        [false, true].map(|last| {
            let mut value = format!("Bearer {ANY}0123456789").into_bytes();
            value.push(byte);
            if !last {
                value.push(b'z');
            }
            (byte, last, value)
        })
    })
}

/// 7, 8
#[tokio::test]
async fn the_alphabet_is_rfc_6750_with_equals_signs_only_at_the_end() {
    let world = World::new();
    for (byte, last, value) in each_byte() {
        let blank_at_the_end = last && matches!(byte, b' ' | b'\t');
        let good = in_b64token(byte) || last && byte == b'=' || blank_at_the_end;
        let calls = world.calls();
        let reply = world.authorization(&value).await;
        if good {
            reply.assert_served();
        } else {
            reply.assert_rejected(401, INVALID);
            assert_eq!(world.calls(), calls, "looked up: {byte:#x}, last: {last}");
        }
    }
    let reply = world.bearer("any-AZaz09-._~+/==").await;
    reply.assert_served();
}

/// 7, 8
#[tokio::test]
async fn visible_ascii_tokens_adds_visible_ascii_and_nothing_else() {
    let world = World::new().layer(|layer| layer.visible_ascii_tokens());
    for (byte, last, value) in each_byte() {
        let good = byte.is_ascii_graphic() || last && matches!(byte, b' ' | b'\t');
        let reply = world.authorization(&value).await;
        let expected = if good { 200 } else { 401 };
        assert_eq!(reply.status, expected, "{byte:#x}, last: {last}");
    }
}

/// 9
#[tokio::test]
async fn the_length_limits_are_inclusive_and_configurable() {
    let token = |length: usize| format!("{ANY}{}", "a".repeat(length - ANY.len()));
    let world = World::new();
    for length in [8, 512] {
        world.bearer(&token(length)).await.assert_served();
    }
    let world = World::new().layer(|layer| layer.token_length(20..=30));
    for length in [19, 31] {
        let reply = world.bearer(&token(length)).await;
        reply.assert_rejected(401, INVALID);
    }
    world.assert_no_lookup();
    for length in [20, 30] {
        world.bearer(&token(length)).await.assert_served();
    }
}
