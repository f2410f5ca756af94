//! The rules of the protocol. Each can be taken out, to show why it is needed.

/// A rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A miss takes a lease, and a fill is a compare-and-set from it. Without: GET, load, SET.
    Lease,
    /// The fill compares. Without: the lease is taken, but the fill is a plain SET.
    GuardedFill,
    /// The load starts after the acquire's reply. Without: before the acquire is sent.
    LoadAfterAcquire,
    /// An answer goes to those who joined before its proof point. Without: to everybody in the call.
    ProofPoints,
    /// The change is committed before the invalidation. Without: after it.
    CommitFirst,
    /// Every writer of K speaks the protocol. Without: another writer loads and SETs.
    EveryWriterFenced,
    /// A fresh nonce for every transmission of an acquire. Without: a client library sends it again.
    FreshNonce,
    /// A fresh generation for every transmission of a creation of T. Without: a client library sends it again.
    FreshGeneration,
    /// Fresh contents for every transmission of a creation of E. Without: a client library sends it again.
    FreshE,
    /// The generation of a fill was T's before the load began. Without: it is the one that T holds after the load.
    GenerationBeforeLoad,
    /// A generation first seen during the load was not known before it. Without: any local entry of T counts as known.
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
    /// An entry's age counts from the sending of its proof point. Without: from the reply's arrival.
    AgeFromSending,
    /// The clock is read after the request started. Without: up to a tick earlier.
    FreshClock,
    /// Whether a local entry of T is usable in a call is decided by a clock read after K's reply. Without: by one read at
    /// the call's start.
    FreshClockForT,
    /// The operator waits. Without: it returns at once.
    OperatorWaits,
    /// The operator's wait counts from a reply. Without: from the commit.
    WaitFromReply,
    /// The operator's wait counts from the last reply. Without: from the first.
    WaitFromLastReply,
    /// The wait exceeds S by a margin for clocks that drift. Without: it is S.
    Margin,
    /// An instance enters its bound into the registry before it sends an entry's proof point. Without: before it keeps the
    /// entry.
    BoundBeforeProof,
    /// The operator reads the registry after the deletion. Without: before it.
    BoundsAfterDeletion,
    /// A stale value is restored by compare-and-set. Without: by a plain SET.
    GuardedStale,
    /// A stale answer goes to those who joined before the GET that found it. Without: before the failed load.
    StaleProofPoint,
    /// An answer is not kept if the connection was replaced since its proof point was sent, because the registry may have
    /// been lost. Without: it is kept.
    KeptFromOneConnection,
    /// Each request compares the record's type with its own. Without: a record is valid for every request.
    TypePerRequest,
    /// A loaded record is stored whatever type it has. Without: as a negative entry if the call is for another type.
    OtherTypeIsStored,
    /// A value is valid whatever type it has. Without: a call for another type replaces it.
    OtherTypeIsValid,
    /// A value without a generation of all entries is not valid. Without: it is.
    WithoutAllIsInvalid,
    /// A fill proves nothing of A: later waiters share it only if a local entry of A is usable after it. Without: always.
    AllProofPoint,
    /// A local entry needs A's proof beside its own. Without: its own is enough.
    EntryNeedsAll,
    /// The A of a fill was read before the load began. Without: after it.
    AllBeforeLoad,
    /// The GET of A that confirms a value is sent with K's, or later. Without: before it.
    AllReadWithK,
    /// A missing A counts as changed. Without: as unchanged.
    MissingAllIsChanged,
    /// The instance that was told ends its own entries, also if the invalidation is not confirmed. Without: only its entry of A
    /// ends.
    OwnEntriesEnd,
    /// While an own invalidation is not confirmed, K is not answered from. Without: it is.
    NotedIsNotRead,
    /// A note that was there when the answer's proof point was sent counts, even if it has ended since. Without: only one that is
    /// there when the reply arrives.
    NotedWhenSent,
    /// Nor is it filled. Without: it is.
    NotedIsNotFilled,
    /// Nor is a stale value restored. Without: it is.
    NotedIsNotRestored,
    /// A note ends with a confirmation whose attempt began after the noted one. Without: with any.
    NoteOutlivesEarlier,

    // Client tracking.
    /// A repeated self-test begins another session. Without: it revives the session that ended.
    NeverRevived,
    /// A heartbeat of a session that has ended is not credited. Without: it is, if its task sends it after the next self-test.
    EndedIsNotCredited,
    /// A push moves the counter before the next frame is read. Without: a task does it later.
    InlinePush,
    /// Pushes and replies share one ordered stream. Without: a heartbeat's reply may overtake a push.
    OneStream,
    /// A watch's stamp is the counter before the read was sent. Without: the counter when the answer is kept.
    Stamp,
    /// A watch's session is that of the link that carried the read. Without: the present one.
    Session,
    /// Only tracked reads have a watch. Without: plain ones too.
    OnlyTrackedReads,
    /// A read has a watch only if its `CLIENT CACHING` was answered OK. Without: whatever it was answered.
    CachingChecked,
    /// A fill has a watch because a tracked GET follows its compare-and-set. Without: because the compare-and-set succeeded.
    FillIsRead,
    /// A fill has a watch only if that GET returns the bytes that it wrote. Without: whatever it returns.
    FillBytes,
    /// A heartbeat is credited to the session that it was sent for. Without: to the present one.
    SessionCredit,
    /// The credit counts from the sending of the heartbeat. Without: from its reply.
    CreditFromSending,
    /// The heartbeat uses the link that carries the reads. Without: another connection.
    BeatOnLink,
    /// A heartbeat asks for `CLIENT CACHING`. Without: it only shows that the server answers.
    BeatAsksCaching,
    /// An entry keeps its own session. Without: one proof serves the entries of all sessions.
    EntrySession,
    /// A request reads its session's latest proof before the counter. Without: after it.
    ProvedFirst,
    /// A request reads the latest proof for a tenant's cell before the counter. Without: after it.
    ProvedFirstForT,
    /// A tenant's cell is of one generation. Without: an observation of another generation is stored into it.
    OneGeneration,
    /// A cell's session and stamp are one word. Without: a request loads them one after the other.
    OneWord,
    /// The operator waits S although entries are tracked. Without: it returns with the reply.
    WaitWithTracking,
    /// An instance's own entries from before its invalidation end with the reply to the DEL. Without: with the push.
    OwnMark,
    /// A master that loses a slot pushes the keys that it deletes. Without: it deletes them silently, as Redis 7.0 does.
    LostSlotPushes,
    /// A watch names the master that ran the read. Without: the one that the slot map named.
    WatchNamesMaster,
    /// A read that followed `ASK` has no watch. Without: it is watched at the master that ran it.
    AskedHasNoWatch,
}

