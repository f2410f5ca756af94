//! The cost of a request and of an entry.
//!
//! `cargo bench --bench hot --all-features -- NAME`: a module's name.

#[path = "../common/mod.rs"]
mod common;
mod hot_path;
mod local_memory;
mod redis_hits;

/// Prints whether other work runs on this machine.
fn quiet() {
    let slowdown = common::table::slowdown();
    let is_quiet = slowdown <= common::table::QUIET;
    let so = if is_quiet {
        "quiet"
    } else {
        "**busy**: rows measured beside other work are marked"
    };
    println!("A spin on all cores takes {slowdown:.2} times its CPU time: the machine is {so}.\n");
}

fn main() {
    common::program::run(&[
        ("hot_path", hot_path::main),
        ("local_memory", local_memory::main),
        ("redis_hits", redis_hits::main),
        ("quiet", quiet),
    ]);
}
