//! The parameter `wait` of the operator's API.

use std::collections::HashMap;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;

use super::problem::Problem;

pub(super) type WaitQuery = Result<Query<HashMap<String, String>>, QueryRejection>;

/// Parses `?wait=true`: respond only when no instance can use the old state.
pub(super) fn parse_wait(query: WaitQuery) -> Result<bool, Problem> {
    let bad = || Problem::new(StatusCode::BAD_REQUEST, "wait: not true or false");
    let Query(query) = query.map_err(|_| bad())?;
    match query.get("wait").map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_true_false_or_missing() {
        let ask = |query: &str| {
            let uri = format!("/?{query}").parse().unwrap();
            parse_wait(Query::try_from_uri(&uri))
        };
        assert!(ask("wait=true").unwrap());
        assert!(!ask("wait=false").unwrap());
        assert!(!ask("").unwrap());
        assert!(ask("wait=yes").is_err());
        assert!(ask("wait").is_err());
    }
}
