//! A TCP proxy that breaks the wire on command.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::process::listen;

/// A TCP proxy on a loopback port in front of a server, whose network a test can break and mend.
///
/// It stands for what an outage looks like from a client, which killing the server does not: a kill is a *clean* failure
/// (the kernel says "reset" or "refused" at once), while what hurts in production is silence, half-sent replies and
/// slowness. Its port stays the same whatever happens, so a client that reconnects finds it again.
///
/// The controls are synchronous and take effect before they return, for connections too that had reached the port but
/// were not yet taken up. The proxy has a thread and a runtime of its own: a test with paused time or a blocked worker
/// does not stop it, and tokio's paused time does not speed up its delays.
///
/// Bytes keep their order, and none are lost by [`stall`](Self::stall) and [`delay`](Self::delay). Dropping the proxy
/// closes everything.
///
/// ```
/// use test_support::{Direction, FaultProxy, RedisServer};
///
/// let redis = RedisServer::start();
/// let proxy = FaultProxy::start(redis.addr());
/// let url = format!("redis://{}/", proxy.addr());
/// // … connect a client to `url`, and then:
/// proxy.stall(Direction::ToClient); // commands arrive and run, replies do not come back
/// proxy.resume(); // now they do
/// proxy.cut(); // every connection is closed, and every new one at once
/// proxy.heal(); // the client can reconnect
/// ```
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    target: SocketAddr,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// The way in which bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server: requests.
    ToServer,
    /// From the server to the client: replies.
    ToClient,
    /// Either way.
    Both,
}

impl Direction {
    fn includes(self, other: Self) -> bool {
        self == Self::Both || self == other
    }
}

impl FaultProxy {
    /// Starts a proxy to `target`, healthy at first.
    ///
    /// The target need not be up: a connection is made for each client, and a client whose connection fails is closed,
    /// as it would be by a server that dies.
    ///
    /// # Panics
    ///
    /// When the machine has no port, thread or runtime to give.
    pub fn start(target: SocketAddr) -> Self {
        let listener = listen();
        listener
            .set_nonblocking(true)
            .expect("cannot make a listener non-blocking");
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let (orders, inbox) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .expect("cannot build the proxy's runtime");
        let thread = thread::Builder::new()
            .name(format!("proxy-{}", addr.port()))
            .spawn(move || runtime.block_on(Proxy::new(listener, target).run(inbox)))
            .expect("cannot start the proxy's thread");
        Self {
            addr,
            target,
            orders,
            thread: Some(thread),
        }
    }

    /// Where clients connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The port of [`addr`](Self::addr).
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// The server behind it.
    pub fn target(&self) -> SocketAddr {
        self.target
    }

    /// Closes every connection on both sides, and until [`heal`](Self::heal) every new one as soon as it is made.
    ///
    /// Bytes on their way are lost, which is the point: the client cannot know whether its last command ran.
    pub fn cut(&self) {
        self.order(|faults| faults.cut = true, true);
    }

    /// Ends every fault: [`cut`](Self::cut), [`stall`](Self::stall), [`delay`](Self::delay) and
    /// [`black_hole_new`](Self::black_hole_new).
    ///
    /// Stalled bytes go on. A connection in the black hole stays there until its client leaves or the proxy is cut.
    pub fn heal(&self) {
        self.order(|faults| *faults = Faults::default(), false);
    }

    /// Stops forwarding bytes in a direction, on present and new connections, and keeps the sockets open.
    ///
    /// Closing is stalled like bytes are: neither side learns that the other has gone. Some bytes (about a megabyte, and
    /// the kernel's buffers) are taken in meanwhile, so a client can usually write and only then waits.
    pub fn stall(&self, direction: Direction) {
        self.order(
            move |faults| faults.each(direction, |way| way.stalled = true),
            false,
        );
    }

    /// Ends [`stall`](Self::stall) in both directions. What was held goes on, in order.
    pub fn resume(&self) {
        self.order(
            |faults| faults.each(Direction::Both, |way| way.stalled = false),
            false,
        );
    }

    /// Makes bytes in a direction arrive this much later, as a longer wire would: it adds to the latency, and takes no
    /// throughput from a pipelining client. Zero ends it. Bytes that are already on their way keep their delay.
    pub fn delay(&self, direction: Direction, by: Duration) {
        self.order(
            move |faults| faults.each(direction, |way| way.delay = by),
            false,
        );
    }

