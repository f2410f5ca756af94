//! A token among the subprotocols of a WebSocket: RFC 6455 section 4.1.
//!
//! A page cannot set `Authorization` for a WebSocket, but it can choose the subprotocols.

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue};

use crate::middleware::credentials::grammar::{Limits, Presented, trim};

/// Reads the subprotocol that begins with `prefix`. There may be several headers.
///
/// Browsers close a socket whose server selects none of the offered protocols. The token's must not be selected, so
/// that the request has to offer another one.
pub(super) fn read<'a>(headers: &'a HeaderMap, prefix: &str, limits: &Limits) -> Presented<'a> {
    let mut tokens = offers(headers).filter_map(|offer| offer.strip_prefix(prefix.as_bytes()));
    match (tokens.next(), tokens.next()) {
        (None | Some(b""), None) => Presented::Nothing,
        // guard: H35
        (Some(_), None) if !offers(headers).any(|offer| is_another(offer, prefix)) => {
            Presented::NoProtocol
        }
        (Some(token), None) => limits.presented(token),
        (_, Some(_)) => Presented::Multiple,
    }
}

/// Removes the token's subprotocol, so that the inner service cannot select it, and keeps all others.
pub(super) fn remove(headers: &mut HeaderMap, prefix: &str) {
    if offers(headers).all(|offer| is_another(offer, prefix)) {
        return;
    }
    let lines: Vec<HeaderValue> = values(headers).cloned().collect();
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    for line in &lines {
        let offers = list(line);
        let kept: Vec<&[u8]> = offers.filter(|offer| is_another(offer, prefix)).collect();
        // Made of the bytes of a header value, it is one.
        if let Ok(mut kept) = HeaderValue::from_bytes(&kept.join(&b", "[..]))
            && !kept.is_empty()
        {
            kept.set_sensitive(line.is_sensitive());
            headers.append(SEC_WEBSOCKET_PROTOCOL, kept);
        }
    }
}

fn is_another(offer: &[u8], prefix: &str) -> bool {
    !offer.starts_with(prefix.as_bytes())
}

/// Returns all offered protocols, in their order.
fn offers(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    values(headers).flat_map(list)
}

fn values(headers: &HeaderMap) -> impl Iterator<Item = &HeaderValue> {
    headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter()
}

fn list(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let offers = line.as_bytes().split(|byte| *byte == b',').map(trim);
    offers.filter(|offer| !offer.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let values = lines.iter().map(|line| line.parse().unwrap());
        values
            .map(|value| (SEC_WEBSOCKET_PROTOCOL, value))
            .collect()
    }

    fn reads(lines: &[&str]) -> Result<String, &'static str> {
        match read(&headers(lines), "bearer.", &Limits::default()) {
            Presented::Token(token) => Ok(token.into_owned()),
            Presented::Nothing => Err("nothing"),
            Presented::Malformed => Err("malformed"),
            Presented::Multiple => Err("multiple"),
            Presented::NoProtocol => Err("no protocol"),
            Presented::Other(_) => Err("other"),
        }
    }

    #[test]
    fn a_token_is_found_among_the_protocols() {
        for lines in [
            &["v1, bearer.abcdefgh"][..],
            &["bearer.abcdefgh,v1"],
            &["v1", "bearer.abcdefgh"],
            &["bearer.abcdefgh", " , v1 ,"],
        ] {
            assert_eq!(reads(lines), Ok("abcdefgh".to_owned()), "{lines:?}");
        }
        for (lines, expected) in [
            (&[][..], "nothing"),
            (&["v1"], "nothing"),
            (&["v1, bearer."], "nothing"),
            (&["v1, Bearer.abcdefgh, x-bearer.abcdefgh"], "nothing"),
            (&["bearer.abcdefgh"], "no protocol"),
            (&["bearer.short"], "no protocol"),
            (&[", bearer.abcdefgh ,"], "no protocol"),
            (&["v1, bearer.short"], "malformed"),
            (&["v1, bearer.abcdefgh, bearer.abcdefgh"], "multiple"),
            (&["v1, bearer.abcdefgh", "bearer."], "multiple"),
        ] {
            assert_eq!(reads(lines), Err(expected), "{lines:?}");
        }
    }

    #[test]
    fn the_tokens_protocol_is_removed_and_all_others_stay() {
        for (before, after) in [
            (&["v1, bearer.x, v2"][..], &["v1, v2"][..]),
            (&["bearer.x"], &[]),
            (&["bearer.x, bearer."], &[]),
            (&["v1", "bearer.x", "v2,bearer.y"], &["v1", "v2"]),
            (&["v1 ,v2"], &["v1 ,v2"]),
        ] {
            let mut headers = headers(before);
            remove(&mut headers, "bearer.");
            let left: Vec<_> = values(&headers).collect();
            assert_eq!(left, after, "{before:?}");
        }
    }
}
