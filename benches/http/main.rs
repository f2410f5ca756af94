//! What the layer costs a server: axum over HTTP with the layer, without any authentication, and with a
//! middleware written by hand, each a process of its own with one thread, whose CPU time is read.
//!
//! `cargo bench --bench http`, or `-- local` or `-- redis` for one half of it; a minute and a half, and
//! some more with valgrind. Linux, for its CPU times.

mod by_hand;
mod client;
mod local_hits;
mod measure;
mod process;
mod redis_hits;
mod serve;
mod server;
#[path = "../common/table.rs"]
mod table;
#[path = "../common/hot.rs"]
mod tokens;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    if let [serve, name, redis] = arguments.as_slice()
        && serve == "serve"
    {
        runtime.block_on(server::serve(name, redis));
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
