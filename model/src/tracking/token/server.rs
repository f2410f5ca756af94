//! The server: it executes each link's commands in order. A reply, and a push, is sent before the next command runs.

use super::state::{Command, Frame};
use super::steps::{Steps, push_to, set_key};
use crate::rules::Rule;

impl Steps<'_> {
    pub(super) fn execute(&mut self, i: usize, l: usize) {
        let link = &self.from.instances[i].links[l];
        if !link.open || !link.frames.has_room(1) {
            return;
        }
        let mut state = *self.from;
        let link = &mut state.instances[i].links[l];
        let Some(command) = link.commands.pop() else {
            return;
        };
        match command {
            Command::Read { tracked } => {
                let value = state.key;
                if tracked && state.losses < self.config.losses {
                    let mut refused = state;
                    refused.losses += 1;
                    let caching = false;
                    let link = &mut refused.instances[i].links[l];
                    link.frames.push(Frame::Value { value, caching });
                    self.by(i, "the server refuses CACHING and runs GET K", refused);
                }
                let link = &mut state.instances[i].links[l];
                link.tracks |= tracked && link.tracking;
                let caching = link.tracking;
                link.frames.push(Frame::Value { value, caching });
                self.by(i, "the server runs GET K", state);
            }
            Command::Heartbeat => {
                let caching = link.tracking || !self.holds(Rule::BeatAsksCaching);
                link.frames.push(Frame::Heartbeat { caching });
                self.by(i, "the server runs the heartbeat", state);
            }
            Command::SelfTest => {
                link.tracking = true;
                link.frames.push(Frame::SelfTest);
                self.by(i, "the server runs the self-test", state);
            }
            // Whether the lease is still there is the other models' subject. If it is, the loaded record includes every
            // change whose DEL ran.
            Command::Cas => {
                let mut refused = state;
                refused.instances[i].links[l]
                    .frames
                    .push(Frame::Filled(None));
                self.by(i, "the server refuses the CAS", refused);
                if state.key.is_some() {
                    return;
                }
                for version in state.deleted..=state.database {
                    let mut state = state;
                    let frame = Frame::Filled(Some(version));
                    state.instances[i].links[l].frames.push(frame);
                    if set_key(&mut state, Some(version)) {
                        self.by(i, "the server runs the CAS", state);
                    }
                }
            }
        }
    }

    /// K changes for other reasons, and the server forgets what it tracks.
    pub(super) fn environment(&mut self) {
        if self.from.key.is_none() {
            if self.config.others {
                for version in self.from.deleted..=self.from.database {
                    let mut state = *self.from;
                    if set_key(&mut state, Some(version)) {
                        self.push("others", "fill K", state);
                    }
                }
            }
        } else if self.config.evict {
            let mut state = *self.from;
            if set_key(&mut state, None) {
                self.push("fault", "K vanishes", state);
            }
        }
        for i in 0..self.config.instances {
            let link = &self.from.instances[i].links[0];
            if self.config.table && link.open && link.tracks {
                let mut state = *self.from;
                if push_to(&mut state.instances[i].links[0]) {
                    self.by(i, "the server's table is full: it stops tracking K", state);
                }
            }
            if self.from.losses < self.config.losses && link.open && link.tracking {
                let mut state = *self.from;
                state.losses += 1;
                let link = &mut state.instances[i].links[0];
                (link.tracking, link.tracks) = (false, false);
                self.by(i, "the server loses the link's tracking", state);
            }
            for l in 0..2 {
                if !(self.config.closes && self.from.instances[i].links[l].open) {
                    continue;
                }
                let mut state = *self.from;
                let link = &mut state.instances[i].links[l];
                (link.open, link.tracking, link.tracks) = (false, false, false);
                link.commands = Default::default();
                let what = [
                    "the server closes the link",
                    "the server closes the old link",
                ][l];
                self.by(i, what, state);
            }
        }
    }
}
