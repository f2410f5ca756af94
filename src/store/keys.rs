//! Names of keys (WIRE.md). Pure.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ConfigError;
use crate::token::{TokenDigest, write_hex};

/// How keys and values lie in the store.
///
/// ```
/// use tower_api_token::KeyLayout;
///
/// // With a pepper, a stolen dump does not even tell which of the known tokens are in use.
/// let layout = KeyLayout::digest_keys("pepper-of-2027", ["pepper-of-2026"]);
/// # let _: KeyLayout = layout;
/// ```
#[derive(Clone, Default)]
pub struct KeyLayout {
    /// The pepper in use, and those before it; none for the plain digest.
    current: Option<Pepper>,
    previous: Vec<Option<Pepper>>,
}

impl KeyLayout {
    /// Keys hold a digest of the token, values hold no token: a stolen dump gives no token away.
    /// The default.
    pub fn digest() -> Self {
        Self::default()
    }

    /// The same with a pepper: digests are HMAC-SHA-256 under it. Reads and fills use `current`
    /// alone; an invalidation deletes under each of `previous` first, then `current`, so that an
    /// instance that has not switched yet obeys. An empty text is no pepper: the plain digest.
    ///
    /// Roll a new pepper out in three steps: all instances know both, current being the old one;
    /// all switch; after one time to live, drop the old one.
    pub fn digest_keys<P: Into<String>>(
        current: impl Into<String>,
        previous: impl IntoIterator<Item = P>,
    ) -> Self {
        Self {
            current: Pepper::new(current.into()),
            previous: previous
                .into_iter()
                .map(|pepper| Pepper::new(pepper.into()))
                .collect(),
        }
    }

    fn key(pepper: Option<&Pepper>, digest: &TokenDigest) -> KeyDigest {
        pepper.map_or(KeyDigest(*digest.as_bytes()), |pepper| pepper.key(digest))
    }
}

impl fmt::Debug for KeyLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every field is named, so that a new secret cannot slip in.
        let Self { current, previous } = self;
        f.debug_struct("KeyLayout")
            .field("peppered", &current.is_some())
            .field("previous", &previous.len())
            .finish()
    }
}

/// A secret that digests are keyed by; wiped when it is dropped.
#[derive(Clone)]
struct Pepper(Arc<Zeroizing<String>>);

impl Pepper {
    fn new(text: String) -> Option<Self> {
        let text = Zeroizing::new(text);
        (!text.is_empty()).then(|| Self(Arc::new(text)))
    }

    fn key(&self, digest: &TokenDigest) -> KeyDigest {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes())
            .expect("HMAC takes a key of any length");
        mac.update(digest.as_bytes());
        KeyDigest(mac.finalize().into_bytes().into())
    }
}

/// The digest as it stands in a key and in a value: under the pepper, where there is one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// Some of its bits, to choose a shard by.
    pub(crate) fn spread(&self) -> usize {
        usize::from(self.0[0])
    }

    /// Whether `hex` is this digest in lower-case hexadecimal; in constant time.
    pub(crate) fn is_written(&self, hex: &str) -> bool {
        crate::token::parse_hex(hex).is_some_and(|bytes| {
            TokenDigest::from_bytes(bytes).is(&TokenDigest::from_bytes(self.0))
        })
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0[..4], f)?;
        f.write_str("..")
    }
}

/// A scope's name, or none (written `any`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scope(Option<Arc<str>>);

impl Scope {
    pub(crate) const ANY: &'static str = "any";
    const RESERVED: [&'static str; 5] = ["tenant", "tenants", "used", "scopes", "fence"];

    pub(crate) fn new(name: Option<&str>) -> Result<Self, ConfigError> {
        match name {
            None => Ok(Self(None)),
            Some(name) if Self::RESERVED.contains(&name) || name == Self::ANY => Err(
                ConfigError::new(format!("the scope name {name:?} is reserved")),
            ),
            Some(name) if is_plain(name) => Ok(Self(Some(name.into()))),
            Some(name) => Err(ConfigError::new(format!(
                "a scope is one or more of A-Z a-z 0-9 - . _ ~, not {name:?}"
            ))),
        }
    }

    pub(crate) fn written(written: &str) -> Option<Self> {
        Self::new((written != Self::ANY).then_some(written)).ok()
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }

    pub(crate) fn as_written(&self) -> &str {
        self.name().unwrap_or(Self::ANY)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_written())
    }
}

