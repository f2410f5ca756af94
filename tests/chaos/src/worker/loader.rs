//! The loader of an instance: asks the driver's database.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tower_api_token::{BoxError, Denial, Lookup, TokenLoader, TokenRecord, Verdict};

use crate::books::lock;
use crate::database::Reply;
use crate::ledger::Read;
use crate::settings::{SCOPE, tenant_name};

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
        // Only now: the connection of a load that was given up still owes a reply.
        idle().push(stream);
        Ok(reply)
    }
}

impl TokenLoader for FromDriver {
    type Metadata = u64;

    async fn load(&self, lookup: Lookup) -> Result<Verdict<u64>, BoxError> {
        let token = lookup.token().expose();
        match self.ask(token).await? {
            Reply::Error => Err("the database is in trouble".into()),
            Reply::Row(Read::Absent) => Ok(Verdict::Absent),
            Reply::Row(Read::Found(version, tenant)) => Ok(Verdict::Found(
                // The id is the token's text, so that an answer says whose it is.
                TokenRecord::new(token, SCOPE)
                    .tenant_id(tenant.map(tenant_name))
                    .metadata(version.pack()),
            )),
            Reply::Row(Read::Denied(version, tenant)) => {
                let reason = format!("{token} {}", version.pack());
                let denial = Denial::new(reason).for_tenant(tenant_name(tenant));
                Ok(Verdict::Denied(denial))
            }
        }
    }
}
