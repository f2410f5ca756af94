//! The database's contents with their history, which loads read and answers are judged by.

mod history;
mod steps;

pub use history::{Commit, Confirmed, History};

use crate::chaos::clock::now;
use crate::chaos::settings::{NEVER_CREATED, TENANTS, TOKENS};

/// A token's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row {
    /// Not created yet, or revoked.
    Absent,
    /// Valid, with this tenant or without one.
    Good(Option<usize>),
}

/// A tenant's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its tokens are valid.
    Active,
    /// Its tokens are denied.
    Suspended,
}

/// The commits that an answer was read from: the token's, and its tenant's (0 without one). It is the metadata
/// of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The token's.
    pub token: usize,
    /// The tenant's.
    pub tenant: usize,
}

impl Version {
    /// Packs it into one number, for a record's metadata.
    pub fn pack(self) -> u64 {
        (self.token as u64) << 32 | self.tenant as u64
    }

    /// Reverses [`pack`](Self::pack).
    pub fn unpack(packed: u64) -> Self {
        Self {
            token: usize::try_from(packed >> 32).unwrap_or(usize::MAX),
            tenant: usize::try_from(packed & 0xffff_ffff).unwrap_or(usize::MAX),
        }
    }
}

/// The result of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A valid token, with its tenant.
    Found(Version, Option<usize>),
    /// No such token.
    Absent,
    /// A valid token of a suspended tenant.
    Denied(Version, usize),
}

/// The target of an invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The token with this index.
    Token(usize),
    /// The tenant with this index.
    Tenant(usize),
    /// Everything.
    All,
}

/// The newest version of each token and tenant that an invalidation covers.
pub type Covered = Vec<(Target, usize)>;

/// All rows.
#[derive(Debug)]
pub struct Ledger {
    tokens: Vec<History<Row>>,
    tenants: Vec<History<Standing>>,
}

impl Ledger {
    /// Creates a ledger in which no token exists, and every tenant is active.
    pub fn new() -> Self {
        let at = now();
        let absent = || History::new(at, Row::Absent);
        let active = || History::new(at, Standing::Active);
        Self {
            tokens: std::iter::repeat_with(absent).take(TOKENS).collect(),
            tenants: std::iter::repeat_with(active).take(TENANTS).collect(),
        }
    }

    /// Returns the history of a token.
    pub fn token(&self, index: usize) -> &History<Row> {
        &self.tokens[index]
    }

    /// Returns the history of a tenant.
    pub fn tenant(&self, index: usize) -> &History<Standing> {
        &self.tenants[index]
    }

    /// Returns what a load reads now. `None` if the text is not one of the run's tokens.
    pub fn read(&self, token: Option<usize>) -> Read {
        let Some(history) = token.and_then(|index| self.tokens.get(index)) else {
            return Read::Absent;
        };
        let version = |tenant| Version {
            token: history.newest(),
            tenant,
        };
        match history.present() {
            Row::Absent => Read::Absent,
            Row::Good(None) => Read::Found(version(0), None),
            Row::Good(Some(index)) => {
                let tenant = &self.tenants[index];
                let version = version(tenant.newest());
                match tenant.present() {
                    Standing::Active => Read::Found(version, Some(index)),
                    Standing::Suspended => Read::Denied(version, index),
                }
            }
        }
    }

    /// Commits a token's row, which every later load reads.
    pub fn commit_token(&mut self, index: usize, row: Row) {
        assert!(index < TOKENS - NEVER_CREATED, "it is never created");
        self.tokens[index].commit(now(), row);
    }

    /// Commits a tenant's row.
    pub fn commit_tenant(&mut self, index: usize, standing: Standing) {
        self.tenants[index].commit(now(), standing);
    }

    /// Returns what an invalidation of this target that starts now covers.
    pub fn covered(&self, target: Target) -> Covered {
        let tokens = || (0..self.tokens.len()).map(Target::Token);
        let tenants = || (0..self.tenants.len()).map(Target::Tenant);
        let of = |target| match target {
            Target::Token(index) => vec![(target, self.tokens[index].newest())],
            Target::Tenant(index) => vec![(target, self.tenants[index].newest())],
            Target::All => Vec::new(),
        };
        match target {
            Target::All => tokens().chain(tenants()).flat_map(of).collect(),
            one => of(one),
        }
    }

    /// Records an invalidation that returned `Ok`.
    pub fn confirm(&mut self, covered: &Covered, confirmed: Confirmed) {
        for &(target, version) in covered {
            match target {
                Target::Token(index) => self.tokens[index].confirm(version, confirmed),
                Target::Tenant(index) => self.tenants[index].confirm(version, confirmed),
                Target::All => {}
            }
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}
