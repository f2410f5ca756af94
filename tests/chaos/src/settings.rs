//! What all processes of a run agree on.

use std::time::Duration;

/// The scope of every token here.
pub const SCOPE: &str = "app";

/// S: how long a local level may answer from before, after a plain invalidation's reply. Shorter
/// than the default, so that more invalidations fit into a run.
pub const BOUND: Duration = Duration::from_millis(300);

/// Short, so that loads run over it; a lease then lasts three seconds and is waited for for two.
pub const LOAD_DEADLINE: Duration = Duration::from_secs(1);

/// Records outlive several faults, so that what was wrongly stored is also seen.
pub const TTL: Duration = Duration::from_secs(10);

/// How long nulls and denials are kept.
pub const NULL_TTL: Duration = Duration::from_secs(5);

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
