//! The cost of the layer for a server: axum over HTTP with the layer, without authentication, and with a
//! hand-written middleware. Each is a process with one thread, whose CPU time is measured.
//!
//! `cargo bench --bench compare --all-features -- server`, or with `local` or `redis` appended for one half of
//! it. It takes a minute and a half, and longer with valgrind. Linux only, for the CPU times.

use crate::common::program;
mod by_hand;
mod local_hits;
mod measure;
mod redis_hits;
mod routes;

pub(crate) fn main() {
    let arguments = program::arguments();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    if let [serve, name, redis] = arguments.as_slice()
        && serve == "serve"
    {
        runtime.block_on(routes::serve(name, redis));
        return;
    }
    let asked = |half: &str| arguments.iter().any(|argument| argument == half);
    if asked("local") || !asked("redis") {
        local_hits::run(&runtime);
    }
    if asked("redis") || !asked("local") {
        redis_hits::run(&runtime);
    }
}
