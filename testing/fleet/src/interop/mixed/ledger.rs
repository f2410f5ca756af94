//! The events: commits, completed invalidations, loads and their writes.

use std::fmt;
use std::str::FromStr;

use super::clock::Stamp;
use super::settings::{TENANTS, TOKENS};
use crate::interop::python::Version;

/// The types that tokens are requested with. All tokens have the type `app`.
pub const SCOPES: [Option<&str>; 2] = [Some("app"), None];

/// An entry's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The token's number.
    pub token: usize,
    /// The index in [`SCOPES`].
    pub scope: usize,
}

impl Key {
    /// Converts a node's text and type.
    pub fn of(token: &str, scope: Option<&str>) -> Option<Self> {
        let token = token.strip_prefix("app-token-")?.parse().ok()?;
        let scope = SCOPES.iter().position(|known| *known == scope)?;
        (token < TOKENS).then_some(Self { token, scope })
    }
}

/// Returns a token's text.
pub fn token_text(token: usize) -> String {
    format!("app-token-{token}")
}

/// Returns the tenant of a token.
pub fn tenant_of(token: usize) -> usize {
    token % TENANTS
}

/// Returns a tenant's id.
pub fn tenant_name(tenant: usize) -> String {
    format!("t-{tenant}")
}

/// The versions that a load read, and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The token's version.
    pub token: usize,
    /// Its tenant's version.
    pub tenant: usize,
    /// The load's number.
    pub load: usize,
}

/// A record's id, which is also a denial's reason: the token, and the versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id {
    /// The token's number.
    pub token: usize,
    /// The versions that were read.
    pub read: Read,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Read {
            token,
            tenant,
            load,
        } = self.read;
        write!(f, "{}.{token}.{tenant}.{load}", self.token)
    }
}

impl FromStr for Id {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let numbers: Result<Vec<usize>, _> = text.split('.').map(str::parse).collect();
        let &[token, version, tenant, load] = &*numbers.map_err(drop)? else {
            return Err(());
        };
        let read = Read {
            token: version,
            tenant,
            load,
        };
        Ok(Self { token, read })
    }
}

/// The side that loads or invalidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Our side.
    Rust,
    /// A Python node.
    Python(Version),
}

/// A completed invalidation of everything up to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// The newest version when it was started.
    pub version: usize,
    /// The time before it was called.
    pub started: Stamp,
    /// The time after it returned without an error.
    pub returned: Stamp,
    /// The side that performed it.
    pub by: By,
    /// The index of the type of a token's invalidation; `None` for all types.
    pub scope: Option<usize>,
}

impl Completed {
    /// Returns whether it covers a key of this type.
    pub fn is_of(&self, scope: usize) -> bool {
        self.scope.is_none_or(|only| only == scope)
    }
}

/// The states of a token or a tenant: true for valid, false for revoked or suspended.
#[derive(Debug, Clone)]
pub struct History {
    /// By version.
    pub states: Vec<bool>,
    /// Ordered by version, because each target has one operator.
    pub completed: Vec<Completed>,
}

impl History {
    fn new() -> Self {
        Self {
            states: vec![true],
            completed: Vec::new(),
        }
    }

    /// Returns the newest version.
    pub fn newest(&self) -> usize {
        self.states.len() - 1
    }

    /// Returns the invalidations of versions after this one.
    pub fn later_than(&self, version: usize) -> impl Iterator<Item = &Completed> {
        let later = self.completed.iter().rev();
        later.take_while(move |completed| completed.version > version)
    }
}

/// A load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// The side that loaded.
    pub by: By,
    /// The key.
    pub key: Key,
    /// The versions that were read.
    pub read: Read,
    /// Whether the answer was a record.
    pub good: bool,
    /// When it was answered.
    pub answered: Stamp,
    /// The times before and after a Python node's write of it.
    pub written: Option<(Stamp, Stamp)>,
}

/// The result of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A valid token.
    Record(Id),
    /// None.
    Absent,
    /// Its tenant is suspended.
    Denied(Id),
}

/// All events.
#[derive(Debug, Clone)]
pub struct Ledger {
    tokens: Vec<History>,
    tenants: Vec<History>,
    loads: Vec<Load>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}

impl Ledger {
    /// Creates a ledger in which everything is valid, and nothing was invalidated.
    pub fn new() -> Self {
        Self {
            tokens: vec![History::new(); TOKENS],
            tenants: vec![History::new(); TENANTS],
            loads: Vec::new(),
        }
    }

    /// Returns a token's history.
    pub fn token(&self, token: usize) -> &History {
        &self.tokens[token]
    }

    /// Returns a tenant's history.
    pub fn tenant(&self, tenant: usize) -> &History {
        &self.tenants[tenant]
    }

    /// Returns the history of a target.
    pub fn of(&mut self, target: Target) -> &mut History {
        match target {
            Target::Token(token) => &mut self.tokens[token],
            Target::Tenant(tenant) => &mut self.tenants[tenant],
        }
    }

    /// Reads the row for a load, and numbers it.
    pub fn load(&mut self, key: Key, by: By, now: Stamp) -> (usize, Found) {
        let (token, tenant) = (self.token(key.token), self.tenant(tenant_of(key.token)));
        let read = Read {
            token: token.newest(),
            tenant: tenant.newest(),
            load: self.loads.len(),
        };
        let id = Id {
            token: key.token,
            read,
        };
        let found = if !token.states[read.token] {
            Found::Absent
        } else if tenant.states[read.tenant] {
            Found::Record(id)
        } else {
            Found::Denied(id)
        };
        self.loads.push(Load {
            by,
            key,
            read,
            good: matches!(found, Found::Record(_)),
            answered: now,
            written: None,
        });
        (read.load, found)
    }

    /// Returns a load by its number.
    pub fn numbered(&self, load: usize) -> Option<&Load> {
        self.loads.get(load)
    }

    /// Returns all loads, in the order of their reads.
    pub fn loads(&self) -> &[Load] {
        &self.loads
    }

    /// Records when a load was answered, after the database's delay.
    pub fn answered(&mut self, load: usize, now: Stamp) {
        self.loads[load].answered = now;
    }

    /// Records a Python node's write.
    pub fn written(&mut self, load: usize, sent: Stamp, replied: Stamp) {
        self.loads[load].written = Some((sent, replied));
    }
}

/// The target of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A token.
    Token(usize),
    /// A tenant.
    Tenant(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip() {
        let (mut ledger, key) = (Ledger::new(), Key { token: 3, scope: 1 });
        ledger.of(Target::Token(3)).states.extend([false, true]);
        let (load, found) = ledger.load(key, By::Rust, 7);
        let Found::Record(id) = found else {
            panic!("{found:?}");
        };
        assert_eq!((load, id.to_string().as_str()), (0, "3.2.0.0"));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("3.2.0".parse::<Id>(), Err(()));
        assert_eq!(Key::of(&token_text(3), None), Some(key));
    }
}
