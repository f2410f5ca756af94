//! Lines 32 and 36: CORS outside the layer, and upgrades.

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONNECTION, ORIGIN, UPGRADE, VARY};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_http::cors::{Any, CorsLayer};

use crate::http_conformance::transport::Server;
use crate::http_conformance::world::*;

/// 32
#[tokio::test]
async fn cors_outside_answers_preflights_and_adds_to_rejections() {
    let world = World::new();
    let cors = CorsLayer::new()
        .allow_origin(["https://example.org".parse().unwrap()])
        .allow_methods(Any)
        .expose_headers(["grpc-status".parse().unwrap()]);
    let service = ServiceBuilder::new()
        .layer(cors)
        .layer(world.layer.clone())
        .service(service_fn(world.inner()));
    let mut requests = rejected();
    let (mut grpc, _) = bearer(UNKNOWN).into_parts();
    grpc.method = http::Method::POST;
    let content_type = HeaderValue::from_static("application/grpc-web+proto");
    grpc.headers.insert("content-type", content_type);
    requests.push(("gRPC-Web", Request::from_parts(grpc, Empty::new())));
    for (name, mut request) in requests {
        let origin = HeaderValue::from_static("https://example.org");
        request.headers_mut().insert(ORIGIN, origin);
        let reply = Reply::read(service.clone().oneshot(request).await.unwrap()).await;
        assert!(reply.status.as_u16() >= 400 || name == "gRPC-Web", "{name}");
        assert_eq!(
            reply.one(ACCESS_CONTROL_ALLOW_ORIGIN),
            "https://example.org",
            "{name}"
        );
        assert_eq!(
            reply.one("access-control-expose-headers"),
            "grpc-status",
            "{name}"
        );
        let vary = reply.all(VARY).join(", ");
        assert!(
            vary.contains("authorization") && vary.contains("origin"),
            "{name}: {vary}"
        );
    }
    let reply = service.oneshot(preflight()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert!(world.reached().is_empty(), "the inner service was called");
}

/// Answers 101, and then echoes what it reads.
async fn upgrade(request: Request<Incoming>) -> hyper::Result<Response<Empty<Bytes>>> {
    tokio::spawn(async {
        let upgraded = hyper::upgrade::on(request).await.unwrap();
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    });
    let switch = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let switch = switch.header(CONNECTION, "upgrade").header(UPGRADE, "echo");
    Ok(switch.body(Empty::new()).unwrap())
}

async fn upgrading(world: &World) -> Server {
    let service = TowerToHyperService::new(world.layer.layer(service_fn(upgrade)));
    Server::start(async move |listener| {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service.clone();
            tokio::spawn(async move {
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connection.with_upgrades().await
            });
        }
    })
    .await
}

async fn ask(stream: &mut TcpStream, token: &str) {
    let request = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\
         Authorization: Bearer {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
}

async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// 36
#[tokio::test]
async fn a_rejected_upgrade_does_not_happen() {
    let world = World::new();
    let server = upgrading(&world).await;
    for (token, status) in [
        (UNKNOWN, 401),
        (SUSPENDED, 403),
        (FAILING, 503),
        ("short", 401),
    ] {
        let mut stream = server.connect().await;
        ask(&mut stream, token).await;
        let head = head(&mut stream).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert!(!head.to_ascii_lowercase().contains("upgrade"), "{head}");
    }
}

/// 36
#[tokio::test]
async fn an_accepted_upgrade_happens_after_the_decision() {
    let world = World::new();
    let gate = world.database.gate.clone();
    gate.close();
    let server = upgrading(&world).await;
    let mut stream = server.connect().await;
    ask(&mut stream, GOOD).await;
    gate.reached(1).await;
    // The loader has not answered, so there is no response yet.
    let mut byte = [0];
    let early = stream.try_read(&mut byte).unwrap_err();
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    gate.open();
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    stream.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"ping");
}
