//! Judges an answer by the ledger: by protocol.md section 1, and by the rule that an answer is a state that the
//! database once had.
//!
//! It is deliberately lenient in four cases. A request that started before an invalidation returned may be
//! answered from before or after it, even long after the return. An engine does not report the origin of an
//! invalid or denied token, so in an instance with a local level they are judged like local answers. An
//! invalidation that is reported after an answer is not applied to it. On a machine that gives a worker no time for
//! seconds, a lookup may be given up as stalled (section 3).

use std::fmt;
use std::time::Duration;

use crate::chaos::clock::nanos;
use crate::chaos::instance::Instance;
use crate::chaos::ledger::{History, Ledger, Row, Standing, Version};
use crate::chaos::settings::{NEVER_CREATED, TOKENS};
use crate::chaos::wire::{Answered, Origin, Said, Wrong};

/// A lookup that took less was not stalled.
const STALLED: Duration = Duration::from_secs(3);

/// A violation of the promise by an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// The answer was read from a version of the token that a confirmed change had replaced.
    OldToken { read: usize, oldest_allowed: usize },
    /// The answer was read from a version of the tenant that a confirmed change had replaced.
    OldTenant { read: usize, oldest_allowed: usize },
    /// The token was invalid in the answer, but valid in every allowed version.
    NeverAbsent { oldest_allowed: usize },
    /// The database never had the state of the answer.
    NeverSo,
    /// The answer is never correct in these runs.
    Wrong(Wrong),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldToken {
                read,
                oldest_allowed,
            } => write!(
                f,
                "the token's version {read} was answered, the oldest allowed is {oldest_allowed}"
            ),
            Self::OldTenant {
                read,
                oldest_allowed,
            } => write!(
                f,
                "the tenant's version {read} was answered, the oldest allowed is {oldest_allowed}"
            ),
            Self::NeverAbsent { oldest_allowed } => write!(
                f,
                "absent was answered, and from the token's version {oldest_allowed} on it was not"
            ),
            Self::NeverSo => write!(f, "the database was never in the state that was answered"),
            Self::Wrong(Wrong::OtherToken) => write!(f, "another token's record was answered"),
            Self::Wrong(Wrong::Absence) => write!(f, "absent was answered for a foreign reason"),
            Self::Wrong(Wrong::Denial) => write!(f, "denied was answered for a foreign reason"),
            Self::Wrong(Wrong::Unavailable) => {
                write!(f, "unavailable was answered, and the database is not why")
            }
        }
    }
}

/// Judges an answer.
///
/// # Errors
/// Returns the violation, if there is one.
pub fn judge(ledger: &Ledger, by: Instance, answered: &Answered) -> Result<(), Violation> {
    let took = answered.end.saturating_sub(answered.start);
    if answered.said == Said::Wrong(Wrong::Unavailable) && took >= nanos(STALLED) {
        return Ok(());
    }
    let Some(token) = answered.token else {
        return match answered.said {
            Said::Absent | Said::Unavailable => Ok(()),
            Said::Wrong(wrong) => Err(Violation::Wrong(wrong)),
            Said::Found(..) | Said::Denied(_) => Err(Violation::NeverSo),
        };
    };
    match answered.said {
        Said::Found(version, origin) => read_from(
            ledger,
            by,
            answered,
            (token, version),
            Some(origin),
            Standing::Active,
        ),
        Said::Denied(version) => read_from(
            ledger,
            by,
            answered,
            (token, version),
            None,
            Standing::Suspended,
        ),
        Said::Absent => absent(ledger, by, answered, token),
        Said::Unavailable => Ok(()),
        Said::Wrong(wrong) => Err(Violation::Wrong(wrong)),
    }
}

fn read_from(
    ledger: &Ledger,
    by: Instance,
    answered: &Answered,
    (token, version): (usize, Version),
    origin: Option<Origin>,
    standing: Standing,
) -> Result<(), Violation> {
    let history = ledger.token(token);
    let existed = committed_by(history, version.token, answered);
    let Some(Row::Good(tenant)) = existed.then(|| history.state(version.token)).flatten() else {
        return Err(Violation::NeverSo);
    };
    let may_be_local = matches!(origin, None | Some(Origin::Local));
    // A value from Redis is checked against the local level's copies of the generations.
    let may_be_confirmed = origin != Some(Origin::Loaded);
    let oldest_allowed = history.oldest_allowed(answered.start, by, may_be_local, may_be_confirmed);
    if version.token < oldest_allowed {
        return Err(Violation::OldToken {
            read: version.token,
            oldest_allowed,
        });
    }
    let Some(tenant) = tenant else {
        let alone = standing == Standing::Active && version.tenant == 0;
        return if alone {
            Ok(())
        } else {
            Err(Violation::NeverSo)
        };
    };
    let history = ledger.tenant(tenant);
    let existed = committed_by(history, version.tenant, answered);
    if !existed || history.state(version.tenant) != Some(standing) {
        return Err(Violation::NeverSo);
    }
    let oldest_allowed =
        history.oldest_allowed(answered.start, by, may_be_confirmed, may_be_confirmed);
    if version.tenant < oldest_allowed {
        return Err(Violation::OldTenant {
            read: version.tenant,
            oldest_allowed,
        });
    }
    Ok(())
}

