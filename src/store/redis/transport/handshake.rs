//! Opening a connection: the credentials and certificates of this moment, the version of the protocol,
//! and the commands that the server has to accept before the connection is used.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisFuture, Value,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::batch::Batch;
use super::heartbeat::Heartbeat;
use super::link::{Broken, Link};
use super::login::Login;
use super::reply::{Reply, accepted, connection_failed, not_connected, unexpected};
use super::tracking::Tracking;
use crate::store::error::StoreError;
use crate::store::redis::settings::Access;

/// The name of the connections in `CLIENT LIST`.
const NAME: &str = "tower-api-token";

/// How a connection is opened, and what the server has to accept before it is used.
#[derive(Clone)]
pub(crate) struct ConnectOptions {
    pub(crate) timeout: Duration,
    pub(crate) access: Arc<Access>,
    /// The heartbeat that the server has to accept, if any.
    pub(crate) heartbeat: Option<Heartbeat>,
    /// How the connection is to be tracked, if it is.
    pub(crate) tracking: Option<Tracking>,
    /// Whether the server has to say that it is a master.
    pub(crate) must_be_master: bool,
}

/// The address of one server, and the login for it.
#[derive(Clone)]
pub(crate) struct Target {
    addr: ConnectionAddr,
    /// The address to take of those that the host's name has. `None` leaves the choice to redis-rs.
    at: Option<SocketAddr>,
    login: Login,
}

/// Why an attempt failed.
enum Failed {
    /// The server refused `HELLO`, or does not know it.
    Hello(StoreError),
    /// The server closed the connection, as some proxies do when they do not know a command.
    Dropped(StoreError),
    Other(StoreError),
}

impl Target {
    pub(crate) fn new(addr: ConnectionAddr, login: Login) -> Self {
        Self {
            addr,
            at: None,
            login,
        }
    }

