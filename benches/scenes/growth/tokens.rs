//! Tokens, and a quick way to fill Redis with a million of them.

use std::convert::Infallible;
use std::time::Duration;

use test_support::RedisServer;
use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, Lookup, TokenDigest, TokenRecord};

pub(crate) const TENANT: &str = "tenant-1";
/// One of this number of tokens belongs to the tenant.
pub(crate) const PER_TENANT: usize = 100;
/// Longer than the bench, so that no entry expires or is refreshed.
pub(crate) const LONG: Duration = Duration::from_secs(3_600);
/// The number of commands in a pipeline.
const PIPELINE: usize = 1_000;

/// Returns a token of 41 bytes, as in the other benches.
pub(crate) fn token(n: usize) -> String {
    format!("app-{}", id(n))
}

fn id(n: usize) -> String {
    format!("{n:037}")
}

/// Returns the token's key in Redis.
fn key(n: usize) -> String {
    format!("api_token:token:{{{}}}", TokenDigest::of(&token(n)))
}

pub(crate) fn builder() -> ApiTokenCacheBuilder<()> {
    let loader = |lookup: Lookup| async move {
        let id = lookup.token().expose().strip_prefix("app-");
        let record = id.map(|id| {
            let of_tenant = id
                .parse::<usize>()
                .is_ok_and(|n| n.is_multiple_of(PER_TENANT));
            TokenRecord::new(id)
                .token_type("app")
                .tenant_id(of_tenant.then(|| TENANT.to_owned()))
        });
        Ok::<_, Infallible>(record)
    };
    ApiTokenCache::builder(loader).token_types(["app"])
}

/// The entry that a fill wrote for one token, as a template for others.
struct Filled {
    text: String,
    id: String,
    digest: String,
}

impl Filled {
    async fn by(cache: &ApiTokenCache, server: &RedisServer, n: usize) -> Self {
        cache.warm(&token(n)).await.expect("a fill");
        let bytes = server.get(&key(n)).expect("what was filled");
        Self {
            text: String::from_utf8(bytes).expect("JSON"),
            id: id(n),
            digest: TokenDigest::of(&token(n)).to_string(),
        }
    }

    fn of(&self, n: usize) -> String {
        let digest = TokenDigest::of(&token(n)).to_string();
        let text = self.text.replace(&self.id, &id(n));
        text.replace(&self.digest, &digest)
    }
}

/// Writes what this number of fills would write. Two entries are compared with real ones, byte by byte.
pub(crate) async fn fill(cache: &ApiTokenCache, server: &RedisServer, tokens: usize) {
    let of_tenant = Filled::by(cache, server, 0).await;
    let of_none = Filled::by(cache, server, 1).await;
    for (like, n) in [(&of_tenant, PER_TENANT), (&of_none, PER_TENANT + 1)] {
        assert_eq!(like.of(n), Filled::by(cache, server, n).await.text);
    }
    let client = redis::Client::open(server.url()).expect("a url");
    // No timeout for a pipeline.
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let connection = client.get_multiplexed_async_connection_with_config(&patient);
    let mut connection = connection.await.expect("a connection");
    let all: Vec<usize> = (0..tokens).collect();
    for some in all.chunks(PIPELINE) {
        let mut pipeline = redis::pipe();
        for &n in some {
            let like = if n.is_multiple_of(PER_TENANT) {
                &of_tenant
            } else {
                &of_none
            };
            let set = pipeline.cmd("SET").arg(key(n)).arg(like.of(n));
            set.arg("PX").arg(LONG.as_millis() as u64).ignore();
        }
        let written = pipeline.query_async::<()>(&mut connection).await;
        written.expect("Redis takes them");
    }
}
