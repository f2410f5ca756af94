//! The observed request: it reads the clock, finds the entry, then its session's proof, and then the counter (TR8).

use super::operator::OPERATORS_INSTANCE;
use super::state::{Entry, Proof, Request, Watch};
use super::steps::{Steps, as_of_request};
use crate::rules::Rule;

impl Steps<'_> {
    pub(super) fn request(&mut self) {
        match self.from.request {
            Request::Idle => {
                for i in 0..self.config.instances {
                    if self.instance(i).entry.is_none() {
                        continue;
                    }
                    let mut state = *self.from;
                    // Its own instance's invalidations hold there without a wait.
                    let needs = if i == OPERATORS_INSTANCE {
                        state.replied
                    } else {
                        state.confirmed
                    };
                    state.request = Request::Started {
                        instance: i as u8,
                        needs,
                        nap: 0,
                    };
                    self.by(i, "a request starts", state);
                }
            }
            Request::Started {
                instance,
                needs,
                nap,
            } => {
                let i = usize::from(instance);
                let mut state = *self.from;
                let proof = if self.holds(Rule::ProvedFirst) {
                    Proof::Unread
                } else {
                    Proof::AfterCounter
                };
                state.request = match self.instance(i).entry {
                    Some(entry) => Request::Found {
                        instance,
                        needs,
                        nap,
                        entry: Entry {
                            age: entry.age.saturating_sub(nap),
                            ..entry
                        },
                        proof,
                    },
                    None => Request::Idle,
                };
                self.by(i, "the request finds the entry", state);
            }
            Request::Found {
                instance,
                needs,
                nap,
                entry,
                proof,
            } => {
                let i = usize::from(instance);
                let mut state = *self.from;
                let read = match proof {
                    Proof::Unread => {
                        let proof = Proof::Read(as_of_request(self.proof_of(i, &entry), nap));
                        state.request = Request::Found {
                            instance,
                            needs,
                            nap,
                            entry,
                            proof,
                        };
                        self.by(i, "the request reads the proof", state);
                        return;
                    }
                    Proof::AfterCounter => as_of_request(self.proof_of(i, &entry), nap),
                    Proof::Read(proof) => proof,
                };
                let mark = as_of_request(self.instance(i).mark, nap);
                let has_mark = mark.is_some_and(|age| age < self.config.staleness);
                state.request = Request::Idle;
                state.broken = self.is_usable(&entry, read, has_mark) && entry.value < needs;
                self.by(i, "the request is answered by the local entry", state);
            }
        }
    }

    /// The proof of the entry's session, or, without a watch, the latest one.
    fn proof_of(&self, i: usize, entry: &Entry) -> Option<u8> {
        let proved = self.instance(i).proved;
        match entry.watch {
            Watch::None => proved.into_iter().flatten().min(),
            _ => proved[entry.session.index()?],
        }
    }
}
