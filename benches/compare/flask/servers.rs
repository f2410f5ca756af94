//! The servers that are compared.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tower_api_token::store::KeyLayout;
use tower_api_token::{ApiTokenCache, ApiTokenLayer, RedisStore};

use super::TOKENS;
use crate::common::hot;
use crate::common::program::again;
use crate::process::Server;
use crate::serve;

/// gunicorn's kinds of workers.
pub(crate) const WORKERS: [&str; 3] = ["sync", "gthread", "gevent"];
/// The threads of a `gthread` worker.
const THREADS: &str = "4";

pub(crate) const SHARED: &str = "the layer, local level off";
pub(crate) const LOCAL: &str = "the layer, S = 1 s";

/// A Python interpreter that has Flask.
pub(crate) struct Python(PathBuf);

impl Python {
    pub(crate) fn find() -> Self {
        if let Some(named) = std::env::var_os("FLASK_PYTHON") {
            return Self(named.into());
        }
        let made = Command::new(root().join("scripts/lib/python-env"))
            .args(["benches/compare/flask/requirements.txt", "flask-env"])
            .arg("flask, gevent, gunicorn, hiredis, packaging, pydantic, redis")
            .output()
            .expect("scripts/lib/python-env");
        let words = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "there is no Python for it\n{words}");
        let path = String::from_utf8(made.stdout).expect("a path in UTF-8");
        Self(path.trim_end().into())
    }

    /// Starts gunicorn with as many workers as there are cores.
    pub(crate) fn serve(&self, workers: &str, redis: &str) -> Server {
        let cores = available_parallelism().map_or(1, NonZero::get);
        let mut command = Command::new(&self.0);
        command
            // Write nothing beside the sources.
            .args(["-B", "-m", "gunicorn", "--config", "gunicorn.conf.py"])
            .args(["--workers", &cores.to_string(), "--worker-class", workers])
            .arg("app:app")
            .current_dir(root().join("benches/compare/flask"))
            .env("REDIS_URL", redis)
            .env("TOKENS", TOKENS.to_string());
        if workers == "gthread" {
            // With this option a `sync` worker would become a `gthread` worker.
            command.args(["--threads", THREADS]);
        }
        Server::start(command)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn rust(name: &str, redis: &str) -> Server {
    let mut command = again();
    command.args(["serve", name, redis]);
    Server::start(command)
}

/// Serves until the input ends.
pub(crate) async fn serve(name: &str, redis: &str) {
    let cache = match name {
        SHARED => cache(redis, false),
        LOCAL => cache(redis, true),
        other => panic!("no server {other}"),
    };
    let router = Router::new().route("/", get(async || "ok"));
    let layer = ApiTokenLayer::builder(cache)
        .token_type("app")
        .build()
        .unwrap();
    serve::until_input_ends(router.layer(layer)).await;
}

/// Fills Redis with this number of tokens.
pub(crate) async fn prime(redis: &str, tokens: usize) {
    let cache = cache(redis, false);
    for n in 0..tokens {
        let primed = cache.warm(&hot::token(n)).await;
        primed.expect("Redis");
    }
}

fn cache(redis: &str, has_local: bool) -> ApiTokenCache {
    // A busy machine must not look like an outage.
    let store = RedisStore::new(redis).expect("a url");
    let store = store.response_timeout(Duration::from_secs(5));
    let builder = hot::builder_without_tenant()
        .store(store.key_layout(KeyLayout::dify()))
        .token_types(["app"]);
    let builder = if has_local {
        builder
    } else {
        builder.local_capacity(0)
    };
    builder.build().expect("a configuration")
}
