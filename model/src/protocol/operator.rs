//! Operators: commit, delete, read the registry, wait, return.
//!
//! A deletion and its reply are one step, so that the guarantee begins with the last deletion itself, which is more than
//! the protocol promises. An operator without a reply repeats. A deletion that runs twice or late does no more than an
//! eviction, which may happen at any time.

use super::state::{At, Key, OperatorState};
use super::steps::Steps;
use crate::config::Operator;
use crate::rules::Rule;

#[derive(Clone, Copy, PartialEq)]
enum Act {
    Commit,
    DeleteK,
    DeleteE,
    DeleteT,
    ReadBounds,
}

impl Steps<'_> {
    pub(super) fn operators(&mut self) {
        let in_progress = self
            .from
            .instances
            .iter()
            .any(|instance| instance.call.at != At::Idle);
        if in_progress && self.config.loads_after_operators {
            return;
        }
        for (o, &operator) in self.config.operators.iter().enumerate() {
            let acts = self.acts(operator);
            let done = usize::from(self.from.operators[o].steps);
            match acts.get(done) {
                Some(&act) => self.act(o, operator, act, &acts[done + 1..]),
                None if done == acts.len() => self.finish_waiting(o, operator),
                None => {}
            }
        }
    }

    pub(super) fn operators_are_done(&self) -> bool {
        let mut all = self.config.operators.iter().zip(&self.from.operators);
        all.all(|(&operator, state)| {
            usize::from(state.steps) >= self.acts(operator).len() && !state.waiting
        })
    }

    fn acts(&self, operator: Operator) -> &'static [Act] {
        use Act::{Commit, DeleteE, DeleteK, DeleteT, ReadBounds};
        if self.config.longer.is_some() {
            let in_order = self.holds(Rule::BoundsAfterDeletion);
            return match operator {
                Operator::Token if in_order => &[Commit, DeleteK, ReadBounds],
                Operator::Token => &[Commit, ReadBounds, DeleteK],
                Operator::Tenant(_) if in_order => &[Commit, DeleteE, DeleteT, ReadBounds],
                Operator::Tenant(_) => &[Commit, ReadBounds, DeleteE, DeleteT],
            };
        }
        match operator {
            Operator::Token if self.holds(Rule::CommitFirst) => &[Commit, DeleteK],
            Operator::Token => &[DeleteK, Commit],
            Operator::Tenant(_) if !self.config.e => &[Commit, DeleteT],
            Operator::Tenant(_) if self.holds(Rule::OperatorDeletesEFirst) => {
                &[Commit, DeleteE, DeleteT]
            }
            Operator::Tenant(_) => &[Commit, DeleteT, DeleteE],
        }
    }

    fn act(&mut self, o: usize, operator: Operator, act: Act, rest: &[Act]) {
        let mut state = *self.from;
        let last = rest.is_empty();
        let mine = &mut state.operators[o];
        mine.steps += 1;
        let counts_from_here = match act {
            Act::Commit => last || !self.holds(Rule::WaitFromReply),
            _ => last || !self.holds(Rule::WaitFromLastReply),
        };
        if counts_from_here && !mine.waiting && self.config.local.is_some() {
            mine.waiting = true;
        }
        let (who, what) = match (act, operator) {
            (Act::Commit, Operator::Token) => {
                state.database.token += 1;
                mine.version = state.database.token;
                ("operator", "commits a change of the token")
            }
            (Act::Commit, Operator::Tenant(t)) => {
                let version = &mut state.database.tenant[usize::from(t)];
                *version += 1;
                mine.version = *version;
                ("operator", "commits a change of the tenant")
            }
            (Act::ReadBounds, _) => {
                mine.saw_longer = state.registry;
                ("operator", "reads the registry")
            }
            (Act::DeleteK, _) => {
                state.key = Key::Empty;
                ("operator", "DEL K")
            }
            (Act::DeleteE, _) => {
                state.e = 0;
                ("operator", "DEL E")
            }
            (Act::DeleteT, Operator::Tenant(t)) => {
                state.t[usize::from(t)] = 0;
                ("operator", "DEL T")
            }
            (Act::DeleteT, Operator::Token) => unreachable!("a token has no T"),
        };
        // The last deletion confirms a plain invalidation. Only one that waits reads the registry.
        if rest.iter().all(|&act| act == Act::ReadBounds) {
            let version = state.operators[o].version;
            require(&mut state.now, operator, version);
        }
        self.push(who, what, state);
    }

    fn finish_waiting(&mut self, o: usize, operator: Operator) {
        let mine = &self.from.operators[o];
        let enough = match self.config.local {
            Some(clock) if self.holds(Rule::OperatorWaits) => {
                let margin = if self.holds(Rule::Margin) {
                    clock.margin
                } else {
                    0
                };
                let longer = self.config.longer.filter(|_| mine.saw_longer);
                longer.unwrap_or(clock.staleness) + margin - clock.drift
            }
            _ => 0,
        };
        if mine.elapsed[..self.config.instances]
            .iter()
            .all(|&elapsed| elapsed >= enough)
        {
            let mut state = *self.from;
            let (steps, version) = (mine.steps + 1, mine.version);
            // No later step reads the rest.
            state.operators[o] = OperatorState {
                steps,
                ..OperatorState::default()
            };
            require(&mut state.waited, operator, version);
            self.push("operator", "has waited S: Ok", state);
        }
    }
}

fn require(of: &mut super::state::Versions, operator: Operator, version: u8) {
    let required = match operator {
        Operator::Token => &mut of.token,
        Operator::Tenant(t) => &mut of.tenant[usize::from(t)],
    };
    *required = version.max(*required);
}
