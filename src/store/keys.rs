//! The names of keys (wire.md). Without I/O.

use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use super::entry::Group;
pub(crate) use super::layout::KeyDigest;
use super::layout::KeyLayout;
use crate::error::ConfigError;
#[cfg(feature = "dify")]
use crate::store::redis::dify::names::DifyNames;
use crate::token::{BearerToken, TokenDigest};

/// Returns whether `name` can be a namespace, or a token type in a key: RFC 3986's unreserved characters.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.bytes().all(is_unreserved)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The key of a token's entry (K).
#[derive(Clone)]
pub(crate) struct EntryKey {
    /// The token type that was asked for, in the Dify layout only.
    pub(crate) token_type: Option<Arc<str>>,
    pub(crate) digest: KeyDigest,
    /// The token's text, in the Dify layout only.
    pub(crate) token: Option<BearerToken>,
}

impl PartialEq for EntryKey {
    fn eq(&self, other: &Self) -> bool {
        // The digest stands for the text.
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

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn is_dify(&self) -> bool {
        self.layout.is_dify()
    }

    /// Returns the token type as an entry's key holds it: only keys of the Dify layout hold one.
    pub(crate) fn type_in_key<'a>(&self, token_type: Option<&'a str>) -> Option<&'a str> {
        token_type.filter(|_| self.is_dify())
    }

    /// Checks that a token type can be part of this layout's keys.
    pub(crate) fn check_token_type(&self, token_type: &str) -> Result<(), ConfigError> {
        if token_type.is_empty() {
            return Err(ConfigError::of("token_types", "a name must not be empty"));
        }
        #[cfg(feature = "dify")]
        if self.is_dify() && (token_type == DifyNames::ANY || !is_plain(token_type)) {
            let any = DifyNames::ANY;
            return Err(ConfigError::of(
                "token_types",
                format!(
                    "in this key layout a name is one or more of A-Z a-z 0-9 - . _ ~ and not {any:?}, not {token_type:?}"
                ),
            ));
        }
        Ok(())
    }

    /// Returns the key that reads and fills use.
    pub(crate) fn key(
        &self,
        token: &BearerToken,
        digest: &TokenDigest,
        token_type: Option<&Arc<str>>,
    ) -> EntryKey {
        self.key_of(Some(token), digest, token_type)
    }

    /// Returns the key that reads and fills use. Only the Dify layout needs the text.
    pub(crate) fn key_of(
        &self,
        token: Option<&BearerToken>,
        digest: &TokenDigest,
        token_type: Option<&Arc<str>>,
    ) -> EntryKey {
        EntryKey {
            token_type: token_type.filter(|_| self.is_dify()).cloned(),
            digest: self.layout.current(digest),
            token: token.filter(|_| self.is_dify()).cloned(),
        }
    }

    /// Returns the keys that an invalidation deletes: for each pepper one for each of `token_types`, the
    /// current pepper last.
    pub(crate) fn keys(
        &self,
        token: Option<&BearerToken>,
        digest: &TokenDigest,
        token_types: &[Option<Arc<str>>],
    ) -> Vec<EntryKey> {
        let token = token.filter(|_| self.is_dify());
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

    /// Returns the names of the Dify layout, if this is it.
    #[cfg(feature = "dify")]
    pub(crate) fn dify(&self) -> Option<&DifyNames> {
        self.layout.dify_names()
    }

    // The braces are literal: all keys of one token, and all of one tenant, share a slot of a cluster.

    pub(crate) fn entry(&self, key: &EntryKey) -> String {
        #[cfg(feature = "dify")]
        if let (Some(names), Some(token)) = (self.dify(), &key.token) {
            return names.entry(key.token_type.as_deref(), token);
        }
        // Of its final size from the beginning: it is written for each lookup.
        let length = self.namespace.len() + ":token:{}".len() + 2 * size_of::<KeyDigest>();
        let mut name = String::with_capacity(length);
        name.push_str(&self.namespace);
        name.push_str(":token:{");
        key.digest.push_to(&mut name);
        name.push('}');
        name
    }

    pub(crate) fn tenant(&self, tenant: &str) -> String {
        #[cfg(feature = "dify")]
        if let Some(names) = self.dify() {
            return names.own(&format!("tenant:{}", escaped(tenant)));
        }
        format!("{}:tenant:{{{}}}", self.namespace, escaped(tenant))
    }

    pub(crate) fn epoch(&self) -> String {
        self.own("tenants")
    }

    pub(crate) fn all(&self) -> String {
        self.own("tokens")
    }

    /// Returns the key of a group's generation.
    pub(crate) fn generation(&self, group: &Group) -> String {
        match group {
            Group::All => self.all(),
            Group::Tenant(tenant) => self.tenant(tenant),
        }
    }

    pub(crate) fn bounds(&self) -> String {
        self.own("bounds")
    }

    // The following keys belong to a server. On a cluster, the tag puts them into a slot of one node.

    /// Returns the key that heartbeats delete. It never exists.
    pub(crate) fn heartbeat(&self, tag: Option<&str>) -> String {
        self.tagged("fence:heartbeat", tag)
    }

    /// Returns the key that a check of the store writes.
    pub(crate) fn probe(&self, tag: Option<&str>) -> String {
        self.tagged("fence:probe", tag)
    }

    /// Returns the key of the set that a check of the store writes.
    pub(crate) fn probe_set(&self, tag: Option<&str>) -> String {
        self.tagged("fence:probes", tag)
    }

    /// Returns the key whose write replicas have to acknowledge, for deletions on one server.
    pub(crate) fn node_fence(&self, tag: Option<&str>) -> String {
        self.tagged("fence:durable", tag)
    }

    /// Returns the key that one test of client tracking writes.
    pub(crate) fn tracking_probe(&self, nonce: impl fmt::Display) -> String {
        self.own(&format!("fence:tracking:{nonce}"))
    }

    /// Returns what the names of all tenants' generations begin with, and no other key.
    pub(crate) fn tenants_begin_with(&self) -> String {
        #[cfg(feature = "dify")]
        if let Some(names) = self.dify() {
            return names.own("tenant:");
        }
        format!("{}:tenant:", self.namespace)
    }

    fn tagged(&self, name: &str, tag: Option<&str>) -> String {
        let tag = tag.map(|tag| format!(":{{{tag}}}")).unwrap_or_default();
        self.own(&format!("{name}{tag}"))
    }

    fn own(&self, name: &str) -> String {
        #[cfg(feature = "dify")]
        if let Some(names) = self.dify() {
            return names.own(name);
        }
        [&self.namespace, ":", name].concat()
    }

    pub(crate) fn token_fence(&self, digest: &KeyDigest) -> String {
        self.own(&format!("fence:{{{digest}}}"))
    }

    pub(crate) fn tenant_fence(&self, tenant: &str) -> String {
        self.own(&format!("fence:{{{}}}", escaped(tenant)))
    }

    /// Returns the key of the time of the last use.
    pub(crate) fn last_use(&self, key: &EntryKey) -> String {
        #[cfg(feature = "dify")]
        if let (Some(names), Some(token)) = (self.dify(), &key.token) {
            return names.last_use(key.token_type.as_deref(), token);
        }
        format!("{}:used:{{{}}}", self.namespace, key.digest)
    }
}

