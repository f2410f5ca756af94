//! The program behind real proxies, with the settings of the guide. The addresses in them are replaced, and nothing else.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use test_support::{Answer, Example, FaultProxy, ProxyKind, ReverseProxy};
use tower_api_token::BearerToken;

use super::client::{ask, bearer, eventually, send};
use super::database::{Database, invented};
use super::service::{Seen, Service, digest};
use super::tap::Tap;
use super::verifier::{address, start};

const PREFLIGHT: [&str; 2] = [
    "Origin: https://page.example",
    "Access-Control-Request-Method: POST",
];

/// Runs each test behind each proxy.
macro_rules! behind_each_proxy {
    ($($test:ident,)*) => {
        behind_each_proxy! { @ nginx Nginx [doc = "In Debian."] $($test)* }
        behind_each_proxy! { @ caddy Caddy [doc = "In Debian."] $($test)* }
        behind_each_proxy! { @ haproxy HaProxy [doc = "In Debian."] $($test)* }
        behind_each_proxy! { @ traefik Traefik [ignore = "run by scripts/forward-auth"] $($test)* }
        behind_each_proxy! { @ envoy Envoy [ignore = "run by scripts/forward-auth"] $($test)* }
    };
    (@ $module:ident $kind:ident $attribute:tt $($test:ident)*) => {
        mod $module {
            $(#[test]
            #$attribute
            fn $test() {
                super::$test(test_support::ProxyKind::$kind);
            })*
        }
    };
}

behind_each_proxy! {
    good_token_reaches_the_service_with_its_identity,
    forged_identity_does_not_reach_the_service,
    missing_and_invalid_tokens_are_refused,
    two_tokens_are_refused,
    token_is_read_from_another_header,
    revoked_token_is_refused,
    token_of_a_suspended_tenant_is_forbidden,
    outage_of_the_database_is_unavailable,
    slow_database_is_waited_for,
    preflights_are_refused_unless_enabled,
    only_the_true_method_makes_a_preflight,
    upload_reaches_the_service_and_not_the_verifier,
    refused_upload_is_refused_before_it_is_sent,
    nothing_passes_while_the_verifier_hangs_or_is_gone,
    answers_of_the_service_are_its_own,
}

/// Returns the settings of the guide with these addresses.
fn settings(kind: ProxyKind, port: u16, verifier: SocketAddr, service: SocketAddr) -> String {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/forward_auth");
    let file = match kind {
        ProxyKind::Nginx => "nginx.conf",
        ProxyKind::Caddy => "Caddyfile",
        ProxyKind::HaProxy => "haproxy.cfg",
        ProxyKind::Traefik => "traefik.yml",
        ProxyKind::Envoy => "envoy.yaml",
    };
    let mut settings = std::fs::read_to_string(format!("{directory}/{file}")).unwrap();
    for (ours, theirs) in [
        (3000, verifier.port()),
        (8080, service.port()),
        (8000, port),
    ] {
        // Envoy's have the port by itself. Traefik has the public one elsewhere.
        let forms = ["127.0.0.1:", "127.0.0.1, port_value: "];
        let [ours, theirs] = [ours, theirs].map(|port| forms.map(|form| format!("{form}{port}")));
        assert!(
            ours.iter().any(|ours| settings.contains(ours)) || kind == ProxyKind::Traefik,
            "{file}: {ours:?}"
        );
        for (ours, theirs) in ours.iter().zip(&theirs) {
            settings = settings.replace(ours, theirs);
        }
    }
    let script = format!("{directory}/verify.lua");
    settings.replace("/etc/haproxy/verify.lua", &script)
}

struct World {
    database: Database,
    service: Service,
    proxy: ReverseProxy,
    verifier: Example,
    tap: Option<Tap>,
}

impl World {
    fn start(kind: ProxyKind) -> Self {
        let database = Database::create();
        let verifier = start(&database.url(), &[]);
        Self::with(kind, database, verifier, None)
    }

