//! The operator and the clock.

use super::state::{Operator, Phase, Request, State};
use super::steps::{Steps, set_key};
use crate::rules::Rule;

/// The instance that the operator's invalidations run on, if there are two.
pub(super) const OPERATORS_INSTANCE: usize = 1;

impl Steps<'_> {
    pub(super) fn operator(&mut self) {
        let mut state = *self.from;
        match self.from.operator {
            Operator::Idle => {
                if state.database == self.config.changes {
                    return;
                }
                state.database += 1;
                state.operator = Operator::Committed;
                self.push("operator", "commits a change of the token", state);
            }
            Operator::Committed => {
                state.deleted = state.database;
                state.operator = Operator::Deleted;
                // Deleting nothing pushes nothing.
                if state.key.is_none() || set_key(&mut state, None) {
                    self.push("operator", "DEL K", state);
                }
            }
            Operator::Deleted => {
                state.operator = Operator::Waits { waited: 0 };
                if self.config.instances > OPERATORS_INSTANCE {
                    state.replied = state.deleted;
                    let own = &mut state.instances[OPERATORS_INSTANCE];
                    own.mark = Some(0);
                    own.read.before_mark = own.read.is_under_way();
                    if let Some(entry) = &mut own.entry {
                        entry.before_mark = true;
                    }
                }
                self.push("operator", "gets the reply to DEL K", state);
            }
            Operator::Waits { waited } => {
                if waited < self.config.staleness && self.holds(Rule::WaitWithTracking) {
                    return;
                }
                state.confirmed = state.deleted;
                state.operator = Operator::Idle;
                self.push("operator", "has waited S: Ok", state);
            }
        }
    }

    pub(super) fn tick(&mut self) {
        let oldest = self.config.staleness + self.config.nap;
        let older = |age: &mut u8| *age = (*age + 1).min(oldest);
        let mut state = *self.from;
        match &mut state.request {
            Request::Started { nap, .. } | Request::Found { nap, .. } => {
                if *nap == self.config.nap {
                    return;
                }
                *nap += 1;
            }
            Request::Idle => {}
        }
        for instance in &mut state.instances {
            if let Some(entry) = &mut instance.entry {
                older(&mut entry.age);
            }
            if matches!(instance.read.phase, Phase::Sent | Phase::Replied { .. }) {
                older(&mut instance.read.age);
            }
            for heartbeat in instance.heartbeats.iter_mut().flatten() {
                older(&mut heartbeat.age);
            }
            for age in instance
                .proved
                .iter_mut()
                .chain([&mut instance.mark])
                .flatten()
            {
                older(age);
            }
        }
        if let Operator::Waits { waited } = &mut state.operator {
            *waited = (*waited + 1).min(self.config.staleness);
        }
        if state != *self.from {
            self.push("clock", "one tick passes", state);
        }
    }

    /// True once no old value is left that a request could be given, so that nothing can break any longer.
    pub(super) fn is_over(&self) -> bool {
        let state: &State = self.from;
        let is_old = |value: Option<u8>| value.is_some_and(|value| value < self.config.changes);
        state.confirmed == self.config.changes
            && !matches!(state.request, Request::Found { .. })
            && state.instances.iter().all(|instance| {
                let replied = match instance.read.phase {
                    Phase::Replied { value, .. } => value,
                    _ => None,
                };
                !is_old(instance.entry.map(|entry| entry.value))
                    && !is_old(replied)
                    && !is_old(instance.read.wrote)
                    && !instance
                        .links
                        .iter()
                        .flat_map(|link| link.frames.iter())
                        .any(|frame| match frame {
                            super::state::Frame::Value { value, .. }
                            | super::state::Frame::Filled(value) => is_old(value),
                            _ => false,
                        })
            })
    }
}
