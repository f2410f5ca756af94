//! The cases of the table, and their checks.

use http::{HeaderMap, HeaderValue};
use http_body_util::Full;
use tower_api_token::middleware::Verification;
use tower_api_token::{ApiTokenLayerBuilder, CachedApiToken};

use crate::http_conformance::transport::{Ask, Transport, send};
use crate::http_conformance::world::*;

/// Whether a request reached the inner service, and with which token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reached {
    Not,
    Anonymous,
    Token(&'static str),
    /// With a token of another kind.
    Other,
}

/// One request, which is sent twice. The first time it waits for a lookup, if it needs one. The second time
/// it is answered from memory.
#[derive(Clone)]
pub(crate) struct Case {
    /// The lines of http.md.
    pub(crate) lines: Vec<u8>,
    pub(crate) name: &'static str,
    layer: fn(ApiTokenLayerBuilder<()>) -> ApiTokenLayerBuilder<()>,
    pub(crate) ask: Ask,
    /// Headers of the inner service's response.
    inner: Vec<(&'static str, &'static str)>,
    pub(crate) status: u16,
    challenges: Vec<String>,
    has: Vec<(&'static str, Vec<&'static str>)>,
    vary: Vec<&'static str>,
    reached: Reached,
    target: Option<&'static str>,
    sees: Vec<(&'static str, Vec<&'static str>)>,
    /// The number of loads after the first request, and after the second.
    loads: [usize; 2],
}

pub(crate) fn case(lines: &[u8], name: &'static str) -> Case {
    Case {
        lines: lines.to_vec(),
        name,
        layer: |layer| layer,
        ask: Ask {
            method: "GET",
            target: "/".to_owned(),
            headers: Vec::new(),
        },
        inner: Vec::new(),
        status: 0,
        challenges: Vec::new(),
        has: Vec::new(),
        vary: vec!["authorization"],
        reached: Reached::Not,
        target: None,
        sees: Vec::new(),
        loads: [0, 0],
    }
}

/// The request.
impl Case {
    pub(crate) fn layer(
        mut self,
        layer: fn(ApiTokenLayerBuilder<()>) -> ApiTokenLayerBuilder<()>,
    ) -> Self {
        self.layer = layer;
        self
    }

    pub(crate) fn method(mut self, method: &'static str) -> Self {
        self.ask.method = method;
        self
    }

    pub(crate) fn target(mut self, target: impl Into<String>) -> Self {
        self.ask.target = target.into();
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl AsRef<[u8]>) -> Self {
        self.ask.headers.push((name, value.as_ref().to_vec()));
        self
    }

    pub(crate) fn authorization(self, value: impl AsRef<[u8]>) -> Self {
        self.header("authorization", value)
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.authorization(format!("Bearer {token}"))
    }

    pub(crate) fn inner(mut self, name: &'static str, value: &'static str) -> Self {
        self.inner.push((name, value));
        self
    }

    /// Moves the case to another line of http.md.
    pub(crate) fn line(mut self, line: u8) -> Self {
        self.lines = vec![line];
        self
    }
}

/// The answer.
impl Case {
    pub(crate) fn rejected(mut self, status: u16, challenge: &str) -> Self {
        self.status = status;
        self.challenges.push(challenge.to_owned());
        self
    }

    /// Expects a status without a challenge.
    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Expects a status of gRPC.
    pub(crate) fn grpc(self, code: &'static str) -> Self {
        self.status(200).has("grpc-status", &[code])
    }

    pub(crate) fn served(mut self, token: &'static str) -> Self {
        self.reached = Reached::Token(token);
        self.status(200).loads(1, 1)
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.reached = Reached::Anonymous;
        self.status(200)
    }

    /// Expects the request to pass with a token that the layer did not verify.
    pub(crate) fn unverified(mut self) -> Self {
        self.reached = Reached::Other;
        self.status(200)
    }

    pub(crate) fn has(mut self, name: &'static str, values: &[&'static str]) -> Self {
        self.has.push((name, values.to_vec()));
        self
    }

    pub(crate) fn vary(mut self, vary: &[&'static str]) -> Self {
        self.vary = vary.to_vec();
        self
    }

    /// Expects the inner service to see this target.
    pub(crate) fn sees_target(mut self, target: &'static str) -> Self {
        self.target = Some(target);
        self
    }

    pub(crate) fn sees(mut self, name: &'static str, values: &[&'static str]) -> Self {
        self.sees.push((name, values.to_vec()));
        self
    }

    pub(crate) fn loads(mut self, first: usize, second: usize) -> Self {
        self.loads = [first, second];
        self
    }
}

impl Case {
    fn world(&self) -> World {
        let mut world = World::new().layer(self.layer);
        let headers = self.inner.iter();
        let headers = headers.map(|(name, value)| {
            (
                name.parse().unwrap(),
                HeaderValue::try_from(*value).unwrap(),
            )
        });
        world.served = headers.collect::<HeaderMap>();
        world
    }

    fn is_grpc(&self) -> bool {
        self.has.iter().any(|(name, _)| *name == "grpc-status")
    }

