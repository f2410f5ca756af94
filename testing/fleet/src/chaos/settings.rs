//! What all processes of a run agree on.

use std::fmt;
use std::time::Duration;

/// The kind of a run, and the last word of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One Redis, and everything breaks. This is the default, and has no word.
    Faults,
    /// One Redis, and nothing breaks.
    Calm,
    /// One Redis, and two staleness bounds, of which operators know through the registry alone.
    Bounds,
    /// A master with replicas and sentinels, and durable invalidations.
    Sentinel,
}

impl Mode {
    /// Reads the word for a mode.
    pub fn from_word(word: &str) -> Option<Self> {
        let all = [Self::Calm, Self::Bounds, Self::Sentinel];
        all.into_iter().find(|mode| mode.to_string() == word)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Faults => "faults",
            Self::Calm => "calm",
            Self::Bounds => "bounds",
            Self::Sentinel => "sentinel",
        })
    }
}

/// The scope of every token here.
pub const SCOPE: &str = "app";

/// S: how long a local level may answer from before, after a plain invalidation's reply. Shorter
/// than the default, so that more invalidations fit into a run.
pub const BOUND: Duration = Duration::from_millis(300);

/// The longer bound of the worker in this place, in a run of [`Mode::Bounds`]. No two places share one,
/// so that the registry's member for it is one worker's.
pub fn longer_bound(place: usize) -> Duration {
    BOUND * 4 + Duration::from_millis(place as u64)
}

/// The registry's key.
pub const REGISTRY: &str = "api_token:bounds";

/// Returns the registry's member for a worker with this bound.
pub fn registry_member(bound: Duration) -> String {
    bound.as_millis().to_string()
}

/// Short, so that loads run over it; a lease then lasts three seconds and is waited for for two.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(1);

/// Records outlive several faults, so that what was wrongly stored is also seen.
pub const TTL: Duration = Duration::from_secs(10);

/// How long nulls and denials are kept.
pub const NEGATIVE_TTL: Duration = Duration::from_secs(5);

/// How many tokens the askers ask for, apart from invented ones.
pub const TOKENS: usize = 40;

/// The last so many of them are never created.
pub const NEVER_CREATED: usize = 4;

/// How many tenants there are.
pub const TENANTS: usize = 4;

/// The text of a token.
pub fn token_text(index: usize) -> String {
    format!("app-token-{index:04}")
}

/// The name of a tenant.
pub fn tenant_name(index: usize) -> String {
    format!("t-{index}")
}

/// The index of a token by its text.
pub fn token_index(text: &str) -> Option<usize> {
    text.strip_prefix("app-token-")?.parse().ok()
}
