//! The table of environment variables, and the command line that is built from it.

use clap::builder::ValueParser;
use clap::{Arg, Command};

/// A variable: name, flag, default, help.
type Variable = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
);

const VARIABLES: [Variable; 25] = [
    (
        "LISTEN",
        "listen",
        Some("127.0.0.1:3000"),
        "Address to listen on; port 0 picks a free port",
    ),
    (
        "REDIS_URL",
        "redis-url",
        None,
        "Redis that all instances share: redis://…, rediss://… (feature tls), unix://…, redis+sentinel://HOSTS/MASTER or redis+cluster://HOSTS [default: none, the cache is in memory and fits one instance]",
    ),
    (
        "REDIS_CA_FILE",
        "redis-ca-file",
        None,
        "With rediss://: PEM file of the certificate authorities to trust [default: the system's]",
    ),
    (
        "REDIS_CLIENT_CERT_FILE",
        "redis-client-cert-file",
        None,
        "With rediss://: PEM file of the client certificate",
    ),
    (
        "REDIS_CLIENT_KEY_FILE",
        "redis-client-key-file",
        None,
        "With rediss://: PEM file of the client certificate's key",
    ),
    (
        "DATABASE_URL",
        "database-url",
        Some("sqlite://demo.db"),
        "sqlite://FILE, which is created if it does not exist, or postgres://…, which needs the feature postgres",
    ),
    (
        "KEY_LAYOUT",
        "key-layout",
        Some("digest"),
        "Layout of the cache keys: digest, or dify to share Redis with Dify's Python service",
    ),
    (
        "REDIS_KEY_PREFIX",
        "redis-key-prefix",
        None,
        "With KEY_LAYOUT=dify: the Python service's own REDIS_KEY_PREFIX",
    ),
    (
        "TOKEN_FORMAT",
        "token-format",
        None,
        "Which tokens are looked up: checked (right prefix and checksum) or any [default: checked; any with KEY_LAYOUT=dify]",
    ),
    (
        "TTL_SECONDS",
        "ttl-seconds",
        Some("600"),
        "How long a token is cached",
    ),
    (
        "NEGATIVE_TTL_SECONDS",
        "negative-ttl-seconds",
        Some("60"),
        "How long an unknown or denied token is cached",
    ),
    (
        "LOCAL_CAPACITY",
        "local-capacity",
        Some("100000"),
        "Entries that this process keeps in memory in front of Redis; 0 turns it off",
    ),
    (
        "MAX_STALENESS_MS",
        "max-staleness-ms",
        Some("1000"),
        "How long an instance may serve an answer from memory after another one invalidated it",
    ),
    (
        "CLIENT_TRACKING",
        "client-tracking",
        None,
        "With REDIS_URL: whether Redis reports changes of entries in memory, on or off [default: on where Redis is known to do it reliably]",
    ),
    (
        "HEARTBEAT_INTERVAL_MS",
        "heartbeat-interval-ms",
        None,
        "With REDIS_URL: time between two heartbeats of a connection [default: 250, or a quarter of MAX_STALENESS_MS if that is less]",
    ),
    (
        "LAST_USE_INTERVAL_SECONDS",
        "last-use-interval-seconds",
        Some("60"),
        "Minimum time between two recorded uses of one token",
    ),
    (
        "LAST_USE_FLUSH_SECONDS",
        "last-use-flush-seconds",
        Some("10"),
        "How often recorded uses are written to the database",
    ),
    (
        "CANARY_SECONDS",
        "canary-seconds",
        Some("60"),
        "With REDIS_URL: how often a canary measures how long a revocation takes; 0 turns it off",
    ),
    (
        "LOAD_DELAY_MS",
        "load-delay-ms",
        Some("0"),
        "Delays each answer of the database, to make single flight and races visible",
    ),
    (
        "ADMIN_TOKEN",
        "admin-token",
        None,
        "Bearer token for /admin [default: random, printed at start]",
    ),
    (
        "DRAIN_SECONDS",
        "drain-seconds",
        Some("20"),
        "How long open requests may take after SIGTERM",
    ),
    (
        "CLIENT_TIMEOUT_SECONDS",
        "client-timeout-seconds",
        Some("30"),
        "How long a client may take to send a request's head, and its body; also limits how long a connection may be idle",
    ),
    (
        "LOG_FORMAT",
        "log-format",
        Some("text"),
        "Format of the logs on standard error: text or json",
    ),
    (
        "RUST_LOG",
        "rust-log",
        Some("info"),
        "Filter of the logs: levels or target=level, separated by commas",
    ),
    (
        "OTLP_ENDPOINT",
        "otlp-endpoint",
        None,
        "OpenTelemetry collector for spans, such as http://HOST:4318; needs the feature otel",
    ),
];

/// Builds the command line. Each variable has a flag, which takes precedence.
pub(super) fn command() -> Command {
    let arguments = VARIABLES.map(|(name, flag, default, help)| {
        let argument = Arg::new(name)
            .long(flag)
            .env(name)
            .value_name(name)
            .help(help)
            // Not UTF-8: the error is then ours, and names the variable.
            .value_parser(ValueParser::os_string())
            // `--ttl-seconds -5` is an invalid number, not a flag named `-5`.
            .allow_negative_numbers(true)
            // The help must not show secrets from the environment.
            .hide_env_values(true);
        match default {
            Some(default) => argument.default_value(default),
            None => argument,
        }
    });
    Command::new("demo")
        .about("The demo server of tower-api-token")
        .version(env!("CARGO_PKG_VERSION"))
        .args(arguments)
}
