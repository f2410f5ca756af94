//! A private nginx that caches.

use std::net::SocketAddr;

use crate::reverse_proxy::{ProxyKind, ReverseProxy};

/// A private nginx with a `proxy_cache` in front of a server. Dropping it ends the process.
///
/// nginx does not follow RFC 9111 in every respect. Each response has the header `x-cache` with its origin
/// (`$upstream_cache_status`, empty if the cache was not consulted).
///
/// ```no_run
/// let origin = ([127, 0, 0, 1], 3000).into();
/// let nginx = test_support::Nginx::caching(origin, "proxy_cache_valid 200 1m;");
/// println!("ask {}", nginx.addr());
/// ```
#[derive(Debug)]
pub struct Nginx(ReverseProxy);

impl Nginx {
    /// Starts an nginx in front of `origin`. `rules` are further directives of its one location, which has `proxy_pass`
    /// and `proxy_cache`.
    ///
    /// # Panics
    ///
    /// Panics if there is no `nginx` on `PATH` or in `/usr/sbin`, or when it is not ready in time.
    pub fn caching(origin: SocketAddr, rules: &str) -> Self {
        Self(ReverseProxy::start(ProxyKind::Nginx, |port| {
            format!(
                "proxy_cache_path cache keys_zone=cache:1m;
server {{
    listen 127.0.0.1:{port};
    location / {{
        proxy_pass http://{origin};
        proxy_cache cache;
        add_header x-cache $upstream_cache_status always;
        {rules}
    }}
}}
"
            )
        }))
    }

    /// Returns the loopback address and port.
    pub fn addr(&self) -> SocketAddr {
        self.0.addr()
    }
}
