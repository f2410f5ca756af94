//! The database's contents, with their whole history: what loads read, and what answers are judged by.

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
    /// Good, of this tenant or of none.
    Good(Option<usize>),
}

/// A tenant's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Its tokens are good.
    Active,
    /// Its tokens are denied.
    Suspended,
}

/// Which commits an answer was read from: the token's, and its tenant's (0 without one). It is the
/// metadata of every record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// The token's.
    pub token: usize,
    /// The tenant's.
    pub tenant: usize,
}

impl Version {
    /// As one number, for a record's metadata.
    pub fn pack(self) -> u64 {
        (self.token as u64) << 32 | self.tenant as u64
    }

    /// The reverse of [`pack`](Self::pack).
    pub fn unpack(packed: u64) -> Self {
        Self {
            token: usize::try_from(packed >> 32).unwrap_or(usize::MAX),
            tenant: usize::try_from(packed & 0xffff_ffff).unwrap_or(usize::MAX),
        }
    }
}

/// What a load reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A good token, with its tenant.
    Found(Version, Option<usize>),
    /// No such token.
    Absent,
    /// A good token of a suspended tenant.
    Denied(Version, usize),
}

/// What an invalidation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The token with this index.
    Token(usize),
    /// The tenant with this index.
    Tenant(usize),
}

/// All rows.
#[derive(Debug)]
pub struct Ledger {
    tokens: Vec<History<Row>>,
    tenants: Vec<History<Standing>>,
}

impl Ledger {
    /// No token exists yet, and every tenant is active.
    pub fn new() -> Self {
        let at = now();
        let absent = || History::new(at, Row::Absent);
        let active = || History::new(at, Standing::Active);
        Self {
            tokens: std::iter::repeat_with(absent).take(TOKENS).collect(),
            tenants: std::iter::repeat_with(active).take(TENANTS).collect(),
        }
    }

    /// The life of a token.
    pub fn token(&self, index: usize) -> &History<Row> {
        &self.tokens[index]
    }

    /// The life of a tenant.
    pub fn tenant(&self, index: usize) -> &History<Standing> {
        &self.tenants[index]
    }

    /// What a load reads now. `None`: a token that is none of ours.
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

    /// A commit to a token's row, visible to every load from now on.
    pub fn commit_token(&mut self, index: usize, row: Row) {
        assert!(index < TOKENS - NEVER_CREATED, "it is never created");
        self.tokens[index].commit(now(), row);
    }

    /// A commit to a tenant's row.
    pub fn commit_tenant(&mut self, index: usize, standing: Standing) {
        self.tenants[index].commit(now(), standing);
    }

    /// The newest version of a target: what an invalidation that starts now is about.
    pub fn newest(&self, target: Target) -> usize {
        match target {
            Target::Token(index) => self.tokens[index].newest(),
            Target::Tenant(index) => self.tenants[index].newest(),
        }
    }

    /// Takes note of an invalidation that returned `Ok`.
    pub fn confirm(&mut self, target: Target, confirmed: Confirmed) {
        match target {
            Target::Token(index) => self.tokens[index].confirm(confirmed),
            Target::Tenant(index) => self.tenants[index].confirm(confirmed),
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self::new()
    }
}