/// What a namespace and a scope are made of: RFC 3986's unreserved characters.
pub(crate) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 128 && name.bytes().all(is_unreserved)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// K: the key of one token in one scope.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct EntryKey {
    pub(crate) scope: Scope,
    pub(crate) digest: KeyDigest,
}

impl fmt::Debug for EntryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{:?}", self.scope, self.digest)
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
            Err(ConfigError::new(format!(
                "a namespace is one or more of A-Z a-z 0-9 - . _ ~, not {namespace:?}"
            )))
        }
    }

    /// The digest that reads and fills use.
    pub(crate) fn current(&self, digest: &TokenDigest) -> KeyDigest {
        KeyLayout::key(self.layout.current.as_ref(), digest)
    }

    /// The digests that an invalidation deletes under, the current one last.
    pub(crate) fn all(&self, digest: &TokenDigest) -> Vec<KeyDigest> {
        let previous = self.layout.previous.iter();
        let peppers = previous.chain([&self.layout.current]);
        peppers
            .map(|pepper| KeyLayout::key(pepper.as_ref(), digest))
            .collect()
    }

    // The braces are literal: all keys of one token, and all of one tenant, share a cluster slot.

    pub(crate) fn entry(&self, key: &EntryKey) -> String {
        format!(
            "{}:{}:{{{}}}",
            self.namespace,
            key.scope.as_written(),
            key.digest
        )
    }

    pub(crate) fn tenant(&self, tenant: &str) -> String {
        format!("{}:tenant:{{{}}}", self.namespace, escaped(tenant))
    }

    pub(crate) fn epoch(&self) -> String {
        format!("{}:tenants", self.namespace)
    }

    pub(crate) fn scopes(&self) -> String {
        format!("{}:scopes", self.namespace)
    }

    pub(crate) fn token_fence(&self, digest: &KeyDigest) -> String {
        format!("{}:fence:{{{digest}}}", self.namespace)
    }

    pub(crate) fn tenant_fence(&self, tenant: &str) -> String {
        format!("{}:fence:{{{}}}", self.namespace, escaped(tenant))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `hmac.new(b"new", hashlib.sha256(b"abc").digest(), "sha256").hexdigest()` in Python.
    const HMAC_OF_ABC: &str = "d464eb36856b9ca0d4ee3252b30b930f68ba1660f318e8b37db82f03b843977f";

    fn keys(layout: KeyLayout) -> Keys {
        Keys::new("api_token".to_owned(), layout).unwrap()
    }

    #[test]
    fn an_entry_key_holds_the_scope_and_the_digest_in_braces() {
        let keys = keys(KeyLayout::digest());
        let digest = keys.current(&TokenDigest::of("abc"));
        let key = |scope| EntryKey {
            scope: Scope::new(scope).unwrap(),
            digest,
        };
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            keys.entry(&key(Some("app"))),
            format!("api_token:app:{{{hex}}}")
        );
        assert_eq!(keys.entry(&key(None)), format!("api_token:any:{{{hex}}}"));
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
    fn names_outside_the_alphabet_and_reserved_names_are_refused() {
        for bad in [
            "", "a b", "a:b", "{a}", "é", "any", "tenant", "tenants", "used", "scopes", "fence",
        ] {
            assert!(Scope::new(Some(bad)).is_err(), "{bad}");
        }
        assert!(Scope::new(Some("app-1.2_3~")).is_ok());
        assert!(Keys::new("a{b}".to_owned(), KeyLayout::digest()).is_err());
    }

    #[test]
    fn a_pepper_changes_every_digest_and_an_invalidation_knows_the_old_ones() {
        let token = TokenDigest::of("abc");
        let plain = keys(KeyLayout::digest()).current(&token);
        let new = keys(KeyLayout::digest_keys("new", ["old", ""]));
        let old = keys(KeyLayout::digest_keys("old", [""; 0])).current(&token);
        assert_ne!(new.current(&token), plain);
        assert_eq!(new.all(&token), [old, plain, new.current(&token)]);
        assert_eq!(new.current(&token).to_string(), HMAC_OF_ABC);
        assert!(!format!("{:?}", KeyLayout::digest_keys("new", ["old"])).contains("new"));
    }
}