    fn with(kind: ProxyKind, database: Database, verifier: Example, tap: Option<Tap>) -> Self {
        Self::with_header(kind, database, verifier, tap, None)
    }

    fn with_header(
        kind: ProxyKind,
        database: Database,
        verifier: Example,
        tap: Option<Tap>,
        token_header: Option<&str>,
    ) -> Self {
        let service = Service::start();
        let asked = tap.as_ref().map_or(address(&verifier), |tap| tap.address);
        let proxy = ReverseProxy::start(kind, |port| {
            let settings = settings(kind, port, asked, service.address);
            match token_header {
                // As the guide says. Envoy has a key that begins like this.
                Some(name) => settings
                    .replace("Authorization", name)
                    .replace("authorization", name)
                    .replace(&format!("{name}_response"), "authorization_response"),
                None => settings,
            }
        });
        Self {
            database,
            service,
            proxy,
            verifier,
            tap,
        }
    }

    /// With preflights enabled, and a tap between proxy and verifier.
    fn tapped(kind: ProxyKind) -> Self {
        let database = Database::create();
        // Envoy alone asks with the method of the request.
        let by = if kind == ProxyKind::Envoy {
            "method"
        } else {
            "x-forwarded-method"
        };
        let variables = [("CORS_PREFLIGHTS", by)];
        let verifier = start(&database.url(), &variables);
        let tap = Tap::start(address(&verifier));
        Self::with(kind, database, verifier, Some(tap))
    }

    fn add(&self) -> BearerToken {
        self.database.add("tok_1", "acme", Some("shop"))
    }

    #[track_caller]
    fn ask(&self, request: &str, lines: &[&str]) -> Answer {
        ask(self.proxy.addr(), request, lines)
    }

    #[track_caller]
    fn ask_as(&self, token: &BearerToken) -> Answer {
        self.ask("GET /orders", &[&bearer(token)])
    }

    /// Asserts a refusal of a request that the service does not see.
    #[track_caller]
    fn refuses(&self, status: u16, request: &str, lines: &[&str]) -> Answer {
        let before = self.service.requests();
        let answer = self.ask(request, lines).expect(status);
        assert_eq!(self.service.requests(), before);
        assert_eq!(answer.header("cache-control"), "no-store", "{answer:?}");
        assert!(answer.header("content-type").contains("json"), "{answer:?}");
        answer
    }
}

fn good_token_reaches_the_service_with_its_identity(kind: ProxyKind) {
    let world = World::start(kind);
    let token = world.database.add("tok_1", "zwölf, GmbH", None);
    for method in [
        "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    ] {
        let request = format!("{method} /orders/1?a=%2F&b");
        let length = if method == "GET" {
            "X-None: 1"
        } else {
            "Content-Length: 0"
        };
        let seen = Seen::of(world.ask(&request, &[&bearer(&token), length]));
        assert_eq!(format!("{} {}", seen.method, seen.uri), request);
        assert_eq!(seen.header("x-api-token-id"), ["tok_1"]);
        assert_eq!(seen.header("x-api-token-tenant"), ["zw%C3%B6lf%2C%20GmbH"]);
        assert_eq!(seen.header("x-api-token-type"), ["app"]);
        assert_eq!(seen.header("x-api-token-app").concat(), "");
        assert!(seen.header("authorization").is_empty(), "{seen:?}");
    }
    let head = world.ask("HEAD /orders", &[&bearer(&token)]).expect(200);
    assert_eq!(head.body, "");
}

fn forged_identity_does_not_reach_the_service(kind: ProxyKind) {
    let world = World::start(kind);
    // Without an app, for which the client sends one.
    let token = world.database.add("tok_1", "acme", None);
    let forged = [
        &bearer(&token),
        "X-Api-Token-Id: admin",
        "x-api-token-id: admin",
        "X-Api-Token-Tenant: admin",
        "X-Api-Token-App: admin",
        "X_Api_Token_App: admin",
        "x_api-token_type: admin",
        "X-Api_Token-Tenant: admin",
        "X-API-TOKEN_ID: admin",
    ];
    let seen = Seen::of(world.ask("GET /", &forged));
    assert_eq!(seen.header("x-api-token-id"), ["tok_1"]);
    assert_eq!(seen.header("x-api-token-tenant"), ["acme"]);
    assert_eq!(seen.header("x-api-token-type"), ["app"]);
    assert_eq!(seen.header("x-api-token-app").concat(), "");
}

