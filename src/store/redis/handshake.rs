//! From an address to a connection that counts: the credentials and certificates of this moment, the
//! protocol's version, and what the server answers to our greeting.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisFuture, Value,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::batch::Batch;
use super::endpoint::{Login, tcp_settings};
use super::fault::{Fault, Replied, answered, not_connected, unconnected, unexpected};
use super::supervisor::Heartbeat;
#[cfg(feature = "redis-rustls")]
use super::tls::RedisTls;
use crate::store::StoreError;
use crate::task::free_lifo_slot;
use crate::util::BoxFuture;

/// What our connections are called in `CLIENT LIST`.
const NAME: &str = "tower-api-token";

/// A connection that answered its greeting. Clones share it.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) connection: MultiplexedConnection,
    /// The server takes no command about keys of several slots: a cluster is behind its one address.
    pub(super) keys_are_apart: bool,
    pub(super) broken: Arc<Broken>,
}

impl Link {
    /// Tells the supervisor to replace it now, and whoever comes until then to wait for that.
    pub(super) fn give_up(&self) {
        self.broken.tell();
        free_lifo_slot();
    }
}

/// Whether a connection ended.
#[derive(Default)]
pub(super) struct Broken {
    is_known: AtomicBool,
    told: Notify,
}

impl Broken {
    fn tell(&self) {
        self.is_known.store(true, Ordering::Release);
        self.told.notify_one();
    }

    pub(super) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// For the supervisor alone.
    pub(super) async fn told(&self) {
        self.told.notified().await;
    }
}

/// A user's name, if it is not the default one, and the password.
type Credentials = (Option<String>, String);

pub(super) type CredentialsProvider =
    Arc<dyn Fn() -> BoxFuture<'static, Credentials> + Send + Sync>;

/// What is asked for anew at each connect, beside the URL.
#[derive(Clone, Default)]
pub(super) struct Access {
    pub(super) credentials: Option<CredentialsProvider>,
    #[cfg(feature = "redis-rustls")]
    pub(super) tls: Option<RedisTls>,
}

/// What a connection is opened with, and what it has to answer before it counts.
#[derive(Clone)]
pub(super) struct Opening {
    pub(super) deadline: Duration,
    pub(super) access: Arc<Access>,
    /// Has to be taken, where there is one.
    pub(super) heartbeat: Option<Heartbeat>,
    /// The server has to say of itself that it is a master.
    pub(super) of_a_master: bool,
}

/// One server.
#[derive(Clone)]
pub(super) struct Target {
    addr: ConnectionAddr,
    /// Which of its name's addresses, if it is not the client's choice.
    at: Option<SocketAddr>,
    login: Login,
}

/// Why an attempt ended.
enum Failed {
    /// The server refused `HELLO`, or does not know it.
    Hello(StoreError),
    /// The server hung up: what some proxies do when they do not know a command.
    Dropped(StoreError),
    Other(StoreError),
}

impl Target {
    pub(super) fn new(addr: ConnectionAddr, login: Login) -> Self {
        Self {
            addr,
            at: None,
            login,
        }
    }

    pub(super) fn shown(&self) -> String {
        self.addr.to_string()
    }

