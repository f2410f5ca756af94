//! Real servers, a fault proxy and gates for the tests.
//!
//! The subject of most of our tests is what happens *between* this crate and a server: a slow reply that crosses a
//! revocation, a connection cut in the middle of a command, a Redis that evicts, restarts or stops answering. A fake
//! server would only repeat our own beliefs about those, so the tests run the real programs and break the wire instead.
//!
//! | type | what it is for |
//! |---|---|
//! | [`RedisServer`] | a private `redis-server`: kill it, restart it empty, freeze it, look inside without the client under test |
//! | [`TlsRedisServer`] | one behind TLS, with its own certificates and a stranger's |
//! | [`RedisCluster`] | three masters and three replicas: fail one over, move a slot |
//! | [`RedisSentinel`] | a master, two replicas and three sentinels that watch them |
//! | [`PostgresServer`] | a private PostgreSQL, for the source of truth behind the examples |
//! | [`PgBouncer`] | a private PgBouncer in transaction mode, in front of that |
//! | [`Nginx`] | a private nginx with a cache, in front of a service |
//! | [`Example`] | an example as a process, and `curl` to ask it |
//! | [`python`] | the Python that has the packages of the tests |
//! | [`FaultProxy`] | a TCP proxy on a fixed port that cuts, stalls, delays, and swallows connections on command |
//! | [`RoundTrips`] | a proxy in front of a Redis that writes down each round trip |
//! | [`Needles`] | texts that must not come out anywhere, in any form, and the search for them |
//! | [`Dice`] | chance from a seed |
//! | [`Gate`] | a named point where a test holds the code under test, and learns that it has arrived |
//!
//! # Rules that hold for all of them
//!
//! 1. Every server has its own port and its own directory, so tests run in parallel, also across processes.
//! 2. Dropping a server ends its process and removes its directory; it never touches a process it did not start.
//! 3. A server does not outlive the test process, even one that was killed (on Linux with util-linux's `setpriv`).
//! 4. Controls are synchronous: when the call returns, what it says is so. No test has to sleep after one.
//! 5. Set-up failures panic, with the server's own log in the message. Nothing is skipped: a missing server is a failed
//!    test, or a green run would mean nothing.
//! 6. Nothing here uses the caller's runtime but [`Gate`], so paused time and blocked workers change nothing.

mod cluster;
mod dice;
mod example;
mod gate;
mod needles;
mod nginx;
mod pgbouncer;
mod postgres;
mod process;
mod proxy;
mod python;
mod redis;
mod round_trips;
mod sentinel;
mod tls;

pub use cluster::RedisCluster;
pub use dice::Dice;
pub use example::{Answer, Example};
pub use gate::Gate;
pub use needles::Needles;
pub use nginx::Nginx;
pub use pgbouncer::PgBouncer;
pub use postgres::PostgresServer;
pub use process::{bound_to_us, free_port};
pub use proxy::{Direction, FaultProxy};
pub use python::python;
pub use redis::{Feature, Monitor, RedisServer, Reply};
pub use round_trips::RoundTrips;
pub use sentinel::RedisSentinel;
pub use tls::TlsRedisServer;
