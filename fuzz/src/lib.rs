//! Fuzz targets: each takes any bytes and panics where what is promised does not hold.
//!
//! `scripts/fuzz` runs them with libFuzzer, guided by coverage, on stable Rust. `tests/seeds.rs` runs
//! each on its seeds in `corpus/`, and on some changes of them, with every `cargo test`.

mod bearer;
mod entry;
mod redis_url;
mod times;
mod token_format;

/// Takes any bytes, and panics where a promise is broken.
pub type Target = fn(&[u8]);

/// The targets by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("bearer", bearer::target),
    ("entry", entry::digest),
    ("entry_seed", entry::seed),
    ("redis_url", redis_url::target),
    ("times", times::target),
    ("token_format", token_format::target),
];

/// The target of this name.
///
/// # Panics
/// Panics if there is none.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    let Some((_, target)) = found else {
        panic!("no fuzz target is called {name:?}");
    };
    *target
}
