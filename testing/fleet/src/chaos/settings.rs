//! The settings that all processes of a run share.

use std::fmt;
use std::time::Duration;

/// The kind of a run, and the last word of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One Redis, with all faults. This is the default, which has no word.
    Faults,
    /// One Redis, without faults.
    Calm,
    /// One Redis, and two staleness bounds, which operators know only from the registry.
    Bounds,
    /// A master with replicas and sentinels, and durable invalidations.
    Sentinel,
    /// A cluster of three masters with a replica each, and durable invalidations.
    Cluster,
    /// One Redis, in the layout that is shared with Dify's Python service.
    Dify,
    /// One Redis, and instances whose clocks run at different rates.
    Clocks,
    /// One Redis, and workers of a former release beside the others.
    Releases,
}

impl Mode {
    /// Reads the word for a mode.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [
            Self::Calm,
            Self::Bounds,
            Self::Sentinel,
            Self::Cluster,
            Self::Dify,
            Self::Clocks,
            Self::Releases,
        ];
        all.into_iter().find(|mode| mode.to_string() == word)
    }

    /// Returns the staleness bound of the operator and of most workers.
    pub fn bound(self) -> Duration {
        match self {
            // The margin of a shorter one would be more than a twentieth.
            Self::Clocks => Duration::from_secs(2),
            _ => BOUND,
        }
    }

    /// Returns the rate of the operator's clock.
    pub fn operators_rate(self) -> Rate {
        match self {
            Self::Clocks => FAST,
            _ => Rate::EXACT,
        }
    }

    /// Returns the rate of the clock of the worker in this place.
    pub fn rate(self, place: usize) -> Rate {
        match (self, place % 3) {
            (Self::Clocks, 0) => SLOW,
            (Self::Clocks, 1) => FAST,
            _ => Rate::EXACT,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faults => "faults",
            Self::Calm => "calm",
            Self::Bounds => "bounds",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
            Self::Dify => "dify",
            Self::Clocks => "clocks",
            Self::Releases => "releases",
        })
    }
}

/// The rate of a clock, in millionths of the system clock's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u32);

impl Rate {
    /// The system clock's.
    pub const EXACT: Self = Self(1_000_000);

    /// Returns how long a clock of this rate takes to show that `time` has passed.
    pub fn real(self, time: Duration) -> Duration {
        time.mul_f64(1e6 / f64::from(self.0))
    }
}

/// The rates of a run of [`Mode::Clocks`]. Their ratio is 1.045, just within the twentieth that the margin covers.
const SLOW: Rate = Rate(976_000);
const FAST: Rate = Rate(1_020_000);

/// Which workers have Redis report changes of their local entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// Two of three. This is the default, which has no word.
    Mixed,
    /// All of them.
    On,
    /// None.
    Off,
}

impl Tracking {
    /// Reads the word for a choice.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "tracked" => Some(Self::On),
            "untracked" => Some(Self::Off),
            _ => None,
        }
    }

    /// Returns the choice for an instance.
    pub fn of(self, instance: u64) -> bool {
        match self {
            Self::Mixed => instance % 3 != 2,
            Self::On => true,
            Self::Off => false,
        }
    }
}

/// The type of every token.
pub const TOKEN_TYPE: &str = "app";

/// S: how long a local level may return an old answer after a plain invalidation has returned. Shorter than the
/// default, so that more invalidations fit into a run.
pub const BOUND: Duration = Duration::from_millis(300);

/// Returns the longer bound of the worker in this place, in a run of [`Mode::Bounds`]. No two places have the
/// same, so that its member of the registry belongs to one worker.
pub fn longer_bound(place: usize) -> Duration {
    BOUND * 4 + Duration::from_millis(place as u64)
}

/// The registry's key.
pub const REGISTRY: &str = "api_token:bounds";

/// Returns the registry's member for a worker with this bound.
pub fn registry_member(bound: Duration) -> String {
    bound.as_millis().to_string()
}

/// Short, so that loads exceed it. A lease then lasts three seconds, and others wait for it for two.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Longer than several faults, so that a wrong entry is also used.
pub const TTL: Duration = Duration::from_secs(10);

/// How long nulls and denials are kept.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// The number of tokens that are requested, apart from unknown ones.
pub const TOKENS: usize = 40;

/// The number of tokens, the last ones, that are never created.
pub const NEVER_CREATED: usize = 4;

/// The number of tenants.
pub const TENANTS: usize = 4;

/// Returns the text of a token.
pub fn token_text(index: usize) -> String {
    format!("app-token-{index:04}")
}

/// Returns the id of a tenant.
pub fn tenant_name(index: usize) -> String {
    format!("t-{index}")
}

/// Returns the index of the token with this text.
pub fn token_index(text: &str) -> Option<usize> {
    text.strip_prefix("app-token-")?.parse().ok()
}
