//! Faults: keys vanish, late commands run, processes crash, and one writer does not speak the protocol.

use super::state::{Instance, Key, Late, OldWriter, Stage, Value};
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    pub(super) fn faults(&mut self) {
        if self.config.evict {
            self.evictions();
        }
        for slot in 0..self.config.late {
            self.run_late(slot);
        }
        if self.config.crash {
            let first = usize::from(self.config.own);
            for i in first..self.config.instances {
                self.crash(i);
            }
        }
        if !self.holds(Rule::EveryWriterFenced) {
            self.old_writer();
        }
    }

    /// Keys vanish one by one. All of them in a row are a restart without data.
    fn evictions(&mut self) {
        let mut state = *self.from;
        if state.key != Key::Empty {
            state.key = Key::Empty;
            self.push("fault", "K vanishes", state);
        }
        for t in 0..2 {
            let mut state = *self.from;
            if state.t[t] != 0 {
                state.t[t] = 0;
                self.push("fault", "T vanishes", state);
            }
        }
        let mut state = *self.from;
        if state.e != 0 {
            state.e = 0;
            self.push("fault", "E vanishes", state);
        }
    }

    fn run_late(&mut self, slot: usize) {
        let mut state = *self.from;
        let command = std::mem::take(&mut state.late[slot]);
        match command {
            Late::None => return,
            Late::Acquire(nonce) if state.key == Key::Empty => state.key = Key::Lease(nonce),
            Late::CompareAcquire(old, nonce) if state.key == Key::Value(old) => {
                state.key = Key::Lease(nonce)
            }
            Late::Fill(nonce, value) if state.key == Key::Lease(nonce) => {
                state.key = Key::Value(value)
            }
            Late::CreateT(t, generation) if state.t[usize::from(t)] == 0 => {
                state.t[usize::from(t)] = generation
            }
            Late::CreateE(e) if state.e == 0 => state.e = e,
            // The condition fails, and nothing changes.
            _ => {}
        }
        let what = match command {
            Late::None => "",
            Late::Acquire(_) => "an acquire runs late",
            Late::CompareAcquire(..) => "a compare-and-acquire runs late",
            Late::Fill(..) => "a CAS runs late",
            Late::CreateT(..) => "a creation of T runs late",
            Late::CreateE(_) => "a creation of E runs late",
        };
        self.push("fault", what, state);
    }

    /// The process restarts empty and its requests are lost. Commands that it sent and the server has not run are among the
    /// late ones already.
    fn crash(&mut self, i: usize) {
        let mut state = *self.from;
        if state.instances[i] == Instance::default() {
            return;
        }
        state.instances[i] = Instance::default();
        for request in &mut state.requests {
            if usize::from(request.instance) == i && request.stage != Stage::New {
                request.stage = Stage::Done;
            }
        }
        self.by(i, "crashes and starts again", state);
    }

    fn old_writer(&mut self) {
        let mut state = *self.from;
        match state.old_writer {
            OldWriter::Idle if state.key == Key::Empty => {
                state.old_writer = OldWriter::Loaded(self.current_record(&state));
                self.push("old", "finds nothing and loads", state);
            }
            OldWriter::Idle => {}
            OldWriter::Loaded(record) => {
                state.old_writer = OldWriter::Idle;
                state.key = Key::Value(Value {
                    record,
                    generation: 0,
                });
                self.push("old", "SET K", state);
            }
        }
    }
}
