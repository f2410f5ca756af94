//! Requests as observers.
//!
//! A request decides only when a call starts, not how it runs. It is therefore enough to observe one request that may
//! start and join at any time, while calls start by themselves: these include the calls of all other requests. When a
//! request starts, the versions that its answer must include are fixed. A request that starts before any invalidation
//! returned may get either answer and is not observed. `Requests::Only` does without this argument: it has a few
//! requests, and calls for these alone.

use super::state::{At, Request, Stage, State, Versions};
use super::steps::Steps;
use crate::config::Requests;
use crate::rules::Rule;

impl Steps<'_> {
    pub(super) fn requests(&mut self) {
        match self.config.requests {
            Requests::Observed(n) => {
                for r in 0..n {
                    self.request(r, &[0]);
                }
                for i in 0..self.config.instances {
                    if self.call(i).at == At::Idle {
                        for &token_type in self.types_of_calls() {
                            let mut state = *self.from;
                            self.start_call(&mut state, i, token_type);
                            self.by(
                                i,
                                "a call starts, for an unobserved request or a refresh",
                                state,
                            );
                        }
                    }
                }
            }
            Requests::Only(n) => {
                for r in 0..n {
                    self.request(r, &[0, 1, 2][..self.config.instances]);
                }
            }
        }
    }

    fn request(&mut self, r: usize, at: &[usize]) {
        match self.from.requests[r].stage {
            Stage::New => {
                let nothing_to_watch = self.from.now == Versions::default();
                // Requests are interchangeable, so they start in order.
                let in_order = r == 0 || self.from.requests[r - 1].stage != Stage::New;
                if in_order
                    && !(nothing_to_watch && matches!(self.config.requests, Requests::Observed(_)))
                {
                    for &i in at {
                        for &token_type in self.types() {
                            self.start_request(r, i, token_type);
                        }
                    }
                }
            }
            Stage::Reading { nap } => self.look_at_local_entry(r, nap),
            Stage::Joined { .. } | Stage::Done => {}
        }
    }

    fn start_request(&mut self, r: usize, i: usize, token_type: u8) {
        let mut state = *self.from;
        state.requests[r] = Request {
            instance: i as u8,
            token_type,
            now: state.now,
            waited: state.waited,
            ..Request::default()
        };
        if let Some(clock) = self.config.local {
            // A cached clock was read before the request started.
            let nap = if self.holds(Rule::FreshClock) {
                0
            } else {
                clock.nap
            };
            state.requests[r].stage = Stage::Reading { nap };
            self.by(i, "a request starts and reads the clock", state);
        } else {
            self.join(&mut state, r, i);
            self.by(i, "a request starts, and joins or leads the call", state);
        }
    }

    fn look_at_local_entry(&mut self, r: usize, nap: u8) {
        let i = usize::from(self.from.requests[r].instance);
        if let Some((value, t_is_confirmed)) = self.local_hit(i, nap) {
            let mut state = *self.from;
            let Request { now, waited, .. } = state.requests[r];
            if t_is_confirmed {
                self.judge(&mut state, r, value.record, waited);
                self.by(i, "the request is answered by the local entries", state);
            } else if self
                .tenant(value.record)
                .is_some_and(|t| state.t[t] == value.generation)
            {
                self.judge(
                    &mut state,
                    r,
                    value.record,
                    Versions {
                        tenant: now.tenant,
                        ..waited
                    },
                );
                self.by(
                    i,
                    "the request is answered by the local entry of K and a GET of T",
                    state,
                );
            }
        }
        // Even if the entry is usable, as it may have been evicted for lack of room.
        let mut state = *self.from;
        self.join(&mut state, r, i);
        self.by(i, "the request joins or leads the call", state);
    }

    fn join(&self, state: &mut State, r: usize, i: usize) {
        state.requests[r].stage = Stage::Joined { before: 0 };
        if state.instances[i].call.at == At::Idle {
            let token_type = state.requests[r].token_type;
            self.start_call(state, i, token_type);
        }
    }
}
