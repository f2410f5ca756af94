//! What a store keeps under a key, and what its replies say about it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::watch::Watch;
use crate::clock::Tick;
use crate::token::{TokenRecord, write_hex};

/// 128 random bits, new for every command that creates something, so that a late duplicate of a command
/// cannot pass for a new one (protocol.md N9).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Nonce([u8; 16]);

// guard: N9
impl Nonce {
    pub(crate) fn new() -> Self {
        let mut bytes = [0; 16];
        // Without random numbers there is no fence. The panic ends the lookup, which is answered
        // "unavailable".
        getrandom::fill(&mut bytes).expect("the operating system's random generator");
        Self(bytes)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A generation, of a tenant or of all entries, or the epoch: 128 random bits that are never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Generation([u8; 16]);

impl Generation {
    pub(crate) fn new() -> Self {
        Self(Nonce::new().0)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        crate::token::parse_hex(text).map(Self)
    }

    /// Returns its first half, by which it is told from any other: entries name the generation of all entries by it.
    pub(crate) fn short(self) -> ShortGeneration {
        let (halves, _) = self.0.as_chunks::<8>();
        ShortGeneration(u64::from_be_bytes(halves[0]))
    }
}

/// The first half of a generation: 64 random bits, which nobody can choose.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortGeneration(pub(crate) u64);

impl ShortGeneration {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        crate::token::parse_hex(text).map(|bytes| Self(u64::from_be_bytes(bytes)))
    }
}

impl fmt::Display for ShortGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0.to_be_bytes(), f)
    }
}

impl fmt::Debug for ShortGeneration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whose generation it is: an entry is valid while each group that it belongs to has the generation that it was
/// filled under.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    /// All entries.
    All,
    Tenant(Arc<str>),
}

impl Group {
    pub(crate) fn tenant(tenant: &str) -> Self {
        Self::Tenant(tenant.into())
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A generation, as a command found it.
#[derive(Debug)]
pub(crate) struct ReadGeneration {
    pub(crate) generation: Generation,
    pub(crate) watch: Option<Watch>,
    /// Its remaining TTL.
    pub(crate) left: Duration,
}

impl ReadGeneration {
    pub(crate) fn unwatched(generation: Generation, left: Duration) -> Self {
        Self {
            generation,
            watch: None,
            left,
        }
    }
}

/// A value under a key, and what decides whether it is valid.
pub(crate) struct Entry<T> {
    pub(crate) value: T,
    /// The generation of all entries that it was filled under. In the Dify layout there is none.
    pub(crate) all: Option<ShortGeneration>,
    /// The generation of its tenant.
    pub(crate) generation: Option<Generation>,
    /// The end of its TTL, if this process stores it itself.
    pub(crate) until: Tick,
    /// How long after that it may be answered if the loader fails (stale-if-error), in milliseconds. A `Duration`
    /// would take 16 bytes more for each entry.
    grace_millis: u64,
    /// Set by the in-memory store when it deletes or evicts the entry, for those who hold a reference.
    pub(crate) revoked: AtomicBool,
}

impl<T> Entry<T> {
    pub(crate) fn new(value: T, generation: Option<Generation>) -> Self {
        Self {
            value,
            all: None,
            generation,
            until: Tick::NEVER,
            grace_millis: 0,
            revoked: AtomicBool::new(false),
        }
    }

    pub(crate) fn under(mut self, all: Option<ShortGeneration>) -> Self {
        self.all = all;
        self
    }

    pub(crate) fn until(mut self, until: Tick) -> Self {
        self.until = until;
        self
    }

    pub(crate) fn with_grace(mut self, grace: Duration) -> Self {
        self.grace_millis = u64::try_from(grace.as_millis()).unwrap_or(0);
        self
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_millis)
    }
}

/// One of the two answers that are cached. A denied record is found.
pub(crate) enum Value<M> {
    Found(Arc<Entry<TokenRecord<M>>>),
    Absent(Arc<Entry<()>>),
}

impl<M> Value<M> {
    pub(crate) fn all(&self) -> Option<ShortGeneration> {
        match self {
            Self::Found(entry) => entry.all,
            Self::Absent(entry) => entry.all,
        }
    }

