//! Real servers, a fault proxy and gates for the tests.
//!
//! Most of our tests are about what happens *between* this crate and a server: a slow reply that crosses a
//! revocation, a connection that is cut in the middle of a command, a Redis that evicts, restarts or stops answering. A
//! fake server would only repeat our assumptions, so the tests run the real programs and break the network instead.
//!
//! | item | purpose |
//! |---|---|
//! | [`RedisServer`] | a private `redis-server`: kill it, restart it empty, freeze it, look inside without the client under test |
//! | [`TlsRedisServer`] | a Redis with TLS, with certificates of its own and of an untrusted authority |
//! | [`RedisCluster`] | three masters and three replicas: fail one over, move a slot |
//! | [`RedisSentinel`] | a master, two replicas and three sentinels that watch them |
//! | [`PostgresServer`] | a private PostgreSQL, the database behind the examples |
//! | [`PgBouncer`] | a private PgBouncer in transaction mode, in front of a PostgreSQL |
//! | [`Nginx`] | a private nginx with a cache, in front of a service |
//! | [`ReverseProxy`] | a private nginx, Caddy, HAProxy, Traefik or Envoy with the settings of a test |
//! | [`Example`] | an example as a process, and `curl` requests to it |
//! | [`python`] | the Python interpreter that has the packages of the tests |
//! | [`FaultProxy`] | a TCP proxy on a fixed port that cuts, stalls, delays, and swallows connections on command |
//! | [`FrameProxy`] | a proxy in front of a Redis that holds, drops, forges and adds single replies and pushes |
//! | [`RoundTrips`] | a proxy in front of a Redis that records each round trip |
//! | [`Needles`] | texts that must not be leaked in any form, and the search for them |
//! | [`Dice`] | random numbers from a seed |
//! | [`Gate`] | a point where a test pauses the code under test, and learns that it has arrived |
//!
//! # Rules
//!
//! 1. Every server has its own port and directory, so tests can run in parallel, also in several processes.
//! 2. Dropping a server ends its process and removes its directory. It never affects a process that it did not start.
//! 3. A server does not outlive the test process, even one that was killed (on Linux with util-linux's `setpriv`).
//! 4. Controls are synchronous: they have taken effect when the call returns. No test has to sleep after one.
//! 5. A failed set-up panics with the server's log in the message. Nothing is skipped: a missing program is a failed
//!    test, because a green run would otherwise mean nothing.
//! 6. Only [`Gate`] uses the caller's runtime, so paused time and blocked workers have no effect on the others.

mod cluster;
mod dice;
mod example;
mod frames;
mod gate;
mod needles;
mod nginx;
mod pgbouncer;
mod postgres;
mod process;
mod proxy;
mod python;
mod redis;
mod reverse_proxy;
mod round_trips;
mod sentinel;
mod tls;
mod urls;

pub use cluster::RedisCluster;
pub use dice::Dice;
pub use example::{Answer, Example};
pub use frames::FrameProxy;
pub use gate::Gate;
pub use needles::Needles;
pub use nginx::Nginx;
pub use pgbouncer::PgBouncer;
pub use postgres::PostgresServer;
pub use process::{bound_to_us, free_port};
pub use proxy::{Direction, FaultProxy};
pub use python::python;
pub use redis::{Feature, Monitor, RedisServer, Reply};
pub use reverse_proxy::{ProxyKind, ReverseProxy};
pub use round_trips::RoundTrips;
pub use sentinel::RedisSentinel;
pub use tls::TlsRedisServer;
pub use urls::{cluster_url, sentinel_url};
