//! The check of a format, compared with a slow implementation of its definition.

use tower_api_token::TokenFormat;

const BASE62: &str = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Reads the length of the random part from the first byte. The rest is a token, or the input for one.
pub(crate) fn target(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else {
        return;
    };
    let length = 22 + usize::from(*choice) % 107;
    let format = TokenFormat::from_static("acme_")
        .random_length(length)
        .expect("a length");
    if let Ok(text) = std::str::from_utf8(rest) {
        assert_eq!(
            format.matches(text),
            is_token(text, "acme_", length),
            "{text}"
        );
        prefix(text);
    }
    made(&format, length, rest);
}

/// Asserts that a token of these bytes passes, and that similar ones do not.
fn made(format: &TokenFormat, length: usize, bytes: &[u8]) {
    let digit = |place: usize| {
        let byte = bytes.get(place % bytes.len().max(1)).copied().unwrap_or(0);
        char::from(BASE62.as_bytes()[usize::from(byte) % 62])
    };
    let random: String = (0..length).map(digit).collect();
    let token = format!("acme_{random}{}", base62(u64::from(crc(random.as_bytes()))));
    assert!(format.matches(&token), "{token}");
    assert_eq!(token.len(), format.token_length());
    for place in 0..token.len() {
        let mut slip = token.clone().into_bytes();
        slip[place] = if slip[place] == b'z' { b'0' } else { b'z' };
        let slip = String::from_utf8(slip).expect("ASCII");
        assert!(!format.matches(&slip), "{slip}");
    }
}

/// Asserts that tokens with this prefix pass, if it is a valid one.
fn prefix(text: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    let good = (1..=32).contains(&text.chars().count()) && text.chars().all(plain);
    let format = TokenFormat::new(text);
    assert_eq!(format.is_ok(), good, "{text:?}");
    if let Ok(format) = format {
        let token = format.generate().expect("random bytes");
        assert!(format.matches(token.expose()));
        assert!(is_token(token.expose(), text, 30));
    }
}

fn is_token(text: &str, prefix: &str, length: usize) -> bool {
    let Some(rest) = text.strip_prefix(prefix) else {
        return false;
    };
    if rest.len() != length + 6 || !rest.chars().all(|c| BASE62.contains(c)) {
        return false;
    }
    let (random, checksum) = rest.split_at(length);
    let value = checksum.chars().fold(0, |value, c| {
        value * 62 + BASE62.find(c).expect("one of them") as u64
    });
    value == u64::from(crc(random.as_bytes()))
}

fn base62(mut value: u64) -> String {
    let mut digits = String::new();
    for _ in 0..6 {
        digits.insert(0, char::from(BASE62.as_bytes()[(value % 62) as usize]));
        value /= 62;
    }
    digits
}

/// Computes the CRC-32 bit by bit, as a division of polynomials.
fn crc(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for bit in bytes
        .iter()
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1))
    {
        let out = remainder & 1 ^ u32::from(bit);
        remainder >>= 1;
        if out == 1 {
            remainder ^= 0xedb8_8320;
        }
    }
    !remainder
}
