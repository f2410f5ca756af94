//! A TCP proxy that reads the frames of a Redis connection, and changes what it forwards.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::process::listen;
use crate::round_trips::value;

/// A TCP proxy in front of a Redis that knows commands, replies and pushes (RESP3): it holds, drops, forges and adds
/// single ones.
///
/// A text that selects commands is what their words, joined by spaces, begin with, such as `"CLIENT CACHING"`. Replies stay
/// in the order of their commands, also forged ones. The controls are synchronous, as those of
/// [`FaultProxy`](crate::FaultProxy).
///
/// ```
/// use std::io::{Read, Write};
/// use test_support::{FrameProxy, RedisServer};
///
/// let redis = RedisServer::start();
/// let proxy = FrameProxy::start(redis.addr());
/// proxy.answer("PING", "-ERR not today");
/// let mut client = std::net::TcpStream::connect(proxy.addr()).unwrap();
/// client.write_all(b"*2\r\n$4\r\nECHO\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n").unwrap();
/// let mut replies = [0; 23];
/// client.read_exact(&mut replies).unwrap();
/// assert_eq!(&replies, b"$1\r\na\r\n-ERR not today\r\n");
/// ```
#[derive(Debug)]
pub struct FrameProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ended: bool,
    drops_pushes: bool,
    /// Commands, and the bytes that answer each instead of the server.
    answers: Vec<(String, Vec<u8>)>,
    /// Commands that are not forwarded, nor anything behind them.
    parked: Option<String>,
    /// Connections before this one get nothing, from the reply to the command on.
    held: Option<(usize, String)>,
    received: Vec<String>,
    delivered: Vec<String>,
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// What the server has not answered yet.
    pending: VecDeque<Pending>,
    /// Frames for the client, each with its command, or with `"push"`.
    out: VecDeque<(String, Vec<u8>)>,
}

#[derive(Debug)]
enum Pending {
    Server(String),
    Forged(String, Vec<u8>),
    /// The reply to a command of the test.
    Own,
}

