//! Queries of when tokens were last used.

use chrono::{DateTime, Utc};

use super::engine::Engine;
use super::handle::ApiTokenCache;
use super::local::LocalEntry;
use crate::store::error::StoreError;
use crate::token::{BearerToken, TokenDigest};

impl<M: Send + Sync + 'static> ApiTokenCache<M> {
    /// Returns when `token` was last used: the latest of what this process recorded, what the store keeps of
    /// other instances' records, and what the cached record says. `None` if none of them knows of a use.
    ///
    /// It is behind the last use by less than the recorder's interval, and for uses of another instance
    /// by its flush interval more.
    ///
    /// ```
    /// # use tower_api_token::last_use::LastUse;
    /// # use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
    /// use tower_api_token::last_use::LastUseRecorder;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let loader = |_: Lookup| async {
    /// #     Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1")))
    /// # };
    /// # let sink = |_: Vec<LastUse>| async { Ok::<_, std::io::Error>(()) };
    /// let recorder = LastUseRecorder::new(sink);
    /// let cache = ApiTokenCache::builder(loader).last_use(recorder).build()?;
    /// cache.warm("app-0123456789abcdef").await?; // not a use
    /// assert!(cache.last_used_at("app-0123456789abcdef").await?.is_none());
    /// cache.authenticate("app-0123456789abcdef").await?;
    /// assert!(cache.last_used_at("app-0123456789abcdef").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns [`StoreError`] if the store did not answer.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn last_used_at(&self, token: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
        let (engine, token) = (&self.engine, BearerToken::new(token));
        let mut latest = None;
        for in_key in engine.types_in_keys() {
            let lookup = engine.lookup(token.clone(), in_key.as_deref());
            let known = engine.peek(&lookup).await?;
            let known = known.and_then(|resolved| match resolved.entry {
                LocalEntry::Found(principal) => principal.entry.value.last_used_at,
                LocalEntry::Absent(_) => None,
            });
            latest = latest.max(known);
        }
        let asked = (Some(&token), token.digest());
        let recorded = engine.recorded_uses(&[asked]).await?;
        Ok(recorded.into_iter().flatten().max().max(latest))
    }

    /// Returns when tokens were last used, as far as it is known beyond the database, for a caller that holds
    /// digests and not texts: a page of an operator's list. For each token, in their order, the latest of what
    /// this process recorded and of what the store keeps of other instances' records.
    ///
    /// The later of it and of the row's own time is when the token was last used. What is cached of
    /// the database is not looked at: the row is newer. All are asked for in one round trip.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, Lookup, TokenDigest, TokenRecord};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// # let page = [(TokenDigest::of("app-0123456789abcdef"), None)];
    /// let recorded = cache.last_uses(page.iter().map(|(digest, _)| *digest)).await?;
    /// for ((digest, in_row), recorded) in page.iter().zip(recorded) {
    ///     println!("{digest}: {:?}", recorded.max(*in_row));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns [`StoreError`] if the store did not answer. With the
    /// [layout that is shared with Dify](crate::store::KeyLayout::dify) it is an error that no repetition helps:
    /// its keys hold the text.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn last_uses(
        &self,
        tokens: impl IntoIterator<Item = TokenDigest>,
    ) -> Result<Vec<Option<DateTime<Utc>>>, StoreError> {
        if self.engine.keys.is_dify() {
            return Err(StoreError::needs_text());
        }
        let asked: Vec<_> = tokens.into_iter().map(|digest| (None, digest)).collect();
        self.engine.recorded_uses(&asked).await
    }
}

impl<M: Send + Sync + 'static> Engine<M> {
    /// Returns the latest use of each token that this process or the store knows. A text is given if the caller
    /// has it.
    async fn recorded_uses(
        &self,
        tokens: &[(Option<&BearerToken>, TokenDigest)],
    ) -> Result<Vec<Option<DateTime<Utc>>>, StoreError> {
        let types = self.types_in_keys();
        let mut keys = Vec::with_capacity(tokens.len());
        let mut counts = Vec::with_capacity(tokens.len());
        for (token, digest) in tokens {
            let before = keys.len();
            // With the keys of the previous pepper: a recorder may still write to them.
            keys.extend(self.keys.keys(*token, digest, &types));
            counts.push(keys.len() - before);
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut stored = self.store.last_uses(&keys).await?.into_iter();
        // This process is asked last: a use that a flush moves to the store meanwhile is seen in one of the two.
        let latest = |((_, digest), count): (&(Option<&BearerToken>, TokenDigest), usize)| {
            let stored = stored.by_ref().take(count).flatten().max();
            let ours = self
                .last_use
                .as_ref()
                .and_then(|last_use| last_use.last(digest));
            stored.max(ours)
        };
        Ok(tokens.iter().zip(counts).map(latest).collect())
    }
}
