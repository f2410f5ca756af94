//! The user's database.

use std::future::Future;
use std::sync::Arc;

use crate::error::BoxError;
use crate::token::{BearerToken, TokenDigest, TokenRecord};
use crate::util::BoxFuture;

/// The token that a [`TokenLoader`] looks up.
///
/// # Examples
/// ```
/// use tower_api_token::Lookup;
///
/// fn query(lookup: &Lookup) -> (&'static str, [u8; 32]) {
///     // By the digest: the database does not need the text, and no error can quote it.
///     let sql = "SELECT id, type FROM tokens WHERE digest = $1 AND revoked_at IS NULL";
///     (sql, *lookup.digest().as_bytes())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Lookup {
    pub(crate) token: BearerToken,
    pub(crate) digest: TokenDigest,
    pub(crate) token_type: Option<Arc<str>>,
}

impl Lookup {
    /// Returns the token, whose text only [`BearerToken::expose`] shows.
    pub fn token(&self) -> &BearerToken {
        &self.token
    }

    /// Returns the token's digest, by which a database should store and find tokens.
    pub fn digest(&self) -> TokenDigest {
        self.digest
    }

    /// Returns the token type that the caller asked for, only in the
    /// [layout that is shared with Dify](crate::store::KeyLayout::dify).
    ///
    /// In any other layout this is `None`: a token has one entry and is loaded whatever its type is, and the type
    /// is compared on each request.
    pub fn token_type(&self) -> Option<&str> {
        self.token_type.as_deref()
    }
}

