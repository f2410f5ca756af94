//! Section 5: which generation a fill may carry, and E, which shows whether T's generation is older than the load.
//!
//! This models a cluster: separate steps read E and K in either order, and T and E after the load. A single server allows
//! fewer orders.

use super::canonical::{fresh_e, fresh_generation};
use super::state::{At, Call, Late, Proof, State};
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    /// Reads or creates E at any time between the miss and the sending of the load, or not at all.
    pub(super) fn read_e_before_load(&mut self, i: usize) {
        let call = *self.call(i);
        let in_time = match call.at {
            At::Acquire => true,
            At::Load => call.fills && !call.second && !call.sent,
            _ => false,
        };
        if !in_time || !self.config.e || call.e != 0 || call.e_missing {
            return;
        }
        let mut state = *self.from;
        if state.e != 0 {
            state.instances[i].call.e = state.e;
            self.by(i, "GET E: present", state);
            return;
        }
        let fresh = fresh_e(&mut state);
        let mut created = state;
        created.e = fresh;
        created.instances[i].call.e = fresh;
        self.by(i, "SET E NX GET: created", created);
        if !self.holds(Rule::FreshE) && self.delayed(&mut created, Late::CreateE(fresh)) {
            self.by(i, "SET E NX GET: created, and transmitted twice", created);
        }
        if !self.holds(Rule::MissingEIsChanged) {
            let mut missing = state;
            missing.instances[i].call.e_missing = true;
            self.by(i, "GET E: missing", missing);
        }
        if self.config.lose {
            let mut lost = state;
            lost.e = fresh;
            self.by(i, "SET E NX GET: created, the reply is lost", lost);
            if self.delayed(&mut state, Late::CreateE(fresh)) {
                self.by(i, "SET E NX GET: a timeout, and it will run later", state);
            }
        }
    }

    /// Decides, after the load's reply, which generation the fill carries, by (a), (b) or (c).
    pub(super) fn decide_generation(&mut self, i: usize) {
        let mut state = *self.from;
        let instance = &mut state.instances[i];
        let call = &mut instance.call;
        let Some(record) = call.record else { return };
        let what;
        if let Some(t) = self.tenant(record) {
            let cell = instance.cells[t];
            let known_from_reply = call
                .known
                .filter(|(of, _)| usize::from(*of) == t)
                .map(|(_, bits)| bits);
            let known_locally =
                cell.generation != 0 && (cell.before_load || !self.holds(Rule::KnownBeforeLoad));
            if let Some(generation) = known_from_reply.or(known_locally.then_some(cell.generation))
            {
                call.generation = generation;
                call.known = None;
                call.e = 0;
                call.proof = self.tenant_proof(Proof::Load);
                call.at = At::Fill;
                what = if call.second {
                    "T was read before the second load"
                } else {
                    "T was known before the load"
                };
            } else if call.second {
                *call = Call {
                    at: At::Answer,
                    record: Some(record),
                    proof: Proof::Load,
                    ..Call::default()
                };
                what = "the second load names another tenant than the first: not cached";
            } else {
                let t_first = self.holds(Rule::FillReadsTFirst) || !self.config.e;
                call.at = if t_first { At::ReadT } else { At::ReadE };
                call.known = None;
                what = "T was not known before the load";
            }
        } else {
            call.generation = 0;
            call.known = None;
            call.e = 0;
            call.proof = Proof::Fill;
            call.at = At::Fill;
            what = "the record has no tenant";
        }
        for cell in &mut instance.cells {
            cell.before_load = false;
        }
        self.by(i, what, state);
    }

    fn tenant_proof(&self, written: Proof) -> Proof {
        if self.holds(Rule::TenantProofPoint) {
            written
        } else {
            Proof::Fill
        }
    }

    /// Reads or creates T after the load.
    pub(super) fn read_t(&mut self, i: usize) {
        let call = *self.call(i);
        let Some(t) = call.record.and_then(|record| self.tenant(record)) else {
            return;
        };
        let mut state = self.running(i);
        let created = state.t[t] == 0;
        if created {
            state.t[t] = fresh_generation(&mut state);
        }
        let generation = state.t[t];
        self.learn(&mut state, i, t, generation, call.t_age);
        let e_was_compared_first = !self.holds(Rule::FillReadsTFirst) && call.e != 0;
        let mine = &mut state.instances[i].call;
        if !self.holds(Rule::GenerationBeforeLoad) || e_was_compared_first || self.config.all {
            mine.generation = generation;
            mine.proof = self.tenant_proof(Proof::Load);
            mine.e = 0;
            mine.at = At::Fill;
        } else {
            mine.known = Some((t as u8, generation));
            let can_compare = self.config.e
                && self.holds(Rule::FillReadsTFirst)
                && (call.e != 0 || call.e_missing);
            if can_compare {
                mine.at = At::ReadE;
            } else {
                self.load_again(mine);
            }
        }
        self.by(
            i,
            if created {
                "T is created after the load"
            } else {
                "T is read after the load"
            },
            state,
        );
        if created {
            self.create_t_badly(i, t, state, generation);
        }

        if self.config.lose {
            let give_up = |_: &Self, state: &mut State| {
                state.instances[i].call = Call {
                    at: At::Answer,
                    record: call.record,
                    proof: Proof::Load,
                    ..Call::default()
                };
            };
            let mut state = *self.from;
            give_up(self, &mut state);
            self.by(i, "T cannot be read: not cached", state);
            self.lose_created_t(i, t, give_up);
        }
    }

    fn load_again(&self, call: &mut Call) {
        *call = Call {
            at: At::Load,
            second: true,
            fills: true,
            nonce: call.nonce,
            known: call.known,
            old: call.old.filter(|_| call.stale),
            stale: call.stale,
            by_local_t: call.by_local_t,
            ..Call::default()
        };
    }

    /// The second GET of E. If E is present and unchanged, no tenant was invalidated since the first GET.
    pub(super) fn read_e_again(&mut self, i: usize) {
        let mut state = self.running(i);
        let e = state.e;
        let mine = &mut state.instances[i].call;
        let missing_both = e == 0 && (mine.e != 0 || mine.e_missing);
        let noted = self.is_noted(i) && self.holds(Rule::NotedWhenSent);
        let unchanged =
            e != 0 && e == mine.e || missing_both && !self.holds(Rule::MissingEIsChanged);
        if !self.holds(Rule::FillReadsTFirst) {
            // With E read first, T follows.
            mine.e = if unchanged { mine.e } else { 0 };
            mine.at = At::ReadT;
            self.by(
                i,
                if unchanged {
                    "E is unchanged"
                } else {
                    "E has changed"
                },
                state,
            );
            return;
        }
        if unchanged {
            mine.generation = mine.known.map_or(0, |(_, generation)| generation);
            mine.known = None;
            mine.e = 0;
            mine.e_missing = false;
            let proof = if noted { Proof::Load } else { Proof::SecondE };
            mine.proof = self.tenant_proof(proof);
            mine.at = At::Fill;
            self.by(
                i,
                "E is unchanged, so T's generation is older than the load",
                state,
            );
        } else {
            self.load_again(mine);
            self.by(i, "E has changed: load again", state);
        }
        if self.config.lose {
            let mut state = self.running(i);
            self.load_again(&mut state.instances[i].call);
            self.by(i, "E cannot be read: load again", state);
        }
    }
}
