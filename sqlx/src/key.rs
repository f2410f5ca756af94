//! A key, as the database has it.

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower_api_token::{BearerToken, TokenDigest};

use crate::database::time::{Timestamp, end};

/// The columns of a key. [`Row`] reads them. No alias: SQLite has none in `RETURNING`. No `EXISTS`: PostgreSQL may read
/// all tenants for a page.
pub(crate) const COLUMNS: &str = "\
    id, tenant_id, app_id, token_type, name, scopes, metadata, digest, created_at, expires_at, \
    revoked_at, last_used_at, successor_id, predecessor_id, rotated_at, \
    COALESCE((SELECT t.suspended_at IS NOT NULL FROM ~tenants AS t WHERE t.id = tenant_id), FALSE)";

/// A key, without its text, which is stored nowhere.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Key {
    /// The key's id, which is public.
    pub id: String,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// Whether the tenant is suspended.
    pub tenant_suspended: bool,
    /// The application it belongs to, if any.
    pub app_id: Option<String>,
    /// The token type that layers ask for, if any.
    pub token_type: Option<String>,
    /// A name for people.
    pub name: Option<String>,
    /// OAuth scopes.
    pub scopes: Vec<String>,
    /// What the service stored with it.
    pub metadata: Option<Value>,
    /// SHA-256 of the text.
    pub digest: TokenDigest,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it expires, or has expired, if ever.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used. This includes uses that are not written to the database yet, if the store of the bound
    /// cache has them and answers.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The id of the key that replaced it, if it was rotated.
    pub successor_id: Option<String>,
    /// The id of the key that it replaced, if it is the result of a rotation.
    pub predecessor_id: Option<String>,
    /// When it was rotated, if it was.
    pub rotated_at: Option<DateTime<Utc>>,
}

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyStatus {
    /// The key is accepted.
    Active,
    /// The key's tenant is suspended, so that it is denied.
    Suspended,
    /// The key has expired.
    Expired,
    /// The key is revoked.
    Revoked,
}

impl KeyStatus {
    /// Returns the status in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl Key {
    /// Returns what the key is good for at this time.
    pub fn status_at(&self, now: DateTime<Utc>) -> KeyStatus {
        if self.revoked_at.is_some() {
            KeyStatus::Revoked
        } else if self.expires_at.is_some_and(|end| end <= now) {
            KeyStatus::Expired
        } else if self.tenant_suspended {
            KeyStatus::Suspended
        } else {
            KeyStatus::Active
        }
    }

    /// Reads the metadata as a type of the service.
    ///
    /// # Errors
    /// Returns an error if it is not of this type. Without metadata, `null` is read.
    pub fn metadata_as<M: DeserializeOwned>(&self) -> Result<M, serde_json::Error> {
        M::deserialize(self.metadata.as_ref().unwrap_or(&Value::Null))
    }
}

/// A key that was just created, with its text.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IssuedKey {
    /// The key.
    pub key: Key,
    /// Its text, to be shown to its owner once: it is stored nowhere.
    pub token: BearerToken,
}

/// A key's columns as they were read.
pub(crate) struct Row(pub(crate) Key);

/// Columns whose metadata is `None` if it cannot be read: a key has to be revoked even then.
pub(crate) struct LenientRow(pub(crate) Key);

/// Implements sqlx's trait for the rows of one database. A generic implementation would name each column's type twice.
macro_rules! from_row {
    ($row:ty, $name:ident, $json:expr) => {
        impl<'r> sqlx::FromRow<'r, $row> for $name {
            fn from_row(row: &'r $row) -> Result<Self, sqlx::Error> {
                use sqlx::Row as _;
                let metadata: Option<String> = row.try_get(6)?;
                Ok(Self(Key {
                    id: row.try_get(0)?,
                    tenant_id: row.try_get(1)?,
                    app_id: row.try_get(2)?,
                    token_type: row.try_get(3)?,
                    name: row.try_get(4)?,
                    scopes: words(row.try_get(5)?),
                    metadata: $json(metadata.as_deref())?,
                    digest: digest(row.try_get(7)?)?,
                    created_at: row.try_get::<Timestamp, _>(8)?.into(),
                    expires_at: end(row.try_get(9)?),
                    revoked_at: row.try_get::<Option<Timestamp>, _>(10)?.map(Into::into),
                    last_used_at: row.try_get::<Option<Timestamp>, _>(11)?.map(Into::into),
                    successor_id: row.try_get(12)?,
                    predecessor_id: row.try_get(13)?,
                    rotated_at: row.try_get::<Option<Timestamp>, _>(14)?.map(Into::into),
                    tenant_suspended: row.try_get(15)?,
                }))
            }
        }
    };
}

#[cfg(feature = "sqlite")]
from_row!(sqlx::sqlite::SqliteRow, Row, json);
#[cfg(feature = "sqlite")]
from_row!(sqlx::sqlite::SqliteRow, LenientRow, lenient);
#[cfg(feature = "postgres")]
from_row!(sqlx::postgres::PgRow, Row, json);
#[cfg(feature = "postgres")]
from_row!(sqlx::postgres::PgRow, LenientRow, lenient);

fn words(text: &str) -> Vec<String> {
    text.split_ascii_whitespace().map(str::to_owned).collect()
}

fn json(text: Option<&str>) -> Result<Option<Value>, sqlx::Error> {
    // serde's message may quote the text.
    let read = text.map(serde_json::from_str).transpose();
    read.map_err(|_| sqlx::Error::Decode("metadata is not JSON".into()))
}

fn lenient(text: Option<&str>) -> Result<Option<Value>, sqlx::Error> {
    Ok(json(text).unwrap_or_default())
}

pub(crate) fn digest(bytes: &[u8]) -> Result<TokenDigest, sqlx::Error> {
    let bytes = bytes.try_into();
    bytes
        .map(TokenDigest::from_bytes)
        .map_err(|_| sqlx::Error::Decode("digest does not have 32 bytes".into()))
}
