//! Names of keys (wire.md). Pure.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub(crate) use super::layout::KeyDigest;
use super::layout::{KeyLayout, Layout};
use crate::ConfigError;
use crate::token::{BearerToken, TokenDigest};

/// The word for no token type in the Dify layout's entry keys.
const ANY: &str = "any";

/// Whether `name` can be a namespace, or a token type in a key: RFC 3986's unreserved characters.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.bytes().all(is_unreserved)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// K: the key of one token's entry.
#[derive(Clone)]
pub(crate) struct EntryKey {
    /// The token type that was asked for, in the Dify layout alone.
    pub(crate) token_type: Option<Arc<str>>,
    pub(crate) digest: KeyDigest,
    /// The text, where the layout has it in keys and values.
    pub(crate) token: Option<BearerToken>,
}

impl PartialEq for EntryKey {
    fn eq(&self, other: &Self) -> bool {
        // The text is the digest's: it adds nothing.
        self.digest == other.digest && self.token_type == other.token_type
    }
}

impl Eq for EntryKey {}

impl Hash for EntryKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // A part of a digest is as good as the whole, and a lookup hashes it six times. A token has few
        // types.
        self.digest.start().hash(state);
    }
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token_type = self.token_type.as_deref();
        write!(f, "{}:{:?}", token_type.unwrap_or_default(), self.digest)
    }
}

/// The names of all keys.
#[derive(Debug)]
pub(crate) struct Keys {
    namespace: String,
    layout: KeyLayout,
}

impl Keys {
    pub(crate) fn new(namespace: String, layout: KeyLayout) -> Result<Self, ConfigError> {
        if is_plain(&namespace) {
            Ok(Self { namespace, layout })
        } else {
            Err(ConfigError::of(
                "namespace",
                format!("one or more of A-Z a-z 0-9 - . _ ~, not {namespace:?}"),
            ))
        }
    }

    pub(crate) fn is_seed(&self) -> bool {
        self.layout.is_seed()
    }

