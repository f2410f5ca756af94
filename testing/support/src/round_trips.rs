//! A TCP proxy that counts round trips.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::process::listen;

/// A TCP proxy in front of a Redis that records each round trip.
///
/// It works in lock-step: it forwards what a client has sent, and reads nothing more from that client until all replies
/// are received and forwarded. So a pipeline that is sent in one write is one round trip, and a command that depends on a
/// reply is another one, by construction.
///
/// Commands that a client sends together in several writes may count as one round trip or more, because the kernel may
/// join them. `MONITOR` and subscriptions, which have more than one reply, do not work.
///
/// ```
/// use std::io::{Read, Write};
/// use test_support::{RedisServer, RoundTrips};
///
/// let redis = RedisServer::start();
/// let wire = RoundTrips::start(redis.addr());
/// let mut client = std::net::TcpStream::connect(wire.addr()).unwrap();
/// client.write_all(b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$1\r\na\r\n").unwrap();
/// client.read_exact(&mut [0; 14]).unwrap();
/// assert_eq!(wire.take(), [["PING", "ECHO a"]]);
/// ```
#[derive(Debug)]
pub struct RoundTrips {
    addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    trips: Mutex<Vec<Vec<String>>>,
    clients: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

impl RoundTrips {
    /// Starts a proxy to `target`, on a loopback port.
    ///
    /// # Panics
    ///
    /// Panics if it cannot get a port or a thread.
    pub fn start(target: SocketAddr) -> Self {
        let listener = listen();
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::<Shared>::default();
        let thread = thread::Builder::new()
            .name(format!("round-trips-{}", addr.port()))
            .spawn({
                let shared = Arc::clone(&shared);
                move || accept(&listener, target, &shared)
            })
            .expect("cannot start the proxy's thread");
        Self {
            addr,
            shared,
            thread: Some(thread),
        }
    }

    /// Returns the address for clients.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the round trips since the last call (or the start), in their order. Each is a list of commands, whose words
    /// are joined by spaces. Every round trip whose replies have reached the client is in the list.
    pub fn take(&self) -> Vec<Vec<String>> {
        std::mem::take(&mut *lock(&self.shared.trips))
    }
}

impl Drop for RoundTrips {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread up, which then ends.
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for client in lock(&self.shared.clients).drain(..) {
            let _ = client.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else { continue };
        if let Ok(client) = client.try_clone() {
            lock(&shared.clients).push(client);
        }
        let shared = Arc::clone(shared);
        // An error means that one side has closed, which ends the connection.
        thread::spawn(move || carry(client, target, &shared));
    }
}

fn carry(mut client: TcpStream, target: SocketAddr, shared: &Shared) -> io::Result<()> {
    let mut server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    loop {
        let (asked, commands) = whole(&mut client, 1)?;
        let replies = commands.len();
        // Before the client receives the reply, so that a test that got the reply finds the round trip.
        lock(&shared.trips).push(commands);
        server.write_all(&asked)?;
        let (answered, _) = whole(&mut server, replies)?;
        client.write_all(&answered)?;
    }
}

/// Reads at least `least` complete values, and returns their bytes and the strings in each.
fn whole(from: &mut TcpStream, least: usize) -> io::Result<(Vec<u8>, Vec<String>)> {
    let (mut bytes, mut at, mut values) = (Vec::new(), 0, Vec::new());
    let mut buffer = [0; 16 * 1024];
    while at < bytes.len() || values.len() < least {
        let read = match from.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => read,
        };
        bytes.extend_from_slice(&buffer[..read]);
        while let Some((length, words)) = value(&bytes[at..]) {
            at += length;
            values.push(words.join(" "));
        }
    }
    Ok((bytes, values))
}

/// Parses the first value of RESP (2 or 3), if it is complete, and returns its length and the strings in it.
pub(crate) fn value(bytes: &[u8]) -> Option<(usize, Vec<String>)> {
    let line = bytes.windows(2).position(|end| end == b"\r\n")?;
    let (mut at, mut words) = (line + 2, Vec::new());
    let number = || {
        let text = std::str::from_utf8(&bytes[1..line]).ok()?;
        // A null has the length -1, and nothing follows.
        text.parse::<usize>().ok()
    };
    let parts = match bytes[0] {
        b'$' | b'=' | b'!' => {
            if let Some(length) = number() {
                let text = bytes.get(at..at + length)?;
                words.push(String::from_utf8_lossy(text).into_owned());
                at += length + 2;
            }
            0
        }
        b'*' | b'~' | b'>' => number().unwrap_or(0),
        b'%' => 2 * number().unwrap_or(0),
        _ => 0,
    };
    for _ in 0..parts {
        let (length, inner) = value(&bytes[at..])?;
        at += length;
        words.extend(inner);
    }
    (at <= bytes.len()).then_some((at, words))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic leaves the list valid.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RedisServer;

    fn command(words: &[&str]) -> Vec<u8> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        bytes
    }

    fn read(client: &mut TcpStream, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn pipeline_is_one_round_trip_and_a_dependent_command_another() {
        let redis = RedisServer::start();
        let wire = RoundTrips::start(redis.addr());
        let mut client = TcpStream::connect(wire.addr()).unwrap();
        let pipeline = [
            command(&["SET", "key", "value"]),
            command(&["GET", "key"]),
            command(&["GET", "missing"]),
        ];
        client.write_all(&pipeline.concat()).unwrap();
        assert_eq!(read(&mut client, 21), b"+OK\r\n$5\r\nvalue\r\n$-1\r\n");
        for _ in 0..2 {
            client.write_all(&command(&["DEL", "key"])).unwrap();
            read(&mut client, 4);
        }
        assert_eq!(
            wire.take(),
            [
                vec!["SET key value", "GET key", "GET missing"],
                vec!["DEL key"],
                vec!["DEL key"]
            ]
        );
        assert!(wire.take().is_empty());
    }

    #[test]
    fn command_in_several_parts_is_one_round_trip() {
        let redis = RedisServer::start();
        let wire = RoundTrips::start(redis.addr());
        let mut client = TcpStream::connect(wire.addr()).unwrap();
        client.set_nodelay(true).unwrap();
        for byte in command(&["ECHO", "in parts"]) {
            client.write_all(&[byte]).unwrap();
        }
        read(&mut client, 14);
        assert_eq!(wire.take(), [["ECHO in parts"]]);
    }

    #[test]
    fn length_of_every_resp3_value_is_exact() {
        for whole in [
            "%2\r\n+a\r\n:1\r\n$1\r\nb\r\n*2\r\n$-1\r\n_\r\n",
            "~1\r\n$3\r\nabc\r\n",
            "=5\r\ntxt:a\r\n",
            "*0\r\n",
            "*-1\r\n",
            "#t\r\n",
        ] {
            for cut in 0..whole.len() {
                assert!(value(&whole.as_bytes()[..cut]).is_none(), "{whole:?} {cut}");
            }
            let twice = whole.repeat(2);
            let length = value(twice.as_bytes()).map(|(length, _)| length);
            assert_eq!(length, Some(whole.len()), "{whole:?}");
        }
    }
}
