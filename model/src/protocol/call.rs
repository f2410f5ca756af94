//! The call for K: its next step, and what sending a command changes.

use super::state::{At, Call, Late, Proof, Stage, State};
use super::steps::Steps;

impl Steps<'_> {
    pub(super) fn advance(&mut self, i: usize) {
        let call = *self.call(i);
        self.read_e_before_load(i);
        self.read_all(i);
        if self.waits_for_all(&call) || self.gives_up_noted(i) {
            return;
        }
        if call.at == At::CheckT && !call.sent {
            self.check_known(i);
            self.check_t_locally(i);
        }
        if self.sends_first(call.at) && !call.sent {
            let mut state = *self.from;
            self.send(&mut state, i);
            self.by(i, sending(call.at), state);
            return;
        }
        match call.at {
            At::Idle => {}
            At::Get => self.get(i),
            At::Replied => self.replied(i),
            At::CheckT => self.check_t(i),
            At::Acquire => self.acquire(i),
            At::Load => self.load(i),
            At::Loaded => self.decide_generation(i),
            At::ReadT => self.read_t(i),
            At::ReadE => self.read_e_again(i),
            At::Fill => self.fill(i),
            At::Restore => self.restore(i),
            At::Answer => self.complete(i),
        }
    }

    /// True where sending and running are two steps: with a local level, for commands whose sending an age counts from, and
    /// for the load, before whose sending a copy of T must have arrived. A runs between them if it is read with K, and a note
    /// is looked for before a CAS is sent.
    pub(super) fn sends_first(&self, at: At) -> bool {
        let local = self.config.local.is_some();
        match at {
            At::Get => local || self.config.all,
            At::CheckT | At::Acquire | At::ReadT => local,
            At::Fill | At::Restore => local || self.config.own,
            At::Load => local && self.config.has_tenants() && !self.config.all,
            At::Idle | At::Replied | At::Loaded | At::ReadE | At::Answer => false,
        }
    }

    /// The state in which instance `i`'s command runs.
    pub(super) fn running(&self, i: usize) -> State {
        let mut state = *self.from;
        if !state.instances[i].call.sent {
            self.send(&mut state, i);
        }
        state.instances[i].call.sent = false;
        state
    }

    /// Sends the command, and notes in each waiter that it joined before.
    fn send(&self, state: &mut State, i: usize) {
        let age = self.age_at_send(i);
        let instance = &mut state.instances[i];
        let call = &mut instance.call;
        call.sent = true;
        let proof = match call.at {
            At::Get => Some(Proof::Get),
            // Compare-and-acquire returns no value, so it is not a proof point.
            At::Acquire => call.old.is_none().then_some(Proof::Get),
            At::Load => Some(Proof::Load),
            At::ReadE => Some(Proof::SecondE),
            At::Fill => Some(Proof::Fill),
            _ => None,
        };
        if matches!(call.at, At::Get | At::Acquire) {
            call.noted = self.is_noted_when_sent(i);
        }
        match call.at {
            At::Get | At::Acquire | At::Fill | At::Restore => call.age = age,
            At::CheckT | At::ReadT => call.t_age = age,
            At::Load if !self.config.all => {
                let fresh = self
                    .config
                    .local
                    .filter(|_| self.config.fresh_known)
                    .map(|clock| self.config.staleness(i, clock));
                for cell in &mut instance.cells {
                    cell.before_load =
                        cell.generation != 0 && fresh.is_none_or(|staleness| cell.age < staleness);
                }
            }
            _ => {}
        }
        if let Some(proof) = proof {
            for request in &mut state.requests {
                if usize::from(request.instance) == i
                    && let Stage::Joined { before } = &mut request.stage
                {
                    *before |= proof as u8;
                }
            }
        }
    }

    /// Loads without caching, because Redis did not answer.
    pub(super) fn load_uncached(&self, state: &mut State, i: usize) {
        state.instances[i].call = Call {
            at: At::Load,
            ..Call::default()
        };
    }

    /// Adds a late command to `state`. False if there is no room.
    pub(super) fn delayed(&self, state: &mut State, command: Late) -> bool {
        match state.late[..self.config.late]
            .iter_mut()
            .find(|late| **late == Late::None)
        {
            Some(free) => {
                *free = command;
                true
            }
            None => false,
        }
    }
}

fn sending(at: At) -> &'static str {
    match at {
        At::Get => "reads the clock and sends GET K",
        At::CheckT => "reads the clock and sends GET T",
        At::Acquire => "reads the clock and sends the acquire",
        At::Load => "sends the load",
        At::ReadT => "reads the clock and sends SET T NX GET",
        At::Fill => "reads the clock and sends the CAS",
        At::Restore => "reads the clock and sends the CAS that puts the stale value back",
        At::Idle | At::Replied | At::Loaded | At::ReadE | At::Answer => "",
    }
}
