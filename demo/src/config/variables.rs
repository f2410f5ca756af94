//! The table of variables, and the command line made of it.

use clap::builder::ValueParser;
use clap::{Arg, Command};

/// One line of the table of variables: name, flag, default, help.
type Variable = (
    &'static str,
    &'static str,
    Option<&'static str>,
    &'static str,
);

const VARIABLES: [Variable; 22] = [
    (
        "LISTEN",
        "listen",
        Some("127.0.0.1:3000"),
        "Address to listen on; port 0 takes a free one",
    ),
    (
        "REDIS_URL",
        "redis-url",
        None,
        "Shared store: redis://…, rediss://…, unix://…, redis+sentinel://HOSTS/MASTER or redis+cluster://HOSTS; without it the store is this process's memory, for one instance only",
    ),
    (
        "REDIS_CA_FILE",
        "redis-ca-file",
        None,
        "With rediss://: the authorities that may have signed Redis' certificate, in PEM [default: the machine's]",
    ),
    (
        "REDIS_CLIENT_CERT_FILE",
        "redis-client-cert-file",
        None,
        "With rediss://: our own certificate, in PEM, if Redis asks for one",
    ),
    (
        "REDIS_CLIENT_KEY_FILE",
        "redis-client-key-file",
        None,
        "With rediss://: the key of our own certificate, in PEM",
    ),
    (
        "DATABASE_URL",
        "database-url",
        Some("sqlite://demo.db"),
        "sqlite://FILE, created and migrated, or postgres://…",
    ),
    (
        "KEY_LAYOUT",
        "key-layout",
        Some("digest"),
        "Layout of the cache keys: digest, or seed to share Redis with the Python service",
    ),
    (
        "REDIS_KEY_PREFIX",
        "redis-key-prefix",
        None,
        "With the layout seed: what the Python service has under this name",
    ),
    (
        "TOKEN_FORMAT",
        "token-format",
        None,
        "Which tokens are looked up at all: checked (our prefix and a checksum that fits) or any [default: checked, and any with the layout seed]",
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
        "How long it is cached that there is no such token",
    ),
    (
        "LOCAL_CAPACITY",
        "local-capacity",
        Some("100000"),
        "Entries of the local level in front of Redis; 0 switches it off",
    ),
    (
        "MAX_STALENESS_MS",
        "max-staleness-ms",
        Some("1000"),
        "How long a local entry may outlive an invalidation",
    ),
    (
        "LAST_USE_INTERVAL_SECONDS",
        "last-use-interval-seconds",
        Some("60"),
        "For how long after a recorded use of a token others are not recorded",
    ),
    (
        "LAST_USE_FLUSH_SECONDS",
        "last-use-flush-seconds",
        Some("10"),
        "How often recorded uses are written to the database",
    ),
    (
        "LOAD_DELAY_MS",
        "load-delay-ms",
        Some("0"),
        "Holds each answer of the database back, to see single flight and races",
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
        "How long requests under way may take after SIGTERM",
    ),
    (
        "CLIENT_TIMEOUT_SECONDS",
        "client-timeout-seconds",
        Some("30"),
        "How long a client may take to send a request's head, and its body, and a connection may be idle",
    ),
    (
        "LOG_FORMAT",
        "log-format",
        Some("text"),
        "text or json, on standard error",
    ),
    (
        "RUST_LOG",
        "rust-log",
        Some("info"),
        "What is logged: a level, or target=level, separated by commas",
    ),
    (
        "OTLP_ENDPOINT",
        "otlp-endpoint",
        None,
        "Where spans go to: an OpenTelemetry collector's http://HOST:4318; needs a binary with the feature otel",
    ),
];

/// The command line: for each variable a flag that wins over it.
pub(super) fn command() -> Command {
    let arguments = VARIABLES.map(|(name, flag, default, help)| {
        let argument = Arg::new(name)
            .long(flag)
            .env(name)
            .value_name(name)
            .help(help)
            // Bytes, so that text which is not UTF-8 is our complaint, which names the variable.
            .value_parser(ValueParser::os_string())
            // `--ttl-seconds -5` is a bad number and not a flag named `-5`.
            .allow_negative_numbers(true)
            // The help shows no secret that happens to be in the environment.
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
