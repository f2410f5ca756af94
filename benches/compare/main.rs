//! Comparisons with other ways to serve the same requests.
//!
//! `cargo bench --bench compare --all-features -- NAME`: a module's name.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod flask;
mod local_maps;
mod process;
mod serve;
mod server;

fn main() {
    common::program::run(&[
        ("flask", flask::main),
        ("local_maps", local_maps::main),
        ("server", server::main),
    ]);
}