fn absent(
    ledger: &Ledger,
    by: Instance,
    answered: &Answered,
    token: usize,
) -> Result<(), Violation> {
    if token >= TOKENS - NEVER_CREATED {
        return Ok(());
    }
    let history = ledger.token(token);
    let oldest_allowed = history.oldest_allowed(answered.start, by, true, true);
    let was_absent = history.commits()[oldest_allowed..]
        .iter()
        .take_while(|commit| commit.at <= answered.end)
        .any(|commit| commit.state == Row::Absent);
    if was_absent {
        Ok(())
    } else {
        Err(Violation::NeverAbsent { oldest_allowed })
    }
}

fn committed_by<S: Copy>(history: &History<S>, version: usize, answered: &Answered) -> bool {
    let commit = history.commits().get(version);
    commit.is_some_and(|commit| commit.at <= answered.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::clock::{Stamp, now};
    use crate::chaos::ledger::{Confirmed, Target};
    use crate::chaos::settings::BOUND;

    const HERE: Instance = Instance {
        id: 1,
        bound: BOUND,
    };

    fn answer(start: Stamp, said: Said) -> Answered {
        Answered {
            token: Some(0),
            start,
            end: now(),
            said,
        }
    }

    fn found(token: usize, tenant: usize, origin: Origin) -> Said {
        Said::Found(Version { token, tenant }, origin)
    }

    fn confirm(ledger: &mut Ledger, target: Target, waited: bool, instance: Option<u64>) -> Stamp {
        let returned = now();
        let covered = ledger.covered(target);
        let confirmed = Confirmed {
            started: returned,
            returned,
            waited,
            all: target == Target::All,
            by_generation: target == Target::All,
            instance,
        };
        ledger.confirm(&covered, confirmed);
        returned
    }

    /// Token 0 with versions 1 and 2, the second invalidated.
    fn changed(waited: bool, instance: Option<u64>) -> (Ledger, Stamp) {
        let mut ledger = Ledger::new();
        ledger.commit_token(0, Row::Good(None));
        ledger.commit_token(0, Row::Good(None));
        let returned = confirm(&mut ledger, Target::Token(0), waited, instance);
        (ledger, returned)
    }

    const OLD: Result<(), Violation> = Err(Violation::OldToken {
        read: 1,
        oldest_allowed: 2,
    });

    #[test]
    fn request_from_before_the_return_may_get_either_version() {
        let (ledger, returned) = changed(true, None);
        for version in [1, 2] {
            let answered = answer(returned, found(version, 0, Origin::Loaded));
            assert_eq!(judge(&ledger, HERE, &answered), Ok(()));
        }
    }

    #[test]
    fn after_a_waiting_invalidation_no_old_version_is_allowed() {
        let (ledger, returned) = changed(true, None);
        for origin in [Origin::Local, Origin::Shared, Origin::Loaded] {
            let old = answer(returned + 1, found(1, 0, origin));
            assert_eq!(judge(&ledger, HERE, &old), OLD);
            let new = answer(returned + 1, found(2, 0, origin));
            assert_eq!(judge(&ledger, HERE, &new), Ok(()));
        }
    }

    #[test]
    fn after_a_plain_one_a_local_level_is_allowed_the_bound() {
        let (ledger, returned) = changed(false, None);
        let local = answer(returned + 1, found(1, 0, Origin::Local));
        assert_eq!(judge(&ledger, HERE, &local), Ok(()));
        let shared = answer(returned + 1, found(1, 0, Origin::Shared));
        assert_eq!(judge(&ledger, HERE, &shared), OLD);
        let late = answer(returned + nanos(BOUND) + 1, found(1, 0, Origin::Local));
        assert_eq!(judge(&ledger, HERE, &late), OLD);
    }

    #[test]
    fn each_instance_is_allowed_only_its_own_bound() {
        let long = Instance {
            id: 2,
            bound: BOUND * 4,
        };
        let (ledger, returned) = changed(false, None);
        let between = answer(returned + nanos(BOUND) + 1, found(1, 0, Origin::Local));
        assert_eq!(judge(&ledger, HERE, &between), OLD);
        assert_eq!(judge(&ledger, long, &between), Ok(()));
        let late = answer(returned + nanos(BOUND * 4) + 1, found(1, 0, Origin::Local));
        assert_eq!(judge(&ledger, long, &late), OLD);
        let (ledger, returned) = changed(true, None);
        let waited = answer(returned + 1, found(1, 0, Origin::Local));
        assert_eq!(judge(&ledger, long, &waited), OLD);
    }

    #[test]
    fn after_a_plain_one_its_caller_is_allowed_nothing() {
        let (ledger, returned) = changed(false, Some(HERE.id));
        let local = answer(returned + 1, found(1, 0, Origin::Local));
        assert_eq!(judge(&ledger, HERE, &local), OLD);
        let there = Instance { id: 2, ..HERE };
        assert_eq!(judge(&ledger, there, &local), Ok(()));
    }

    #[test]
    fn only_a_lookup_that_stalled_may_be_interrupted() {
        let (ledger, returned) = changed(true, None);
        let mut answered = answer(returned, Said::Wrong(Wrong::Unavailable));
        answered.end = answered.start + nanos(STALLED);
        assert_eq!(judge(&ledger, HERE, &answered), Ok(()));
        answered.end -= 1;
        let wrong = Err(Violation::Wrong(Wrong::Unavailable));
        assert_eq!(judge(&ledger, HERE, &answered), wrong);
    }

    #[test]
    fn existing_token_must_not_be_invalid() {
        let mut ledger = Ledger::new();
        let before = now();
        ledger.commit_token(0, Row::Good(None));
        let returned = confirm(&mut ledger, Target::Token(0), true, None);
        let absent = |start| judge(&ledger, HERE, &answer(start, Said::Absent));
        assert_eq!(absent(before), Ok(()));
        assert_eq!(
            absent(returned + 1),
            Err(Violation::NeverAbsent { oldest_allowed: 1 })
        );
    }

    #[test]
    fn revoked_token_must_not_be_valid() {
        let (mut ledger, _) = changed(true, None);
        ledger.commit_token(0, Row::Absent);
        let returned = confirm(&mut ledger, Target::Token(0), true, None);
        let answered = answer(returned + 1, found(2, 0, Origin::Loaded));
        assert!(judge(&ledger, HERE, &answered).is_err());
        let absent = answer(returned + 1, Said::Absent);
        assert_eq!(judge(&ledger, HERE, &absent), Ok(()));
    }

    #[test]
    fn token_of_a_suspended_tenant_must_be_denied() {
        let mut ledger = Ledger::new();
        ledger.commit_token(0, Row::Good(Some(0)));
        ledger.commit_tenant(0, Standing::Suspended);
        let returned = confirm(&mut ledger, Target::Tenant(0), true, None);
        let denied = |tenant| Said::Denied(Version { token: 1, tenant });
        let judged = |said| judge(&ledger, HERE, &answer(returned + 1, said));
        assert_eq!(judged(denied(1)), Ok(()));
        assert_eq!(judged(denied(0)), Err(Violation::NeverSo));
        assert_eq!(
            judged(found(1, 0, Origin::Loaded)),
            Err(Violation::OldTenant {
                read: 0,
                oldest_allowed: 1
            })
        );
        assert_eq!(judged(found(1, 1, Origin::Loaded)), Err(Violation::NeverSo));
    }

    #[test]
    fn after_everything_was_invalidated_no_token_and_no_tenant_may_be_old() {
        let mut ledger = Ledger::new();
        ledger.commit_token(0, Row::Good(Some(0)));
        ledger.commit_token(0, Row::Good(Some(0)));
        ledger.commit_tenant(0, Standing::Active);
        let returned = confirm(&mut ledger, Target::All, true, None);
        let judged = |token, tenant| {
            let said = found(token, tenant, Origin::Local);
            judge(&ledger, HERE, &answer(returned + 1, said))
        };
        assert_eq!(judged(1, 1), OLD);
        assert!(matches!(judged(2, 0), Err(Violation::OldTenant { .. })));
        assert_eq!(judged(2, 1), Ok(()));
    }

    #[test]
    fn value_from_redis_may_use_a_generation_of_all_as_old_as_the_bound() {
        let mut ledger = Ledger::new();
        ledger.commit_token(0, Row::Good(None));
        ledger.commit_token(0, Row::Good(None));
        let returned = confirm(&mut ledger, Target::All, false, None);
        let judged = |start, origin| judge(&ledger, HERE, &answer(start, found(1, 0, origin)));
        assert_eq!(judged(returned + 1, Origin::Shared), Ok(()));
        assert_eq!(judged(returned + 1, Origin::Loaded), OLD);
        assert_eq!(judged(returned + nanos(BOUND) + 1, Origin::Shared), OLD);
    }

    #[test]
    fn value_from_redis_may_use_a_tenant_as_old_as_the_bound() {
        let mut ledger = Ledger::new();
        ledger.commit_token(0, Row::Good(Some(0)));
        ledger.commit_tenant(0, Standing::Active);
        let returned = confirm(&mut ledger, Target::Tenant(0), false, None);
        let judged = |start, origin, by| judge(&ledger, by, &answer(start, found(1, 0, origin)));
        assert_eq!(judged(returned + 1, Origin::Shared, HERE), Ok(()));
        assert!(judged(returned + 1, Origin::Loaded, HERE).is_err());
        assert!(judged(returned + nanos(BOUND) + 1, Origin::Shared, HERE).is_err());
        let without = Instance {
            id: 2,
            bound: Duration::ZERO,
        };
        assert!(judged(returned + 1, Origin::Shared, without).is_err());
    }
}
