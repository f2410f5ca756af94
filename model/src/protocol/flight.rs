//! The single flight of K: which step is next, and what sending means.

use super::Steps;
use super::state::{At, Flight, Late, Proof, Stage, State};

impl Steps<'_> {
    pub(super) fn fly(&mut self, i: usize) {
        let flight = *self.flight(i);
        self.read_e_before_load(i);
        if self.sends_first(flight.at) && !flight.sent {
            if flight.at == At::CheckT {
                self.check_t_locally(i);
            }
            let mut state = *self.from;
            self.send(&mut state, i);
            self.by(i, sending(flight.at), state);
            return;
        }
        match flight.at {
            At::Ground => {}
            At::Get => self.get(i),
            At::CheckT => self.check_t(i),
            At::Acquire => self.acquire(i),
            At::Load => self.load(i),
            At::Loaded => self.decide_generation(i),
            At::ReadT => self.read_t(i),
            At::ReadE => self.read_e_again(i),
            At::Fill => self.fill(i),
            At::Restore => self.restore(i),
            At::Answer => self.hand_over(i),
        }
    }

    /// True where sending and running are two steps: with a local level, for what an age is counted from, and for the
    /// load, before which a copy of T must have arrived.
    fn sends_first(&self, at: At) -> bool {
        self.config.local.is_some()
            && match at {
                At::Get | At::CheckT | At::Acquire | At::ReadT | At::Fill | At::Restore => true,
                At::Load => self.config.has_tenants(),
                At::Ground | At::Loaded | At::ReadE | At::Answer => false,
            }
    }

    /// The state in which the command of instance `i` runs.
    pub(super) fn running(&self, i: usize) -> State {
        let mut state = *self.from;
        if !state.instances[i].flight.sent {
            self.send(&mut state, i);
        }
        state.instances[i].flight.sent = false;
        state
    }

    /// Moves the counter: who has joined so far joined before this.
    fn send(&self, state: &mut State, i: usize) {
        let age = self.age_at_send(i);
        let instance = &mut state.instances[i];
        let flight = &mut instance.flight;
        flight.sent = true;
        let proof = match flight.at {
            At::Get => Some(Proof::Get),
            // Compare-and-acquire returns no value, so it proves none.
            At::Acquire => flight.old.is_none().then_some(Proof::Get),
            At::Load => Some(Proof::Load),
            At::ReadE => Some(Proof::SecondE),
            At::Fill => Some(Proof::Fill),
            _ => None,
        };
        match flight.at {
            At::Get | At::Acquire | At::Fill | At::Restore => flight.age = age,
            At::CheckT | At::ReadT => flight.t_age = age,
            At::Load => {
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

    /// Redis gave no answer: load, cache nothing.
    pub(super) fn load_uncached(&self, state: &mut State, i: usize) {
        state.instances[i].flight = Flight {
            at: At::Load,
            ..Flight::default()
        };
    }

    /// There is room for one more command under way without its sender, and `state` has it.
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
        At::Ground | At::Loaded | At::ReadE | At::Answer => "",
    }
}
