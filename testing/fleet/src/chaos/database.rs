//! The database: a TCP server in front of the ledger, which injects delays and errors.
//!
//! A request is a token's text, a reply one line. A connection handles one request after another.

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

/// How quickly and reliably the database answers.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Every reply takes the same time.
    Steady(Duration),
    /// Most replies are immediate. Some are delayed before or after the row is read, some come too late, and
    /// some are errors.
    Wild {
        /// The source of random numbers.
        seed: u64,
    },
}

/// A reply of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The state of the row.
    Row(Read),
    /// The query failed.
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

    /// Parses a complete line.
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

/// A running database, which ends with its runtime.
#[derive(Debug)]
pub struct Database {
    addr: SocketAddr,
    loads: Arc<AtomicU64>,
}

impl Database {
    /// Starts a database in the current runtime.
    ///
    /// # Errors
    /// Returns an error if no port can be bound.
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
                    // The client disconnected, or sent an invalid request.
                    let _ = serve(stream, books, loads, chance).await;
                });
            }
        });
        Ok(Self { addr, loads })
    }

    /// Returns its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the number of loads that began.
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
    fn replies_round_trip_and_partial_ones_are_rejected() {
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