fn missing_and_invalid_tokens_are_refused(kind: ProxyKind) {
    let world = World::start(kind);
    let missing = world.refuses(401, "GET /", &[]);
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"api\"");
    let unknown = bearer(&invented());
    for wrong in [
        unknown.as_str(),
        "Authorization: Bearer",
        "Authorization: Bearer a,b",
    ] {
        for request in ["GET /", "DELETE /orders/1", "OPTIONS /"] {
            let answer = world.refuses(401, request, &[wrong]);
            let challenge = "Bearer realm=\"api\", error=\"invalid_token\"";
            assert_eq!(answer.header("www-authenticate"), challenge);
            assert_eq!(
                answer
                    .head
                    .to_lowercase()
                    .matches("www-authenticate:")
                    .count(),
                1
            );
        }
    }
    // What looks like a gRPC call, for which the program must not answer gRPC's 200.
    let grpc = ["Content-Type: application/grpc", "Content-Length: 0"];
    if kind == ProxyKind::Envoy {
        // It makes gRPC's answer of the program's 401.
        let answer = world.ask("POST /shop.Orders/List", &grpc).expect(200);
        assert_eq!(answer.header("grpc-status"), "16");
        assert_eq!(world.service.requests(), 0);
    } else {
        world.refuses(401, "POST /shop.Orders/List", &grpc);
    }
}

fn two_tokens_are_refused(kind: ProxyKind) {
    let world = World::start(kind);
    let (token, unknown) = (world.add(), invented());
    for other in [&token, &unknown] {
        let lines = [bearer(&token), bearer(other)];
        let lines = lines.each_ref().map(String::as_str);
        // nginx refuses these itself.
        world.ask("GET /", &lines).expect(ambiguous(kind));
    }
    assert_eq!(world.service.requests(), 0);
}

/// Envoy joins two lines by a comma, and makes one token of them that is malformed.
fn ambiguous(kind: ProxyKind) -> u16 {
    if kind == ProxyKind::Envoy { 401 } else { 400 }
}

fn token_is_read_from_another_header(kind: ProxyKind) {
    const NAME: &str = "x-api-key";
    let database = Database::create();
    let verifier = start(&database.url(), &[("TOKEN_HEADER", NAME)]);
    let world = World::with_header(kind, database, verifier, None, Some(NAME));
    let token = world.add();
    let key = |token: &BearerToken| format!("X-Api-Key: {}", token.expose());
    let seen = Seen::of(world.ask("GET /", &[&key(&token)]));
    assert_eq!(seen.header("x-api-token-id"), ["tok_1"]);
    assert!(seen.header(NAME).is_empty(), "{seen:?}");
    world.refuses(401, "GET /", &[&bearer(&token)]);
    for other in [&token, &invented()] {
        let status = ambiguous(kind);
        let answer = world.refuses(status, "GET /", &[&key(&token), &key(other)]);
        let error = if status == 400 {
            "invalid_request"
        } else {
            "invalid_token"
        };
        let challenge = format!("Bearer realm=\"api\", error=\"{error}\"");
        assert_eq!(answer.header("www-authenticate"), challenge);
        assert!(answer.header("retry-after").is_empty(), "{answer:?}");
    }
}

fn revoked_token_is_refused(kind: ProxyKind) {
    let world = World::start(kind);
    let token = world.add();
    for _ in 0..2 {
        world.ask_as(&token).expect(200);
    }
    world
        .database
        .change("UPDATE tokens SET revoked_at = now()");
    world.refuses(401, "GET /orders", &[&bearer(&token)]);
}

