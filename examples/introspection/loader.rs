//! A loader that asks an OAuth authorization server about a token (RFC 7662).

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::ACCEPT;
use reqwest::{Client, Response, redirect};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tower_api_token::{
    ApiTokenCache, ApiTokenCacheBuilder, BoxError, Lookup, TokenLoader, TokenRecord,
};

/// How long a connection to the server, and an answer, may take. Less than the cache's `load_timeout` of 3 seconds, so
/// that the log says which of them failed.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer may be, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The authorization server, and what this service is to it.
pub(crate) struct Introspection {
    pub(crate) endpoint: String,
    /// The credentials of this service. Characters other than letters and digits are form-encoded in them (RFC 6749
    /// section 2.3.1).
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    /// The name of this service in `aud`.
    pub(crate) audience: String,
    pub(crate) client: Client,
}

/// Creates the client, which keeps its connections to the server.
pub(crate) fn client() -> reqwest::Result<Client> {
    Client::builder()
        // A token goes to the configured server and to no other.
        .redirect(redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()
}

/// Begins a cache whose entries end soon: nobody here learns of a revocation at the server before.
pub(crate) fn cache(introspection: Introspection) -> ApiTokenCacheBuilder<()> {
    ApiTokenCache::builder(introspection)
        .ttl(Duration::from_secs(30))
        .negative_ttl(Duration::from_secs(10))
}

impl TokenLoader for Introspection {
    type Metadata = ();

    async fn load(&self, lookup: Lookup) -> Result<Option<TokenRecord>, BoxError> {
        let token = lookup.token().expose();
        let request = self
            .client
            .post(&self.endpoint)
            .basic_auth(&self.client_id, Some(&self.client_secret))
            .header(ACCEPT, "application/json")
            // In the body: URLs are logged.
            .form(&[("token", token), ("token_type_hint", "access_token")]);
        let answer = request.send().await?;
        // A 401 is about this service's own credentials, and says nothing about the token.
        if answer.status() != StatusCode::OK {
            return Err(format!("the server answered {}", answer.status()).into());
        }
        let body = body(answer).await?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            // Without its text, which quotes the answer.
            format!("not an introspection response, line {}", error.line())
        })?;
        answer.record(&self.audience)
    }
}

/// Reads the body up to its limit.
async fn body(mut answer: Response) -> Result<Vec<u8>, BoxError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err("the answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The server's answer (RFC 7662 section 2.2).
#[derive(Deserialize)]
struct Answer {
    active: bool,
    scope: Option<String>,
    client_id: Option<String>,
    token_type: Option<String>,
    /// In seconds since 1970.
    exp: Option<u64>,
    sub: Option<String>,
    aud: Option<Audience>,
    jti: Option<String>,
    /// A key that the client has to prove (RFC 8705, RFC 9449).
    cnf: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Answer {
    /// Returns the token's record, or `None` if it is not a valid token of this service.
    fn record(self, audience: &str) -> Result<Option<TokenRecord>, BoxError> {
        if !self.active || !self.is_bearer() || !self.is_for(audience) {
            return Ok(None);
        }
        let id = [&self.jti, &self.sub, &self.client_id];
        let id = id.into_iter().flatten().next();
        let id = id.ok_or("an active token without jti, sub and client_id")?;
        let record = TokenRecord::new(id.as_str())
            .app_id(self.client_id)
            // `invalidate_tenant` then reaches all tokens of one user.
            .tenant_id(self.sub)
            .scopes(self.scope);
        let Some(seconds) = self.exp else {
            return Ok(Some(record));
        };
        let end = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        Ok(Some(record.expires_at(end.ok_or("exp is out of range")?)))
    }

    /// Whether it may be used by whoever has it. A token that needs a proof must not be accepted without one.
    fn is_bearer(&self) -> bool {
        let kind = self.token_type.as_deref();
        self.cnf.is_none() && kind.is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"))
    }

    /// Whether it was issued for this service, and not for another one that might replay it here.
    fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            Some(Audience::One(one)) => one == audience,
            Some(Audience::Several(several)) => several.iter().any(|one| one == audience),
            None => false,
        }
    }
}
