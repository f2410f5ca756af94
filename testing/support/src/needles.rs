//! A search for texts that must not be leaked.

use std::collections::HashMap;

/// How many consecutive characters of a text count as a leak: 12 characters of base62 are 71 bits.
const PIECE: usize = 12;

/// The size, in bits, of the filter that excludes most positions quickly.
const FILTER_BITS: usize = 1 << 22;

/// Finds texts that must not be leaked, and every piece of 12 characters of them, in the forms that logs, URLs and
/// headers may have: plain, percent-encoded (reserved characters or every byte), base64 (both alphabets, at any
/// alignment, so that `Basic …` is found too), and hexadecimal.
///
/// ```
/// use test_support::Needles;
///
/// let mut needles = Needles::new();
/// needles.add("the token", "app-Zk3Qv81LmN0pRs7T");
/// assert_eq!(needles.find(b"GET /?key=Zk3Qv81LmN0p"), Some("the token, as it is"));
/// assert_eq!(needles.find(b"GET /?key=Zk3Qv81LmN0"), None);
/// ```
#[derive(Debug)]
pub struct Needles {
    /// Pieces by their length, which is the same for all pieces of one form.
    by_length: HashMap<usize, HashMap<Vec<u8>, String>>,
    filter: Vec<bool>,
}

impl Needles {
    /// Creates an empty search.
    pub fn new() -> Self {
        Self {
            by_length: HashMap::new(),
            filter: vec![false; FILTER_BITS],
        }
    }

    /// Adds a text, under the name that is reported if it is found.
    ///
    /// # Panics
    ///
    /// Panics if the text is shorter than 12 characters: pieces of it would be found by chance.
    pub fn add(&mut self, name: &str, text: &str) {
        let bytes = text.as_bytes();
        assert!(
            bytes.len() >= PIECE,
            "{name} is too short to be searched for"
        );
        self.pieces(name, "as it is", bytes, PIECE);
        self.pieces(name, "percent-encoded", &percent(bytes, true), PIECE);
        let whole = percent(bytes, false);
        self.pieces(name, "percent-encoded", &whole, 3 * PIECE);
        let lower = String::from_utf8_lossy(&whole).to_lowercase();
        self.pieces(name, "percent-encoded", lower.as_bytes(), 3 * PIECE);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.pieces(name, "in hex", hex.as_bytes(), 2 * PIECE);
        self.pieces(name, "in hex", hex.to_uppercase().as_bytes(), 2 * PIECE);
        for start in 0..3 {
            let encoded = base64(&bytes[start..]);
            self.pieces(name, "in base64", encoded.as_bytes(), 4 * PIECE / 3);
            let url_safe = encoded.replace('+', "-").replace('/', "_");
            self.pieces(name, "in base64", url_safe.as_bytes(), 4 * PIECE / 3);
        }
    }

    fn pieces(&mut self, name: &str, form: &str, encoded: &[u8], length: usize) {
        for piece in encoded.windows(length) {
            self.filter[slot(piece)] = true;
            self.by_length
                .entry(length)
                .or_default()
                .entry(piece.to_vec())
                .or_insert_with(|| format!("{name}, {form}"));
        }
    }

    /// Returns the name and form of the first text that is found.
    pub fn find(&self, haystack: &[u8]) -> Option<&str> {
        self.position(haystack).map(|(_, name)| name)
    }

    /// Asserts that nothing is found.
    ///
    /// # Panics
    ///
    /// Panics if something is found.
    #[track_caller]
    pub fn assert_none_in(&self, place: &str, haystack: impl AsRef<[u8]>) {
        let haystack = haystack.as_ref();
        if let Some((start, name)) = self.position(haystack) {
            let around = &haystack[start.saturating_sub(200)..haystack.len().min(start + 200)];
            panic!("{name}, is in {place}: …{}…", around.escape_ascii());
        }
    }

    fn position(&self, haystack: &[u8]) -> Option<(usize, &str)> {
        for (start, window) in haystack.windows(PIECE).enumerate() {
            if !self.filter[slot(window)] {
                continue;
            }
            for (length, pieces) in &self.by_length {
                let piece = haystack.get(start..start + length);
                if let Some(name) = piece.and_then(|piece| pieces.get(piece)) {
                    return Some((start, name));
                }
            }
        }
        None
    }
}

impl Default for Needles {
    fn default() -> Self {
        Self::new()
    }
}

/// Returns a cheap hash of the beginning of a piece.
fn slot(piece: &[u8]) -> usize {
    let begin = u32::from_le_bytes([piece[0], piece[1], piece[2], piece[3]]);
    begin.wrapping_mul(0x9e37_79b1) as usize % FILTER_BITS
}

/// Percent-encodes every byte, or only those that RFC 3986 does not list as unreserved.
fn percent(bytes: &[u8], sparing: bool) -> Vec<u8> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let mut encoded = Vec::new();
    for byte in bytes {
        if sparing && unreserved(*byte) {
            encoded.push(*byte);
        } else {
            encoded.extend(format!("%{byte:02X}").bytes());
        }
    }
    encoded
}

/// Encodes complete groups of three bytes in base64 (RFC 4648). The rest depends on the bytes that follow.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for group in bytes.chunks_exact(3) {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for shift in [18, 12, 6, 0] {
            encoded.push(char::from(ALPHABET[(bits >> shift) as usize % 64]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "app-Zk3Qv81LmN0p+s7T/9fGhYw==";

    fn needles() -> Needles {
        let mut needles = Needles::new();
        needles.add("it", TEXT);
        needles
    }

    #[test]
    fn every_form_of_every_piece_is_found() {
        let needles = needles();
        for start in 0..TEXT.len() - PIECE {
            let piece = &TEXT[start..start + PIECE];
            let text = format!("level=TRACE header={piece:?}");
            assert_eq!(
                needles.find(text.as_bytes()),
                Some("it, as it is"),
                "{text}"
            );
        }
        for (form, text) in [
            ("percent-encoded", "?key=N0p%2Bs7T%2F9fGhYw&a=b"),
            ("percent-encoded", "%5A%6B%33%51%76%38%31%4C%6D%4E%30%70"),
            ("percent-encoded", "%5a%6b%33%51%76%38%31%4c%6d%4e%30%70"),
            ("in hex", "5a6b33517638314c6d4e3070"),
            ("in hex", "5A6B33517638314C6D4E3070"),
            // "u:", "us:" and "use:" before it.
            (
                "in base64",
                "Basic dTphcHAtWmszUXY4MUxtTjBwK3M3VC85ZkdoWXc9PQ==",
            ),
            (
                "in base64",
                "Basic dXM6YXBwLVprM1F2ODFMbU4wcCtzN1QvOWZHaFl3PT0=",
            ),
            (
                "in base64",
                "Basic dXNlOmFwcC1aazNRdjgxTG1OMHArczdULzlmR2hZdz09",
            ),
        ] {
            let expected = format!("it, {form}");
            assert_eq!(
                needles.find(text.as_bytes()),
                Some(expected.as_str()),
                "{text}"
            );
        }
    }

    #[test]
    fn shorter_pieces_and_other_texts_are_not_found() {
        let needles = needles();
        for text in [
            "",
            "app-Zk3Qv81",
            "app_Zk3Qv81LmN0",
            "a quite different line of a log",
        ] {
            assert_eq!(needles.find(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    #[should_panic(expected = "it, as it is, is in the log: …key=Zk3Qv81LmN0p…")]
    fn match_is_reported_with_its_place() {
        needles().assert_none_in("the log", "key=Zk3Qv81LmN0p");
    }
}
