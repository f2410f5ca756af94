//! The other side of a server's process.

use std::io::Read;

use axum::Router;
use tokio::net::TcpListener;

/// Prints the address, and serves until the input is closed.
pub(crate) async fn until_input_ends(router: Router) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        served = axum::serve(listener, router) => served.expect("a server"),
        ended = ended => drop(ended.expect("no panic")),
    }
}
