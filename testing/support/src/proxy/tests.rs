use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use super::*;

const LONG: Duration = Duration::from_secs(20);
/// How long a test waits to assert that nothing is sent. A wrong proxy sends immediately.
const SILENCE: Duration = Duration::from_millis(100);

/// Starts an echo server, which ends with the test process.
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

/// Starts a server that passes its connections to the test.
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

/// Reads, and retries after `EINTR`: if this process is stopped and continued, the kernel does not restart a read that has
/// a timeout.
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
        "the others do not reach the server"
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
    // More than the buffers can hold, so that the proxy is in the middle of a write.
    let sending = thread::spawn(move || server.write_all(&vec![7; 32 * 1024 * 1024]));
    let mut first = [0; 1024];
    client.read_exact(&mut first).unwrap();
    proxy.stall(Direction::ToClient);
    // Only the kernel's buffers must still arrive.
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
    // Fifty writes, with pauses so that they are read one by one.
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
    // Not immediately: a child that another test is forking has a copy of the listener until it executes.
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
    // Everything here blocks the only worker of this test's runtime, while the proxy delays bytes.
    proxy.delay(Direction::Both, Duration::from_millis(10));
    expect_echo(&mut client(&proxy), b"hello");
}
