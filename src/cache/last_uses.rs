//! When tokens were last used, asked for by people.

use chrono::{DateTime, Utc};

use super::ApiTokenCache;
use super::answer::What;
use super::engine::Engine;
use crate::store::StoreError;
use crate::store::keys::Scope;
use crate::token::{BearerToken, TokenDigest};

/// A token as it is asked for; the text only where it is at hand.
type Asked<'a> = (Option<&'a BearerToken>, TokenDigest, Scope);

impl<M: Send + Sync + 'static> ApiTokenCache<M> {
    /// When the token was last used: the latest of what this process recorded, what the store keeps of
    /// other instances' records, and what the cached record says of the database. `None` where none of
    /// them knows of a use.
    ///
    /// It is behind the last use by less than the recorder's interval, and of uses of another instance
    /// by its flush interval more. A token that is used with and without a scope is asked for in
    /// the scope: both are looked at.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, Lookup, TokenRecord, Usage};
    /// use tower_api_token::UsageRecorder;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let loader = |_: Lookup| async {
    /// #     Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1", "app")))
    /// # };
    /// # let sink = |_: Vec<Usage>| async { Ok::<_, std::io::Error>(()) };
    /// let recorder = UsageRecorder::new(sink);
    /// let cache = ApiTokenCache::builder(loader).usage(recorder).build()?;
    /// cache.prime("app-0123456789abcdef", "app").await?; // no use
    /// assert!(cache.effective_last_used_at("app-0123456789abcdef", "app").await?.is_none());
    /// cache.authenticate("app-0123456789abcdef", "app").await?;
    /// assert!(cache.effective_last_used_at("app-0123456789abcdef", "app").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The store did not answer, or the scope's name is none.
    pub async fn effective_last_used_at(
        &self,
        token: &str,
        scope: impl Into<Option<&str>>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let scope = checked(scope.into())?;
        let lookup = self.engine.lookup(BearerToken::new(token), scope.clone());
        let known = self.engine.peek(&lookup).await?;
        let known = known.and_then(|resolved| match resolved.what {
            What::Found(principal) => principal.kept.what.last_used_at,
            _ => None,
        });
        let asked = (Some(lookup.token()), lookup.digest, scope);
        let recorded = self.engine.recorded_uses(&[asked]).await?;
        Ok(recorded.into_iter().flatten().max().max(known))
    }

    /// What is known of last uses beyond the database, for whoever holds digests and not texts: a page
    /// of an operator's list. For each token, in their order, the latest of what this process recorded
    /// and of what the store keeps of other instances' records.
    ///
    /// The later of it and of the row's own time is when the token was last used. What is cached of
    /// the database is not looked at: the row is newer. All are asked for in one round trip, by two
    /// keys a token that has a scope.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, Lookup, TokenDigest, TokenRecord};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// # let page = [(TokenDigest::of("app-0123456789abcdef"), "app".to_owned(), None)];
    /// let asked = page.iter().map(|(digest, kind, _)| (*digest, Some(kind.as_str())));
    /// let recorded = cache.recorded_last_uses(asked).await?;
    /// for ((digest, _, in_row), recorded) in page.iter().zip(recorded) {
    ///     println!("{digest}: {:?}", recorded.max(*in_row));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The store did not answer, or a scope's name is none. With the
    /// [seed layout](crate::KeyLayout::seed) it is an error that no repetition helps: its keys hold
    /// the text.
    pub async fn recorded_last_uses<'a>(
        &self,
        tokens: impl IntoIterator<Item = (TokenDigest, Option<&'a str>)>,
    ) -> Result<Vec<Option<DateTime<Utc>>>, StoreError> {
        if self.engine.keys.is_seed() {
            return Err(StoreError::unsupported());
        }
        let asked = tokens
            .into_iter()
            .map(|(digest, scope)| Ok((None, digest, checked(scope)?)))
            .collect::<Result<Vec<Asked<'_>>, StoreError>>()?;
        self.engine.recorded_uses(&asked).await
    }
}

impl<M: Send + Sync + 'static> Engine<M> {
    async fn recorded_uses(
        &self,
        tokens: &[Asked<'_>],
    ) -> Result<Vec<Option<DateTime<Utc>>>, StoreError> {
        let mut keys = Vec::with_capacity(2 * tokens.len());
        let mut counts = Vec::with_capacity(tokens.len());
        for (token, digest, scope) in tokens {
            let mut scopes = vec![scope.clone()];
            if scope.name().is_some() {
                scopes.push(checked(None)?);
            }
            let before = keys.len();
            // Of the previous pepper too: a recorder may still be writing by it.
            keys.extend(self.keys.keys(*token, digest, &scopes));
            counts.push(keys.len() - before);
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut stored = self.store.last_uses(&keys).await?.into_iter();
        // This process is asked last: what a flush moves from here to there meanwhile is seen in one
        // of the two.
        let latest = |((_, digest, _), count): (&Asked<'_>, usize)| {
            let stored = stored.by_ref().take(count).flatten().max();
            let ours = self.usage.as_ref().and_then(|usage| usage.last(digest));
            stored.max(ours)
        };
        Ok(tokens.iter().zip(counts).map(latest).collect())
    }
}

fn checked(scope: Option<&str>) -> Result<Scope, StoreError> {
    Scope::new(scope).map_err(|_| StoreError::unsupported())
}