fn token_of_a_suspended_tenant_is_forbidden(kind: ProxyKind) {
    let world = World::start(kind);
    let token = world.add();
    world.ask_as(&token).expect(200);
    world.database.change("UPDATE tenants SET suspended = true");
    let denied = world.refuses(403, "GET /orders", &[&bearer(&token)]);
    assert_eq!(denied.header("www-authenticate"), "Bearer realm=\"api\"");
    // nginx gets no body from the verifier.
    let has_reason = denied.body.contains("The account is suspended.");
    assert_eq!(has_reason, kind != ProxyKind::Nginx, "{denied:?}");
    world
        .database
        .change("UPDATE tenants SET suspended = false");
    world.ask_as(&token).expect(200);
}

fn outage_of_the_database_is_unavailable(kind: ProxyKind) {
    let database = Database::create();
    let way = FaultProxy::start(database.server.addr());
    let verifier = start(&database.url_at(way.addr()), &[]);
    let world = World::with(kind, database, verifier, None);
    let known = world.add();
    let token = world.database.add("tok_2", "acme", None);
    // A new token is invalidated, after which it is not cached.
    world.database.settle();
    world.ask_as(&known).expect(200);
    way.cut();
    let refused = world.refuses(503, "GET /orders", &[&bearer(&token)]);
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.header("www-authenticate").is_empty(), "{refused:?}");
    world.ask_as(&known).expect(200);
    way.heal();
    eventually("the database is back", || {
        world.ask_as(&token).status == 200
    });
}

fn slow_database_is_waited_for(kind: ProxyKind) {
    let world = World::start(kind);
    let token = world.add();
    let lock = world.database.lock("tenants");
    let answer = thread::scope(|scope| {
        let answer = scope.spawn(|| world.ask_as(&token));
        // Less than the verifier's own limit of 3 seconds, and more than one try of HAProxy's.
        thread::sleep(Duration::from_secs(2));
        drop(lock);
        answer.join().unwrap()
    });
    answer.expect(200);
}

fn preflights_are_refused_unless_enabled(kind: ProxyKind) {
    let refusing = World::start(kind);
    refusing.refuses(401, "OPTIONS /orders", &PREFLIGHT);

    let passing = World::tapped(kind);
    let forged = [
        &PREFLIGHT[..],
        &["X-Api-Token-Id: admin", "X_Api_Token_App: admin"],
    ]
    .concat();
    let seen = Seen::of(passing.ask("OPTIONS /orders", &forged));
    assert_eq!(seen.method, "OPTIONS");
    for name in ["x-api-token-id", "x-api-token-app", "x-api-token-tenant"] {
        assert_eq!(seen.header(name).concat(), "", "{name}");
    }
    let unknown = bearer(&invented());
    let with_token = [&PREFLIGHT[..], &[unknown.as_str()]].concat();
    passing.refuses(401, "OPTIONS /orders", &with_token);
    passing.refuses(401, "OPTIONS /orders", &[]);
}

fn only_the_true_method_makes_a_preflight(kind: ProxyKind) {
    let world = World::tapped(kind);
    for forged in [
        "X-Forwarded-Method",
        "x-forwarded-method",
        "X_Forwarded_Method",
    ] {
        let forged = format!("{forged}: OPTIONS");
        let lines = [&PREFLIGHT[..], &[forged.as_str()]].concat();
        for request in ["GET /orders", "DELETE /orders/1"] {
            world.refuses(401, request, &lines);
        }
    }
    world.refuses(401, "DELETE /orders/1", &["X-Forwarded-Method: PATCH"]);
    let asked = world.tap.unwrap().sent().to_lowercase();
    let method = match kind {
        ProxyKind::Envoy => "delete /orders/1 http/1.1\r\n",
        _ => "x-forwarded-method: delete\r\n",
    };
    assert!(asked.contains(method), "{asked}");
    for forged in ["options", "patch"] {
        let forged = format!("x-forwarded-method: {forged}");
        assert!(!asked.contains(&forged), "{asked}");
    }
}

