//! What the codecs of both layouts share.

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde::de::value::UnitDeserializer;

use crate::store::entry::{Nonce, Value};

/// The beginning of a lease.
pub(crate) const LEASE: &[u8] = b"L1";

/// The size limit of an entry. Larger records are answered and not cached.
pub(crate) const MAX_BYTES: usize = 16 * 1024;

/// Why a value is not written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EncodeError {
    TooLarge,
    /// The metadata's `Serialize` failed or panicked.
    Unwritable,
}

/// The meaning of the bytes under a key.
#[derive(Debug)]
pub(crate) enum Decoded<M> {
    Lease,
    Value(Value<M>),
    /// They cannot be read, have an unknown version, or belong to another token.
    Corrupt,
}

pub(crate) fn lease(nonce: Nonce) -> String {
    format!("L1{nonce}")
}

pub(crate) fn within_limit(bytes: Vec<u8>) -> Result<Vec<u8>, EncodeError> {
    if bytes.len() > MAX_BYTES {
        return Err(EncodeError::TooLarge);
    }
    Ok(bytes)
}

/// Serializes metadata. `None` is null: `()`, or an `Option` without a value, is not written.
pub(crate) fn write_metadata(
    metadata: &impl Serialize,
) -> Result<Option<serde_json::Value>, EncodeError> {
    let metadata =
        guarded(|| serde_json::to_value(metadata).ok()).ok_or(EncodeError::Unwritable)?;
    Ok((!metadata.is_null()).then_some(metadata))
}

/// Returns the metadata, or if there is none, what the type reads from nothing: `()` and an `Option` can. It may panic, as
/// the user's `Deserialize` may.
pub(crate) fn read_metadata<M: DeserializeOwned>(metadata: Option<M>) -> Option<M> {
    let unit = UnitDeserializer::<serde_json::Error>::new();
    metadata.or_else(|| M::deserialize(unit).ok())
}

/// Runs code that calls the user's `Serialize` or `Deserialize`. A panic in it counts as an error.
pub(crate) fn guarded<T>(code: impl FnOnce() -> Option<T>) -> Option<T> {
    // guard: M1
    catch_unwind(AssertUnwindSafe(code)).ok().flatten()
}
