//! An entry in Redis: any bytes can be decoded, and a decoded entry is the one that was encoded.

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
    let is_absent = match layout {
        Layout::Digest => data == b"N1",
        Layout::Dify => data == b"null",
    };
    assert_eq!(read == Entry::Absent, is_absent);
    if let Entry::Found { record, .. } = &read {
        let theirs = layout.decode(data, &other);
        assert_eq!(theirs, Entry::Corrupt, "it is taken for another token's");
        assert!(has_id(record));
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
        Layout::Dify => assert!(matches!(again, Entry::Found { .. } | Entry::Absent)),
    }
    assert_eq!(layout.encode(&again, &token), Some(written));
}
