//! I4 and I6: operators that act through the first instance, which does not answer from before the change when an attempt has
//! ended, whether it was confirmed or not. They repeat until it is.
//!
//! A caller that hangs up is an attempt without a reply. A deletion that runs later does no more than an eviction.

use super::state::{At, Call, Key, OperatorState, Proof, Reader, State};
use super::steps::Steps;
use crate::config::Operator;
use crate::rules::Rule;

/// An operator's progress.
const COMMITTED: u8 = 1;
const BEGUN: u8 = 2;
const DELETED: u8 = 3;
const CONFIRMED: u8 = 4;

impl Steps<'_> {
    pub(super) fn own_operators(&mut self) {
        for (o, &operator) in self.config.operators.iter().enumerate() {
            let mut state = *self.from;
            let mine = &mut state.operators[o];
            match mine.steps {
                0 => {
                    mine.steps = COMMITTED;
                    let version = match operator {
                        Operator::Token => &mut state.database.token,
                        Operator::Tenant(t) => &mut state.database.tenant[usize::from(t)],
                    };
                    *version += 1;
                    mine.version = *version;
                    self.push("operator", "commits a change", state);
                }
                COMMITTED => {
                    let under_way = |(_, other): &(usize, &OperatorState)| {
                        matches!(other.steps, BEGUN | DELETED)
                    };
                    let operators = self.from.operators.iter().enumerate();
                    mine.after = operators.filter(under_way).map(|(p, _)| 1 << p).sum();
                    mine.steps = BEGUN;
                    mine.ends_note = true;
                    self.push("operator", "begins an attempt", state);
                }
                BEGUN => {
                    self.not_confirmed(o, operator, *self.from);
                    mine.steps = DELETED;
                    match operator {
                        Operator::Token => state.key = Key::Empty,
                        Operator::Tenant(t) => {
                            state.e = 0;
                            state.t[usize::from(t)] = 0;
                        }
                    }
                    self.push("operator", "the deletion runs", state);
                }
                DELETED => {
                    self.not_confirmed(o, operator, *self.from);
                    if mine.ends_note || !self.holds(Rule::NoteOutlivesEarlier) {
                        state.noted = false;
                    }
                    self.end(&mut state, o, operator, CONFIRMED);
                    self.push("operator", "is confirmed: Ok", state);
                }
                _ => {}
            }
        }
    }

    /// The attempt fails, or its caller hangs up.
    fn not_confirmed(&mut self, o: usize, operator: Operator, mut state: State) {
        if !self.config.lose {
            return;
        }
        state.noted = true;
        for other in &mut state.operators {
            other.ends_note &= other.after & 1 << o != 0;
        }
        self.end(&mut state, o, operator, COMMITTED);
        self.push("operator", "is not confirmed: Err", state);
    }

    /// Ends an attempt, and with it what the first instance knows from before.
    fn end(&self, state: &mut State, o: usize, operator: Operator, steps: u8) {
        let version = state.operators[o].version;
        // No later step of a confirmed one reads the rest.
        state.operators[o] = OperatorState {
            steps,
            version: if steps == CONFIRMED { 0 } else { version },
            ..OperatorState::default()
        };
        for other in &mut state.operators {
            other.after &= !(1 << o);
        }
        for required in [&mut state.now, &mut state.waited] {
            let required = match operator {
                Operator::Token => &mut required.token,
                Operator::Tenant(t) => &mut required.tenant[usize::from(t)],
            };
            *required = version.max(*required);
        }
        let Some(clock) = self.config.local else {
            return;
        };
        // What was sent before is kept with an age at which nothing is usable.
        let end = self.config.staleness(0, clock) + clock.nap;
        let instance = &mut state.instances[0];
        if self.holds(Rule::OwnEntriesEnd) {
            instance.entry = None;
            instance.call.age = end;
        }
        if let Operator::Tenant(t) = operator {
            instance.cells[usize::from(t)] = Default::default();
            instance.call.t_age = end;
            if let Reader::Sent { age } | Reader::Replied { age, .. } = &mut instance.reader {
                *age = end;
            }
        }
    }

    pub(super) fn is_noted(&self, i: usize) -> bool {
        i == 0 && self.from.noted
    }

    /// Where the note is on a tenant, the GET of T shows its deletion: it is sent after K's reply.
    pub(super) fn is_noted_when_sent(&self, i: usize) -> bool {
        let shows = self.config.has_tenants() && !self.config.all;
        self.is_noted(i) && !shows && self.holds(Rule::NotedWhenSent)
    }

    /// A noted token is neither filled nor restored. True if that was the call's step.
    pub(super) fn gives_up_noted(&mut self, i: usize) -> bool {
        let call = *self.call(i);
        if call.sent || !self.is_noted(i) {
            return false;
        }
        let mut state = *self.from;
        match call.at {
            At::Fill if self.holds(Rule::NotedIsNotFilled) => {
                state.instances[i].call = Call {
                    at: At::Answer,
                    record: call.record,
                    proof: Proof::Load,
                    ..Call::default()
                };
                self.by(i, "the token is noted: K is not filled", state);
            }
            At::Restore if self.holds(Rule::NotedIsNotRestored) => {
                self.unavailable(&mut state, i);
                self.by(i, "the token is noted: nothing is restored", state);
            }
            _ => return false,
        }
        true
    }
}
