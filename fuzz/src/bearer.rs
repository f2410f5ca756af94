//! The `Authorization` field: exactly the form of RFC 6750 is accepted, and other schemes are distinguished from
//! malformed values.

use tower_api_token::fuzzing::{Credential, read_bearer};

/// Reads the limits from the first byte, and the field's value from the rest.
pub(crate) fn target(data: &[u8]) {
    let Some((choice, value)) = data.split_first() else {
        return;
    };
    let lengths = match choice >> 1 & 3 {
        0 => 8..=512,
        1 => 1..=8,
        2 => 3..=3,
        _ => 1..=usize::MAX,
    };
    let visible = choice & 1 == 1;
    let expected = expected(value, |token| {
        let alphabet = if visible {
            token.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
        } else {
            is_b64token(token)
        };
        alphabet && token.len() >= *lengths.start() && token.len() <= *lengths.end()
    });
    assert_eq!(read_bearer(value, lengths, visible), expected);
}

/// Parses `OWS "bearer" 1*SP token OWS`, or another scheme. It begins at the end, unlike the crate's parser, and
/// follows the grammar of the RFCs.
fn expected(value: &[u8], is_token: impl Fn(&str) -> bool) -> Credential<'_> {
    let blanks = |bytes: &[u8]| bytes.iter().all(|byte| b" \t".contains(byte));
    let start = (0..=value.len()).rfind(|at| blanks(&value[..*at]));
    let value = &value[start.expect("nothing is blanks")..];
    let end = (0..=value.len()).find(|at| blanks(&value[*at..]));
    let value = &value[..end.expect("nothing is blanks")];

    // The scheme is the longest token of RFC 9110 section 5.6.2 at the beginning.
    let separators = b"\"(),/:;<=>?@[\\]{}";
    let in_scheme = |byte: &u8| (0x21..0x7f).contains(byte) && !separators.contains(byte);
    let length = value.iter().position(|byte| !in_scheme(byte));
    let (scheme, rest) = value.split_at(length.unwrap_or(value.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Credential::Nothing;
    }
    let last_space = rest.iter().rposition(|byte| *byte == b' ');
    let Some((spaces, token)) = last_space.map(|at| rest.split_at(at + 1)) else {
        return Credential::Malformed;
    };
    match std::str::from_utf8(token) {
        Ok(token) if spaces.iter().all(|byte| *byte == b' ') && is_token(token) => {
            Credential::Token(token)
        }
        _ => Credential::Malformed,
    }
}

/// Matches `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_b64token(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    let in_body = |c: char| c.is_ascii_alphabetic() || c.is_ascii_digit() || "-._~+/".contains(c);
    !body.is_empty() && body.chars().all(in_body)
}