impl FrameProxy {
    /// Starts a proxy to `target`, on a loopback port. It forwards everything.
    ///
    /// # Panics
    ///
    /// Panics if it cannot get a port.
    pub fn start(target: SocketAddr) -> Self {
        let listener = listen();
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::<Shared>::default();
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, target, &accepting));
        Self { addr, shared }
    }

    /// Returns the address for clients.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns how many clients have connected.
    pub fn accepted(&self) -> usize {
        self.lock().connections.len()
    }

    /// Returns how many of these commands have arrived, forwarded or not.
    pub fn received(&self, command: &str) -> usize {
        count(&self.lock().received, command)
    }

    /// Returns how many replies to these commands were sent to clients.
    pub fn delivered(&self, command: &str) -> usize {
        count(&self.lock().delivered, command)
    }

    /// Answers the commands with a line such as `-ERR no`, instead of forwarding them.
    pub fn answer(&self, command: &str, line: &str) {
        let answer = (command.to_owned(), format!("{line}\r\n").into_bytes());
        self.change(|state| state.answers.push(answer));
    }

    /// Ends [`answer`](Self::answer).
    pub fn answer_none(&self) {
        self.change(|state| state.answers.clear());
    }

    /// Drops the pushes of the server from now on.
    pub fn drop_pushes(&self) {
        self.change(|state| state.drops_pushes = true);
    }

    /// Forwards neither these commands nor anything that a client sends after them.
    pub fn park(&self, command: &str) {
        self.change(|state| state.parked = Some(command.to_owned()));
    }

    /// Sends nothing to the present clients, from the next reply to this command on, or from now on if it is empty.
    pub fn hold(&self, command: &str) {
        self.change(|state| {
            state.held = Some((state.connections.len(), command.to_owned()));
        });
    }

    /// Returns how many replies to these commands wait, or pushes if `command` is `"push"`.
    pub fn held(&self, command: &str) -> usize {
        let state = self.lock();
        let frames = state.connections.iter().flat_map(|it| &it.out);
        frames.filter(|(of, _)| of.starts_with(command)).count()
    }

    /// Ends [`hold`](Self::hold), and sends what waits, in one write to each client.
    pub fn deliver(&self) {
        self.change(|state| state.held = None);
    }

    /// Ends everything that the other methods began, and forwards what waits, in one write to each client.
    pub fn forward(&self) {
        self.change(|state| {
            state.drops_pushes = false;
            state.answers.clear();
            (state.parked, state.held) = (None, None);
        });
    }

    /// Sends a frame to each client, such as a push.
    pub fn push(&self, frame: &[u8]) {
        self.change(|state| {
            for connection in &mut state.connections {
                let push = ("push".to_owned(), frame.to_vec());
                connection.out.push_back(push);
            }
        });
    }

    /// Runs a command on each connection to the server, and keeps the reply from the client.
    ///
    /// # Panics
    ///
    /// Panics if a reply is not received.
    pub fn run(&self, words: &[&str]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        self.change(|state| {
            for connection in &mut state.connections {
                if connection.server.write_all(&bytes).is_ok() {
                    connection.pending.push_back(Pending::Own);
                }
            }
        });
        let mut state = self.lock();
        let waits = |connection: &Connection| {
            let mut pending = connection.pending.iter();
            pending.any(|it| matches!(it, Pending::Own))
        };
        while state.connections.iter().any(waits) {
            state = self.shared.wait(state);
        }
    }

    /// Closes all connections. New ones are accepted.
    pub fn cut(&self) {
        self.change(|state| state.connections.iter_mut().for_each(Connection::close));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for FrameProxy {
    fn drop(&mut self) {
        self.change(|state| state.ended = true);
        self.cut();
        // Wakes the thread up, which then ends.
        let _ = TcpStream::connect(self.addr);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic leaves the state valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let waited = self.changed.wait(state);
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn close(&mut self) {
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
        self.pending.clear();
    }

    /// Moves the forged replies that are next to the frames for the client.
    fn answer(&mut self) {
        while let Some(Pending::Forged(..)) = self.pending.front() {
            if let Some(Pending::Forged(command, bytes)) = self.pending.pop_front() {
                self.out.push_back((command, bytes));
            }
        }
    }
}

impl State {
    /// Returns the number of frames that may be sent to the client of a connection now.
    fn sendable(&self, at: usize) -> usize {
        let out = &self.connections[at].out;
        match &self.held {
            Some((before, _)) if at >= *before => out.len(),
            Some((_, command)) => {
                let first = out.iter().position(|(of, _)| of.starts_with(command));
                first.unwrap_or(out.len())
            }
            None => out.len(),
        }
    }
}

fn count(commands: &[String], command: &str) -> usize {
    let commands = commands.iter();
    commands.filter(|it| it.starts_with(command)).count()
}

fn accept(listener: &TcpListener, target: SocketAddr, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.lock().ended {
            return;
        }
        // An error means that one side has closed, which ends the connection.
        let _ = client.and_then(|client| admit(client, target, shared));
    }
}

fn admit(client: TcpStream, target: SocketAddr, shared: &Arc<Shared>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, from_server) = (client.try_clone()?, server.try_clone()?);
    let to_client = client.try_clone()?;
    let at = {
        let mut state = shared.lock();
        state.connections.push(Connection {
            client,
            server,
            pending: VecDeque::new(),
            out: VecDeque::new(),
        });
        state.connections.len() - 1
    };
    type Work = fn(usize, TcpStream, &Shared) -> io::Result<()>;
    let works: [(Work, TcpStream); 3] = [
        (requests, from_client),
        (replies, from_server),
        (write, to_client),
    ];
    for (work, stream) in works {
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let _ = work(at, stream, &shared);
            shared.lock().connections[at].close();
            shared.changed.notify_all();
        });
    }
    Ok(())
}

/// Reads values until the stream ends.
fn read(
    mut stream: TcpStream,
    mut take: impl FnMut(Vec<u8>, String) -> io::Result<()>,
) -> io::Result<()> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
        while let Some((length, words)) = value(&bytes) {
            let rest = bytes.split_off(length);
            take(std::mem::replace(&mut bytes, rest), words.join(" "))?;
        }
    }
}