    /// Returns the token type as an entry's key holds it: only keys of the Dify layout hold one.
    pub(crate) fn type_in_key<'a>(&self, token_type: Option<&'a str>) -> Option<&'a str> {
        token_type.filter(|_| self.is_seed())
    }

    /// Checks that a token type can be part of this layout's keys.
    pub(crate) fn check_token_type(&self, token_type: &str) -> Result<(), ConfigError> {
        if token_type.is_empty() {
            return Err(ConfigError::of("token_types", "a name must not be empty"));
        }
        if self.is_seed() && (token_type == ANY || !is_plain(token_type)) {
            return Err(ConfigError::of(
                "token_types",
                format!(
                    "in this key layout a name is one or more of A-Z a-z 0-9 - . _ ~ and not {ANY:?}, not {token_type:?}"
                ),
            ));
        }
        Ok(())
    }

    /// The key that reads and fills use.
    pub(crate) fn key(
        &self,
        token: &BearerToken,
        digest: &TokenDigest,
        token_type: Option<&Arc<str>>,
    ) -> EntryKey {
        self.key_of(Some(token), digest, token_type)
    }

    /// The key that reads and fills use, where the text may not be at hand: only the Dify layout needs
    /// it.
    pub(crate) fn key_of(
        &self,
        token: Option<&BearerToken>,
        digest: &TokenDigest,
        token_type: Option<&Arc<str>>,
    ) -> EntryKey {
        EntryKey {
            token_type: token_type.filter(|_| self.is_seed()).cloned(),
            digest: self.layout.current(digest),
            token: token.filter(|_| self.is_seed()).cloned(),
        }
    }

    /// The keys that an invalidation deletes: for each pepper one for each of `token_types`, the current
    /// digest's last.
    pub(crate) fn keys(
        &self,
        token: Option<&BearerToken>,
        digest: &TokenDigest,
        token_types: &[Option<Arc<str>>],
    ) -> Vec<EntryKey> {
        let token = token.filter(|_| self.is_seed());
        let of_digest = |digest| {
            let key = move |token_type: &Option<Arc<str>>| EntryKey {
                token_type: token_type.clone(),
                digest,
                token: token.cloned(),
            };
            token_types.iter().map(key)
        };
        self.layout
            .all(digest)
            .into_iter()
            .flat_map(of_digest)
            .collect()
    }

    // In the digest layout the braces are literal: all keys of one token, and all of one tenant,
    // share a cluster slot. In the seed layout what is ours alone is named `api_token~…`, outside of
    // Python's patterns `api_token:*`.

    pub(crate) fn entry(&self, key: &EntryKey) -> String {
        match (&self.layout.0, &key.token) {
            (Layout::Seed { prefix }, Some(token)) => {
                let token_type = key.token_type.as_deref().unwrap_or(ANY);
                format!("{prefix}api_token:{token_type}:{}", token.expose())
            }
            _ => {
                // Of its final size from the beginning: it is written for each lookup.
                let length = self.namespace.len() + ":token:{}".len() + 2 * size_of::<KeyDigest>();
                let mut name = String::with_capacity(length);
                write!(name, "{}:token:{{{}}}", self.namespace, key.digest)
                    .expect("a String takes all");
                name
            }
        }
    }

    pub(crate) fn tenant(&self, tenant: &str) -> String {
        match &self.layout.0 {
            Layout::Digest { .. } => format!("{}:tenant:{{{}}}", self.namespace, escaped(tenant)),
            Layout::Seed { prefix } => format!("{prefix}api_token~tenant:{}", escaped(tenant)),
        }
    }

    pub(crate) fn epoch(&self) -> String {
        self.own("tenants")
    }

    pub(crate) fn bounds(&self) -> String {
        self.own("bounds")
    }

    // What follows is about a server, and no token. On a cluster the tag makes it one of the node's own.

    /// Never exists: what the supervisor's heartbeat deletes.
    pub(crate) fn heartbeat(&self, tag: Option<&str>) -> String {
        self.tagged("fence:heartbeat", tag)
    }

    /// What a check of the store writes.
    pub(crate) fn probe(&self, tag: Option<&str>) -> String {
        self.tagged("fence:probe", tag)
    }

    /// A set that a check of the store writes.
    pub(crate) fn probe_set(&self, tag: Option<&str>) -> String {
        self.tagged("fence:probes", tag)
    }

    /// The fence of a durable invalidation, where it is about a server.
    pub(crate) fn node_fence(&self, tag: Option<&str>) -> String {
        self.tagged("fence:durable", tag)
    }

    fn tagged(&self, name: &str, tag: Option<&str>) -> String {
        let tag = tag.map(|tag| format!(":{{{tag}}}")).unwrap_or_default();
        self.own(&format!("{name}{tag}"))
    }

    fn own(&self, name: &str) -> String {
        match &self.layout.0 {
            Layout::Digest { .. } => format!("{}:{name}", self.namespace),
            Layout::Seed { prefix } => format!("{prefix}api_token~{name}"),
        }
    }

    pub(crate) fn token_fence(&self, digest: &KeyDigest) -> String {
        self.own(&format!("fence:{{{digest}}}"))
    }

    pub(crate) fn tenant_fence(&self, tenant: &str) -> String {
        self.own(&format!("fence:{{{}}}", escaped(tenant)))
    }

    /// The key of the time of the last use. Python writes `None` for no token type here.
    pub(crate) fn last_use(&self, key: &EntryKey) -> String {
        match (&self.layout.0, &key.token) {
            (Layout::Seed { prefix }, Some(token)) => {
                let token_type = key.token_type.as_deref().unwrap_or("None");
                format!("{prefix}api_token_active:{token_type}:{}", token.expose())
            }
            _ => format!("{}:used:{{{}}}", self.namespace, key.digest),
        }
    }

    /// Python's load lock for the entry; `None` in the digest layout, which needs none.
    pub(crate) fn load_lock(&self, key: &EntryKey) -> Option<String> {
        let (Layout::Seed { prefix }, Some(token)) = (&self.layout.0, &key.token) else {
            return None;
        };
        let token_type = key.token_type.as_deref().unwrap_or("None");
        Some(format!(
            "{prefix}api_token_query_lock:{token_type}:{}",
            token.expose()
        ))
    }

    /// Python's index of a tenant's entries. Its set commands are not prefixed, nor are the members.
    pub(crate) fn tenant_index(tenant: &str) -> String {
        format!("tenant_tokens:{tenant}")
    }

    /// What the index calls the entry that lies under `name`.
    pub(crate) fn index_member<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.prefix()).unwrap_or(name)
    }

    /// Where the entry lies that the index calls `member`, if that is an entry's name at all.
    pub(crate) fn indexed(&self, member: &str) -> Option<String> {
        let is_entry = member.starts_with("api_token:");
        is_entry.then(|| format!("{}{member}", self.prefix()))
    }

    fn prefix(&self) -> &str {
        match &self.layout.0 {
            Layout::Digest { .. } => "",
            Layout::Seed { prefix } => prefix,
        }
    }

    /// The pattern that SCAN finds every entry by, of one token or of all.
    pub(crate) fn scan_pattern(&self, token: Option<&BearerToken>) -> String {
        let prefix = glob_escaped(self.prefix());
        let token = token.map_or("*".to_owned(), |token| glob_escaped(token.expose()));
        format!("{prefix}api_token:*:{token}")
    }

    /// Whether a name that SCAN found is the token's entry for some type: the pattern's `*` matches
    /// more than a type, and another token may end like this one.
    pub(crate) fn is_entry_of(&self, name: &str, token: &BearerToken) -> bool {
        let rest = name
            .strip_prefix(self.prefix())
            .and_then(|rest| rest.strip_prefix("api_token:"));
        rest.and_then(|rest| rest.split_once(':'))
            .is_some_and(|(token_type, text)| !token_type.is_empty() && token.is(text))
    }
}

