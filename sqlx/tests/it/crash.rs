//! A process that is killed between the commit and the confirmation, and a database that goes away there.

use std::process::{Child, Command};
use std::time::Duration;

use test_support::{Direction, FaultProxy, Gate, RedisServer, bound_to_us};
use tower_api_token::test_util::{SyncPoint, SyncPoints};
use tower_api_token::{ApiTokenCache, BearerToken, RedisStore};
use tower_api_token_sqlx::{ApiKeys, ChangeError, Error, NewKey};

use crate::world::{World, answer, eventually, issue, keys_of_environment};

crate::on_both!(
    revocation_of_a_killed_process_is_confirmed_by_its_successor,
    revocation_of_a_killed_process_is_confirmed_by_another_instance,
);

fn cache(keys: &ApiKeys, redis: &str) -> ApiTokenCache {
    let store = RedisStore::new(redis).unwrap();
    keys.cache().store(store).build().unwrap()
}

/// What the process does that is killed: revokes a key, in the environment's database and with its Redis. It is no test.
#[tokio::test]
#[ignore = "a process that other tests start"]
async fn revoke_and_wait_to_be_killed() {
    let variable = |name: &str| std::env::var(name).expect(name);
    let keys = keys_of_environment().await;
    let _cache = cache(&keys, &variable("CRASH_REDIS"));
    let revoked = keys
        .revoke(variable("CRASH_KEY"))
        .retry_for(Duration::from_secs(600));
    let _ = revoked.await;
    panic!("the process that started this one kills it before");
}

/// A process that revokes a key. It is killed when this is dropped.
struct Process(Child);

