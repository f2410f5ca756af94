use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::launch::lacks_tls;
use super::wire::read_reply;
use super::*;
use crate::process::{POLL, setpriv};

fn replies(bytes: &[u8]) -> io::Result<Reply> {
    read_reply(&mut &bytes[..])
}

#[test]
fn every_kind_of_reply_is_read() {
    assert_eq!(replies(b"+OK\r\n").unwrap(), Reply::Simple("OK".into()));
    assert_eq!(
        replies(b"-ERR no\r\n").unwrap(),
        Reply::Error("ERR no".into())
    );
    assert_eq!(replies(b":-7\r\n").unwrap(), Reply::Int(-7));
    assert_eq!(replies(b"$-1\r\n").unwrap(), Reply::Nil);
    assert_eq!(replies(b"*-1\r\n").unwrap(), Reply::Nil);
    assert_eq!(
        replies(b"$4\r\na\r\nb\r\n").unwrap(),
        Reply::Bulk(b"a\r\nb".to_vec())
    );
    assert_eq!(
        replies(b"*2\r\n:1\r\n*1\r\n$0\r\n\r\n").unwrap(),
        Reply::Array(vec![Reply::Int(1), Reply::Array(vec![Reply::Bulk(vec![])])])
    );
    assert!(replies(b"").is_err());
    assert!(replies(b"?\r\n").is_err());
    assert!(replies(b"$5\r\nabc").is_err());
}

#[test]
fn server_answers_and_is_empty() {
    let redis = RedisServer::start();
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{}/", redis.port()));
    assert_eq!(redis.keys("*"), Vec::<String>::new());
    redis.command(&["SET", "b", "\r\n"]).ok();
    redis.command(&[&b"SET"[..], b"a", b"\xff\0"]).ok();
    assert_eq!(redis.get("a").unwrap(), b"\xff\0");
    assert_eq!(redis.get("b").unwrap(), b"\r\n");
    assert_eq!(redis.get("c"), None);
    assert_eq!(redis.keys("*"), ["a", "b"]);
    assert_eq!(redis.command(&["INCR", "n"]).int(), 1);
    assert!(matches!(redis.command(&["INCR", "a"]), Reply::Error(_)));
    redis.flushall();
    assert_eq!(redis.keys("*"), Vec::<String>::new());
}

#[test]
fn extra_arguments_reach_the_server() {
    let redis =
        RedisServer::start_with(&["--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru"]);
    let policy = redis.command(&["CONFIG", "GET", "maxmemory*"]).array();
    assert!(policy.contains(&Reply::Bulk(b"2097152".to_vec())));
    assert!(policy.contains(&Reply::Bulk(b"allkeys-lru".to_vec())));
}

#[test]
fn server_with_a_password_starts() {
    let redis = RedisServer::start_with(&["--requirepass", "secret"]);
    assert!(matches!(redis.command(&["PING"]), Reply::Error(_)));
}

#[test]
#[should_panic(expected = "no-such-option")]
fn failed_start_shows_the_log() {
    RedisServer::start_with(&["--no-such-option", "1"]);
}

#[test]
fn commands_are_counted() {
    let redis = RedisServer::start();
    assert_eq!(redis.command_count("GET"), 0);
    redis.get("a");
    redis.get("a");
    assert_eq!(redis.command_count("get"), 2);
    redis.command(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "a"]);
    assert_eq!(redis.command_count("EVAL"), 1);
    assert_eq!(redis.command_count("GET"), 3);
    redis.reset_stats();
    assert_eq!(redis.command_count("GET"), 0);
}