/// Percent-encodes the bytes that could end the braces or the name.
fn escaped(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if is_unreserved(byte) {
            out.push(byte.into());
        } else {
            write!(out, "%{byte:02X}").expect("a String can be written to");
        }
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
        let (digest, dify) = (keys(KeyLayout::digest()), keys(KeyLayout::dify()));
        for bad in ["any", "a b", "a:b", "{a}", "é"] {
            assert!(dify.check_token_type(bad).is_err(), "{bad}");
            assert!(digest.check_token_type(bad).is_ok(), "{bad}");
        }
        assert!(dify.check_token_type("app-1.2_3~").is_ok());
        assert!(digest.check_token_type("").is_err());
        assert!(Keys::new("a{b}".to_owned(), KeyLayout::digest()).is_err());
    }

    #[test]
    fn what_is_about_a_server_is_tagged_with_its_node() {
        let digest = keys(KeyLayout::digest());
        assert_eq!(digest.heartbeat(None), "api_token:fence:heartbeat");
        assert_eq!(digest.probe(Some("n1")), "api_token:fence:probe:{n1}");
        let fence = digest.node_fence(Some("n1"));
        assert_eq!(fence, "api_token:fence:durable:{n1}");
        let dify = keys(KeyLayout::dify().key_prefix("prod"));
        assert_eq!(
            dify.heartbeat(Some("n1")),
            "prod:api_token~fence:heartbeat:{n1}"
        );
    }

    #[test]
    fn keys_of_different_tokens_are_spread_over_the_maps() {
        let keys = keys(KeyLayout::digest());
        let hasher = std::hash::RandomState::new();
        let hash = |token| std::hash::BuildHasher::hash_one(&hasher, key(&keys, token, None));
        assert_ne!(hash("abc"), hash("abd"));
        let dify = super::tests::keys(KeyLayout::dify());
        assert_ne!(key(&dify, "abc", None), key(&dify, "abc", Some("app")));
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
