//! The table of requests and their answers. It is run by calling the service, and over HTTP/1.1 and HTTP/2
//! with real servers, bare hyper and axum.

mod answers;
mod extraction;
mod kinds;
mod methods;
mod more_places;
mod places;
mod scopes;
mod verdicts;

use crate::http_conformance::case::Case;
use crate::http_conformance::transport::Framework::{Axum, Hyper};
use crate::http_conformance::transport::Transport;

const GOOD_BEARER: &str = "Bearer app-Good-0123456789";

pub(crate) fn cases() -> Vec<Case> {
    let sections = [
        extraction::cases(),
        kinds::cases(),
        places::cases(),
        more_places::cases(),
        verdicts::cases(),
        scopes::cases(),
        methods::cases(),
        answers::cases(),
    ];
    sections.into_iter().flatten().collect()
}

async fn run(transport: Transport) {
    let cases = cases();
    for case in &cases {
        case.run(transport).await;
    }
    println!("{transport:?}: {} cases, each sent twice", cases.len());
}

#[tokio::test]
async fn the_table_holds_when_the_service_is_called() {
    run(Transport::Call).await;
}

#[tokio::test]
async fn the_table_holds_when_a_head_is_verified_without_a_service() {
    for case in cases() {
        case.verify().await;
    }
}

#[tokio::test]
async fn the_table_holds_over_http1_on_bare_hyper() {
    run(Transport::Http1(Hyper)).await;
}

#[tokio::test]
async fn the_table_holds_over_http2_on_bare_hyper() {
    run(Transport::Http2(Hyper)).await;
}

#[tokio::test]
async fn the_table_holds_over_http1_on_axum() {
    run(Transport::Http1(Axum)).await;
}

#[tokio::test]
async fn the_table_holds_over_http2_on_axum() {
    run(Transport::Http2(Axum)).await;
}
