//! What arguments may be. PostgreSQL reports a NUL character as a database error, which would look like an outage.

use crate::error::Error;

/// The most bytes of an id, a name or an actor.
const LONGEST: usize = 200;

/// Returns whether the text can be an identifier in our tables.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control)
}

pub(crate) fn check_id(field: &'static str, text: &str) -> Result<(), Error> {
    if is_id(text) {
        Ok(())
    } else {
        let rule = "empty, longer than 200 bytes, or has control characters";
        Err(Error::invalid(field, rule))
    }
}

/// The number of rows of a page that does not name one.
const DEFAULT_LIMIT: u32 = 100;

/// The most rows of a page, which are about 500 kB.
const LARGEST_LIMIT: u32 = 1_000;

pub(crate) fn checked_limit(limit: Option<u32>) -> Result<u32, Error> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if (1..=LARGEST_LIMIT).contains(&limit) {
        Ok(limit)
    } else {
        Err(Error::invalid("limit", "not from 1 to 1,000"))
    }
}