/// Percent-encodes what could end the braces or leave the name.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if is_unreserved(byte) {
            out.push(byte.into());
        } else {
            write!(out, "%{byte:02X}").expect("a String takes all");
        }
    }
    out
}

/// A token is never a pattern.
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

    fn keys(layout: KeyLayout) -> Keys {
        Keys::new("api_token".to_owned(), layout).unwrap()
    }

    fn key(keys: &Keys, token: &str, token_type: Option<&str>) -> EntryKey {
        let (token, token_type) = (BearerToken::new(token), token_type.map(Arc::from));
        keys.key(&token, &token.digest(), token_type.as_ref())
    }

    #[test]
    fn a_token_has_one_entry_whatever_type_is_asked_for() {
        let keys = keys(KeyLayout::digest());
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for token_type in [None, Some("app")] {
            let key = key(&keys, "abc", token_type);
            assert_eq!(keys.entry(&key), format!("api_token:token:{{{hex}}}"));
            assert_eq!(keys.last_use(&key), format!("api_token:used:{{{hex}}}"));
        }
    }

    #[test]
    fn a_tenant_cannot_leave_its_key() {
        let keys = keys(KeyLayout::digest());
        assert_eq!(keys.tenant("t-42"), "api_token:tenant:{t-42}");
        assert_eq!(
            keys.tenant("a}:b{é%"),
            "api_token:tenant:{a%7D%3Ab%7B%C3%A9%25}"
        );
    }

    #[test]
    fn names_that_cannot_be_in_a_key_are_refused() {
        let (digest, seed) = (keys(KeyLayout::digest()), keys(KeyLayout::seed()));
        for bad in ["any", "a b", "a:b", "{a}", "é"] {
            assert!(seed.check_token_type(bad).is_err(), "{bad}");
            assert!(digest.check_token_type(bad).is_ok(), "{bad}");
        }
        assert!(seed.check_token_type("app-1.2_3~").is_ok());
        assert!(digest.check_token_type("").is_err());
        assert!(Keys::new("a{b}".to_owned(), KeyLayout::digest()).is_err());
    }

    #[test]
    fn in_the_seed_layout_the_names_are_pythons() {
        let plain = keys(KeyLayout::seed());
        let (app, none) = (key(&plain, "tok", Some("app")), key(&plain, "tok", None));
        assert_eq!(plain.entry(&app), "api_token:app:tok");
        assert_eq!(plain.entry(&none), "api_token:any:tok");
        assert_eq!(
            plain.load_lock(&app).unwrap(),
            "api_token_query_lock:app:tok"
        );
        assert_eq!(
            plain.load_lock(&none).unwrap(),
            "api_token_query_lock:None:tok"
        );
        assert_eq!(plain.last_use(&none), "api_token_active:None:tok");
        assert_eq!(Keys::tenant_index("t:1"), "tenant_tokens:t:1");
        for ours in [plain.tenant("t:1"), plain.epoch(), plain.bounds()] {
            assert!(ours.starts_with("api_token~"), "{ours}");
        }
    }

    #[test]
    fn pythons_prefix_stands_before_entries_and_locks_and_not_in_the_index() {
        let keys = keys(KeyLayout::seed_with_prefix(" prod "));
        let app = key(&keys, "tok", Some("app"));
        assert_eq!(keys.entry(&app), "prod:api_token:app:tok");
        assert_eq!(
            keys.load_lock(&app).unwrap(),
            "prod:api_token_query_lock:app:tok"
        );
        assert_eq!(keys.last_use(&app), "prod:api_token_active:app:tok");
        assert_eq!(
            keys.index_member("prod:api_token:app:tok"),
            "api_token:app:tok"
        );
        let indexed = keys.indexed("api_token:app:tok");
        assert_eq!(indexed.unwrap(), "prod:api_token:app:tok");
        assert_eq!(keys.indexed("another service's"), None);
        assert_eq!(keys.scan_pattern(None), "prod:api_token:*:*");
    }

    #[test]
    fn a_token_is_never_a_pattern() {
        let keys = keys(KeyLayout::seed_with_prefix("p*"));
        let token = BearerToken::new(r"a*b?[c]\d");
        assert_eq!(
            keys.scan_pattern(Some(&token)),
            r"p\*:api_token:*:a\*b\?\[c\]\\d"
        );
        assert!(keys.is_entry_of(r"p*:api_token:app:a*b?[c]\d", &token));
        for other in [
            r"p*:api_token:app:x:a*b?[c]\d",
            r"p*:api_token::a*b?[c]\d",
            r"api_token:app:a*b?[c]\d",
            r"p*:api_token:app:a*b?[c]\d2",
        ] {
            assert!(!keys.is_entry_of(other, &token), "{other}");
        }
    }

    #[test]
    fn what_is_about_a_server_is_tagged_with_its_node() {
        let digest = keys(KeyLayout::digest());
        assert_eq!(digest.heartbeat(None), "api_token:fence:heartbeat");
        assert_eq!(digest.probe(Some("n1")), "api_token:fence:probe:{n1}");
        let fence = digest.node_fence(Some("n1"));
        assert_eq!(fence, "api_token:fence:durable:{n1}");
        let seed = keys(KeyLayout::seed_with_prefix("prod"));
        assert_eq!(
            seed.heartbeat(Some("n1")),
            "prod:api_token~fence:heartbeat:{n1}"
        );
    }

    #[test]
    fn keys_of_different_tokens_are_spread_over_the_maps() {
        let keys = keys(KeyLayout::digest());
        let hasher = std::hash::RandomState::new();
        let hash = |token| std::hash::BuildHasher::hash_one(&hasher, key(&keys, token, None));
        assert_ne!(hash("abc"), hash("abd"));
        let seed = super::tests::keys(KeyLayout::seed());
        assert_ne!(key(&seed, "abc", None), key(&seed, "abc", Some("app")));
        let spread: std::collections::HashSet<usize> = (0..1_000)
            .map(|n: u32| key(&keys, &n.to_string(), None).digest.spread() % 16)
            .collect();
        assert_eq!(spread.len(), 16);
    }

    #[test]
    fn a_fence_lies_in_the_slot_of_what_it_stands_for() {
        let keys = keys(KeyLayout::digest());
        let digest = key(&keys, "abc", None).digest;
        let fence = format!("api_token:fence:{{{digest}}}");
        assert_eq!(keys.token_fence(&digest), fence);
        assert_eq!(keys.tenant_fence("t:1"), "api_token:fence:{t%3A1}");
    }
}
