//! `GET /admin/tokens`: all tokens, page by page.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tower_api_token::store::StoreErrorKind;

use super::new_token::is_identifier;
use super::problem::{Problem, within_deadline};
use super::{AppState, NO_STORE};
use crate::db::{ListedToken, Timestamp};

/// What a page holds if nothing else is asked for.
const DEFAULT_LIMIT: u32 = 100;

/// The largest page: some 150 kB, in one query of the database.
const LARGEST_LIMIT: u32 = 500;

pub(super) type PageQuery = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) async fn list_tokens(
    State(state): State<AppState>,
    query: PageQuery,
) -> Result<Response, Problem> {
    let Page { after, limit } = Page::parse(query)?;
    let page = within_deadline(state.database.list_tokens(after.as_deref(), limit))
        .await
        .map_err(|error| Problem::database(&error))?;
    let last_uses = effective_last_uses(&state, &page.tokens).await;
    let tokens: Vec<_> = page.tokens.iter().zip(last_uses).map(described).collect();
    let body = json!({ "tokens": tokens, "next": page.next });
    Ok((NO_STORE, Json(body)).into_response())
}

/// When each of these tokens was last used, in their order: what the database says, or what is on its
/// way there from any instance, whichever is later. All of a page are asked for in one go. While the
/// store is away, and with the seed layout, whose keys are not found by a digest, the database's time
/// has to do.
async fn effective_last_uses(state: &AppState, tokens: &[ListedToken]) -> Vec<Option<Timestamp>> {
    let written = tokens.iter().map(|token| token.last_used_at);
    let asked = tokens.iter().map(|token| token.digest);
    match state.cache.last_uses(asked).await {
        Ok(recorded) => written
            .zip(recorded)
            .map(|(written, recorded)| written.max(recorded.map(Timestamp::from)))
            .collect(),
        Err(error) => {
            if error.kind() != StoreErrorKind::Unsupported {
                tracing::warn!(%error, "last uses are the database's alone");
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

/// Which part of the list is asked for.
#[derive(Debug)]
struct Page {
    after: Option<String>,
    limit: u32,
}

impl Page {
    /// Strict: a slip in a name would answer the first page for ever.
    fn parse(query: PageQuery) -> Result<Self, Problem> {
        let Query(parameters) = query.map_err(|_| bad("the query is not understood"))?;
        let (mut after, mut limit) = (None, None);
        for (name, value) in parameters {
            let given = match name.as_str() {
                "after" if is_identifier(&value) => after.replace(value).is_some(),
                "after" => return Err(bad("after: not an id")),
                "limit" => limit.replace(size(&value)?).is_some(),
                _ => {
                    return Err(bad(
                        "there is an unknown parameter; known are limit and after",
                    ));
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
    fn a_page_has_a_hundred_tokens_or_as_many_as_asked_for() {
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
    fn a_bad_query_is_refused_and_not_repeated() {
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
