//! The rules of the protocol that can be taken out, to see what they are for.

/// A rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A miss takes a lease; a fill is a compare-and-set from it. Without: GET, load, SET.
    Lease,
    /// The fill compares. Without: the lease is taken, but the fill is a plain SET.
    GuardedFill,
    /// The load starts after the acquire's reply. Without: before the acquire is sent.
    LoadAfterAcquire,
    /// An answer goes to those who joined before its proof point. Without: to everybody in the flight.
    ProofPoints,
    /// The change is committed before the invalidation. Without: after it.
    CommitFirst,
    /// Every writer of K speaks the protocol. Without: one more loads and SETs.
    EveryWriterFenced,
    /// A fresh nonce for every transmission of an acquire. Without: a client library sends it again.
    FreshNonce,
    /// The same for the creation of T.
    FreshGeneration,
    /// The same for the creation of E.
    FreshE,
    /// The generation of a fill was T's before the load began. Without: it is what T holds after the load.
    GenerationBeforeLoad,
    /// What a refresh during the load brought is not known before the load. Without: any local entry of T will do.
    KnownBeforeLoad,
    /// The proof point of a fill with a tenant is the load, or the second GET of E. Without: the CAS.
    TenantProofPoint,
    /// The operator deletes E before T. Without: T before E.
    OperatorDeletesEFirst,
    /// The fill reads T, then E. Without: E, then T.
    FillReadsTFirst,
    /// A missing E counts as changed. Without: as unchanged.
    MissingEIsChanged,
    /// The GET of T that confirms a value is sent after K's reply. Without: before the GET of K.
    TReadAfterK,
    /// An entry is as old as the sending of the command that proved it. Without: as its arrival.
    AgeFromSending,
    /// The clock is read after the request started. Without: up to a tick earlier.
    FreshClock,
    /// The local entry of T that confirms a value in a flight is judged by a clock read later than the flight's start.
    FreshClockForT,
    /// The operator waits. Without: it returns at once.
    OperatorWaits,
    /// S is counted from a reply. Without: from the commit.
    WaitFromReply,
    /// S is counted from the last reply. Without: from the first.
    WaitFromLastReply,
    /// The wait is longer than S, by a margin for drifting clocks.
    Margin,
    /// An instance enters its bound into the registry before it sends what an entry is proved by. Without: before the
    /// entry is kept.
    BoundBeforeProof,
    /// The operator reads the registry after the deletion. Without: before it.
    BoundsAfterDeletion,
    /// A stale value is put back by comparing. Without: by a plain SET.
    GuardedStale,
    /// A stale answer goes to those who joined before the GET that found it. Without: before the failed load.
    StaleProofPoint,
    /// Nothing is kept whose connection was replaced since its proof was sent, because the registry may be lost with
    /// it. Without: it is kept.
    KeptFromOneConnection,
    /// Each request compares the record's type with its own. Without: a record is valid for every request.
    TypePerRequest,
    /// A loaded record is stored whatever type it has. Without: as a negative entry if the call is for another type.
    OtherTypeIsStored,
    /// A value is current whatever type it has. Without: a call for another type replaces it.
    OtherTypeIsCurrent,
}

impl Rule {
    /// Every rule, with its id in section 8 of the protocol, or the section that states it.
    pub const ALL: &[(Self, &'static str)] = &[
        (Self::Lease, "N1"),
        (Self::GuardedFill, "N4"),
        (Self::LoadAfterAcquire, "N5"),
        (Self::ProofPoints, "N6"),
        (Self::CommitFirst, "N7"),
        (Self::EveryWriterFenced, "N8"),
        (Self::FreshNonce, "N9"),
        (Self::FreshGeneration, "N9, for T"),
        (Self::FreshE, "N9, for E"),
        (Self::GenerationBeforeLoad, "G1"),
        (Self::KnownBeforeLoad, "G1, local T"),
        (Self::TenantProofPoint, "G2"),
        (Self::OperatorDeletesEFirst, "G3, operator"),
        (Self::FillReadsTFirst, "G3, fill"),
        (Self::MissingEIsChanged, "G4"),
        (Self::TReadAfterK, "section 5"),
        (Self::AgeFromSending, "L"),
        (Self::FreshClock, "L"),
        (Self::FreshClockForT, "L, table of section 3"),
        (Self::OperatorWaits, "L"),
        (Self::WaitFromReply, "L"),
        (Self::WaitFromLastReply, "I4"),
        (Self::Margin, "L11"),
        (Self::BoundBeforeProof, "section 2"),
        (Self::BoundsAfterDeletion, "section 2"),
        (Self::GuardedStale, "section 4"),
        (Self::StaleProofPoint, "table of section 3"),
        (Self::KeptFromOneConnection, "R6"),
        (Self::TypePerRequest, "K1"),
        (Self::OtherTypeIsStored, "K2"),
        (Self::OtherTypeIsCurrent, "K3"),
    ];

    /// The rule of this name, as `Debug` prints it.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .map(|(rule, _)| *rule)
            .find(|rule| format!("{rule:?}") == name)
    }
}

/// Which rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    broken: u32,
}

impl Rules {
    /// The protocol as written.
    pub const WRITTEN: Self = Self { broken: 0 };

    /// These, but not `rule`.
    #[must_use]
    pub fn without(self, rule: Rule) -> Self {
        Self {
            broken: self.broken | 1 << rule as u32,
        }
    }

    pub(crate) fn hold(self, rule: Rule) -> bool {
        self.broken & 1 << rule as u32 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_listed_and_can_be_named() {
        for (number, (rule, _)) in Rule::ALL.iter().enumerate() {
            assert_eq!(number, *rule as usize, "a rule is missing from the list");
            assert_eq!(Rule::by_name(&format!("{rule:?}")), Some(*rule));
            assert!(Rules::WRITTEN.hold(*rule) && !Rules::WRITTEN.without(*rule).hold(*rule));
        }
        assert_eq!(Rule::by_name("NoSuchRule"), None);
    }
}