    /// Runs the case, and checks everything that it expects.
    pub(crate) async fn run(&self, transport: Transport) {
        let world = self.world();
        let mut replies = Vec::new();
        for loads in self.loads {
            replies.extend(send(transport, &world, &[&self.ask]).await);
            self.expect(world.calls(), loads, "calls of the loader");
        }
        self.expect(&replies[1], &replies[0], "the second answer");
        self.check_answer(&replies[0]);
        self.check_reached(&world);
        if self.loads == [0, 0] {
            world.assert_no_lookup();
        }
        if self.reached == Reached::Not {
            self.check_against_the_call(&replies[0]).await;
        }
    }

    /// Checks that `ApiTokenLayer::verify` decides and answers as the service does.
    pub(crate) async fn verify(&self) {
        let served = send(Transport::Call, &self.world(), &[&self.ask]).await;
        let world = self.world();
        let parts = self.ask.parts();
        for loads in self.loads {
            let verification = world.layer.verify(&parts).await;
            self.expect(world.calls(), loads, "calls of the loader");
            let reached = match &verification {
                Ok(Verification::Verified(token)) => format!("{:?}", Some(token.id())),
                Ok(Verification::Unverified(other)) => other.token().expose().to_owned(),
                Ok(Verification::Anonymous) => "anonymous".to_owned(),
                Err(_) => "rejected".to_owned(),
            };
            let expected = match self.reached {
                Reached::Token(id) => format!("{:?}", Some(id)),
                Reached::Other => OTHER_KIND.to_owned(),
                Reached::Anonymous => "anonymous".to_owned(),
                Reached::Not => "rejected".to_owned(),
            };
            self.expect(reached, expected, "the verification");
            if let Err(rejected) = verification {
                assert!(!rejected.rejection().detail().is_empty());
                let reply = Reply::read(rejected.into_response().map(Full::new)).await;
                self.expect(&reply, &served[0], "the response of a rejection");
            }
        }
        if self.loads == [0, 0] {
            world.assert_no_lookup();
        }
    }

    fn check_answer(&self, reply: &Reply) {
        self.expect(reply.status.as_u16(), self.status, "status");
        let challenges: Vec<&str> = self.challenges.iter().map(String::as_str).collect();
        self.expect(reply.all("www-authenticate"), challenges, "challenges");
        for (name, values) in &self.has {
            self.expect(&reply.all(name), values, name);
        }
        if self.reached != Reached::Not {
            let body: &[u8] = if self.ask.method == "HEAD" {
                b""
            } else {
                b"served"
            };
            self.expect(&reply.body[..], body, "the inner service's body");
            return;
        }
        self.expect(reply.all("vary"), self.vary.clone(), "vary");
        self.expect(reply.all("cache-control"), vec!["no-store"], "caching");
        for connection_specific in [
            "keep-alive",
            "transfer-encoding",
            "upgrade",
            "te",
            "trailer",
        ] {
            self.expect(
                reply.all(connection_specific),
                vec![],
                "connection-specific",
            );
        }
        if self.is_grpc() {
            self.expect(&reply.body[..], b"", "the body of a gRPC rejection");
        } else if self.ask.method != "HEAD" {
            let length = reply.body.len().to_string();
            self.expect(reply.all("content-length"), vec![length.as_str()], "length");
        }
    }

    fn check_reached(&self, world: &World) {
        let reached = world.reached.lock().unwrap();
        let who: Vec<_> = reached
            .iter()
            .map(|parts| {
                let verification = Verification::<()>::from_extensions(&parts.extensions);
                let token = parts.extensions.get::<CachedApiToken>();
                match verification.expect("the layer marks each request") {
                    Verification::Verified(verified) => {
                        assert_eq!(token.map(CachedApiToken::id), Some(verified.id()));
                        verified.id().to_owned()
                    }
                    Verification::Unverified(other) => {
                        assert!(token.is_none());
                        format!("other {}", other.token().expose())
                    }
                    Verification::Anonymous => {
                        assert!(token.is_none());
                        "anonymous".to_owned()
                    }
                }
            })
            .collect();
        let expected = match self.reached {
            Reached::Not => vec![],
            Reached::Anonymous => vec!["anonymous".to_owned(); 2],
            Reached::Token(id) => vec![id.to_owned(); 2],
            Reached::Other => vec![format!("other {OTHER_KIND}"); 2],
        };
        self.expect(who, expected, "the token in the inner service");
        for parts in &*reached {
            if let Some(target) = self.target {
                let seen = parts.uri.path_and_query().map(|target| target.as_str());
                self.expect(seen, Some(target), "the target in the inner service");
            }
            for (name, values) in &self.sees {
                let seen = parts.headers.get_all(*name).iter();
                let seen: Vec<_> = seen.map(|value| value.to_str().unwrap()).collect();
                self.expect(&seen, values, name);
            }
        }
    }

    /// Checks that a rejection is the same over every transport.
    async fn check_against_the_call(&self, reply: &Reply) {
        let called = send(Transport::Call, &self.world(), &[&self.ask]).await;
        let comparable = |reply: &Reply| {
            let mut reply = reply.clone();
            if self.is_grpc() {
                // The server adds it, not the layer.
                reply.headers.retain(|(name, _)| name != "content-length");
            }
            reply.headers.sort();
            reply
        };
        self.expect(
            comparable(reply),
            comparable(&called[0]),
            "the answer to a call",
        );
    }

    #[track_caller]
    fn expect<T: PartialEq + std::fmt::Debug>(&self, is: T, should_be: T, what: &str) {
        let Self { lines, name, .. } = self;
        assert_eq!(is, should_be, "{lines:?} {name}: {what}");
    }
}
