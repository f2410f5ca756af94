//! A token as the user name of `Basic`: RFC 7617, and base64 of RFC 4648.

use crate::middleware::credentials::grammar::{Limits, Presented};
use crate::middleware::credentials::scheme;

/// The scheme of RFC 7617.
pub(super) const BASIC: &str = "Basic";

/// Reads the user name. Clients send no password, or a placeholder, which is not looked at.
pub(super) fn read<'a>(value: &'a [u8], limits: &Limits) -> Presented<'a> {
    let Some(encoded) = scheme::credential(value, BASIC) else {
        return Presented::Nothing;
    };
    match username(encoded) {
        Some(name) => limits.presented_decoded(name),
        None => Presented::Malformed,
    }
}

/// Returns the bytes before the first colon, without which there are no user name and password.
fn username(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut text = decode(encoded)?;
    let end = text.iter().position(|byte| *byte == b':')?;
    text.truncate(end);
    Some(text)
}

/// Decodes base64, whose padding may be missing.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let digits = &text[..text.len() - padding];
    let is_cut = digits.len() % 4 == 1;
    let is_padded = padding == 0 || text.len().is_multiple_of(4) && padding < 3;
    if is_cut || !is_padded {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() * 3 / 4);
    for group in digits.chunks(4) {
        let mut bits = 0;
        for digit in group {
            bits = bits << 6 | value(*digit)?;
        }
        // A group of four has three bytes, and a shorter one a byte less than it has digits.
        bits <<= 6 * (4 - group.len());
        out.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    Some(out)
}

fn value(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (encoded, text) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
            ("Zm9vYmE", "fooba"),
            ("+/+/", "\u{fb}\u{ff}\u{bf}"),
        ] {
            let bytes: Vec<u8> = text.chars().map(|c| c as u8).collect();
            assert_eq!(decode(encoded.as_bytes()), Some(bytes), "{encoded}");
        }
        for bad in [
            "Z", "Zm9vY", "Zm=v", "Zg=", "Zg===", "=", "====", "Zm9-", "Zm 9", "Zm9v\n",
        ] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn every_byte_is_decoded_at_every_place() {
        for byte in 0..=u8::MAX {
            for at in 0..3 {
                let mut bytes = [0x5a; 3];
                bytes[at] = byte;
                let bits = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
                let digits = [18, 12, 6, 0].map(|shift| {
                    let six = bits >> shift & 63;
                    (0..=u8::MAX)
                        .find(|digit| value(*digit) == Some(six))
                        .unwrap()
                });
                assert_eq!(decode(&digits).as_deref(), Some(&bytes[..]));
            }
        }
    }

    #[test]
    fn the_user_name_is_the_token_whatever_the_password() {
        let reads = |value: &'static str| read(value.as_bytes(), &Limits::default());
        let token = Presented::Token("abcdefgh".into());
        // `abcdefgh:`, `abcdefgh:x`, `abcdefgh:a:b`
        for value in [
            "Basic YWJjZGVmZ2g6",
            "basic  YWJjZGVmZ2g6eA==",
            "BASIC YWJjZGVmZ2g6eA",
            "Basic YWJjZGVmZ2g6YTpi",
        ] {
            assert_eq!(reads(value), token, "{value}");
        }
        // Without a colon, without a user name, too short, not UTF-8, not base64.
        for value in [
            "Basic",
            "Basic YWJjZGVmZ2g=",
            "Basic OmFiY2RlZmdo",
            "Basic YTpi",
            "Basic //////////////86",
            "Basic abcdefgh:",
            "Basic\tYWJjZGVmZ2g6",
        ] {
            assert_eq!(reads(value), Presented::Malformed, "{value}");
        }
        assert_eq!(reads("Bearer abcdefgh"), Presented::Nothing);
    }
}