fn requests(at: usize, stream: TcpStream, shared: &Shared) -> io::Result<()> {
    read(stream, |bytes, command| {
        let mut state = shared.lock();
        state.received.push(command.clone());
        shared.changed.notify_all();
        let is_parked = |state: &State| {
            let mut parked = state.parked.iter();
            !state.ended && parked.any(|it| command.starts_with(it))
        };
        while is_parked(&state) {
            state = shared.wait(state);
        }
        let mut answers = state.answers.iter();
        let answer = answers.find(|(of, _)| command.starts_with(of));
        let answer = answer.map(|(_, answer)| answer.clone());
        let connection = &mut state.connections[at];
        match answer {
            Some(answer) => {
                let forged = Pending::Forged(command, answer);
                connection.pending.push_back(forged);
                connection.answer();
                shared.changed.notify_all();
                Ok(())
            }
            None => {
                connection.pending.push_back(Pending::Server(command));
                connection.server.write_all(&bytes)
            }
        }
    })
}

fn replies(at: usize, stream: TcpStream, shared: &Shared) -> io::Result<()> {
    read(stream, |bytes, _| {
        let mut state = shared.lock();
        let drops = state.drops_pushes;
        let connection = &mut state.connections[at];
        if bytes.starts_with(b">") {
            if !drops {
                connection.out.push_back(("push".to_owned(), bytes));
            }
        } else {
            if let Some(Pending::Server(command)) = connection.pending.pop_front() {
                connection.out.push_back((command, bytes));
            }
            connection.answer();
        }
        shared.changed.notify_all();
        Ok(())
    })
}

fn write(at: usize, mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut state = shared.lock();
    loop {
        let sendable = state.sendable(at);
        if sendable == 0 {
            if state.ended {
                return Ok(());
            }
            state = shared.wait(state);
            continue;
        }
        let frames: Vec<_> = state.connections[at].out.drain(..sendable).collect();
        let bytes: Vec<u8> = frames.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
        // With the lock, so that a test that finds a reply delivered knows that it was sent.
        stream.write_all(&bytes)?;
        state
            .delivered
            .extend(frames.into_iter().map(|(command, _)| command));
        shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RedisServer;

    struct World {
        redis: RedisServer,
        proxy: FrameProxy,
        client: TcpStream,
    }

    impl World {
        fn new() -> Self {
            let redis = RedisServer::start();
            let proxy = FrameProxy::start(redis.addr());
            let client = TcpStream::connect(proxy.addr()).unwrap();
            let mut world = Self {
                redis,
                proxy,
                client,
            };
            // Until it is answered, the proxy does not know the connection.
            world.send(&["PING"]);
            while world.proxy.delivered("PING") < 1 {
                thread::yield_now();
            }
            world
        }

        fn send(&mut self, words: &[&str]) {
            let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
            for word in words {
                bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
            }
            self.client.write_all(&bytes).unwrap();
        }
    }

    #[test]
    fn held_replies_are_sent_in_order() {
        let mut world = World::new();
        world.proxy.hold("GET");
        world.send(&["SET", "a", "1"]);
        world.send(&["GET", "a"]);
        world.send(&["SET", "a", "2"]);
        while world.proxy.held("") < 2 {
            thread::yield_now();
        }
        assert_eq!(world.proxy.delivered("SET"), 1);
        assert_eq!(world.redis.get("a").unwrap(), b"2");
        world.proxy.forward();
        while world.proxy.delivered("SET") < 2 {
            thread::yield_now();
        }
        assert_eq!(world.proxy.delivered("GET"), 1);
    }

    #[test]
    fn parked_commands_do_not_arrive() {
        let mut world = World::new();
        world.proxy.park("GET");
        world.send(&["SET", "a", "1"]);
        world.send(&["GET", "a"]);
        world.send(&["SET", "a", "2"]);
        while world.proxy.received("GET") < 1 || world.proxy.delivered("SET") < 1 {
            thread::yield_now();
        }
        world.proxy.run(&["SET", "b", "1"]);
        assert_eq!(world.redis.get("a").unwrap(), b"1");
        world.proxy.forward();
        while world.proxy.delivered("SET") < 2 {
            thread::yield_now();
        }
        assert_eq!(world.redis.get("b").unwrap(), b"1");
    }
}
