//! For each rule, a model that shows why it is needed.

use super::parts::{
    ALL, ALL_LOCAL, BOUNDS, LOCAL_TENANT, OWN, OWN_ALL, OWN_LOCAL, SHORT, TENANT, TYPES,
};
use super::small::LOADS_TYPES;
use super::tracking::needing_tracking;
use crate::config::Config;
use crate::rules::Rule;
use crate::spec::Spec;

/// Returns a small model that breaks without `rule`.
pub fn needing(rule: Rule) -> Spec {
    needing_tracking(rule).unwrap_or_else(|| Spec::Protocol(protocol(rule)))
}

fn protocol(rule: Rule) -> Config {
    match rule {
        Rule::Lease
        | Rule::GuardedFill
        | Rule::LoadAfterAcquire
        | Rule::ProofPoints
        | Rule::CommitFirst
        | Rule::EveryWriterFenced => Config {
            late: 0,
            ..Config::KEY
        },
        Rule::FreshNonce => Config::KEY,
        Rule::FreshGeneration | Rule::FreshE => Config::TENANT,
        Rule::GenerationBeforeLoad
        | Rule::TenantProofPoint
        | Rule::OperatorDeletesEFirst
        | Rule::FillReadsTFirst
        | Rule::MissingEIsChanged
        | Rule::TReadAfterK => TENANT,
        Rule::AgeFromSending
        | Rule::FreshClock
        | Rule::OperatorWaits
        | Rule::WaitFromReply
        | Rule::Margin => Config {
            late: 0,
            ..Config::LOCAL
        },
        Rule::BoundBeforeProof | Rule::BoundsAfterDeletion => Config { late: 0, ..BOUNDS },
        Rule::KnownBeforeLoad | Rule::FreshClockForT => Config {
            reader: true,
            local: Some(SHORT),
            ..LOCAL_TENANT
        },
        Rule::WaitFromLastReply => Config {
            e: true,
            reader: true,
            local: Some(SHORT),
            ..LOCAL_TENANT
        },
        Rule::GuardedStale => Config {
            late: 0,
            stale: true,
            ..Config::KEY
        },
        Rule::StaleProofPoint => Config {
            stale: true,
            ..TENANT
        },
        Rule::KeptFromOneConnection => Config {
            registry_lost: true,
            late: 0,
            ..BOUNDS
        },
        Rule::TypePerRequest | Rule::OtherTypeIsStored => TYPES,
        Rule::OtherTypeIsValid => LOADS_TYPES,
        Rule::WithoutAllIsInvalid
        | Rule::AllProofPoint
        | Rule::AllBeforeLoad
        | Rule::AllReadWithK
        | Rule::MissingAllIsChanged => ALL,
        Rule::EntryNeedsAll => ALL_LOCAL,
        Rule::OwnEntriesEnd => OWN_ALL,
        Rule::NotedIsNotRead
        | Rule::NotedWhenSent
        | Rule::NotedIsNotFilled
        | Rule::NoteOutlivesEarlier => OWN,
        Rule::NotedIsNotRestored => OWN_LOCAL,
        _ => unreachable!("a rule of client tracking"),
    }
}
