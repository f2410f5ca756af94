//! Tokens that are valid from certain networks only: `cargo run -p examples --bin allow_list --features allow-list`.
//!
//! A record carries the networks, and a policy compares them with the client's address on each request, also if the
//! token was cached. Elsewhere a valid token is a 403, whose text does not name the networks.
//!
//! * The address is the connection's. `X-Forwarded-For` is read only from the service's own proxies
//!   (`TRUSTED_PROXIES`, networks with commas between them), and from the right: everybody can send that header. If a
//!   proxy names no client, the client is not known, and the token is refused.
//! * A server on `[::]` sees IPv4 clients as `::ffff:192.0.2.1`. Both sides are normalized before they are compared.
//! * No list is not an empty list: `None` is "from anywhere", an empty one "from nowhere".
//!
//! In Redis the metadata is JSON: derive `Serialize` and `Deserialize`, with the feature `serde` of `ipnet`. A list that
//! is changed takes effect as any change does: commit, then invalidate.

mod address;

use std::convert::Infallible;
use std::error::Error;
use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use axum::{Router, routing::get};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tower_api_token::rejection::RequestHead;
use tower_api_token::{
    ApiTokenCache, ApiTokenLayer, CachedApiToken, ConfigError, Lookup, Rejection, TokenFormat,
    TokenRecord,
};

use crate::address::{TrustedProxies, network};

/// The networks that a token may be used from, or `None`: from any.
type Networks = Option<Vec<IpNet>>;

const ELSEWHERE: &str = "The API token must not be used from this network.";

async fn whoami(token: CachedApiToken<Networks>) -> String {
    format!("{}\n", token.id())
}

/// Returns the client's address, or `None` if it is not known for certain.
fn client(proxies: &TrustedProxies, request: &RequestHead<'_>) -> Option<IpAddr> {
    let peer: &ConnectInfo<SocketAddr> = request.extensions().get()?;
    // All lines are one list (RFC 9110 section 5.3).
    let lines = request.header_all("x-forwarded-for");
    let lines: Option<Vec<&str>> = lines.map(|line| line.to_str().ok()).collect();
    proxies.client(peer.0.ip(), &lines?.join(","))
}

fn app(cache: ApiTokenCache<Networks>, proxies: TrustedProxies) -> Result<Router, ConfigError> {
    let allow_list = move |token: &CachedApiToken<Networks>, request: &RequestHead<'_>| {
        let Some(networks) = token.metadata() else {
            return Ok(());
        };
        let client = client(&proxies, request);
        let is_inside = |network: &IpNet| client.is_some_and(|client| network.contains(&client));
        if networks.iter().any(is_inside) {
            Ok(())
        } else {
            Err(Rejection::Denied(ELSEWHERE.into()))
        }
    };
    let layer = ApiTokenLayer::builder(cache).policy(allow_list).build()?;
    Ok(Router::new().route("/", get(whoami)).layer(layer))
}

fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let texts = text.split(',').filter(|text| !text.is_empty());
    texts
        .map(|text| network(text.trim()).ok_or_else(|| format!("{text} is not a network")))
        .collect()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let proxies = std::env::var("TRUSTED_PROXIES").unwrap_or_default();
    let proxies = TrustedProxies(networks(&proxies)?);

    let address = std::env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;

    let format = TokenFormat::from_static("demo_");
    let mut table = Vec::new();
    for (from, list) in [
        ("here", Some("127.0.0.0/8,::1")),
        ("an office", Some("192.0.2.0/24,2001:db8:7::/48")),
        ("nowhere", Some("")),
        ("anywhere", None),
    ] {
        let token = format.generate()?;
        let id = format!("tok-{}", table.len() + 1);
        table.push((token.digest(), id, list.map(networks).transpose()?));
        let token = token.expose();
        println!("# Valid from {from}:");
        println!("curl -i -H 'Authorization: Bearer {token}' http://{address}/");
    }
    let cache = ApiTokenCache::builder(move |lookup: Lookup| {
        let row = table.iter().find(|row| row.0 == lookup.digest());
        let record = row.map(|(_, id, list)| TokenRecord::new(id.as_str()).metadata(list.clone()));
        async { Ok::<_, Infallible>(record) }
    })
    .build()?;

    println!("listening on http://{address}");
    // Without it no peer is known, and every list refuses.
    let service = app(cache, proxies)?.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).await?;
    Ok(())
}
