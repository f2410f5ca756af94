//! The steps that lead out of one state. Each file beside this one adds some.

use super::canonical::normalise;
use super::state::{
    Age, Entry, Frame, Heartbeat, Instance, Link, Proof, Request, Session, State, Version, Watch,
};
use crate::rules::Rule;
use crate::search::Step;
use crate::tracking::config::Tracking;

/// Collects the steps that lead out of one state.
pub(super) struct Steps<'a> {
    pub(super) config: &'a Tracking,
    pub(super) from: &'a State,
    pub(super) into: &'a mut Vec<(Step, State)>,
}

impl<'a> Steps<'a> {
    pub(super) fn holds(&self, rule: Rule) -> bool {
        self.config.rules.hold(rule)
    }

    pub(super) fn instance(&self, i: usize) -> &'a Instance {
        &self.from.instances[i]
    }

    pub(super) fn push(&mut self, who: &'static str, what: &'static str, mut state: State) {
        normalise(&mut state, self.config);
        self.into.push((Step { who, what }, state));
    }

    /// Adds a step of instance `i`.
    pub(super) fn by(&mut self, i: usize, what: &'static str, state: State) {
        self.push(["A", "B"][i], what, state);
    }

    /// Whether a request may answer from `entry`, given its session's proof (TR8, TR9). Ages are as of the request's clock.
    pub(super) fn is_usable(&self, entry: &Entry, proof: Option<Age>, has_mark: bool) -> bool {
        let is_fresh = |age| age < self.config.staleness;
        let proved = proof.is_some_and(is_fresh);
        let usable = match entry.watch {
            Watch::None if self.config.grace && proved => entry.age == 0,
            Watch::None => is_fresh(entry.age),
            Watch::Unchanged => is_fresh(entry.age) || proved,
            Watch::Changed => false,
        };
        let invalidated = has_mark && entry.before_mark && self.holds(Rule::OwnMark);
        usable && !invalidated
    }

    /// Begins another session. The proof of the one before the previous stands still, so that its entries become entries
    /// without a watch that are as old as that proof.
    pub(super) fn begin_session(&self, state: &mut State, i: usize) {
        let instance = &mut state.instances[i];
        let older = instance.proved[1];
        let nap = state.request.nap();
        let age_entry = |entry: &mut Entry, older: Option<Age>| {
            if entry.watch != Watch::Unchanged {
                return;
            }
            if entry.session == Session::Present {
                if self.holds(Rule::EntrySession) {
                    entry.session = Session::Previous;
                }
            } else {
                entry.age = entry.age.min(older.unwrap_or(entry.age));
                entry.watch = Watch::None;
            }
        };
        if let Some(entry) = &mut instance.entry {
            age_entry(entry, older);
        }
        if let Request::Found {
            instance: at,
            entry,
            proof: Proof::Unread | Proof::AfterCounter,
            ..
        } = &mut state.request
            && usize::from(*at) == i
        {
            age_entry(entry, as_of_request(older, nap));
        }
        instance.proved = [None, instance.proved[0]];
        instance.ended = [false, instance.ended[0]];
        if instance.read.is_under_way() {
            if instance.read.session == Session::Present {
                instance.read.session = Session::Previous;
            } else {
                instance.read = Default::default();
            }
        }
        for heartbeat in &mut instance.heartbeats {
            *heartbeat = heartbeat.and_then(|heartbeat| match heartbeat.session {
                Session::Present => Some(Heartbeat {
                    session: Session::Previous,
                    ..heartbeat
                }),
                _ => None,
            });
        }
        for link in &mut instance.links {
            link.session = link.session.after_another();
        }
    }
}

/// Returns an age as of the clock of a request that is `nap` ticks old.
pub(super) fn as_of_request(age: Option<Age>, nap: u8) -> Option<Age> {
    age.map(|age| age.saturating_sub(nap))
}

/// Ends the link's tracking of K with a push. False if its queue is full, so that the change must wait.
pub(super) fn push_to(link: &mut Link) -> bool {
    if link.open && link.tracks {
        if !link.frames.has_room(1) {
            return false;
        }
        link.tracks = false;
        link.frames.push(Frame::Push { overtaken: false });
    }
    true
}

/// Changes K, and pushes to every link that tracks it. False if a queue is full.
pub(super) fn set_key(state: &mut State, key: Option<Version>) -> bool {
    state.key = key;
    state
        .instances
        .iter_mut()
        .flat_map(|instance| &mut instance.links)
        .all(push_to)
}
