//! An instance: what it reads from its links, its heartbeats, its reads and fills of K, and the replacement of links.

use super::operator::OPERATORS_INSTANCE;
use super::state::{
    Command, Entry, Frame, Heartbeat, Instance, Link, Phase, Proof, Read, Request, Session, State,
    Watch,
};
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    /// Takes the next frame of a link.
    pub(super) fn receive(&mut self, i: usize, l: usize) {
        let mut state = *self.from;
        let link = &mut state.instances[i].links[l];
        let Some(frame) = link.frames.pop() else {
            return;
        };
        if !self.holds(Rule::OneStream)
            && frame == (Frame::Push { overtaken: false })
            && matches!(link.frames.iter().next(), Some(Frame::Heartbeat { .. }))
        {
            let mut state = *self.from;
            let frames = &mut state.instances[i].links[l].frames;
            if let Some(Frame::Push { overtaken }) = frames.first_mut() {
                *overtaken = true;
            }
            frames.swap();
            self.by(i, "a reply overtakes a push", state);
        }
        let carries_read = |read: &Read| read.phase == Phase::Sent && usize::from(read.link) == l;
        let instance = &mut state.instances[i];
        let what = match frame {
            Frame::Push { .. } => {
                if self.holds(Rule::InlinePush) {
                    count_push(&mut state, i);
                } else {
                    instance.queued_push = true;
                }
                "receives a push"
            }
            Frame::Value { value, caching } => {
                if carries_read(&instance.read) {
                    instance.read.phase = Phase::Replied { value, caching };
                }
                "receives the reply to GET K"
            }
            Frame::Filled(wrote) => {
                if carries_read(&instance.read) && instance.read.fill {
                    instance.read.wrote = wrote;
                    if !self.holds(Rule::FillIsRead) {
                        instance.read.phase = Phase::Replied {
                            value: wrote,
                            caching: true,
                        };
                    }
                }
                "receives the reply to the CAS"
            }
            Frame::Heartbeat { caching } => {
                let mut under_way = instance.heartbeats.iter_mut().flatten();
                if let Some(heartbeat) = under_way
                    .find(|beat| beat.sent && beat.reply.is_none() && usize::from(beat.link) == l)
                {
                    heartbeat.reply = Some(caching);
                }
                "receives the reply to the heartbeat"
            }
            Frame::SelfTest => {
                if instance.self_test && l == 0 {
                    instance.self_test = false;
                    if self.holds(Rule::NeverRevived) {
                        let old = instance.links[1].session;
                        self.begin_session(&mut state, i);
                        let links = &mut state.instances[i].links;
                        links[0].session = Session::Present;
                        if old == Session::Gone {
                            links[1].session = Session::Gone;
                        }
                    } else {
                        instance.ended[0] = false;
                    }
                }
                "the self-test is good"
            }
        };
        self.by(i, what, state);
    }

    pub(super) fn run_queued_push(&mut self, i: usize) {
        if self.instance(i).queued_push {
            let mut state = *self.from;
            state.instances[i].queued_push = false;
            count_push(&mut state, i);
            self.by(i, "a task handles the push", state);
        }
    }

    /// Begins and sends heartbeats. Several may be under way.
    pub(super) fn send_heartbeats(&mut self, i: usize) {
        let instance = self.instance(i);
        let slots = &instance.heartbeats[..self.config.heartbeats];
        if let Some(free) = slots.iter().position(Option::is_none) {
            for (l, link) in instance.links.iter().enumerate() {
                let alive = l == 0 || link.open;
                let ended = link.session.index().is_none_or(|s| instance.ended[s]);
                if !alive || ended || !link.commands.has_room(1) {
                    continue;
                }
                let mut state = *self.from;
                let instance = &mut state.instances[i];
                instance.heartbeats[free] = Some(Heartbeat {
                    age: 0,
                    sent: false,
                    reply: None,
                    link: l as u8,
                    session: link.session,
                });
                if self.config.slow_heartbeats {
                    self.by(i, "begins a heartbeat", state);
                } else {
                    self.send_heartbeat(i, free, state);
                }
            }
        }
        for (b, heartbeat) in instance.heartbeats.iter().enumerate() {
            if let Some(Heartbeat {
                sent: false, link, ..
            }) = *heartbeat
                && instance.links[usize::from(link)].commands.has_room(1)
            {
                self.send_heartbeat(i, b, *self.from);
            }
        }
    }

    /// Takes the replies to heartbeats.
    pub(super) fn credit_heartbeats(&mut self, i: usize) {
        let instance = self.instance(i);
        for (b, heartbeat) in instance.heartbeats.iter().enumerate() {
            let Some(Heartbeat {
                age,
                reply: Some(caching),
                session,
                ..
            }) = *heartbeat
            else {
                continue;
            };
            let mut state = *self.from;
            let instance = &mut state.instances[i];
            instance.heartbeats[b] = None;
            let Some(own) = session.index() else {
                continue;
            };
            if !caching {
                instance.ended[own] = true;
                self.by(i, "CACHING was refused: the session ends", state);
                continue;
            }
            let credited = if self.holds(Rule::SessionCredit) {
                own
            } else {
                0
            };
            let age = if self.holds(Rule::CreditFromSending) {
                age
            } else {
                0
            };
            if !instance.ended[credited] || !self.holds(Rule::EndedIsNotCredited) {
                let proved = &mut instance.proved[credited];
                *proved = Some(proved.map_or(age, |present| present.min(age)));
            }
            self.by(i, "credits the heartbeat to its session", state);
        }
    }

    /// Repeats the self-test of a link whose session has ended.
    pub(super) fn repeat_self_test(&mut self, i: usize) {
        let instance = self.instance(i);
        let link = &instance.links[0];
        if instance.ended[0]
            && !instance.self_test
            && link.open
            && link.session == Session::Present
            && link.commands.has_room(1)
        {
            let mut state = *self.from;
            state.instances[i].self_test = true;
            state.instances[i].links[0].send(Command::SelfTest);
            self.by(i, "repeats the self-test", state);
        }
    }

    fn send_heartbeat(&mut self, i: usize, b: usize, mut state: State) {
        let instance = &mut state.instances[i];
        let Some(heartbeat) = &mut instance.heartbeats[b] else {
            return;
        };
        let l = usize::from(heartbeat.link);
        let link = &mut instance.links[l];
        link.send(Command::Heartbeat);
        heartbeat.sent = true;
        if !link.open && !self.holds(Rule::BeatOnLink) {
            // Another connection answers.
            heartbeat.reply = Some(true);
        }
        instance.heartbeats[..=b].sort_by_key(|slot| !slot.is_some_and(|beat| beat.sent));
        let what = ["sends a heartbeat", "sends a heartbeat over the old link"][l];
        self.by(i, what, state);
    }

    /// Reads and fills of K.
    pub(super) fn reads(&mut self, i: usize) {
        let instance = self.instance(i);
        let read = instance.read;
        match read.phase {
            Phase::Idle => {
                let begin = |tracked, fill| Read {
                    phase: Phase::Stamped,
                    stamp_holds: true,
                    tracked,
                    fill,
                    ..Read::default()
                };
                let (reads, fills) = match self.config.instances {
                    1 => (true, true),
                    _ => (i != OPERATORS_INSTANCE, i == OPERATORS_INSTANCE),
                };
                let kinds = [
                    (
                        self.config.plain && reads,
                        false,
                        false,
                        "begins a plain read",
                    ),
                    (
                        self.config.tracked && reads,
                        true,
                        false,
                        "begins a tracked read",
                    ),
                    (self.config.fills && fills, true, true, "begins a fill"),
                ];
                for (enabled, tracked, fill, what) in kinds {
                    if enabled && !(tracked && instance.ended[0]) {
                        let mut state = *self.from;
                        state.instances[i].read = begin(tracked, fill);
                        self.by(i, what, state);
                    }
                }
            }
            Phase::Stamped => {
                let link = &instance.links[0];
                let commands = 1 + usize::from(read.fill);
                if link.session != Session::Present || !link.commands.has_room(commands) {
                    return;
                }
                let mut state = *self.from;
                let instance = &mut state.instances[i];
                instance.read.phase = Phase::Sent;
                instance.read.link = 0;
                instance.read.session = Session::Present;
                if read.fill {
                    instance.links[0].send(Command::Cas);
                }
                if !read.fill || self.holds(Rule::FillIsRead) {
                    let tracked = read.tracked;
                    instance.links[0].send(Command::Read { tracked });
                }
                let what = if read.fill {
                    "sends CAS and GET K"
                } else {
                    "sends GET K"
                };
                self.by(i, what, state);
            }
            Phase::Sent => {}
            Phase::Replied { value, caching } => self.keep(i, read, value, caching),
        }
    }

    /// Stores the answer in the local level.
    fn keep(&mut self, i: usize, read: Read, found: Option<u8>, caching: bool) {
        let mut state = *self.from;
        let instance = &mut state.instances[i];
        instance.read = Read::default();
        let caching = caching || !self.holds(Rule::CachingChecked);
        if read.tracked
            && !caching
            && let Some(session) = read.session.index()
        {
            instance.ended[session] = true;
        }
        let answer = if read.fill { read.wrote } else { found };
        if let Some(value) = answer {
            let same = !read.fill || found == answer || !self.holds(Rule::FillBytes);
            let tracked = (read.tracked && caching && same) || !self.holds(Rule::OnlyTrackedReads);
            let watch = match tracked {
                false => Watch::None,
                true if read.stamp_holds || !self.holds(Rule::Stamp) => Watch::Unchanged,
                true => Watch::Changed,
            };
            let session = if self.holds(Rule::Session) {
                read.session
            } else {
                Session::Present
            };
            // It does not replace an entry that was proved later.
            if instance.entry.is_none_or(|entry| read.age <= entry.age) {
                instance.entry = Some(Entry {
                    value,
                    age: read.age,
                    watch,
                    session,
                    before_mark: read.before_mark,
                });
            }
        }
        self.by(i, "keeps the answer", state);
    }

    /// Replaces the link. The old one lives on while it carries a read, or as long as a second supervisor keeps it.
    pub(super) fn replace_link(&mut self, i: usize) {
        if !self.config.links {
            return;
        }
        let instance = self.instance(i);
        let carries_read = instance.read.phase == Phase::Sent && instance.read.link == 0;
        for keep in [false, true] {
            if keep && !(self.config.kept || carries_read) {
                continue;
            }
            let mut state = *self.from;
            let instance = &mut state.instances[i];
            instance.self_test = false;
            let is_lost = |link: u8| !keep || link == 1;
            if instance.read.phase == Phase::Sent && is_lost(instance.read.link) {
                instance.read = Read::default();
            }
            for slot in &mut instance.heartbeats {
                *slot = slot.filter(|beat| beat.reply.is_some() || !is_lost(beat.link));
                if let Some(heartbeat) = slot {
                    heartbeat.link = u8::from(keep);
                }
            }
            if keep {
                instance.read.link = 1;
                instance.links[1] = instance.links[0];
            } else {
                instance.links[1] = Link::default();
            }
            instance.links[0] = Link::default();
            self.begin_session(&mut state, i);
            state.instances[i].links[0] = Link::new();
            if state != *self.from {
                self.by(i, "a supervisor replaces the link", state);
            }
        }
    }
}

/// The counter moves: no stamp from before holds any longer.
fn count_push(state: &mut State, i: usize) {
    let instance: &mut Instance = &mut state.instances[i];
    if let Some(entry) = &mut instance.entry
        && entry.watch == Watch::Unchanged
    {
        entry.watch = Watch::Changed;
    }
    instance.read.stamp_holds = false;
    if let Request::Found {
        instance: at,
        entry,
        proof,
        ..
    } = &mut state.request
        && usize::from(*at) == i
        && *proof != Proof::AfterCounter
        && entry.watch == Watch::Unchanged
    {
        entry.watch = Watch::Changed;
    }
}
