//! Tests of how a store finds its Redis server and connects: sentinels that hang, servers without RESP3,
//! and users, passwords and certificates that change.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::{
    Cache, Db, PATIENCE, Row, cached, confirmed, eventually, found, grant, nothing_was_denied,
};
use test_support::{
    Direction, FaultProxy, Feature, RedisCluster, RedisSentinel, RedisServer, TlsRedisServer,
    cluster_url, sentinel_url,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tower_api_token::store::RedisTls;
use tower_api_token::{Origin, RedisStore};

const TOKEN: &str = "app-0123456789abcdef";

fn db() -> Arc<Db> {
    Db::with(TOKEN, Row::new("app").of_tenant("t-1"))
}

fn cache(db: &Arc<Db>, store: RedisStore) -> Cache {
    let store = store.response_timeout(Duration::from_secs(1));
    let builder = db.cache().store(store).local_capacity(0);
    builder.token_types(["app"]).build().unwrap()
}

/// Creates a store with longer timeouts than the defaults, so that a busy machine does not look like an outage.
fn patient(url: &str) -> RedisStore {
    let store = RedisStore::new(url).unwrap();
    store.connect_timeout(Duration::from_secs(5))
}

async fn works(cache: &Cache) {
    cached(cache, TOKEN).await;
    confirmed(async || cache.invalidate(TOKEN).await.is_ok()).await;
    confirmed(async || cache.invalidate_tenant("t-1").await.is_ok()).await;
    cached(cache, TOKEN).await;
    eventually("nothing is cached", async || {
        cache.check_store().await.is_ok()
    })
    .await;
}

/// Returns the chain of errors that the log would have about an unusable store.
async fn error_chain(cache: &Cache) -> String {
    let error = cache.check_store().await.unwrap_err();
    let mut text = error.to_string();
    let mut error: &dyn Error = &error;
    while let Some(source) = error.source() {
        text += &format!(": {source}");
        error = source;
    }
    text
}

/// Waits until that chain contains `words`, because a request reports only what earlier attempts to connect found.
async fn says(cache: &Cache, words: &str) {
    let start = Instant::now();
    loop {
        let said = error_chain(cache).await;
        assert!(!said.contains("31337"), "a password: {said}");
        if said.contains(words) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{said:?} is not {words:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_sentinel_does_not_block_the_others() {
    let set = RedisSentinel::start();
    set.sentinels()[0].pause();
    set.sentinels()[1].pause();
    let url = set.url();
    let db = db();
    works(&cache(&db, RedisStore::new(&url).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_master_is_found_while_the_first_sentinel_hangs() {
    let set = RedisSentinel::start();
    let url = set.url();
    let db = db();
    let cache = cache(&db, RedisStore::new(&url).unwrap());
    works(&cache).await;
    let old = set.master();
    set.sentinels()[0].pause();
    old.pause();
    set.wait_for_failover(old);
    works(&cache).await;
}

/// Starts a sentinel that always names `server` as the master.
async fn sentinel_that_names(server: SocketAddr) -> SocketAddr {
    let named = server.port().to_string();
    let sentinel = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = sentinel.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = sentinel.accept().await {
            let mut command = [0; 1_024];
            // The client sends each command after the reply to the one before.
            while let Ok(length @ 1..) = client.read(&mut command).await {
                let text = String::from_utf8_lossy(&command[..length]).into_owned();
                let reply = if text.contains("SENTINEL") {
                    format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{named}\r\n", named.len())
                } else {
                    "+OK\r\n".to_owned()
                };
                client.write_all(reply.as_bytes()).await.unwrap();
            }
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_that_names_a_hung_server_does_not_block_others() {
    let set = RedisSentinel::start();
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wrong = sentinel_that_names(hung.local_addr().unwrap()).await;
    // The others answer after this one.
    let slow = set.sentinel_addrs().into_iter().map(|sentinel| {
        let proxy = FaultProxy::start(sentinel);
        proxy.delay(Direction::ToClient, Duration::from_millis(50));
        proxy
    });
    let slow = Vec::from_iter(slow);
    let sentinels: Vec<_> = slow.iter().map(FaultProxy::addr).collect();
    let sentinels = [&[wrong], &sentinels[..]].concat();
    let url = sentinel_url(&sentinels, set.master_name());
    let db = db();
    works(&cache(&db, RedisStore::new(&url).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_a_sentinel_names_is_not_used_as_the_master() {
    let master = RedisServer::start();
    let port = master.port().to_string();
    let writable = [
        "--replicaof",
        "127.0.0.1",
        &port,
        "--replica-read-only",
        "no",
    ];
    let replica = RedisServer::start_with(&writable);
    let sentinel = sentinel_that_names(replica.addr()).await;
    let db = db();
    let cache = cache(&db, patient(&sentinel_url(&[sentinel], "name")));
    says(&cache, "the server that the sentinels name is not a master").await;
    replica.command(&["REPLICAOF", "NO", "ONE"]).ok();
    works(&cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_sentinel_does_not_hide_the_others_errors() {
    let set = RedisSentinel::start();
    set.sentinels()[0].pause();
    let url = sentinel_url(&set.sentinel_addrs(), "no-such-master");
    let db = db();
    let cache = cache(&db, RedisStore::new(&url).unwrap());
    says(&cache, "does not know a master of this name").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_node_does_not_hide_why_a_cluster_refuses_clients() {
    let cluster = RedisCluster::start_with(Duration::from_secs(600), &[]);
    for node in cluster.nodes() {
        node.command(&["CONFIG", "SET", "requirepass", "31337"])
            .ok();
    }
    cluster.node(0).pause();
    let url = cluster_url(&cluster.addrs()[..3]);
    let db = db();
    let cache = cache(&db, RedisStore::new(&url).unwrap());
    says(&cache, "the server answered NOAUTH").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_ask_for_a_password_get_theirs() {
    let set = RedisSentinel::start();
    for sentinel in set.sentinels() {
        let rule = ["ACL", "SETUSER", "watcher", "on", ">secret/31337", "+@all"];
        sentinel.command(&rule).ok();
        let rule = ["ACL", "SETUSER", "default", "resetpass", ">31337"];
        sentinel.command(&rule).ok();
    }
    let url = set.url();
    let db = db();
    let without = cache(&db, patient(&url));
    says(&without, "the server answered NOAUTH").await;
    let wrong = cache(&db, patient(&format!("{url}?sentinel_password=31337x")));
    says(&wrong, "refused the user or the password").await;
    works(&cache(
        &db,
        patient(&format!("{url}?sentinel_password=31337")),
    ))
    .await;
    let of_a_user = "sentinel_username=watcher&sentinel_password=secret%2F31337";
    works(&cache(&db, patient(&format!("{url}?{of_a_user}")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_hello_is_used_with_resp2() {
    let server = RedisServer::start_with(&["--rename-command", "HELLO", ""]);
    grant(&server, &["-hello"]);
    let db = db();
    let url = format!("redis://api:secret@{}/3", server.addr());
    works(&cache(&db, patient(&url))).await;
    nothing_was_denied(&server);
    let wrong = url.replace("secret", "31337");
    says(
        &cache(&db, patient(&wrong)),
        "refused the user or the password",
    )
    .await;
    let resp3_alone = cache(&db, patient(&format!("{url}?protocol=resp3")));
    says(&resp3_alone, "does not know HELLO").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_send_hello_is_served_with_resp2() {
    let server = RedisServer::start();
    grant(&server, &["-hello"]);
    // A HELLO that fails leaves the client as a user without rights.
    server
        .command(&["ACL", "SETUSER", "default", "-hello"])
        .ok();
    let db = db();
    let url = format!("redis://api:secret@{}", server.addr());
    works(&cache(&db, patient(&url))).await;
}

/// Starts a proxy that hangs up on a command that it does not know, as some do.
async fn proxy_that_hangs_up(server: SocketAddr) -> SocketAddr {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = proxy.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = proxy.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 1_024];
                let length = client.read(&mut first).await.unwrap_or(0);
                let text = String::from_utf8_lossy(&first[..length]);
                if !text.contains("HELLO") && !text.contains("CLIENT") {
                    let mut server = TcpStream::connect(server).await.unwrap();
                    server.write_all(&first[..length]).await.unwrap();
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    addr
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_hangs_up_on_hello_is_used_with_resp2() {
    let server = RedisServer::start();
    let proxy = proxy_that_hangs_up(server.addr()).await;
    let db = db();
    works(&cache(&db, patient(&format!("redis://{proxy}")))).await;
    let url = format!("redis://{proxy}?protocol=resp2");
    works(&cache(&db, patient(&url))).await;
    let resp3_alone = cache(&db, patient(&format!("redis://{proxy}?protocol=resp3")));
    says(&resp3_alone, "no connection to the store").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_protocol_that_the_url_names_is_used() {
    let server = RedisServer::start();
    let db = db();
    works(&cache(
        &db,
        patient(&format!("{}?protocol=resp2", server.url())),
    ))
    .await;
    assert_eq!(server.command_count("hello"), 0);
    works(&cache(
        &db,
        patient(&format!("{}?protocol=resp3", server.url())),
    ))
    .await;
    assert_ne!(server.command_count("hello"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_database_is_named_in_the_error() {
    let server = RedisServer::start();
    let db = db();
    let cache = cache(&db, patient(&format!("redis://{}/99", server.addr())));
    says(
        &cache,
        "the database 99 cannot be selected: the server answered ERR DB index",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_says_that_a_server_takes_no_more_clients() {
    let server = RedisServer::start();
    // The only client that the server accepts.
    let _held = std::net::TcpStream::connect(server.addr()).unwrap();
    server.command(&["CONFIG", "SET", "maxclients", "1"]).ok();
    let db = db();
    says(
        &cache(&db, patient(&server.url())),
        "accepts no more clients",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_named_where_the_user_may_name_them() {
    if Feature::FineAcl.is_missing() {
        return;
    }
    let named = |server: &RedisServer| {
        let clients = server.command(&["CLIENT", "LIST"]).text();
        clients.contains("name=tower-api-token ")
    };
    let server = RedisServer::start();
    let db = db();
    works(&cache(&db, patient(&server.url()))).await;
    let named_cache = cache(&db, patient(&format!("{}?protocol=resp2", server.url())));
    works(&named_cache).await;
    assert!(named(&server));
    drop(named_cache);
    grant(&server, &["-client|setname"]);
    let url = format!("redis://api:secret@{}", server.addr());
    eventually("the others are gone", async || !named(&server)).await;
    let unnamed = cache(&db, patient(&url));
    works(&unnamed).await;
    assert!(!named(&server));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_and_uppercase_schemes_are_accepted() {
    let server = RedisServer::start_unix();
    let db = db();
    for scheme in ["valkey", "REDIS", "Valkey"] {
        let url = format!("{scheme}://{}/3", server.addr());
        works(&cache(&db, patient(&url))).await;
    }
    let url = server.unix_url().replace("redis+unix", "valkey+unix");
    works(&cache(&db, patient(&format!("{url}?db=2")))).await;
    if Feature::Tls.is_missing() {
        return;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = TlsRedisServer::start();
    let store = patient(&server.url().replace("rediss", "VALKEYS"));
    works(&cache(
        &db,
        store.tls(RedisTls::new().ca_certificate(server.ca_pem())),
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificate_files_are_used_at_the_next_connect() {
    if Feature::Tls.is_missing() {
        return;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut server = TlsRedisServer::start_mutual();
    let (certificate, key) = server.client_files();
    let tls = RedisTls::new().ca_certificate_file(server.ca_file());
    let tls = tls.identity_files(certificate, &key);
    let db = db();
    let cache = cache(&db, patient(&server.url()).tls(tls));
    works(&cache).await;
    // The authority's certificate changes too, so that nothing that was read before is valid.
    server.renew();
    works(&cache).await;
    std::fs::write(&key, "31337").unwrap();
    server.server().restart();
    says(&cache, "client.key has no PRIVATE KEY in PEM").await;
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Loaded);
    std::fs::remove_file(&key).unwrap();
    says(&cache, "cannot read").await;
    // The key of another certificate.
    std::fs::write(&key, server.stranger_key_pem()).unwrap();
    says(&cache, "no connection to the store").await;
    std::fs::write(&key, server.client_key_pem()).unwrap();
    works(&cache).await;
}

#[tokio::test]
async fn certificates_for_a_url_without_tls_are_an_error() {
    if Feature::Tls.is_missing() {
        return;
    }
    let server = TlsRedisServer::start();
    let ca = || server.ca_pem().as_bytes().to_vec();
    let store = patient(&server.server().url()).tls(RedisTls::new().ca_certificate(ca()));
    let error = db().cache().store(store).build().unwrap_err();
    assert!(
        error.to_string().contains("does not ask for TLS"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_used_over_tls() {
    if Feature::Tls.is_missing() {
        return;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = TlsRedisServer::start_cluster();
    let db = db();
    let url = format!("rediss+cluster://{}", server.addr());
    let with = |ca: &str| patient(&url).tls(RedisTls::new().ca_certificate(ca));
    works(&cache(&db, with(server.ca_pem()))).await;
    let stranger = cache(&db, with(server.stranger_ca_pem()));
    says(&stranger, "UnknownIssuer").await;
}

/// A source of passwords, which counts how often it was asked.
#[derive(Clone, Default)]
struct Passwords(Arc<Mutex<String>>, Arc<AtomicUsize>);

impl Passwords {
    fn set(&self, password: &str) {
        *self.0.lock().unwrap() = password.to_owned();
    }

    fn for_store(&self, store: RedisStore) -> RedisStore {
        let passwords = self.clone();
        store.credentials_provider(move || {
            let passwords = passwords.clone();
            async move {
                passwords.1.fetch_add(1, Ordering::SeqCst);
                let password = passwords.0.lock().unwrap().clone();
                assert_ne!(password, "panic");
                (Some("api".to_owned()), password)
            }
        })
    }
}

/// Closes all connections and changes the password.
fn change_password(server: &RedisServer, password: &str) {
    let password = format!(">{password}");
    server
        .command(&["ACL", "SETUSER", "api", "resetpass", &password])
        .ok();
    server.command(&["CLIENT", "KILL", "USER", "api"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_asked_for_at_each_connect() {
    let server = RedisServer::start();
    grant(&server, &[]);
    let passwords = Passwords::default();
    let db = db();
    // The URL has other credentials.
    let store = patient(&format!("redis://nobody:31337@{}", server.addr()));
    let cache = cache(&db, passwords.for_store(store));
    says(&cache, "the server answered WRONGPASS").await;
    passwords.set("secret");
    works(&cache).await;
    let asked = passwords.1.load(Ordering::SeqCst);
    works(&cache).await;
    assert_eq!(
        passwords.1.load(Ordering::SeqCst),
        asked,
        "connections that are up stay up"
    );
    change_password(&server, "newer");
    passwords.set("newer");
    works(&cache).await;
    cache.invalidate(TOKEN).wait_for_replicas(0).await.unwrap();
    passwords.set("panic");
    change_password(&server, "newest");
    says(&cache, "connecting panicked").await;
    passwords.set("newest");
    works(&cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_cluster_nodes_ask_for_credentials_too() {
    let passwords = Passwords::default();
    passwords.set("secret");
    let db = db();
    let set = RedisSentinel::start();
    for server in set.servers() {
        grant(server, &["+role"]);
        server
            .command(&["ACL", "SETUSER", "default", "-set", "-get"])
            .ok();
    }
    let url = set.url();
    works(&cache(&db, passwords.for_store(patient(&url)))).await;
    let cluster = RedisCluster::start();
    for server in cluster.nodes() {
        grant(server, &["+cluster|slots", "+asking"]);
        server
            .command(&["ACL", "SETUSER", "default", "-set", "-get"])
            .ok();
    }
    let cache = cache(&db, passwords.for_store(patient(&cluster.url())));
    works(&cache).await;
    assert!(passwords.1.load(Ordering::SeqCst) >= 3);
}