impl Process {
    fn start(world: &World, redis: &str, key: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command: Command = bound_to_us(&program, "KILL");
        command.args([
            "--ignored",
            "--exact",
            "crash::revoke_and_wait_to_be_killed",
        ]);
        command.env("CRASH_REDIS", redis).env("CRASH_KEY", key);
        world.pass(&mut command);
        command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Ends the process as a crash does: nothing of it runs any longer.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cached key whose revocation was committed by a process that was killed before Redis got to know.
async fn killed(world: &World, redis: &RedisServer) -> BearerToken {
    let writer = world
        .builder()
        .await
        .outbox_interval(None)
        .build()
        .await
        .unwrap();
    let cached = cache(&writer, &redis.url());
    let issued = issue(&writer).await;
    assert_eq!(answer(&cached, &issued.token).await, "valid");

    let proxy = FaultProxy::start(redis.addr());
    proxy.stall(Direction::ToServer);
    let url = format!("redis://{}", proxy.addr());
    let process = Process::start(world, &url, &issued.key.id);
    eventually("the revocation is committed", async || {
        writer.pending_count().await.unwrap() == 1
    })
    .await;
    process.kill();
    assert_eq!(writer.pending_count().await.unwrap(), 1);
    // Redis still has the old answer, from which another instance answers.
    let other = cache(&writer, &redis.url());
    assert_eq!(answer(&other, &issued.token).await, "valid");
    issued.token
}

async fn revocation_of_a_killed_process_is_confirmed_by_its_successor(world: World) {
    let redis = RedisServer::start();
    let token = killed(&world, &redis).await;
    let successor = world.keys().await;
    let cache = cache(&successor, &redis.url());
    eventually("the outbox is empty", async || {
        successor.pending_count().await.unwrap() == 0
    })
    .await;
    assert_eq!(answer(&cache, &token).await, "invalid");
}

async fn revocation_of_a_killed_process_is_confirmed_by_another_instance(world: World) {
    let redis = RedisServer::start();
    // It runs all the time.
    let other = world.keys().await;
    let cache = cache(&other, &redis.url());
    // Until the process was killed it must not confirm, which its outbox does at once.
    let writer = world
        .builder()
        .await
        .outbox_interval(None)
        .build()
        .await
        .unwrap();
    let issued = issue(&writer).await;
    assert_eq!(answer(&cache, &issued.token).await, "valid");
    let proxy = FaultProxy::start(redis.addr());
    proxy.stall(Direction::ToServer);
    let url = format!("redis://{}", proxy.addr());
    let process = Process::start(&world, &url, &issued.key.id);
    eventually(
        "the revocation is committed and confirmed by the other instance",
        async || {
            let key = writer.get(&issued.key.id).await.unwrap().unwrap();
            key.revoked_at.is_some() && writer.pending_count().await.unwrap() == 0
        },
    )
    .await;
    process.kill();
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
}

/// PostgreSQL alone: the file of SQLite does not go away.
#[tokio::test(flavor = "multi_thread")]
async fn confirmed_revocation_is_a_success_though_its_row_cannot_be_deleted() {
    let world = World::postgres();
    let World::Postgres(server, _) = &world else {
        unreachable!()
    };
    let (proxy, gate) = (FaultProxy::start(server.addr()), Gate::new());
    let builder = world.builder_at(&server.url_at(proxy.addr())).await;
    let keys = builder.build().await.unwrap();
    let committed = gate.clone();
    let points = SyncPoints::new(move |point| {
        let gate = (point == SyncPoint::BeforeInvalidation).then(|| committed.clone());
        async move {
            if let Some(gate) = gate {
                gate.pass().await;
            }
        }
    });
    let cache = keys.cache().sync_points(points).build().unwrap();
    let observer = world.keys().await;
    let issued = issue(&keys).await;
    assert_eq!(answer(&cache, &issued.token).await, "valid");

    gate.close();
    let change = tokio::spawn(keys.revoke(&issued.key.id).into_future());
    gate.reached(1).await;
    proxy.cut();
    gate.open();
    change.await.unwrap().expect("it is confirmed");
    assert_eq!(observer.pending_count().await.unwrap(), 1);

    proxy.heal();
    eventually("the outbox is empty", async || {
        observer.pending_count().await.unwrap() == 0
    })
    .await;
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
}

/// A commit whose reply is lost is an error, and takes effect all the same if it happened.
#[tokio::test(flavor = "multi_thread")]
async fn commit_whose_reply_is_lost_takes_effect() {
    let world = World::postgres();
    let World::Postgres(server, _) = &world else {
        unreachable!()
    };
    let proxy = FaultProxy::start(server.addr());
    let direct = world.keys().await;
    let cache = direct.cache().build().unwrap();
    let issued = direct.issue(NewKey::new("acme")).await.unwrap();
    assert_eq!(answer(&cache, &issued.token).await, "valid");

    // Another process, whose connection is cut while it waits for the reply to its commit: a trigger makes that last.
    let keys = world.builder_at(&server.url_at(proxy.addr())).await;
    let keys = keys.outbox_interval(None).build().await.unwrap();
    world
        .execute(
            "CREATE FUNCTION pg_temp_wait() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON ~keys DEFERRABLE INITIALLY DEFERRED \
             FOR EACH ROW EXECUTE FUNCTION pg_temp_wait()",
        )
        .await;
    let change = tokio::spawn(keys.revoke(&issued.key.id).into_future());
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    eventually("it commits", async || {
        let select =
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'COMMIT'";
        sqlx::query_scalar::<_, i64>(select)
            .fetch_one(&pool)
            .await
            .unwrap()
            > 0
    })
    .await;
    proxy.cut();
    let error = change.await.unwrap().unwrap_err();
    assert!(
        matches!(error, ChangeError::Failed(Error::Database(_))),
        "{error}"
    );
    eventually("it takes effect", async || {
        let key = direct.get(&issued.key.id).await.unwrap().unwrap();
        key.revoked_at.is_some() && direct.pending_count().await.unwrap() == 0
    })
    .await;
    assert_eq!(answer(&cache, &issued.token).await, "invalid");
}
