//! Parameters of queries. Unknown ones are errors: a misspelt `after` would return the first page again and again.

use std::str::FromStr;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

use crate::admin::problem::Problem;
use crate::arguments::is_id;

/// The default number of rows on a page.
pub(crate) const DEFAULT_LIMIT: u32 = 100;

/// The maximum number of rows on a page, which is about 250 kB.
const LARGEST_LIMIT: u32 = 500;

pub(crate) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The parameters of one request.
#[derive(Debug)]
pub(crate) struct Parsed(Vec<(String, String)>);

impl Parsed {
    /// Checks that there are only these parameters, each at most once.
    pub(crate) fn new(query: Parameters, allowed: &[&str]) -> Result<Self, Problem> {
        let Query(parameters) = query.map_err(|_| Problem::bad("the query is malformed"))?;
        for (at, (name, _)) in parameters.iter().enumerate() {
            if !allowed.contains(&name.as_str()) {
                let expected = allowed.join(", ");
                let detail = format!("unknown parameter; expected {expected}");
                return Err(Problem::bad(detail));
            }
            if parameters[..at].iter().any(|(other, _)| other == name) {
                return Err(Problem::bad("a parameter is given twice"));
            }
        }
        Ok(Self(parameters))
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(other, _)| other == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// Returns a parameter that is an id.
    pub(crate) fn id(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.get(name) {
            Some(id) if !is_id(id) => Err(Problem::bad(format!("{name}: not an id"))),
            id => Ok(id),
        }
    }

    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let value = self.get(name).map(str::parse).transpose();
        value.map_err(|_| Problem::bad(format!("{name}: malformed")))
    }

    pub(crate) fn limit(&self) -> Result<u32, Problem> {
        let Some(text) = self.get("limit") else {
            return Ok(DEFAULT_LIMIT);
        };
        let limit = text.parse().ok();
        limit
            .filter(|limit| (1..=LARGEST_LIMIT).contains(limit))
            .ok_or_else(|| {
                Problem::bad(format!(
                    "limit: not a whole number from 1 to {LARGEST_LIMIT}"
                ))
            })
    }
}

/// Parses `?wait=true`: respond only when no instance can use the old state.
pub(crate) fn wait(query: Parameters) -> Result<bool, Problem> {
    match Parsed::new(query, &["wait"])?.get("wait") {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Problem::bad("wait: not true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Parameters {
        let uri = format!("/?{query}").parse().unwrap();
        Query::try_from_uri(&uri)
    }

    fn page(query: &str) -> Result<(u32, Option<String>), Problem> {
        let parsed = Parsed::new(parameters(query), &["limit", "after"])?;
        Ok((parsed.limit()?, parsed.id("after")?.map(str::to_owned)))
    }

    #[test]
    fn limit_defaults_to_a_hundred() {
        for (query, limit) in [("", 100), ("limit=1", 1), ("limit=500&after=tok_1", 500)] {
            assert_eq!(page(query).unwrap().0, limit, "{query}");
        }
        assert_eq!(page("").unwrap().1, None);
        assert_eq!(page("after=tok%5f1").unwrap().1.as_deref(), Some("tok_1"));
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
            let shown = format!("{:?}", page(query).expect_err(query));
            assert!(
                shown.contains("400") && !shown.contains("hunter22"),
                "{shown}"
            );
        }
    }

    #[test]
    fn wait_is_true_false_or_missing() {
        let ask = |query: &str| wait(parameters(query));
        assert!(ask("wait=true").unwrap());
        assert!(!ask("wait=false").unwrap());
        assert!(!ask("").unwrap());
        for bad in ["wait=yes", "wait", "wiat=true", "wait=true&wait=false"] {
            assert!(ask(bad).is_err(), "{bad}");
        }
    }
}
