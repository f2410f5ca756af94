//! `GET /admin/tokens`: lists all tokens, page by page.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tower_api_token::store::StoreErrorKind;

use super::new_token::is_identifier;
use super::problem::{Problem, with_timeout};
use super::{AppState, NO_STORE};
use crate::db::{ListedToken, Timestamp};

/// The default number of tokens on a page.
const DEFAULT_LIMIT: u32 = 100;

/// The maximum number of tokens on a page, which is about 150 kB.
const LARGEST_LIMIT: u32 = 500;

pub(super) type PageQuery = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) async fn list_tokens(
    State(state): State<AppState>,
    query: PageQuery,
) -> Result<Response, Problem> {
    let Page { after, limit } = Page::parse(query)?;
    let page = with_timeout(state.database.list_tokens(after.as_deref(), limit)).await?;
    let last_uses = effective_last_uses(&state, &page.tokens).await;
    let tokens: Vec<_> = page.tokens.iter().zip(last_uses).map(described).collect();
    let body = json!({ "tokens": tokens, "next": page.next });
    Ok((NO_STORE, Json(body)).into_response())
}

/// Returns when each of these tokens was last used, in their order: the database's time, or a later one
/// that an instance has recorded and not written yet. One call reads those of a page. While the store is
/// unavailable, and with the Dify layout, whose keys cannot be derived from a digest, it is the
/// database's time.
async fn effective_last_uses(state: &AppState, tokens: &[ListedToken]) -> Vec<Option<Timestamp>> {
    let written = tokens.iter().map(|token| token.last_used_at);
    let digests = tokens.iter().map(|token| token.digest);
    match state.cache.last_uses(digests).await {
        Ok(recorded) => written
            .zip(recorded)
            .map(|(written, recorded)| written.max(recorded.map(Timestamp::from)))
            .collect(),
        Err(error) => {
            if error.kind() != StoreErrorKind::Unsupported {
                tracing::warn!(%error, "the store did not return last uses; the database's are used");
            }
            written.collect()
        }
    }
}

fn described((token, last_used_at): (&ListedToken, Option<Timestamp>)) -> Value {
    let moment = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string());
    json!({
        "id": token.id,
        "tenant_id": token.tenant_id,
        "tenant_status": token.tenant_status.as_str(),
        "app_id": token.app_id,
        "type": token.token_type,
        "created_at": token.created_at.to_string(),
        "expires_at": moment(token.expires_at),
        "revoked_at": moment(token.revoked_at),
        "last_used_at": moment(last_used_at),
    })
}

/// The requested part of the list.
#[derive(Debug)]
struct Page {
    after: Option<String>,
    limit: u32,
}

impl Page {
    /// Parses the query. Unknown parameters are errors: a misspelt `after` would return the first page
    /// again and again.
    fn parse(query: PageQuery) -> Result<Self, Problem> {
        let Query(parameters) = query.map_err(|_| bad("the query is malformed"))?;
        let (mut after, mut limit) = (None, None);
        for (name, value) in parameters {
            let given = match name.as_str() {
                "after" if is_identifier(&value) => after.replace(value).is_some(),
                "after" => return Err(bad("after: not an id")),
                "limit" => limit.replace(size(&value)?).is_some(),
                _ => {
                    return Err(bad("unknown parameter; expected limit and after"));
                }
            };
            if given {
                return Err(bad("a parameter is given twice"));
            }
        }
        Ok(Self {
            after,
            limit: limit.unwrap_or(DEFAULT_LIMIT),
        })
    }
}

fn size(text: &str) -> Result<u32, Problem> {
    text.parse()
        .ok()
        .filter(|size| (1..=LARGEST_LIMIT).contains(size))
        .ok_or_else(|| {
            bad(format!(
                "limit: not a whole number from 1 to {LARGEST_LIMIT}"
            ))
        })
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Page, Problem> {
        let uri = format!("/?{query}").parse().unwrap();
        Page::parse(Query::try_from_uri(&uri))
    }

    #[test]
    fn limit_defaults_to_a_hundred() {
        for (query, limit) in [("", 100), ("limit=1", 1), ("limit=500&after=tok_1", 500)] {
            assert_eq!(parse(query).unwrap().limit, limit, "{query}");
        }
        assert_eq!(parse("").unwrap().after, None);
        assert_eq!(
            parse("after=tok%5f1").unwrap().after.as_deref(),
            Some("tok_1")
        );
    }

    #[test]
    fn invalid_query_is_rejected_and_not_shown() {
        for query in [
            "limit=0",
            "limit=501",
            "limit=-1",
            "limit=hunter22",
            "limit=",
            "limit=99999999999999999999",
            "limit=1&limit=1",
            "after=",
            "after=%00hunter22",
            "after=a&after=hunter22",
            "hunter22=1",
        ] {
            let shown = format!("{:?}", parse(query).expect_err(query));
            assert!(
                shown.contains("400") && !shown.contains("hunter22"),
                "{shown}"
            );
        }
    }
}