    /// Until [`heal`](Self::heal), new connections are accepted and never answered; what clients send there is
    /// swallowed, and the server never hears of them. Present connections work as before.
    pub fn black_hole_new(&self) {
        self.order(|faults| faults.black_hole = true, false);
    }

    /// How many clients are connected now, those in the black hole included. A new one counts as soon as its `connect` has
    /// returned; one that has left counts until both directions have ended.
    pub fn connections(&self) -> usize {
        self.order(|_| (), false).open
    }

    /// How many clients have ever connected, those included that were closed at once: for counting reconnects.
    pub fn accepted(&self) -> usize {
        self.order(|_| (), false).accepted
    }

    /// Has the proxy's thread change the faults, and returns when it has.
    fn order(&self, change: impl FnOnce(&mut Faults) + Send + 'static, close: bool) -> Counts {
        let (done, answer) = blocking::sync_channel(1);
        let order = Order {
            change: Box::new(change),
            close,
            done,
        };
        // If the thread is gone, so is `done`, and the answer is an error.
        let _ = self.orders.send(order);
        answer.recv().expect("the proxy's thread has panicked")
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // Closing the channel is the order to end.
        self.orders = mpsc::unbounded_channel().0;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Order {
    change: Box<dyn FnOnce(&mut Faults) + Send>,
    /// Close all connections.
    close: bool,
    done: blocking::SyncSender<Counts>,
}

#[derive(Clone, Copy)]
struct Counts {
    open: usize,
    accepted: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    cut: bool,
    black_hole: bool,
    to_server: Way,
    to_client: Way,
}

#[derive(Clone, Copy, Debug, Default)]
struct Way {
    stalled: bool,
    delay: Duration,
}

impl Faults {
    fn each(&mut self, direction: Direction, change: impl Fn(&mut Way)) {
        if direction.includes(Direction::ToServer) {
            change(&mut self.to_server);
        }
        if direction.includes(Direction::ToClient) {
            change(&mut self.to_client);
        }
    }

    fn way(&self, direction: Direction) -> Way {
        match direction {
            Direction::ToServer => self.to_server,
            Direction::ToClient | Direction::Both => self.to_client,
        }
    }
}

/// The side of the proxy that lives on its thread.
struct Proxy {
    listener: StdListener,
    target: SocketAddr,
    faults: watch::Sender<Faults>,
    connections: JoinSet<()>,
    accepted: usize,
}

impl Proxy {
    fn new(listener: StdListener, target: SocketAddr) -> Self {
        Self {
            listener,
            target,
            faults: watch::Sender::new(Faults::default()),
            connections: JoinSet::new(),
            accepted: 0,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>) {
        let listener = self
            .listener
            .try_clone()
            .expect("cannot clone the proxy's listener");
        let listener =
            TcpListener::from_std(listener).expect("cannot listen with the proxy's runtime");
        loop {
            tokio::select! {
                order = inbox.recv() => match order {
                    Some(order) => self.obey(order).await,
                    // The handle was dropped; the connections close with `self`.
                    None => return,
                },
                accepted = listener.accept() => {
                    if let Ok((client, _)) = accepted {
                        self.admit(client);
                    }
                }
                Some(_) = self.connections.join_next() => {}
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        // Who had connected before the order is dealt with as things were before it. This asks the kernel itself, since
        // tokio may not have heard yet; and it is why `connections` is right as soon as a client's `connect` returns.
        while let Ok((client, _)) = self.listener.accept() {
            if let Ok(client) = from_std(client) {
                self.admit(client);
            }
        }
        self.faults.send_modify(order.change);
        if order.close {
            self.connections.shutdown().await;
        }
        while self.connections.try_join_next().is_some() {}
        let _ = order.done.send(Counts {
            open: self.connections.len(),
            accepted: self.accepted,
        });
    }

    fn admit(&mut self, client: TcpStream) {
        self.accepted += 1;
        let faults = *self.faults.borrow();
        if faults.cut {
            return;
        }
        if faults.black_hole {
            self.connections.spawn(swallow(client));
        } else {
            let faults = self.faults.subscribe();
            self.connections.spawn(forward(client, self.target, faults));
        }
    }
}

fn from_std(stream: StdStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

/// A connection in the black hole, until its client leaves.
async fn swallow(mut client: TcpStream) {
    let mut buffer = [0; 4096];
    while matches!(client.read(&mut buffer).await, Ok(1..)) {}
}

/// A connection, until both sides have closed or one has failed.
async fn forward(mut client: TcpStream, target: SocketAddr, faults: watch::Receiver<Faults>) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // An error ends both ways: a reset must not leave the other side with half a connection.
    let _ = tokio::try_join!(
        pump(from_client, to_server, Direction::ToServer, faults.clone()),
        pump(from_server, to_client, Direction::ToClient, faults.clone()),
    );
}

/// Bytes that were read, and when they may be written.
type Parcel = (Instant, Vec<u8>);

/// Carries the bytes of one direction, and the end of them.
///
/// Reading and writing are two halves with a queue between them. With one loop, a delay would be paid once per read
/// rather than once per byte, and grow with every byte that waits.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    direction: Direction,
    faults: watch::Receiver<Faults>,
) -> io::Result<()> {
    const QUEUE: usize = 64;
    const CHUNK: usize = 16 * 1024;

    let (queue, mut parcels) = mpsc::channel::<Parcel>(QUEUE);
    let delays = faults.clone();
    let reading = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            let n = from.read(&mut buffer).await?;
            let due = Instant::now() + delays.borrow().way(direction).delay;
            // An empty parcel is the end: it waits its turn like any other.
            if queue.send((due, buffer[..n].to_vec())).await.is_err() || n == 0 {
                return Ok(());
            }
        }
    };
    let writing = async move {
        let mut faults = faults;
        while let Some((due, bytes)) = parcels.recv().await {
            sleep_until(due).await;
            if bytes.is_empty() {
                flowing(&mut faults, direction).await;
                return to.shutdown().await;
            }
            write_in_flow(&mut to, &bytes, direction, &mut faults).await?;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// Writes all of `bytes`, none of them while the direction is stalled.
async fn write_in_flow(
    to: &mut WriteHalf<'_>,
    mut bytes: &[u8],
    direction: Direction,
    faults: &mut watch::Receiver<Faults>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        flowing(faults, direction).await;
        tokio::select! {
            // A stall that comes while we wait for a slow reader must win over its becoming ready.
            biased;
            changed = faults.changed() => if changed.is_err() {
                return Err(io::ErrorKind::ConnectionAborted.into());
            },
            written = to.write(bytes) => match written? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => bytes = &bytes[n..],
            }
        }
    }
    Ok(())
}

/// Waits until the direction is not stalled.
async fn flowing(faults: &mut watch::Receiver<Faults>, direction: Direction) {
    // An error means that the proxy is ending, and this connection with it.
    let _ = faults
        .wait_for(|faults| !faults.way(direction).stalled)
        .await;
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    /// How long a test listens to silence before it believes it. A wrong proxy sends at once.
    const SILENCE: Duration = Duration::from_millis(100);

    /// An echo server; ends with the test process.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                thread::spawn(move || {
                    let mut back = stream.try_clone().unwrap();
                    let _ = io::copy(&mut stream, &mut back);
                    let _ = back.shutdown(Shutdown::Write);
                });
            }
        });
        addr
    }

    /// A server that hands its connections to the test.
    fn hand_over() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let (give, take) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(LONG)).unwrap();
                if give.send(stream).is_err() {
                    return;
                }
            }
        });
        (addr, take)
    }

    fn client(proxy: &FaultProxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.addr()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    #[track_caller]
    fn expect(stream: &mut TcpStream, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(got, bytes);
    }

    #[track_caller]
    fn expect_echo(stream: &mut TcpStream, bytes: &[u8]) {
        stream.write_all(bytes).unwrap();
        expect(stream, bytes);
    }

    /// A read with a timeout fails with `EINTR` when this process is frozen and thawed, and the kernel does not resume it.
    fn read(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match stream.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    #[track_caller]
    fn expect_silence(stream: &mut TcpStream) {
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let kind = read(stream, &mut [0]).unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{kind:?}"
        );
        stream.set_read_timeout(Some(LONG)).unwrap();
    }

    #[track_caller]
    fn expect_closed(stream: &mut TcpStream) {
        match read(stream, &mut [0]) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("not closed: {other:?}"),
        }
    }

    #[track_caller]
    fn expect_connections(proxy: &FaultProxy, n: usize) {
        let deadline = Instant::now() + LONG;
        while proxy.connections() != n {
            assert!(
                Instant::now() < deadline,
                "{} connections",
                proxy.connections()
            );
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn healthy_proxy_is_transparent_and_counts() {
        let proxy = FaultProxy::start(echo());
        assert_eq!(proxy.connections(), 0);
        let mut a = client(&proxy);
        assert_eq!(proxy.connections(), 1);
        let mut b = client(&proxy);
        assert_eq!(proxy.connections(), 2);
        expect_echo(&mut a, b"hello");
        expect_echo(&mut b, b"there");
        drop(a);
        expect_connections(&proxy, 1);
        assert_eq!(proxy.accepted(), 2);
    }

    #[test]
    fn half_closed_connection_still_gets_its_answer() {
        let proxy = FaultProxy::start(echo());
        let mut client = client(&proxy);
        client.write_all(b"last words").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"last words");
        expect_connections(&proxy, 0);
    }

    #[test]
    fn cut_closes_both_sides_and_new_connections_until_healed() {
        let (target, accepted) = hand_over();
        let proxy = FaultProxy::start(target);
        let mut before = client(&proxy);
        let mut server = accepted.recv().unwrap();
        proxy.cut();
        assert_eq!(proxy.connections(), 0);
        expect_closed(&mut before);
        expect_closed(&mut server);
        let mut during = client(&proxy);
        expect_closed(&mut during);
        let mut unseen = client(&proxy);
        proxy.heal();
        expect_closed(&mut unseen);
        let mut after = client(&proxy);
        accepted.recv().unwrap().write_all(b"welcome").unwrap();
        expect(&mut after, b"welcome");
        assert!(
            accepted.try_recv().is_err(),
            "the server hears nothing of the others"
        );
    }

    #[test]
    fn stalled_replies_come_back_in_order_when_resumed() {
        let (target, accepted) = hand_over();
        let proxy = FaultProxy::start(target);
        let mut client = client(&proxy);
        let mut server = accepted.recv().unwrap();
        proxy.stall(Direction::ToClient);
        client.write_all(b"request").unwrap();
        expect(&mut server, b"request");
        server.write_all(b"one").unwrap();
        server.write_all(b"two").unwrap();
        drop(server);
        expect_silence(&mut client);
        proxy.resume();
        expect(&mut client, b"onetwo");
        expect_closed(&mut client);
    }

    #[test]
    fn stalled_requests_do_not_reach_the_server() {
        let (target, accepted) = hand_over();
        let proxy = FaultProxy::start(target);
        let mut client = client(&proxy);
        let mut server = accepted.recv().unwrap();
        proxy.stall(Direction::ToServer);
        client.write_all(b"request").unwrap();
        server.write_all(b"push").unwrap();
        expect(&mut client, b"push");
        expect_silence(&mut server);
        proxy.heal();
        expect(&mut server, b"request");
    }

    #[test]
    fn nothing_is_lost_or_reordered_under_stalls_and_delays() {
        const BYTES: usize = 8 * 1024 * 1024;
        let proxy = FaultProxy::start(echo());
        let mut client = client(&proxy);
        let mut sender = client.try_clone().unwrap();
        let pattern = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        let sending = thread::spawn(move || {
            let bytes: Vec<u8> = (0..BYTES).map(pattern).collect();
            sender.write_all(&bytes).unwrap();
            sender.shutdown(Shutdown::Write).unwrap();
        });
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            client.read_to_end(&mut bytes).unwrap();
            bytes
        });
        let faults = [Direction::ToServer, Direction::ToClient, Direction::Both];
        for direction in faults.into_iter().cycle() {
            proxy.stall(direction);
            proxy.delay(direction, Duration::from_millis(2));
            thread::sleep(Duration::from_millis(3));
            proxy.resume();
            proxy.delay(Direction::Both, Duration::ZERO);
            thread::sleep(Duration::from_millis(3));
            if reading.is_finished() {
                break;
            }
        }
        sending.join().unwrap();
        let bytes = reading.join().unwrap();
        assert_eq!(bytes.len(), BYTES);
        assert!(
            bytes
                .iter()
                .enumerate()
                .all(|(i, &byte)| byte == pattern(i))
        );
    }

    #[test]
    fn stall_holds_even_a_reply_that_was_being_written() {
        let (target, accepted) = hand_over();
        let proxy = FaultProxy::start(target);
        let mut client = client(&proxy);
        let mut server = accepted.recv().unwrap();
        // More than the buffers hold, so that the proxy is in the middle of a write.
        let sending = thread::spawn(move || server.write_all(&vec![7; 32 * 1024 * 1024]));
        let mut first = [0; 1024];
        client.read_exact(&mut first).unwrap();
        proxy.stall(Direction::ToClient);
        // Only what the kernel has already: it must run dry.
        client.set_read_timeout(Some(SILENCE)).unwrap();
        let mut buffer = vec![0; 1024 * 1024];
        let mut total = first.len();
        let dry = loop {
            match read(&mut client, &mut buffer) {
                Ok(n) => total += n,
                Err(error) => break error.kind(),
            }
        };
        assert!(
            matches!(dry, ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{dry:?}"
        );
        assert!(total < 32 * 1024 * 1024);
        proxy.resume();
        client.set_read_timeout(Some(LONG)).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
        assert_eq!(total + rest.len(), 32 * 1024 * 1024);
        sending.join().unwrap().unwrap();
    }

    #[test]
    fn delay_adds_latency_once_and_not_per_write() {
        const DELAY: Duration = Duration::from_millis(200);
        let (target, accepted) = hand_over();
        let proxy = FaultProxy::start(target);
        let mut client = client(&proxy);
        let mut server = accepted.recv().unwrap();
        proxy.delay(Direction::ToServer, DELAY);
        let start = Instant::now();
        // Fifty parcels, spread out so that they are read one by one.
        for _ in 0..50 {
            client.write_all(b"x").unwrap();
            thread::sleep(Duration::from_millis(2));
        }
        expect(&mut server, b"x");
        assert!(start.elapsed() >= DELAY);
        expect(&mut server, &[b'x'; 49]);
        assert!(start.elapsed() < 25 * DELAY, "{:?}", start.elapsed());
        proxy.delay(Direction::ToServer, Duration::from_secs(3600));
        proxy.heal();
        client.write_all(b"y").unwrap();
        expect(&mut server, b"y");
    }

    #[test]
    fn black_hole_accepts_and_never_answers() {
        let proxy = FaultProxy::start(echo());
        let mut before = client(&proxy);
        proxy.black_hole_new();
        let mut lost = client(&proxy);
        lost.write_all(b"anyone?").unwrap();
        expect_silence(&mut lost);
        expect_echo(&mut before, b"still here");
        assert_eq!(proxy.connections(), 2);
        proxy.heal();
        expect_echo(&mut client(&proxy), b"back");
        expect_silence(&mut lost);
        proxy.cut();
        expect_closed(&mut lost);
    }

    #[test]
    fn client_of_a_dead_server_is_closed() {
        let proxy = FaultProxy::start((Ipv4Addr::LOCALHOST, crate::free_port()).into());
        expect_closed(&mut client(&proxy));
        expect_connections(&proxy, 0);
    }

    #[test]
    fn dropped_proxy_closes_everything() {
        let proxy = FaultProxy::start(echo());
        let mut client = client(&proxy);
        expect_echo(&mut client, b"hello");
        let addr = proxy.addr();
        drop(proxy);
        expect_closed(&mut client);
        // Not at once: a child that another test is just forking has a copy of the listener until it executes.
        let deadline = Instant::now() + LONG;
        let refused = loop {
            match TcpStream::connect(addr) {
                Ok(_) => assert!(Instant::now() < deadline, "still listening"),
                Err(error) => break error.kind(),
            }
        };
        // A connection that was waiting when the copy closed is reset.
        let expected = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];
        assert!(expected.contains(&refused), "{refused:?}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn blocked_runtime_of_a_test_does_not_stop_it() {
        let proxy = FaultProxy::start(echo());
        // Everything here blocks the only worker of this test's runtime, with a delay running inside the proxy.
        proxy.delay(Direction::Both, Duration::from_millis(10));
        expect_echo(&mut client(&proxy), b"hello");
    }
}
