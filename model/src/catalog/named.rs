//! A model and its name.

use crate::config::Config;
use crate::search::Limits;
use crate::spec::Spec;

/// A model with a name.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    /// Its name on the command line.
    pub name: &'static str,
    /// A description.
    pub about: &'static str,
    /// The model.
    pub config: Spec,
    /// Where its exploration stops.
    pub limits: Limits,
}

/// Explored completely, or as far as about 6 GiB of memory allow.
pub(super) const fn whole(name: &'static str, about: &'static str, config: Config) -> Named {
    named(name, about, Spec::Protocol(config))
}

/// Explored completely, or as far as about 6 GiB of memory allow.
pub(super) const fn named(name: &'static str, about: &'static str, config: Spec) -> Named {
    Named {
        name,
        about,
        config,
        limits: Limits {
            states: 100_000_000,
            depth: usize::MAX,
        },
    }
}