    pub(crate) fn generation(&self) -> Option<Generation> {
        match self {
            Self::Found(entry) => entry.generation,
            Self::Absent(entry) => entry.generation,
        }
    }

    /// Sets the end of its TTL. Does nothing once the value is shared.
    pub(crate) fn set_until(&mut self, until: Tick) {
        match self {
            Self::Found(entry) => Arc::get_mut(entry).map(|entry| entry.until = until),
            Self::Absent(entry) => Arc::get_mut(entry).map(|entry| entry.until = until),
        };
    }

    /// Returns whether it is a record that is not denied.
    pub(crate) fn is_valid(&self) -> bool {
        matches!(self, Self::Found(entry) if !entry.value.is_denied())
    }

    pub(crate) fn grace(&self) -> Duration {
        match self {
            Self::Found(entry) => entry.grace(),
            Self::Absent(_) => Duration::ZERO,
        }
    }

    pub(crate) fn revoked(&self) -> &AtomicBool {
        match self {
            Self::Found(entry) => &entry.revoked,
            Self::Absent(entry) => &entry.revoked,
        }
    }

    pub(crate) fn tenant_id(&self) -> Option<&str> {
        match self {
            Self::Found(entry) => entry.value.tenant_id.as_deref(),
            Self::Absent(_) => None,
        }
    }
}

impl<M> Clone for Value<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(entry) => Self::Found(Arc::clone(entry)),
            Self::Absent(entry) => Self::Absent(Arc::clone(entry)),
        }
    }
}

impl<M> fmt::Debug for Value<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found(_) => "Found",
            Self::Absent(_) => "Absent",
        })
    }
}

/// The exact contents of a key that were read: a compare-and-set expects them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observed {
    Bytes(Vec<u8>),
    Version(u64),
    /// A key of another Redis type, which is deleted before a lease is taken.
    WrongType,
}

impl Observed {
    /// Returns the number of bytes that were read, or zero if the contents are not bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Version(_) | Self::WrongType => 0,
        }
    }
}

/// The contents of a key.
#[derive(Debug)]
pub(crate) enum Seen<M> {
    Vacant,
    Lease,
    /// A value, with its remaining TTL if that was asked for.
    Value(Value<M>, Observed, Option<Duration>),
    /// Contents that cannot be read, or belong to another token: to be replaced, and never answered.
    Corrupt(Observed),
}

/// The reply to an acquire.
#[derive(Debug)]
pub(crate) enum Acquired<M> {
    Ours,
    /// The key has other contents.
    Taken(Seen<M>),
    /// The key no longer has the contents that were to be replaced.
    Gone,
}

/// The replies in the round trip of an acquire.
#[derive(Debug)]
pub(crate) struct AcquireReply<M> {
    pub(crate) acquired: Acquired<M>,
    /// The epoch, if it exists and could be read.
    pub(crate) epoch: Option<Generation>,
    /// The generation of all entries, if it exists and could be read.
    pub(crate) all: Option<Generation>,
}

/// The reply to a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// The value was stored, in this number of bytes (zero in memory).
    Stored(usize),
    /// The lease no longer exists: it expired, or an invalidation removed it.
    Refused,
    /// Nothing was sent: the value is larger than the limit, or cannot be serialized.
    Unwritable,
    /// Nothing was sent: the key layout has no form for such a value.
    NoForm,
}

/// Returns a bound in milliseconds, as the registry holds it: rounded up, and zero for zero.
pub(crate) fn bound_millis(bound: Duration) -> u64 {
    u64::try_from(bound.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The staleness bounds of all instances, as far as the registry holds them.
pub(crate) type Bounds = Vec<Duration>;