    #[cfg(feature = "redis-rustls")]
    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.addr, ConnectionAddr::TcpTls { .. })
    }

    /// Each address of the host's name, as a target of its own.
    #[cfg(feature = "redis-sentinel")]
    pub(super) async fn each_address(self) -> Result<Vec<Self>, StoreError> {
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

    /// In a task of its own, and within the deadline: a panic, in the provider of credentials or for
    /// want of a provider of cryptography, ends this attempt and not whoever makes it.
    pub(super) async fn open_in_a_task(self, opening: &Opening) -> Result<Link, StoreError> {
        let mut task = JoinSet::new();
        let (opening, deadline) = (opening.clone(), opening.deadline);
        task.spawn(async move { self.open(&opening).await });
        match timeout(deadline, task.join_next()).await {
            Ok(Some(Ok(opened))) => opened,
            Ok(_) => Err(panicked()),
            Err(_) => Err(StoreError::timeout()),
        }
    }

    /// In RESP3, or in RESP2 if the URL says so or the server refuses the other. A server that hangs up
    /// is spoken to in RESP2 and without a name. To be called under a deadline.
    pub(super) async fn open(&self, opening: &Opening) -> Result<Link, StoreError> {
        let client = self.client(&opening.access).await?;
        let asked_for = self.login.protocol;
        let (mut protocol, mut named) = (asked_for.unwrap_or(ProtocolVersion::RESP3), true);
        let mut first = None;
        loop {
            match self.attempt(&client, protocol, named, opening).await {
                Ok(link) => return Ok(link),
                Err(Failed::Hello(error)) if asked_for.is_none() && first.is_none() => {
                    protocol = ProtocolVersion::RESP2;
                    first = Some(error);
                }
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

    /// Where it is and who we are there, as files and callbacks say now.
    async fn client(&self, access: &Access) -> Result<Client, StoreError> {
        let (user, password) = match &access.credentials {
            Some(provider) => {
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
            if !self.is_encrypted() {
                return Err(unconnected(RedisTls::NOT_ENCRYPTED));
            }
            // It reads files, which may hang.
            let client = tokio::task::spawn_blocking(move || tls.client(info)).await;
            return client.map_err(|_| panicked())?.map_err(unconnected);
        }
        Client::open(info).map_err(not_connected)
    }

    async fn attempt(
        &self,
        client: &Client,
        protocol: ProtocolVersion,
        named: bool,
        opening: &Opening,
    ) -> Result<Link, Failed> {
        let info = client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_protocol(protocol);
        let has_password = settings.password().is_some();
        let client = Client::open(info.set_redis_settings(settings));
        let client = client.map_err(|error| Failed::Other(not_connected(error)))?;
        let broken = Arc::<Broken>::default();
        let mut config = AsyncConnectionConfig::new()
            // Whoever opens and sends does so under a deadline of ours: a second timer would tell
            // nothing new.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(256);
        if protocol != ProtocolVersion::RESP2 {
            // It tells of a closed connection at once. RESP2 does at the next command.
            let broken = Arc::clone(&broken);
            config = config.set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    broken.tell();
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
        let keys_are_apart = self.greet(&mut connection, named, opening).await?;
        Ok(Link {
            connection,
            keys_are_apart,
            broken,
        })
    }

    /// One write: our name, which may be refused, the database, and what the connection has to answer.
    /// Returns whether keys are apart there.
    async fn greet(
        &self,
        connection: &mut MultiplexedConnection,
        named: bool,
        opening: &Opening,
    ) -> Result<bool, Failed> {
        let database = self.login.database;
        let mut batch = Batch::new();
        if named {
            batch.cmd("CLIENT").arg("SETNAME").arg(NAME);
        }
        if database != 0 {
            batch.cmd("SELECT").arg(database);
        }
        if opening.of_a_master {
            batch.cmd("ROLE");
        }
        let mut asks_for_slots = false;
        if let Some(heartbeat) = &opening.heartbeat {
            heartbeat.command(&mut batch);
            asks_for_slots = heartbeat.ask_for_slots(&mut batch);
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
        if opening.of_a_master {
            is_master(reply()?).map_err(Failed::Other)?;
        }
        if let Some(heartbeat) = &opening.heartbeat {
            heartbeat.check(reply()?).map_err(Failed::Other)?;
        }
        // Whatever the refusal says: one round trip more is safe.
        Ok(asks_for_slots && reply()?.is_err())
    }
}

/// The reply to a command that carries no secret and no key, or what was wrong, with the server's words.
pub(super) fn accepted(what: &str, reply: Replied) -> Result<Value, StoreError> {
    reply.map_err(|fault| match fault {
        Fault::Refused(error) => unconnected(format!("{what}: {}", answered(&error))),
        #[cfg(feature = "redis-cluster")]
        Fault::Lost(error) => error,
    })
}

fn is_master(reply: Replied) -> Result<(), StoreError> {
    let role = match accepted("the server does not say its role", reply)? {
        Value::Array(role) => role.into_iter().next(),
        _ => None,
    };
    match role {
        Some(Value::BulkString(role)) if role == b"master" => Ok(()),
        _ => Err(unconnected("what the sentinels name is no master")),
    }
}

/// `HELLO` and `AUTH` carry the password, which the server's words may quote: they are left out.
fn refused_hello(error: RedisError, has_password: bool) -> Failed {
    match (error.kind(), error.code()) {
        (ErrorKind::RESP3NotSupported, _) => {
            Failed::Hello(unconnected("the server does not know HELLO"))
        }
        (ErrorKind::AuthenticationFailed, _) => {
            Failed::Other(unconnected("the server refused the user or the password"))
        }
        (_, Some("WRONGPASS")) => Failed::Other(not_connected(error)),
        (_, Some("NOAUTH")) if !has_password => Failed::Other(not_connected(error)),
        (_, Some(_)) if says(&error, "unknown command") => {
            Failed::Hello(unconnected("the server does not know HELLO"))
        }
        (_, Some(_)) if says(&error, "max number of clients") => {
            Failed::Other(unconnected("the server takes no more clients (maxclients)"))
        }
        (_, Some(code)) => {
            Failed::Hello(unconnected(format!("the server answered {code} to HELLO")))
        }
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

/// The refusal of `HELLO`, and what came of RESP2 after it.
fn both(first: &StoreError, then: &StoreError) -> StoreError {
    let cause = |error: &StoreError| match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    unconnected(format!("{}; in RESP2: {}", cause(first), cause(then)))
}

pub(super) fn panicked() -> StoreError {
    unconnected("connecting panicked")
}

/// One address, whatever the name is.
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
