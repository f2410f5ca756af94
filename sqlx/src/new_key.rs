//! A key to create.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::arguments::check_id;
use crate::error::Error;

/// The most bytes of metadata, as JSON: it is in the memory of every instance, once for each key in use.
const MOST_METADATA: usize = 16 * 1024;

/// The most bytes of all scopes together.
const MOST_SCOPES: usize = 4 * 1024;

/// A key to [issue](crate::ApiKeys::issue) or [import](crate::ApiKeys::import).
///
/// Setters accept any value; the operation checks them all.
///
/// # Examples
/// ```
/// use chrono::{TimeDelta, Utc};
/// use tower_api_token_sqlx::NewKey;
///
/// let key = NewKey::new("acme")
///     .name("continuous integration")
///     .scopes(["orders:read"])
///     .expires_at(Utc::now() + TimeDelta::days(90));
/// # let _ = key;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct NewKey {
    pub(crate) tenant: String,
    pub(crate) app_id: Option<String>,
    pub(crate) token_type: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) metadata: Result<Value, ()>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
}

impl NewKey {
    /// Creates a key of this tenant, which never expires. A service without tenants uses one name for all keys.
    pub fn new(tenant: impl Into<String>) -> Self {
        Self {
            tenant: tenant.into(),
            app_id: None,
            token_type: None,
            name: None,
            scopes: Vec::new(),
            metadata: Ok(Value::Null),
            expires_at: None,
        }
    }

    /// Sets the token type, which a layer may ask for. Defaults to none, which is valid only where no type is asked for.
    pub fn token_type(mut self, token_type: impl Into<String>) -> Self {
        self.token_type = Some(token_type.into());
        self
    }

    /// Sets the application that the key belongs to. Defaults to none.
    pub fn app_id(mut self, app_id: impl Into<String>) -> Self {
        self.app_id = Some(app_id.into());
        self
    }

    /// Sets a name for people. Defaults to none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the OAuth scopes. Defaults to none.
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.scopes = scopes.into_iter().map(Into::into).collect();
        self
    }

    /// Sets data that handlers read by `CachedApiToken::metadata`, of a cache that
    /// [`cache_with_metadata`](crate::ApiKeys::cache_with_metadata) builds. Defaults to none, which is read as `null`.
    pub fn metadata(mut self, metadata: impl Serialize) -> Self {
        self.metadata = serde_json::to_value(metadata).map_err(drop);
        self
    }

    /// Sets when the key expires. Defaults to never.
    pub fn expires_at(mut self, end: impl Into<Option<DateTime<Utc>>>) -> Self {
        self.expires_at = end.into();
        self
    }

    /// Checks all values.
    pub(crate) fn check(&self, now: DateTime<Utc>) -> Result<(), Error> {
        check_id("tenant", &self.tenant)?;
        for (field, text) in [
            ("app_id", &self.app_id),
            ("token_type", &self.token_type),
            ("name", &self.name),
        ] {
            text.as_deref()
                .map_or(Ok(()), |text| check_id(field, text))?;
        }

        let all: usize = self.scopes.iter().map(|scope| scope.len() + 1).sum();
        // `scope-token` of RFC 6749 section 3.3.
        let is_scope = |scope: &String| {
            let mut bytes = scope.bytes();
            !scope.is_empty() && bytes.all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
        };
        if all > MOST_SCOPES || !self.scopes.iter().all(is_scope) {
            let rule = "not visible ASCII without quotes and backslashes, 4 KiB in all";
            return Err(Error::invalid("scopes", rule));
        }
        if self.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::invalid("expires_at", "in the past"));
        }
        self.json().map(drop)
    }

    /// Returns the metadata as JSON. `null` is none.
    pub(crate) fn json(&self) -> Result<Option<String>, Error> {
        match &self.metadata {
            Ok(Value::Null) => Ok(None),
            Ok(value) => Some(value.to_string())
                .filter(|json| json.len() <= MOST_METADATA)
                .map(Some)
                .ok_or_else(|| Error::invalid("metadata", "longer than 16 KiB as JSON")),
            Err(()) => Err(Error::invalid("metadata", "not representable as JSON")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(key: &NewKey) -> String {
        let error = key.check(Utc::now()).expect_err("it is invalid");
        error.to_string()
    }

    #[test]
    fn scopes_and_what_separates_them_have_4_kib() {
        let key = |scopes| NewKey::new("acme").scopes(vec!["a"; scopes]);
        key(2_048).check(Utc::now()).unwrap();
        assert!(rejected(&key(2_049)).starts_with("scopes"));
    }

    #[test]
    fn errors_name_the_field_and_not_its_value() {
        let key = || NewKey::new("acme");
        let long = "hunter22".repeat(4000);
        for (field, key) in [
            ("tenant", NewKey::new("")),
            ("tenant", NewKey::new("hunter22\0")),
            ("app_id", key().app_id(&long)),
            ("token_type", key().token_type("hunter22\n")),
            ("name", key().name("hunter22\0")),
            ("scopes", key().scopes(["hunter22 b"])),
            ("scopes", key().scopes([""])),
            ("scopes", key().scopes([&long])),
            ("metadata", key().metadata(&long)),
            (
                "metadata",
                key().metadata(std::collections::BTreeMap::from([([1u8], 1)])),
            ),
            ("expires_at", key().expires_at(Utc::now())),
        ] {
            let shown = rejected(&key);
            assert!(shown.starts_with(field), "{field}: {shown}");
            assert!(!shown.contains("hunter22"), "{shown}");
        }
        key().scopes(["a:read", "!#[]~"]).check(Utc::now()).unwrap();
    }
}