#[test]
fn monitor_sees_what_others_send() {
    let redis = RedisServer::start();
    let mut monitor = redis.monitor();
    redis.get("first");
    let seen = monitor.take();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert!(seen[0].ends_with(r#""GET" "first""#), "{seen:?}");
    assert!(monitor.take().is_empty());
}

#[test]
fn killed_server_refuses_and_restarts_empty_on_its_port() {
    let redis = RedisServer::start();
    let first = redis.pid().unwrap();
    redis.command(&["SET", "a", "1"]).ok();
    redis.kill();
    redis.kill();
    assert_eq!(redis.pid(), None);
    let refused = redis.try_command(&["PING"]).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    redis.restart();
    assert_ne!(redis.pid().unwrap(), first);
    assert_eq!(redis.get("a"), None);
    redis.restart();
    assert_eq!(redis.get("a"), None);
}

#[test]
fn paused_server_is_silent_and_answers_when_resumed() {
    let redis = RedisServer::start();
    let mut connection = Connection::open(redis.addr(), REPLY_LIMIT).unwrap();
    let socket = connection.stream.get_ref().try_clone().unwrap();
    redis.pause();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let silence = connection.command(&["PING"]).unwrap_err();
    assert!(
        matches!(
            silence.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ),
        "{silence}"
    );
    redis.resume();
    socket.set_read_timeout(Some(REPLY_LIMIT)).unwrap();
    assert_eq!(connection.reply().unwrap(), Reply::Simple("PONG".into()));
}

#[test]
fn port_of_another_server_is_not_mistaken_for_ours() {
    let redis = RedisServer::start();
    let program = program();
    let dir = tempfile::tempdir().unwrap();
    let args = plain_args(redis.port());
    assert!(launch(&program, &args, redis.port(), dir.path()).is_none());
}

#[test]
fn dropping_the_server_ends_its_process_even_when_paused() {
    for paused in [false, true] {
        let redis = RedisServer::start();
        let pid = i32::try_from(redis.pid().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let (dir, port) = (redis.dir.path().to_owned(), redis.port());
        assert!(dir.exists());
        if paused {
            redis.pause();
        }
        drop(redis);
        assert!(rustix::process::test_kill_process(pid).is_err());
        assert!(!dir.exists());
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free again");
    }
}

#[test]
fn server_outlives_the_thread_that_started_it() {
    let redis = thread::spawn(RedisServer::start).join().unwrap();
    redis.command(&["PING"]).text();
}

/// Not a test: the next one runs it in another process.
#[test]
#[ignore = "proves nothing by itself: the next test starts it and kills it"]
fn start_a_server_and_wait_to_be_killed() {
    let redis = RedisServer::start();
    println!("\nserver at {}", redis.addr());
    // Also ends if the other test fails first.
    let _ = io::stdin().read_line(&mut String::new());
}

#[test]
fn killing_the_test_process_ends_its_server() {
    if setpriv().is_none() {
        // The server may outlive the process without it (see `bound_to_us`).
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut test = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--ignored", "--nocapture"])
        .arg("redis::tests::start_a_server_and_wait_to_be_killed")
        // So that its files are removed with our directory.
        .env("TMPDIR", dir.path())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let addr: SocketAddr = BufReader::new(test.stdout.take().unwrap())
        .lines()
        .find_map(|line| line.unwrap().strip_prefix("server at ")?.parse().ok())
        .expect("the other process prints its server's address");
    assert!(TcpStream::connect(addr).is_ok());
    test.kill().unwrap();
    test.wait().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(addr).is_ok() {
        assert!(
            Instant::now() < deadline,
            "the server outlived the process that started it"
        );
        thread::sleep(POLL);
    }
}

#[test]
fn unix_socket_reaches_the_same_server_after_a_restart_too() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    let redis = RedisServer::start_unix();
    let path = redis.unix_path();
    assert_eq!(redis.unix_url(), format!("redis+unix://{}", path.display()));
    for _ in 0..2 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(REPLY_LIMIT)).unwrap();
        stream.write_all(b"SET a 1\r\n").unwrap();
        let reply = read_reply(&mut BufReader::new(stream)).unwrap();
        assert_eq!(reply, Reply::Simple("OK".into()));
        assert_eq!(redis.get("a").unwrap(), b"1");
        redis.restart();
    }
}

#[test]
#[should_panic(expected = "use RedisServer::start_unix")]
fn server_without_a_unix_socket_says_so() {
    RedisServer::start().unix_url();
}

#[test]
fn saved_data_survives_and_unsaved_changes_do_not() {
    let redis = RedisServer::start();
    redis.command(&["SET", "kept", "1"]).ok();
    redis.save_and_restart();
    assert_eq!(redis.keys("*"), ["kept"]);
    redis.command(&["DEL", "kept"]).int();
    redis.command(&["SET", "lost", "1"]).ok();
    redis.restart_from_file();
    assert_eq!(redis.keys("*"), ["kept"]);
    redis.restart();
    assert_eq!(redis.keys("*"), Vec::<String>::new());
}

#[test]
fn append_only_file_survives_a_crash_but_not_an_empty_restart() {
    let redis = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    redis.command(&["SET", "a", "1"]).ok();
    redis.restart_from_file();
    assert_eq!(redis.keys("*"), ["a"]);
    redis.restart();
    assert_eq!(redis.keys("*"), Vec::<String>::new());
}

#[test]
fn given_program_is_started() {
    let redis = RedisServer::start_program(&program(), &["--maxclients", "77"]);
    let limit = redis.command(&["CONFIG", "GET", "maxclients"]).array();
    assert_eq!(limit[1], Reply::Bulk(b"77".to_vec()));
}

#[test]
fn server_built_without_tls_is_recognized_by_its_log() {
    let refusal = "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\n\
                   Reading the configuration file, at line 8\n\
                   >>> 'tls-port \"7999\"'\n\
                   Bad directive or wrong number of arguments\n";
    assert!(lacks_tls(refusal));
    assert!(!lacks_tls(&refusal.replace("tls-port", "no-such-option")));
    assert!(!lacks_tls("No tls-cert-file configured!"));
}

#[test]
fn contents_are_keys_values_and_dumps() {
    let redis = RedisServer::start();
    redis.command(&["SET", "a-key", "a-value"]).ok();
    redis.command(&["SADD", "a-set", "one", "two"]).int();
    let contents = redis.contents();
    let contents = contents.escape_ascii().to_string();
    for text in [
        "a-key\\na-value\\n\\x00\\x07a-value",
        "a-set\\n",
        "one\\n",
        "two\\n",
    ] {
        assert!(contents.contains(text), "{text} is not in {contents}");
    }
}

#[test]
fn replica_of_another_test_is_not_attached() {
    let (master, _replica) = RedisServer::start_with_replica();
    let (_, others) = RedisServer::start_with_replica();
    let port = master.port().to_string();
    let stranger = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]);
    others.command(&["REPLICAOF", "127.0.0.1", &port]).ok();
    for code in ["NOPERM", "WRONGPASS"] {
        wait_until(
            code,
            || stranger.log_tail() + &others.log_tail(),
            || {
                let errors = master.command(&["INFO", "errorstats"]).text();
                errors.contains(code).then_some(()).ok_or(errors)
            },
        );
    }
    assert_eq!(master.connected_replicas(), 1, "{}", master.replication());
}
