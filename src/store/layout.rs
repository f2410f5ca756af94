//! How keys and values lie in the store: by digest, or as the Python service has them. Pure.

use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::token::{TokenDigest, hex_digits, same, write_hex};

/// How keys and values lie in the store.
///
/// ```
/// use tower_api_token::store::KeyLayout;
///
/// // With a pepper, a stolen dump does not even tell which of the known tokens are in use.
/// let layout = KeyLayout::digest_keys("pepper-of-2027", ["pepper-of-2026"]);
/// # let _: KeyLayout = layout;
/// ```
#[derive(Clone)]
pub struct KeyLayout(pub(super) Layout);

#[derive(Clone)]
pub(super) enum Layout {
    Digest {
        /// The pepper in use, and those before it; none for the plain digest.
        current: Option<Pepper>,
        previous: Vec<Option<Pepper>>,
    },
    Seed {
        /// What the Python service's `REDIS_KEY_PREFIX` says, and a colon; or nothing.
        prefix: String,
    },
}

impl KeyLayout {
    /// Keys hold a digest of the token, values hold no token: a stolen dump gives no token away.
    /// The default.
    pub fn digest() -> Self {
        Self(Layout::Digest {
            current: None,
            previous: Vec::new(),
        })
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
        let previous = previous
            .into_iter()
            .map(|pepper| Pepper::new(pepper.into()));
        Self(Layout::Digest {
            current: Pepper::new(current.into()),
            previous: previous.collect(),
        })
    }

    /// Byte for byte what Dify's `api_token_cache.py` keeps, to share one Redis with it: keys
    /// `api_token:{type}:{token}`, the token's text in key and value. Each side reads what the
    /// other wrote, and obeys what the other invalidated.
    ///
    /// Metadata has to be readable where there is none, as `()` and an `Option` are: Python writes none,
    /// and its entries would all be misses.
    ///
    /// Weaker than the digest: a stolen dump holds the tokens, an invalidation by digest is not
    /// possible, and a load of the Python side can bring back what was revoked meanwhile, because
    /// Python does not fence its fills. For a migration, and no longer.
    pub fn seed() -> Self {
        Self::seed_with_prefix("")
    }

    /// [`seed`](Self::seed) for a Python service that has `REDIS_KEY_PREFIX` set. As there, white
    /// space around it does not count, a colon follows it, and the tenants' index is not prefixed.
    pub fn seed_with_prefix(prefix: &str) -> Self {
        let prefix = prefix.trim();
        let colon = if prefix.is_empty() { "" } else { ":" };
        Self(Layout::Seed {
            prefix: format!("{prefix}{colon}"),
        })
    }

    pub(crate) fn is_seed(&self) -> bool {
        matches!(self.0, Layout::Seed { .. })
    }

    /// The digest that reads and fills use.
    pub(super) fn current(&self, digest: &TokenDigest) -> KeyDigest {
        match &self.0 {
            Layout::Digest { current, .. } => keyed(current.as_ref(), digest),
            Layout::Seed { .. } => keyed(None, digest),
        }
    }

    /// The digests that an invalidation deletes under, the current one last.
    pub(super) fn all(&self, digest: &TokenDigest) -> Vec<KeyDigest> {
        match &self.0 {
            Layout::Digest { current, previous } => {
                let peppers = previous.iter().chain([current]);
                peppers
                    .map(|pepper| keyed(pepper.as_ref(), digest))
                    .collect()
            }
            Layout::Seed { .. } => vec![keyed(None, digest)],
        }
    }
}

impl Default for KeyLayout {
    fn default() -> Self {
        Self::digest()
    }
}

impl fmt::Debug for KeyLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every field is named, so that a new secret cannot slip in.
        match &self.0 {
            Layout::Digest { current, previous } => f
                .debug_struct("Digest")
                .field("peppered", &current.is_some())
                .field("previous", &previous.len())
                .finish(),
            Layout::Seed { prefix } => f.debug_struct("Seed").field("prefix", prefix).finish(),
        }
    }
}

fn keyed(pepper: Option<&Pepper>, digest: &TokenDigest) -> KeyDigest {
    pepper.map_or(KeyDigest(*digest.as_bytes()), |pepper| pepper.key(digest))
}

/// A secret that digests are keyed by; wiped when it is dropped.
#[derive(Clone)]
pub(super) struct Pepper(Arc<Zeroizing<String>>);

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

    /// Its first eight bytes.
    pub(crate) fn start(&self) -> u64 {
        let (words, _) = self.0.as_chunks::<8>();
        u64::from_ne_bytes(words[0])
    }

    /// Whether `hex` is this digest in lower-case hexadecimal; in constant time.
    pub(crate) fn is_written(&self, hex: &str) -> bool {
        same(&hex_digits(&self.0), hex.as_bytes())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `hmac.new(b"new", hashlib.sha256(b"abc").digest(), "sha256").hexdigest()` in Python.
    const HMAC_OF_ABC: &str = "d464eb36856b9ca0d4ee3252b30b930f68ba1660f318e8b37db82f03b843977f";

    #[test]
    fn a_pepper_changes_every_digest_and_an_invalidation_knows_the_old_ones() {
        let token = TokenDigest::of("abc");
        let plain = KeyLayout::digest().current(&token);
        let new = KeyLayout::digest_keys("new", ["old", ""]);
        let old = KeyLayout::digest_keys("old", [""; 0]).current(&token);
        assert_ne!(new.current(&token), plain);
        assert_eq!(new.all(&token), [old, plain, new.current(&token)]);
        assert_eq!(new.current(&token).to_string(), HMAC_OF_ABC);
    }

    #[test]
    fn debug_shows_no_pepper() {
        let shown = format!("{:?}", KeyLayout::digest_keys("new", ["old"]));
        assert!(!shown.contains("new") && !shown.contains("old"), "{shown}");
    }
}
