//! A model of any kind.

use crate::config::Config;
use crate::protocol::Protocol;
use crate::rules::{Rule, Rules};
use crate::search::{Limits, Outcome, explore};
use crate::tracking::{self, Cluster, TenantCell, Tracking};

/// A model of any kind, with its configuration.
#[derive(Debug, Clone, Copy)]
pub enum Spec {
    /// Fenced fills, single flight, generations and the local level.
    Protocol(Config),
    /// Client tracking of one K.
    Tracking(Tracking),
    /// Client tracking of a tenant's T, read without a lock.
    TenantCell(TenantCell),
    /// Client tracking on a cluster, with a slot that moves.
    Cluster(Cluster),
}

impl Spec {
    /// Returns this model without `rule`.
    #[must_use]
    pub fn without(mut self, rule: Rule) -> Self {
        let rules: &mut Rules = match &mut self {
            Self::Protocol(config) => &mut config.rules,
            Self::Tracking(config) => &mut config.rules,
            Self::TenantCell(config) => &mut config.rules,
            Self::Cluster(config) => &mut config.rules,
        };
        *rules = rules.without(rule);
        self
    }
}

impl From<Config> for Spec {
    fn from(config: Config) -> Self {
        Self::Protocol(config)
    }
}

/// Explores a model until a promise is broken, a limit is reached, or no states are left.
pub fn check(model: impl Into<Spec>, limits: Limits) -> Outcome {
    match model.into() {
        Spec::Protocol(config) => explore(&Protocol { config }, limits),
        Spec::Tracking(config) => explore(&tracking::TokenTracking { config }, limits),
        Spec::TenantCell(config) => explore(&tracking::CellTracking { config }, limits),
        Spec::Cluster(config) => explore(&tracking::SlotMove { config }, limits),
    }
}