    /// Creates a target for one of several servers with the same login.
    #[cfg(any(feature = "redis-sentinel", feature = "redis-cluster"))]
    pub(crate) fn in_group(login: &Login, host: &str, port: u16) -> Self {
        let host = host.to_owned();
        let addr = if login.encrypted {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        Self::new(addr, login.clone())
    }

    pub(crate) fn shown(&self) -> String {
        self.addr.to_string()
    }

    #[cfg(feature = "redis-rustls")]
    pub(crate) fn is_encrypted(&self) -> bool {
        matches!(self.addr, ConnectionAddr::TcpTls { .. })
    }

    /// Resolves the host's name, and returns a target for each address.
    #[cfg(feature = "redis-sentinel")]
    pub(crate) async fn each_address(self) -> Result<Vec<Self>, StoreError> {
        let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
            &self.addr
        else {
            return Ok(vec![self]);
        };
        let addresses = tokio::net::lookup_host((&**host, *port)).await;
        let addresses = addresses.map_err(|error| not_connected(error.into()))?;
        let at = |at| Self {
            at: Some(at),
            ..self.clone()
        };
        Ok(addresses.map(at).collect())
    }

    /// Connects in a task of its own, within the timeout: a panic, in the credentials provider or because
    /// no crypto provider is installed, only ends this attempt.
    pub(crate) async fn open_in_a_task(self, options: &ConnectOptions) -> Result<Link, StoreError> {
        let mut task = JoinSet::new();
        let (options, within) = (options.clone(), options.timeout);
        task.spawn(async move { self.open(&options).await });
        match timeout(within, task.join_next()).await {
            Ok(Some(Ok(opened))) => opened,
            Ok(_) => Err(panicked()),
            Err(_) => Err(StoreError::timeout()),
        }
    }

    /// Connects with RESP3, or with RESP2 if the URL says so or the server refuses RESP3. If the server
    /// closes the connection, RESP2 is tried without a name. The caller limits the time.
    pub(crate) async fn open(&self, options: &ConnectOptions) -> Result<Link, StoreError> {
        let client = self.client(&options.access).await?;
        let asked_for = self.login.protocol;
        let (mut protocol, mut named) = (asked_for.unwrap_or(ProtocolVersion::RESP3), true);
        let mut first = None;
        loop {
            match self.attempt(&client, protocol, named, options).await {
                Ok(link) => return Ok(link),
                // guard: A5
                Err(Failed::Hello(error)) if asked_for.is_none() && first.is_none() => {
                    protocol = ProtocolVersion::RESP2;
                    first = Some(error);
                }
                // guard: A6
                Err(Failed::Dropped(_)) if named && asked_for != Some(ProtocolVersion::RESP3) => {
                    (protocol, named) = (ProtocolVersion::RESP2, false);
                }
                Err(Failed::Hello(error) | Failed::Dropped(error) | Failed::Other(error)) => {
                    return Err(match first {
                        Some(first) => both(&first, &error),
                        None => error,
                    });
                }
            }
        }
    }

    /// Creates a client, with what files and callbacks say now.
    async fn client(&self, access: &Access) -> Result<Client, StoreError> {
        let (user, password) = match &access.credentials {
            Some(provider) => {
                // guard: A9
                let (user, password) = provider().await;
                (user, Some(password))
            }
            None => (self.login.user.clone(), self.login.password.clone()),
        };
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = user {
            settings = settings.set_username(user);
        }
        if let Some(password) = password {
            settings = settings.set_password(password);
        }
        let info = self.addr.clone().into_connection_info();
        let info = info.map_err(not_connected)?;
        let info = info.set_tcp_settings(tcp_settings());
        let info = info.set_redis_settings(settings);
        #[cfg(feature = "redis-rustls")]
        if let Some(tls) = access.tls.clone() {
            // Reading files may block.
            // guard: A8
            let client = tokio::task::spawn_blocking(move || tls.client(info)).await;
            return client.map_err(|_| panicked())?.map_err(connection_failed);
        }
        Client::open(info).map_err(not_connected)
    }

    async fn attempt(
        &self,
        client: &Client,
        protocol: ProtocolVersion,
        named: bool,
        options: &ConnectOptions,
    ) -> Result<Link, Failed> {
        let info = client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_protocol(protocol);
        let has_password = settings.password().is_some();
        let client = Client::open(info.set_redis_settings(settings));
        let client = client.map_err(|error| Failed::Other(not_connected(error)))?;
        let broken = Arc::<Broken>::default();
        let mut config = AsyncConnectionConfig::new()
            // The callers limit the time, of connecting and of each command.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(256);
        let mut pushes = None;
        if protocol != ProtocolVersion::RESP2 {
            pushes = options.tracking.as_ref().map(|it| Arc::new(it.pushes()));
            // A closed connection is reported at once. With RESP2 the next command finds out.
            let (broken, pushes) = (Arc::clone(&broken), pushes.clone());
            config = config.set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    broken.set();
                } else if let Some(pushes) = &pushes {
                    pushes.take(&push);
                }
                Ok::<(), redis::aio::SendError>(())
            });
        }
        if let Some(at) = self.at {
            config = config.set_dns_resolver(At(at));
        }
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connection
            .await
            .map_err(|error| refused_hello(error, has_password))?;
        let is_clustered = self.greet(&mut connection, named, options).await?;
        Ok(Link {
            connection,
            is_clustered,
            broken,
            pushes,
            session: None,
        })
    }

    /// Sends, in one write, the connection's name, which may be refused, the database, and the commands
    /// that the server has to accept. Returns whether the server is a cluster behind one address.
    async fn greet(
        &self,
        connection: &mut MultiplexedConnection,
        named: bool,
        options: &ConnectOptions,
    ) -> Result<bool, Failed> {
        let database = self.login.database;
        let mut batch = Batch::new();
        if named {
            batch.cmd("CLIENT").arg("SETNAME").arg(NAME);
        }
        if database != 0 {
            batch.cmd("SELECT").arg(database);
        }
        if options.must_be_master {
            batch.cmd("ROLE");
        }
        let mut probes_slots = false;
        if let Some(heartbeat) = &options.heartbeat {
            heartbeat.command(&mut batch);
            probes_slots = heartbeat.probe_slots(&mut batch);
        }
        if batch.is_empty() {
            return Ok(false);
        }
        let mut replies = batch.send(connection).await.map_err(failed)?.into_iter();
        let mut reply = || replies.next().ok_or_else(|| Failed::Other(unexpected()));
        if named {
            drop(reply()?);
        }
        if database != 0 {
            let what = format!("the database {database} cannot be selected");
            accepted(&what, reply()?).map_err(Failed::Other)?;
        }
        if options.must_be_master {
            is_master(reply()?).map_err(Failed::Other)?;
        }
        if let Some(heartbeat) = &options.heartbeat {
            heartbeat.check(reply()?).map_err(Failed::Other)?;
        }
        // Any error counts as one: to take a single server for a cluster costs a round trip, and is safe.
        // guard: C17 C21
        Ok(probes_slots && reply()?.is_err())
    }
}