fn upload_reaches_the_service_and_not_the_verifier(kind: ProxyKind) {
    let world = World::tapped(kind);
    let issued = world.add();
    let token = bearer(&issued);
    // nginx accepts a megabyte, unless it is told otherwise.
    let body: String = (0..60_000).map(|line| format!("line {line}\n")).collect();
    let length = format!("Content-Length: {}", body.len());
    let put = |framing: &str, bytes: &str| {
        let lines = [token.as_str(), framing];
        let answer = send(world.proxy.addr(), "PUT /file", &lines, bytes.as_bytes());
        assert_eq!(Seen::of(answer).body, digest(body.as_bytes()), "{framing}");
    };
    put(&length, &body);
    let (first, second) = body.split_at(400_000);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let chunks = format!("{}{}0\r\n\r\n", chunk(first), chunk(second));
    put("Transfer-Encoding: chunked", &chunks);

    // The verifier would take the next question for the rest of a body that is announced.
    world.refuses(401, "GET /", &[]);
    world.ask_as(&issued).expect(200);
    let tap = world.tap.unwrap();
    let asked = tap.sent().to_lowercase();
    assert!(!asked.contains("line "), "the verifier got the body");
    assert!(!asked.contains("transfer-encoding"), "{asked}");
    let lengths = asked.matches("content-length: ").count();
    assert_eq!(lengths, asked.matches("content-length: 0\r\n").count());
    assert!(tap.connections() < asked.matches(" http/1.1\r\n").count());
}

fn refused_upload_is_refused_before_it_is_sent(kind: ProxyKind) {
    let world = World::start(kind);
    let unknown = bearer(&invented());
    for body in ["Content-Length: 900000", "Transfer-Encoding: chunked"] {
        // The body is not sent, so that an answer which waits for it does not come. Caddy and Traefik first read up to
        // 256 KiB of a body whose length they do not know.
        let begin = match (kind, body) {
            (ProxyKind::Caddy | ProxyKind::Traefik, "Transfer-Encoding: chunked") => {
                format!("{:x}\r\n{}", 900_000, "a".repeat(300_000))
            }
            _ => String::new(),
        };
        for lines in [
            &[body][..],
            &[body, &unknown],
            &[body, &unknown, "Expect: 100-continue"],
        ] {
            let address = world.proxy.addr();
            send(address, "PUT /file", lines, begin.as_bytes()).expect(401);
        }
    }
    assert_eq!(world.service.requests(), 0);
}

fn nothing_passes_while_the_verifier_hangs_or_is_gone(kind: ProxyKind) {
    let (limits, statuses) = match kind {
        // It has a limit of its own, which cannot be set.
        ProxyKind::Traefik => (29..60, 500..=500),
        ProxyKind::Caddy => (6..20, 502..=504),
        _ => (5..20, 503..=503),
    };
    let mut world = World::start(kind);
    let token = world.add();
    world.ask_as(&token).expect(200);
    let requests = world.service.requests();
    world.verifier.pause();
    let begin = Instant::now();
    let hangs = world.ask_as(&token);
    let took = begin.elapsed().as_secs();
    // Not before the verifier's own 503.
    assert!(limits.contains(&took), "{took} s: {hangs:?}");
    assert!(statuses.contains(&hangs.status), "{hangs:?}");

    let World {
        proxy,
        service,
        verifier,
        ..
    } = world;
    drop(verifier);
    let token = bearer(&token);
    for lines in [&[][..], &[token.as_str()]] {
        let gone = ask(proxy.addr(), "GET /orders", lines);
        assert!(statuses.contains(&gone.status), "{gone:?}");
    }
    assert_eq!(service.requests(), requests, "{}", proxy.log());
}

fn answers_of_the_service_are_its_own(kind: ProxyKind) {
    let world = World::start(kind);
    let token = bearer(&world.add());
    for status in [201, 400, 401, 403, 404, 429, 500, 503] {
        let path = format!("GET /status/{status}");
        let answer = world.ask(&path, &[&token]).expect(status);
        assert_eq!(answer.body, "the service's own");
        assert!(answer.header("retry-after").is_empty(), "{answer:?}");
    }
}
