//! Requests, as observers.
//!
//! A flight runs as it runs whoever joins it; a request only decides when one starts. So it is enough to watch a single
//! request, that may start and join at any time, while flights start by themselves: whatever can be done to one of many
//! requests can be done to this one, the others' flights being among those that start by themselves. What a request must
//! be answered from is fixed when it starts; one that starts before any invalidation returned may get either answer and
//! is not watched. (`Requests::Only` does without this argument: a few requests, and flights for nobody else.)

use super::Steps;
use super::state::{At, Request, Stage, State, Versions};
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
                    if self.flight(i).at == At::Ground {
                        for &token_type in self.types_of_flights() {
                            let mut state = *self.from;
                            self.start_flight(&mut state, i, token_type);
                            self.by(
                                i,
                                "a flight starts, for a request that is not watched or a refresh ahead",
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
                // Requests are alike: they start in order.
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
            // With a cached clock, it was read before the request started.
            let nap = if self.holds(Rule::FreshClock) {
                0
            } else {
                clock.nap
            };
            state.requests[r].stage = Stage::Reading { nap };
            self.by(i, "a request starts and reads the clock", state);
        } else {
            self.join(&mut state, r, i);
            self.by(i, "a request starts and joins, or leads, the flight", state);
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
        // Also if the entry is usable: it may have had to make room.
        let mut state = *self.from;
        self.join(&mut state, r, i);
        self.by(i, "the request joins, or leads, the flight", state);
    }

    fn join(&self, state: &mut State, r: usize, i: usize) {
        state.requests[r].stage = Stage::Joined { before: 0 };
        if state.instances[i].flight.at == At::Ground {
            let token_type = state.requests[r].token_type;
            self.start_flight(state, i, token_type);
        }
    }
}
