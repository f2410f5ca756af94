//! The names of keys in the Dify layout. Without I/O.
//!
//! The keys that only this crate uses are named `api_token~…`, which Python's patterns `api_token:*` do not
//! match.

use std::fmt;

use crate::token::BearerToken;

#[derive(Clone)]
pub(crate) struct DifyNames {
    /// Python's `REDIS_KEY_PREFIX` and a colon, or nothing.
    prefix: String,
}

impl DifyNames {
    /// The word for no token type in the keys of entries.
    pub(crate) const ANY: &str = "any";
    /// The word for no token type in other keys.
    const NONE: &str = "None";

    pub(crate) fn new(prefix: &str) -> Self {
        let prefix = prefix.trim();
        let colon = if prefix.is_empty() { "" } else { ":" };
        Self {
            prefix: format!("{prefix}{colon}"),
        }
    }

    pub(crate) fn entry(&self, token_type: Option<&str>, token: &BearerToken) -> String {
        self.of_token("api_token", token_type.unwrap_or(Self::ANY), token)
    }

    pub(crate) fn last_use(&self, token_type: Option<&str>, token: &BearerToken) -> String {
        self.of_token("api_token_active", token_type.unwrap_or(Self::NONE), token)
    }

    /// Returns Python's load lock of an entry.
    pub(crate) fn load_lock(&self, token_type: Option<&str>, token: &BearerToken) -> String {
        let token_type = token_type.unwrap_or(Self::NONE);
        self.of_token("api_token_query_lock", token_type, token)
    }

    fn of_token(&self, name: &str, token_type: &str, token: &BearerToken) -> String {
        format!("{}{name}:{token_type}:{}", self.prefix, token.expose())
    }

    /// Returns a key that only this crate uses.
    pub(crate) fn own(&self, name: &str) -> String {
        format!("{}api_token~{name}", self.prefix)
    }

    /// Returns Python's index of a tenant's entries. Its set commands have no prefix, nor do the members.
    pub(crate) fn tenant_index(tenant: &str) -> String {
        format!("tenant_tokens:{tenant}")
    }

    /// Returns the index's member for the entry with the key `name`.
    pub(crate) fn index_member<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(&self.prefix).unwrap_or(name)
    }

    /// Returns the key of the entry that a member of an index names, if it names an entry.
    pub(crate) fn indexed(&self, member: &str) -> Option<String> {
        let is_entry = member.starts_with("api_token:");
        is_entry.then(|| format!("{}{member}", self.prefix))
    }

    /// Returns the pattern by which `SCAN` finds the entries of one token, or of all.
    pub(crate) fn scan_pattern(&self, token: Option<&BearerToken>) -> String {
        let prefix = glob_escaped(&self.prefix);
        let token = token.map_or("*".to_owned(), |token| glob_escaped(token.expose()));
        format!("{prefix}api_token:*:{token}")
    }

    /// Returns whether a key that `SCAN` found is the token's entry for some type: the pattern's `*` matches
    /// more than a type, and another token may end with this one.
    pub(crate) fn is_entry_of(&self, name: &str, token: &BearerToken) -> bool {
        let rest = name
            .strip_prefix(&self.prefix)
            .and_then(|rest| rest.strip_prefix("api_token:"));
        rest.and_then(|rest| rest.split_once(':'))
            .is_some_and(|(token_type, text)| !token_type.is_empty() && token.is(text))
    }
}

impl fmt::Debug for DifyNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dify")
            .field("prefix", &self.prefix)
            .finish()
    }
}

/// Escapes the characters that have a meaning in a pattern.
fn glob_escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '\\') {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_pythons() {
        let (names, token) = (DifyNames::new(""), BearerToken::new("tok"));
        assert_eq!(names.entry(Some("app"), &token), "api_token:app:tok");
        assert_eq!(names.entry(None, &token), "api_token:any:tok");
        let lock = |token_type| names.load_lock(token_type, &token);
        assert_eq!(lock(Some("app")), "api_token_query_lock:app:tok");
        assert_eq!(lock(None), "api_token_query_lock:None:tok");
        assert_eq!(names.last_use(None, &token), "api_token_active:None:tok");
        assert_eq!(DifyNames::tenant_index("t:1"), "tenant_tokens:t:1");
        assert_eq!(names.own("tenants"), "api_token~tenants");
    }

    #[test]
    fn entries_and_locks_have_pythons_prefix_and_the_index_has_not() {
        let (names, token) = (DifyNames::new(" prod "), BearerToken::new("tok"));
        let app = Some("app");
        assert_eq!(names.entry(app, &token), "prod:api_token:app:tok");
        let lock = names.load_lock(app, &token);
        assert_eq!(lock, "prod:api_token_query_lock:app:tok");
        assert_eq!(names.last_use(app, &token), "prod:api_token_active:app:tok");
        let member = names.index_member("prod:api_token:app:tok");
        assert_eq!(member, "api_token:app:tok");
        let indexed = names.indexed("api_token:app:tok");
        assert_eq!(indexed.unwrap(), "prod:api_token:app:tok");
        assert_eq!(names.indexed("another service's"), None);
        assert_eq!(names.scan_pattern(None), "prod:api_token:*:*");
    }

    #[test]
    fn a_token_is_never_a_pattern() {
        let names = DifyNames::new("p*");
        let token = BearerToken::new(r"a*b?[c]\d");
        let pattern = names.scan_pattern(Some(&token));
        assert_eq!(pattern, r"p\*:api_token:*:a\*b\?\[c\]\\d");
        assert!(names.is_entry_of(r"p*:api_token:app:a*b?[c]\d", &token));
        for other in [
            r"p*:api_token:app:x:a*b?[c]\d",
            r"p*:api_token::a*b?[c]\d",
            r"api_token:app:a*b?[c]\d",
            r"p*:api_token:app:a*b?[c]\d2",
        ] {
            assert!(!names.is_entry_of(other, &token), "{other}");
        }
    }
}
