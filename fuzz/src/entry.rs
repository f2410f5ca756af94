//! An entry in Redis: any bytes can be decoded, and a decoded entry is the one that was encoded.

use serde_json::Value;
use tower_api_token::BearerToken;
use tower_api_token::fuzzing::{Entry, Layout, has_id};

/// Seeds can have its text, and its digest.
pub(crate) const TOKEN: &str = "app-0123456789abcdef";

/// The maximum size of a value. A larger one is not cached.
const MAX_BYTES: usize = 16 * 1024;

pub(crate) fn digest(data: &[u8]) {
    read_and_written(Layout::Digest, data);
}

pub(crate) fn dify(data: &[u8]) {
    read_and_written(Layout::Dify, data);
}

fn read_and_written(layout: Layout, data: &[u8]) {
    let (token, other) = (BearerToken::new(TOKEN), BearerToken::new("app-of-another"));
    let read = layout.decode(data, &token);
    assert_eq!(read == Entry::Lease, data.starts_with(b"L1"));
    assert_eq!(absent(&read), expected_absent(layout, data));
    if let Entry::Found { record, all, .. } = &read {
        let theirs = layout.decode(data, &other);
        assert_eq!(theirs, Entry::Corrupt, "it is taken for another token's");
        assert!(has_id(record));
        if let Some(expected) = expected_all(layout, data) {
            assert_eq!(*all, expected);
        }
    }
    // The entry may exceed the maximum size.
    let Some(written) = layout.encode(&read, &token) else {
        return;
    };
    assert!(written.len() <= MAX_BYTES);
    let again = layout.decode(&written, &token);
    match layout {
        Layout::Digest => assert_eq!(again, read),
        // Python's times have microseconds, so smaller units are lost in the first round trip.
        Layout::Dify => assert!(matches!(again, Entry::Found { .. } | Entry::Absent { .. })),
    }
    assert_eq!(layout.encode(&again, &token), Some(written));
}

/// Returns the generation of all entries of a negative, if it is one.
fn absent(entry: &Entry) -> Option<Option<String>> {
    match entry {
        Entry::Absent { all } => Some(all.clone()),
        _ => None,
    }
}

fn expected_absent(layout: Layout, data: &[u8]) -> Option<Option<String>> {
    match layout {
        Layout::Digest => match data.strip_prefix(b"N1")? {
            // A former release wrote none.
            b"" => Some(None),
            all => {
                let all = std::str::from_utf8(all).ok()?;
                let is_half = all.len() == 16 && all.chars().all(|c| c.is_ascii_hexdigit());
                is_half.then(|| Some(all.to_ascii_lowercase()))
            }
        },
        Layout::Dify => (data == b"null").then_some(None),
    }
}

/// Returns the generation of all entries that a record names, or `None` if a number that nobody reads is too large for
/// this reader. Only the digest layout has it.
fn expected_all(layout: Layout, data: &[u8]) -> Option<Option<String>> {
    match layout {
        Layout::Digest => {
            let json: Value = serde_json::from_slice(&data[2..]).ok()?;
            Some(json["all"].as_str().map(str::to_ascii_lowercase))
        }
        Layout::Dify => Some(None),
    }
}
