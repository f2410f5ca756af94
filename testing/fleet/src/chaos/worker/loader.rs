//! The loader of an instance, which queries the driver's database.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tower_api_token::{BoxError, Lookup, TokenLoader, TokenRecord};

use crate::chaos::books::lock;
use crate::chaos::database::Reply;
use crate::chaos::ledger::{Read, Version};
use crate::chaos::settings::{TOKEN_TYPE, tenant_name};

/// A loader with a pool of connections.
#[derive(Debug)]
pub(super) struct FromDriver {
    database: SocketAddr,
    idle: Mutex<Vec<BufStream<TcpStream>>>,
}

impl FromDriver {
    pub(super) fn new(database: SocketAddr) -> Self {
        Self {
            database,
            idle: Mutex::default(),
        }
    }

    async fn ask(&self, token: &str) -> io::Result<Reply> {
        let idle = || lock(&self.idle);
        let taken = idle().pop();
        let mut stream = match taken {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.database).await?;
                stream.set_nodelay(true)?;
                BufStream::new(stream)
            }
        };
        stream.write_all(format!("{token}\n").as_bytes()).await?;
        stream.flush().await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let reply = Reply::parse(&line).ok_or(io::ErrorKind::InvalidData)?;
        // Only now, because the connection of an abandoned load still receives a reply.
        idle().push(stream);
        Ok(reply)
    }
}

impl TokenLoader for FromDriver {
    type Metadata = u64;

    async fn load(&self, lookup: Lookup) -> Result<Option<TokenRecord<u64>>, BoxError> {
        let token = lookup.token().expose();
        let record = |version: Version, tenant: Option<usize>| {
            // The id is the token's text, so that an answer can be attributed.
            TokenRecord::new(token)
                .token_type(TOKEN_TYPE)
                .tenant_id(tenant.map(tenant_name))
                .metadata(version.pack())
        };
        match self.ask(token).await? {
            Reply::Error => Err("the database failed".into()),
            Reply::Row(Read::Absent) => Ok(None),
            Reply::Row(Read::Found(version, tenant)) => Ok(Some(record(version, tenant))),
            Reply::Row(Read::Denied(version, tenant)) => {
                let reason = version.pack().to_string();
                Ok(Some(record(version, Some(tenant)).denied(reason)))
            }
        }
    }
}
