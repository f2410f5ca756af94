//! The cost of a request and of an entry.
//!
//! `cargo bench --bench hot --all-features -- NAME`: a module's name.

#[path = "../common/mod.rs"]
mod common;
mod hot_path;
mod local_memory;
mod redis_hits;

fn main() {
    common::program::run(&[
        ("hot_path", hot_path::main),
        ("local_memory", local_memory::main),
        ("redis_hits", redis_hits::main),
    ]);
}