/// Looks up tokens in the database. An implementation neither caches nor retries.
///
/// An async function or a closure that takes a [`Lookup`] implements it; its error may be of any type. So does an
/// [`Arc`] of a loader. The guarantees of the cache need two things of an implementation:
///
/// * A *revoked* or *disabled* token is `None`. A known token that may not be used now is a record that is
///   [denied](TokenRecord::denied). An error means that the database could not answer; it is answered with 503 and
///   never cached.
/// * The query runs on the primary, in a statement of its own that starts when `load` is called: not on a replica,
///   and not inside an older transaction or snapshot ([protocol](crate::guide::protocol)).
///
/// A load that exceeds the [timeout](crate::ApiTokenCacheBuilder::load_timeout) is dropped and has failed, and so
/// has one that panics.
///
/// # Examples
/// ```
/// use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
///
/// # #[derive(Clone)]
/// # struct Pool;
/// # impl Pool {
/// #     async fn id_by(&self, _: &[u8; 32]) -> std::io::Result<Option<String>> { Ok(None) }
/// # }
/// # let pool = Pool;
/// // The closure is called for each load, and clones the pool into the future.
/// let loader = move |lookup: Lookup| {
///     let pool = pool.clone();
///     async move {
///         // SELECT id FROM tokens WHERE digest = $1 AND revoked_at IS NULL
///         let id = pool.id_by(lookup.digest().as_bytes()).await?;
///         Ok::<_, std::io::Error>(id.map(|id| TokenRecord::new(id)))
///     }
/// };
/// let cache = ApiTokenCache::builder(loader).build()?;
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
///
/// Work that a load moves to another thread (`spawn_blocking`, a synchronous driver) continues after the load is
/// dropped, and [`max_concurrent_loads`](crate::ApiTokenCacheBuilder::max_concurrent_loads) no longer counts it. More
/// and more threads would then query a database that hangs. A semaphore of your own bounds them if its permit is
/// moved into the work:
///
/// ```
/// use std::sync::Arc;
/// use tokio::sync::Semaphore;
/// use tower_api_token::{ApiTokenCache, BoxError, Lookup, TokenRecord};
///
/// # fn query(_: &[u8; 32]) -> Result<Option<TokenRecord>, std::io::Error> { Ok(None) }
/// // As many as `max_concurrent_loads`.
/// let permits = Arc::new(Semaphore::new(20));
/// let loader = move |lookup: Lookup| {
///     let permits = Arc::clone(&permits);
///     async move {
///         let permit = permits.acquire_owned().await?;
///         let work = tokio::task::spawn_blocking(move || {
///             // Released when the query ends, and not when the load does.
///             let _permit = permit;
///             query(lookup.digest().as_bytes())
///         });
///         Ok::<_, BoxError>(work.await??)
///     }
/// };
/// let cache = ApiTokenCache::builder(loader).max_concurrent_loads(20).build()?;
/// # let _ = cache;
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
///
/// A type of your own can name its metadata:
///
/// ```
/// use tower_api_token::{ApiTokenCache, BoxError, Lookup, TokenLoader, TokenRecord};
///
/// # #[derive(Clone)]
/// # struct Pool;
/// # struct Row { id: String, kind: String, rate: u32, revoked: bool }
/// # impl Pool {
/// #     async fn by_digest(&self, _: &[u8; 32]) -> Result<Option<Row>, std::io::Error> { Ok(None) }
/// # }
/// struct Tokens {
///     pool: Pool,
/// }
///
/// impl TokenLoader for Tokens {
///     /// Requests per minute, which a handler reads by `CachedApiToken::metadata`.
///     type Metadata = u32;
///
///     async fn load(&self, lookup: Lookup) -> Result<Option<TokenRecord<u32>>, BoxError> {
///         // `?` is for a database that cannot answer. A revoked token is not an error.
///         let row = self.pool.by_digest(lookup.digest().as_bytes()).await?;
///         Ok(row
///             .filter(|row| !row.revoked)
///             .map(|row| TokenRecord::new(row.id).token_type(row.kind).metadata(row.rate)))
///     }
/// }
///
/// let cache: ApiTokenCache<u32> = ApiTokenCache::builder(Tokens { pool: Pool }).build()?;
/// # let _ = cache;
/// # Ok::<(), tower_api_token::ConfigError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a token loader",
    label = "expected an async function or closure of one `Lookup`, or an implementation of `TokenLoader`",
    note = "`|lookup: Lookup| async move {{ Ok::<_, MyError>(record_or_none) }}`"
)]
pub trait TokenLoader: Send + Sync + 'static {
    /// The data that a record carries for your handlers, or `()`.
    type Metadata: Send + Sync + 'static;

    /// Looks up the token, whatever its type is.
    ///
    /// # Errors
    /// An error means that the database could not answer. The request is answered with 503, and nothing is cached.
    ///
    /// # Cancel safety
    /// The future is dropped if it exceeds the [timeout](crate::ApiTokenCacheBuilder::load_timeout). It is not
    /// dropped when the caller hangs up: other callers may wait for the same load.
    fn load(
        &self,
        lookup: Lookup,
    ) -> impl Future<Output = Result<Option<TokenRecord<Self::Metadata>>, BoxError>> + Send;
}

impl<F, Fut, M, E> TokenLoader for F
where
    F: Fn(Lookup) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Option<TokenRecord<M>>, E>> + Send,
    M: Send + Sync + 'static,
    E: Into<BoxError>,
{
    type Metadata = M;

    async fn load(&self, lookup: Lookup) -> Result<Option<TokenRecord<M>>, BoxError> {
        self(lookup).await.map_err(Into::into)
    }
}

#[diagnostic::do_not_recommend]
impl<L: TokenLoader> TokenLoader for Arc<L> {
    type Metadata = L::Metadata;

    async fn load(&self, lookup: Lookup) -> Result<Option<TokenRecord<L::Metadata>>, BoxError> {
        TokenLoader::load(&**self, lookup).await
    }
}

/// The result of a load.
type Loaded<M> = Result<Option<TokenRecord<M>>, BoxError>;

/// A loader with its type erased. The future owns the loader, because each load is a task of its own, so that a
/// panic or a timeout only ends the load.
pub(crate) trait DynLoader<M>: Send + Sync {
    fn load(self: Arc<Self>, lookup: Lookup) -> BoxFuture<'static, Loaded<M>>;
}

impl<L: TokenLoader> DynLoader<L::Metadata> for L {
    fn load(self: Arc<Self>, lookup: Lookup) -> BoxFuture<'static, Loaded<L::Metadata>> {
        Box::pin(async move { TokenLoader::load(&*self, lookup).await })
    }
}
