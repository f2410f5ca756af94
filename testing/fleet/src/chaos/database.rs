//! The database: a small TCP server in front of the ledger, with delays and errors of its own.
//!
//! A request is a token's text, a reply is one line; a connection carries one request after another.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use test_support::Dice;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};

use crate::chaos::books::{Shared, lock};
use crate::chaos::ledger::{Read, Version};
use crate::chaos::settings::token_index;

/// How quickly, and how reliably, it answers.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Always after the same time.
    Steady(Duration),
    /// Mostly at once, sometimes late before the row is read or after it, sometimes too late,
    /// sometimes with an error.
    Wild {
        /// What decides.
        seed: u64,
    },
}

/// A reply, as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// What the row says.
    Row(Read),
    /// It cannot tell.
    Error,
}

impl Reply {
    fn to_line(self) -> String {
        match self {
            Self::Row(Read::Found(version, None)) => format!("found {} -\n", version.pack()),
            Self::Row(Read::Found(version, Some(tenant))) => {
                format!("found {} {tenant}\n", version.pack())
            }
            Self::Row(Read::Denied(version, tenant)) => {
                format!("denied {} {tenant}\n", version.pack())
            }
            Self::Row(Read::Absent) => "absent\n".to_owned(),
            Self::Error => "error\n".to_owned(),
        }
    }

    /// Reads a line that ends as it should.
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.strip_suffix('\n')?.split(' ').collect();
        let version = |packed: &str| packed.parse().ok().map(Version::unpack);
        Some(match words.as_slice() {
            ["found", packed, "-"] => Self::Row(Read::Found(version(packed)?, None)),
            ["found", packed, tenant] => {
                Self::Row(Read::Found(version(packed)?, Some(tenant.parse().ok()?)))
            }
            ["denied", packed, tenant] => {
                Self::Row(Read::Denied(version(packed)?, tenant.parse().ok()?))
            }
            ["absent"] => Self::Row(Read::Absent),
            ["error"] => Self::Error,
            _ => return None,
        })
    }
}

/// A running database. It ends with its runtime.
#[derive(Debug)]
pub struct Database {
    addr: SocketAddr,
    loads: Arc<AtomicU64>,
}

impl Database {
    /// Starts it, in the runtime that this is called in.
    ///
    /// # Errors
    /// No port.
    pub async fn start(books: Shared, pace: Pace) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let loads = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&loads);
        tokio::spawn(async move {
            for connection in 0.. {
                let Ok((stream, _)) = listener.accept().await else {
                    continue;
                };
                let (books, loads) = (Arc::clone(&books), Arc::clone(&counted));
                let chance = match pace {
                    Pace::Steady(time) => Chance::Steady(time),
                    Pace::Wild { seed } => Chance::Wild(Dice::new(seed, connection)),
                };
                tokio::spawn(async move {
                    // A client that went away, or that speaks nonsense.
                    let _ = serve(stream, books, loads, chance).await;
                });
            }
        });
        Ok(Self { addr, loads })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many loads began.
    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }
}

enum Chance {
    Steady(Duration),
    Wild(Dice),
}

impl Chance {
    fn before(&mut self) -> Duration {
        match self {
            Self::Steady(_) => Duration::ZERO,
            Self::Wild(dice) => match dice.below(100) {
                0..60 => Duration::ZERO,
                60..98 => dice.magnitude(1, 50),
                _ => dice.magnitude(50, 1_500),
            },
        }
    }

    fn after(&mut self) -> Duration {
        match self {
            Self::Steady(time) => *time,
            Self::Wild(dice) => match dice.below(100) {
                0..50 => Duration::ZERO,
                50..90 => dice.magnitude(1, 150),
                _ => dice.magnitude(100, 1_500),
            },
        }
    }

    fn fails(&mut self) -> bool {
        match self {
            Self::Steady(_) => false,
            Self::Wild(dice) => dice.percent(1),
        }
    }
}

async fn serve(
    stream: TcpStream,
    books: Shared,
    loads: Arc<AtomicU64>,
    mut chance: Chance,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufStream::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        loads.fetch_add(1, Ordering::SeqCst);
        pause(chance.before()).await;
        let reply = if chance.fails() {
            Reply::Error
        } else {
            let books = lock(&books);
            Reply::Row(books.ledger.read(token_index(line.trim_end())))
        };
        pause(chance.after()).await;
        stream.write_all(reply.to_line().as_bytes()).await?;
        stream.flush().await?;
        line.clear();
    }
    Ok(())
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_as_they_were_written_and_never_when_cut() {
        let version = Version {
            token: 3,
            tenant: 2,
        };
        let replies = [
            Reply::Row(Read::Found(version, None)),
            Reply::Row(Read::Found(version, Some(12))),
            Reply::Row(Read::Denied(version, 1)),
            Reply::Row(Read::Absent),
            Reply::Error,
        ];
        for reply in replies {
            let line = reply.to_line();
            assert_eq!(Reply::parse(&line), Some(reply));
            assert_eq!(Reply::parse(&line[..line.len() - 1]), None);
        }
    }
}
