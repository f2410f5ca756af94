//! The table of tokens.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sqlx::{Connection, PgConnection};
use test_support::PostgresServer;
use tokio::runtime::Runtime;
use tower_api_token::{BearerToken, TokenFormat};

use super::client::eventually;

/// A schema of its own, in a PostgreSQL that the tests share while one of them runs.
pub(super) struct Database {
    pub(super) server: Arc<PostgresServer>,
    schema: String,
}

fn server() -> Arc<PostgresServer> {
    static SERVER: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
    let mut server = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    server.upgrade().unwrap_or_else(|| {
        let started = Arc::new(PostgresServer::start());
        *server = Arc::downgrade(&started);
        started
    })
}

impl Database {
    pub(super) fn create() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let server = server();
        let schema = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let database = Self { server, schema };
        database.execute(&format!("CREATE SCHEMA {}", database.schema));
        database.execute(include_str!("../../../forward_auth/tokens.sql"));
        database
    }

    pub(super) fn url(&self) -> String {
        self.url_at(self.server.addr())
    }

    pub(super) fn url_at(&self, address: SocketAddr) -> String {
        let (url, schema) = (self.server.url_at(address), &self.schema);
        format!("{url}?options=-c%20search_path%3D{schema}")
    }

    pub(super) fn execute(&self, statements: &str) {
        execute(&self.url(), statements);
    }

    /// Adds a token whose id is `id`, and its tenant if it is new.
    pub(super) fn add(&self, id: &str, tenant: &str, app: Option<&str>) -> BearerToken {
        self.add_of_type("app", id, tenant, app)
    }

    pub(super) fn add_of_type(
        &self,
        kind: &str,
        id: &str,
        tenant: &str,
        app: Option<&str>,
    ) -> BearerToken {
        let token = invented();
        run(async {
            let mut connection = PgConnection::connect(&self.url()).await?;
            sqlx::query("INSERT INTO tenants (id) VALUES ($1) ON CONFLICT DO NOTHING")
                .bind(tenant)
                .execute(&mut connection)
                .await?;
            let insert = "INSERT INTO tokens (id, tenant_id, app_id, type, digest) \
                VALUES ($1, $2, $3, $4, $5)";
            sqlx::query(insert)
                .bind(id)
                .bind(tenant)
                .bind(app)
                .bind(kind)
                .bind(token.digest().as_bytes())
                .execute(&mut connection)
                .await
        });
        token
    }

    /// Locks a table, so that statements on it wait until what is returned is dropped.
    pub(super) fn lock(&self, table: &str) -> Lock {
        let runtime = runtime();
        let mut connection = runtime
            .block_on(PgConnection::connect(&self.url()))
            .unwrap();
        let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        runtime
            .block_on(sqlx::raw_sql(&lock).execute(&mut connection))
            .unwrap();
        Lock {
            _connection: connection,
            _runtime: runtime,
        }
    }

    /// Runs a change, and returns once the program has performed its invalidation.
    pub(super) fn change(&self, statements: &str) {
        self.execute(statements);
        self.settle();
    }

    /// Waits until the program has performed the invalidations of all changes.
    pub(super) fn settle(&self) {
        eventually("nothing is pending", || self.pending() == 0);
    }

    fn pending(&self) -> i64 {
        run(async {
            let mut connection = PgConnection::connect(&self.url()).await?;
            sqlx::query_scalar("SELECT count(*) FROM pending_invalidations")
                .fetch_one(&mut connection)
                .await
        })
    }
}

/// Returns a token that is in no table.
pub(super) fn invented() -> BearerToken {
    TokenFormat::from_static("demo_").generate().unwrap()
}

fn execute(url: &str, statements: &str) {
    run(async {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::raw_sql(statements).execute(&mut connection).await
    });
}

fn run<T>(work: impl Future<Output = Result<T, sqlx::Error>>) -> T {
    runtime().block_on(work).unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// A transaction that holds a lock. The server ends it when the connection is closed.
pub(super) struct Lock {
    _connection: PgConnection,
    // After the connection, which needs it.
    _runtime: Runtime,
}
