//! The connection: made on demand, given up on the first broken pipe or the second silence.
//!
//! Not redis-rs' `ConnectionManager`: it keeps a hung link for ever, makes callers wait for a
//! reconnect beyond any deadline, and a failed authentication poisons it for good.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError, RedisResult, Value};

use crate::store::StoreError;

/// After a failed attempt to connect, callers fail at once for so long.
const PAUSE: Duration = Duration::from_millis(100);

/// So many commands in a row without an answer, and the link is taken for dead.
const SILENCES: u32 = 2;

/// Whether the pause after a failed attempt holds for a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    Respected,
    Ignored,
}

pub(super) struct Connection {
    client: Client,
    deadline: Duration,
    connect_deadline: Duration,
    live: Mutex<Live>,
    /// One attempt at a time: a crowd of callers is no crowd of connections.
    connecting: tokio::sync::Mutex<()>,
    session: AtomicU64,
}

#[derive(Default)]
struct Live {
    link: Option<Link>,
    failed: Option<(Instant, StoreError)>,
}

#[derive(Clone)]
struct Link {
    connection: MultiplexedConnection,
    session: u64,
    silences: Arc<AtomicU32>,
}

impl Connection {
    pub(super) fn new(client: Client, deadline: Duration, connect_deadline: Duration) -> Self {
        Self {
            client,
            deadline,
            connect_deadline,
            live: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            session: AtomicU64::new(0),
        }
    }

    /// Counts connections.
    pub(super) fn session(&self) -> u64 {
        self.session.load(Ordering::SeqCst)
    }

    /// Sends the commands once, in one write, and gives each one's reply.
    pub(super) async fn send(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, StoreError> {
        let link = self.link(Pause::Respected).await?;
        self.send_by(link, pipeline).await
    }

    /// The same for what has to be tried whatever failed just before: an invalidation.
    pub(super) async fn insist(
        &self,
        pipeline: &Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, StoreError> {
        let link = self.link(Pause::Ignored).await?;
        self.send_by(link, pipeline).await
    }

    async fn send_by(
        &self,
        link: Link,
        pipeline: &Pipeline,
    ) -> Result<Vec<RedisResult<Value>>, StoreError> {
        let mut connection = link.connection.clone();
        let sent = pipeline.query_async::<Vec<RedisResult<Value>>>(&mut connection);
        match tokio::time::timeout(self.deadline, sent).await {
            Ok(Ok(replies)) => {
                link.silences.store(0, Ordering::Relaxed);
                Ok(replies)
            }
            Ok(Err(error)) if error.is_timeout() => Err(self.silence(&link)),
            Ok(Err(error)) => {
                if error.is_unrecoverable_error() {
                    self.drop_link(&link);
                    return Err(StoreError::not_connected(Some(Arc::new(error))));
                }
                Err(refused(error))
            }
            Err(_) => Err(self.silence(&link)),
        }
    }

    /// A connection of its own, for what must not share one: `WAIT` blocks it.
    pub(super) async fn dedicated(
        &self,
        deadline: Duration,
    ) -> Result<MultiplexedConnection, StoreError> {
        self.open(deadline).await
    }

    async fn link(&self, pause: Pause) -> Result<Link, StoreError> {
        if let Some(link) = self.ready(pause)? {
            return Ok(link);
        }
        let attempt = async {
            let _one = self.connecting.lock().await;
            if let Some(link) = self.ready(pause)? {
                return Ok(link);
            }
            let opened = self.open(self.deadline).await;
            let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
            match opened {
                Ok(connection) => {
                    let link = Link {
                        connection,
                        session: self.session.fetch_add(1, Ordering::SeqCst) + 1,
                        silences: Arc::default(),
                    };
                    live.link = Some(link.clone());
                    live.failed = None;
                    Ok(link)
                }
                Err(error) => {
                    live.failed = Some((Instant::now(), error.clone()));
                    Err(error)
                }
            }
        };
        // Whoever waits for another's attempt waits no longer than for their own.
        match tokio::time::timeout(self.connect_deadline, attempt).await {
            Ok(link) => link,
            Err(_) => {
                let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
                live.failed = Some((Instant::now(), StoreError::timeout()));
                Err(StoreError::timeout())
            }
        }
    }

    /// The link there is, or the error of an attempt that failed just now.
    fn ready(&self, pause: Pause) -> Result<Option<Link>, StoreError> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = &live.link {
            return Ok(Some(link.clone()));
        }
        match &live.failed {
            Some((at, error)) if pause == Pause::Respected && at.elapsed() < PAUSE => {
                Err(error.clone())
            }
            _ => Ok(None),
        }
    }

    async fn open(&self, response: Duration) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_deadline))
            .set_response_timeout(Some(response))
            .set_pipeline_buffer_size(256);
        let opened = self
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await;
        opened.map_err(|error| StoreError::not_connected(Some(Arc::new(error))))
    }

    fn silence(&self, link: &Link) -> StoreError {
        if link.silences.fetch_add(1, Ordering::Relaxed) + 1 >= SILENCES {
            self.drop_link(link);
        }
        StoreError::timeout()
    }

    fn drop_link(&self, link: &Link) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live
            .link
            .as_ref()
            .is_some_and(|present| present.session == link.session)
        {
            live.link = None;
        }
    }
}

pub(super) fn refused(error: RedisError) -> StoreError {
    StoreError::refused(error)
}