fn is_master(reply: Reply) -> Result<(), StoreError> {
    let role = match accepted("the server does not say its role", reply)? {
        Value::Array(role) => role.into_iter().next(),
        _ => None,
    };
    match role {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(connection_failed(
            "the server that the sentinels name is not a master",
        )),
    }
}

/// The server's text is left out: `HELLO` and `AUTH` carry the password, and the text may quote it.
fn refused_hello(error: RedisError, has_password: bool) -> Failed {
    match (error.kind(), error.code()) {
        (ErrorKind::RESP3NotSupported, _) => {
            // guard: A7
            Failed::Hello(connection_failed("the server does not know HELLO"))
        }
        (ErrorKind::AuthenticationFailed, _) => Failed::Other(connection_failed(
            "the server refused the user or the password",
        )),
        (_, Some("WRONGPASS")) => Failed::Other(not_connected(error)),
        (_, Some("NOAUTH")) if !has_password => Failed::Other(not_connected(error)),
        (_, Some(_)) if says(&error, "unknown command") => {
            Failed::Hello(connection_failed("the server does not know HELLO"))
        }
        (_, Some(_)) if says(&error, "max number of clients") => Failed::Other(connection_failed(
            "the server accepts no more clients (maxclients)",
        )),
        (_, Some(code)) => Failed::Hello(connection_failed(format!(
            "the server answered {code} to HELLO"
        ))),
        _ => failed(error),
    }
}

fn says(error: &RedisError, words: &str) -> bool {
    error.detail().unwrap_or_default().contains(words)
}

fn failed(error: RedisError) -> Failed {
    if error.is_connection_dropped() && !error.is_connection_refusal() {
        return Failed::Dropped(not_connected(error));
    }
    Failed::Other(not_connected(error))
}

/// The error of `HELLO`, and that of RESP2 after it.
fn both(first: &StoreError, then: &StoreError) -> StoreError {
    let cause = |error: &StoreError| match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    connection_failed(format!("{}; in RESP2: {}", cause(first), cause(then)))
}

pub(crate) fn panicked() -> StoreError {
    connection_failed("connecting panicked")
}

/// A resolver that returns one address for any name.
struct At(SocketAddr);

impl AsyncDNSResolver for At {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _: &'b str,
        _: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        let at: Box<dyn Iterator<Item = SocketAddr> + Send> = Box::new(std::iter::once(self.0));
        Box::pin(async { Ok(at) })
    }
}

/// Small commands are sent at once, and the kernel finds within seconds, instead of a quarter of an hour,
/// that a peer has vanished.
fn tcp_settings() -> TcpSettings {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(TIMEOUT)
        .with_interval(TIMEOUT);
    let settings = TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(TIMEOUT);
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::chain;

    /// Returns whether RESP2 is tried after this reply to `HELLO`, and the error.
    fn after(reply: &str, has_password: bool) -> (bool, String) {
        let reply = format!("-{reply}\r\n");
        let reply = redis::parse_redis_value(reply.as_bytes()).unwrap();
        match refused_hello(reply.extract_error().unwrap_err(), has_password) {
            Failed::Hello(error) => (true, chain(&error)),
            Failed::Dropped(error) | Failed::Other(error) => (false, chain(&error)),
        }
    }

    #[test]
    fn a_refused_hello_is_tried_with_resp2_unless_that_would_be_refused_too() {
        for (reply, has_password, tries_resp2, says) in [
            ("NOPROTO unsupported protocol version", true, true, ""),
            (
                "ERR unknown command 'HELLO'",
                true,
                true,
                "does not know HELLO",
            ),
            (
                "NOPERM this user has no permissions",
                true,
                true,
                "answered NOPERM to HELLO",
            ),
            (
                "NOAUTH HELLO must be called",
                true,
                true,
                "answered NOAUTH to HELLO",
            ),
            ("NOAUTH HELLO must be called", false, false, ""),
            ("WRONGPASS invalid username-password pair", true, false, ""),
            (
                "ERR max number of clients reached",
                true,
                false,
                "accepts no more clients",
            ),
        ] {
            let (tried, said) = after(reply, has_password);
            assert_eq!(tried, tries_resp2, "{reply}: {said}");
            assert!(said.contains(says), "{reply}: {said}");
        }
        // redis-rs makes it of what Redis 6 answers.
        let unknown = RedisError::from((ErrorKind::RESP3NotSupported, "no HELLO"));
        assert!(matches!(refused_hello(unknown, true), Failed::Hello(_)));
    }
}
