//! Reading keys: one, or page by page.

use std::fmt;
use std::str::FromStr;

use tower_api_token::TokenDigest;

use crate::arguments::{checked_limit, is_id};
use crate::core::Core;
use crate::database::pool::on_connection;
use crate::error::Error;
use crate::key::{COLUMNS, Key, Row};

/// Which keys to list. Setters accept any value; [`ApiKeys::list`](crate::ApiKeys::list) checks them.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct KeyQuery {
    tenant: Option<String>,
    after: Option<Cursor>,
    limit: Option<u32>,
    newest_first: bool,
}

impl KeyQuery {
    /// Selects the first 100 keys of all tenants, the oldest first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Selects keys of this tenant.
    pub fn tenant(mut self, id: impl Into<String>) -> Self {
        self.tenant = Some(id.into());
        self
    }

    /// Continues after a page. All other settings have to be those of that page.
    pub fn after(mut self, cursor: impl Into<Option<Cursor>>) -> Self {
        self.after = cursor.into();
        self
    }

    /// Sets the maximum number of keys, from 1 to 1,000. Defaults to 100.
    pub fn limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Lists the newest keys first. Keys that were created by several instances within a millisecond are in any order.
    pub fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }
}

/// A place in a list of keys, which [`Page::next`] has and [`KeyQuery::after`] takes. Its text suits a URL's query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(String);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_id(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::invalid("after", "not a cursor"))
        }
    }
}

/// A page of keys.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page {
    /// The keys, ordered by id, which is roughly their age.
    pub keys: Vec<Key>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

/// Returns a page. Pages are keyed by an id and not by an offset, so keys that are added in between do not move the
/// others, and the last page costs as much as the first.
pub(crate) async fn list(core: &Core, query: KeyQuery) -> Result<Page, Error> {
    let limit = checked_limit(query.limit)?;
    if query.tenant.as_deref().is_some_and(|id| !is_id(id)) {
        return Ok(Page {
            keys: Vec::new(),
            next: None,
        });
    }
    let (select, texts) = statement(query);
    let select = core.sql(&select);
    // The extra row shows whether there is another page.
    let rows: Vec<Row> = on_connection!(&core.database, connection => {
        let mut statement = sqlx::query_as(&select).persistent(false).bind(i64::from(limit) + 1);
        for text in &texts {
            statement = statement.bind(text);
        }
        statement.fetch_all(connection).await
    });
    let wanted = limit as usize;
    let more = rows.len() > wanted;
    let keys: Vec<Key> = rows.into_iter().take(wanted).map(|Row(key)| key).collect();
    let next = keys
        .last()
        .filter(|_| more)
        .map(|key| Cursor(key.id.clone()));
    Ok(Page { keys, next })
}

/// Returns the statement of a page, and the values of its parameters after the first, which is the limit.
pub(crate) fn statement(query: KeyQuery) -> (String, Vec<String>) {
    let (sign, order) = if query.newest_first {
        ("<", "DESC")
    } else {
        (">", "ASC")
    };
    let after = format!("id {sign}");
    let after = (after.as_str(), query.after.map(|Cursor(id)| id));
    let (mut conditions, mut texts) = (String::from("TRUE"), Vec::new());
    for (condition, text) in [("tenant_id =", query.tenant), after] {
        if let Some(text) = text {
            texts.push(text);
            conditions += &format!(" AND {condition} ${}", texts.len() + 1);
        }
    }
    let select =
        format!("SELECT {COLUMNS} FROM ~keys WHERE {conditions} ORDER BY id {order} LIMIT $1");
    (select, texts)
}

pub(crate) async fn get(core: &Core, id: &str) -> Result<Option<Key>, Error> {
    if !is_id(id) {
        return Ok(None);
    }
    let select = core.sql(&format!("SELECT {COLUMNS} FROM ~keys WHERE id = $1"));
    let row: Option<Row> = on_connection!(&core.database, connection => sqlx::query_as(&select).persistent(false).bind(id).fetch_optional(connection).await);
    Ok(row.map(|Row(key)| key))
}

pub(crate) async fn find(core: &Core, digest: TokenDigest) -> Result<Option<Key>, Error> {
    let select = core.sql(&format!("SELECT {COLUMNS} FROM ~keys WHERE digest = $1"));
    let row: Option<Row> = on_connection!(&core.database, connection => sqlx::query_as(&select).persistent(false).bind(digest.as_bytes().as_slice()).fetch_optional(connection).await);
    Ok(row.map(|Row(key)| key))
}
