//! The compiler's messages for likely mistakes, which must name the remedy. The mistakes are in `cases/`, with the
//! messages beside them.
//!
//! This is a package of its own with few dependencies, because they are compiled again for the cases.

/// The compiler whose messages are in `cases/`. With another one the test is skipped.
///
/// After an intended change, run `TRYBUILD=overwrite cargo test -p ui`, and read the new messages.
pub const COMPILER: &str = "rustc 1.95";