impl Rule {
    /// Every rule, with its id in section 8 of protocol.md or in tracking.md, or the section that states it.
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
        (Self::OtherTypeIsValid, "K3"),
        (Self::WithoutAllIsInvalid, "AL1"),
        (Self::AllProofPoint, "AL2"),
        (Self::EntryNeedsAll, "AL4"),
        (Self::AllBeforeLoad, "AL5"),
        (Self::AllReadWithK, "section 5, A"),
        (Self::MissingAllIsChanged, "section 5, A"),
        (Self::OwnEntriesEnd, "AL3"),
        (Self::NotedIsNotRead, "I6"),
        (Self::NotedWhenSent, "I6"),
        (Self::NotedIsNotFilled, "I6"),
        (Self::NotedIsNotRestored, "I6"),
        (Self::NoteOutlivesEarlier, "I6"),
        (Self::NeverRevived, "TR3"),
        (Self::EndedIsNotCredited, "TR3"),
        (Self::InlinePush, "TR4"),
        (Self::OneStream, "order"),
        (Self::Stamp, "TR6"),
        (Self::Session, "TR6"),
        (Self::OnlyTrackedReads, "TR6"),
        (Self::CachingChecked, "TR6"),
        (Self::FillIsRead, "TR6"),
        (Self::FillBytes, "TR6"),
        (Self::SessionCredit, "TR7"),
        (Self::CreditFromSending, "TR7"),
        (Self::BeatOnLink, "TR7"),
        (Self::BeatAsksCaching, "TR7"),
        (Self::EntrySession, "TR8"),
        (Self::ProvedFirst, "TR8"),
        (Self::ProvedFirstForT, "TR8, for T"),
        (Self::OneGeneration, "TR10"),
        (Self::OneWord, "TR10"),
        (Self::WaitWithTracking, "TR15"),
        (Self::OwnMark, "I4, own entries"),
        (Self::LostSlotPushes, "cluster"),
        (Self::WatchNamesMaster, "cluster"),
        (Self::AskedHasNoWatch, "cluster"),
    ];

    /// Returns the rule that `Debug` prints as `name`.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .map(|(rule, _)| *rule)
            .find(|rule| format!("{rule:?}") == name)
    }
}

/// The rules that hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    broken: u128,
}

impl Rules {
    /// All rules.
    pub const WRITTEN: Self = Self { broken: 0 };

    /// Returns these rules without `rule`.
    #[must_use]
    pub const fn without(self, rule: Rule) -> Self {
        Self {
            broken: self.broken | 1 << rule as u128,
        }
    }

    pub(crate) fn hold(self, rule: Rule) -> bool {
        self.broken & 1 << rule as u128 == 0
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
