//! Fuzz targets: each takes any bytes, and panics if a property is violated.
//!
//! `scripts/fuzz` runs them with libFuzzer, guided by coverage, on stable Rust. `tests/seeds.rs` runs each on its
//! seeds in `corpus/` and on mutations of them, with every `cargo test`.

mod bearer;
mod entry;
mod forward_auth;
mod pushes;
mod redis_url;
mod times;
mod token_format;

/// Takes any bytes, and panics if a property is violated.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 8] = [
    ("bearer", bearer::target),
    ("entry", entry::digest),
    ("entry_dify", entry::dify),
    ("forward_auth", forward_auth::target),
    ("pushes", pushes::target),
    ("redis_url", redis_url::target),
    ("times", times::target),
    ("token_format", token_format::target),
];

/// Returns the target with this name.
///
/// # Panics
/// Panics if there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let Some((_, target)) = found else {
        panic!("there is no fuzz target {name:?}");
    };
    *target
}
