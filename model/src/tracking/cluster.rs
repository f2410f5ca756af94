//! A cluster: the slot of K moves from one master to another, and the old one goes on answering heartbeats.
//!
//! Each link keeps its order, and nothing orders the two. Heartbeats delete a key in a slot that does not move, as the old
//! master keeps other slots. A request is one step, since the other models have its races. As there, a value that somebody
//! writes to K includes every change whose DEL has run. A DEL, and a fill, runs where the cluster serves K.

use crate::rules::Rule;
use crate::search::{Model, Step, fingerprint};
use crate::tracking::config::Cluster;

const LENGTH: usize = 3;
const OLD: usize = 0;
const NEW: usize = 1;

/// Two masters and a slot that moves, with the parts that a [`Cluster`] names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotMove {
    pub(crate) config: Cluster,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Command {
    Read { asking: bool },
    Heartbeat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Frame {
    Push,
    Value(Option<u8>),
    Moved,
    Ask,
    /// `moves`: how often this master had gained or lost the slot.
    Heartbeat {
        moves: u8,
    },
}

/// A master, and the instance's link to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Master {
    key: Option<u8>,
    /// It serves K's slot, as far as it knows.
    owns: bool,
    moves: u8,
    /// It will push the next change of K.
    tracks: bool,
    commands: [Option<Command>; LENGTH],
    frames: [Option<Frame>; LENGTH],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Watch {
    None,
    Unchanged,
    Changed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Entry {
    value: u8,
    age: u8,
    watch: Watch,
    /// The master that the watch names.
    master: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Read {
    age: u8,
    /// The master that the slot map named.
    first: u8,
    /// The master that it was sent to.
    to: u8,
    asking: bool,
    stamp_holds: bool,
    /// The sessions have not ended since the sending.
    session_holds: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Operator {
    #[default]
    Idle,
    Committed,
    Deleted,
    Waits {
        waited: u8,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Slot {
    #[default]
    Settled,
    Migrating,
    /// The new master serves it, and the old one does not know.
    Taken,
    Moved,
    /// The migration was cancelled.
    Cancelled,
}

/// The state of the cluster, the instance and the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    database: u8,
    deleted: u8,
    confirmed: u8,
    operator: Operator,
    slot: Slot,
    masters: [Master; 2],
    /// The master that the instance believes to serve K.
    map: u8,
    entry: Option<Entry>,
    read: Option<Read>,
    /// The heartbeat under way to each master: ticks since its sending.
    heartbeats: [Option<u8>; 2],
    /// How long ago each master's session was proved.
    proved: [Option<u8>; 2],
    /// What [`Master::moves`] was when the present sessions began.
    moves_at_start: [u8; 2],
    broken: bool,
}

fn put<T: Copy>(queue: &mut [Option<T>], item: T) -> bool {
    let free = queue.iter_mut().find(|slot| slot.is_none());
    free.map(|slot| *slot = Some(item)).is_some()
}

fn take<T: Copy>(queue: &mut [Option<T>]) -> Option<T> {
    let item = queue[0].take();
    queue.rotate_left(1);
    item
}

/// Changes K at a master, with a push. False if its queue is full, so that the change must wait.
fn set_key(master: &mut Master, key: Option<u8>) -> bool {
    let changes = master.key.is_some() || key.is_some();
    master.key = key;
    !(changes && std::mem::take(&mut master.tracks)) || put(&mut master.frames, Frame::Push)
}

/// Returns the master at which the cluster serves K.
fn serving(state: &State) -> usize {
    let asks = state.slot == Slot::Migrating && state.masters[OLD].key.is_none();
    if state.masters[NEW].owns || asks {
        NEW
    } else {
        OLD
    }
}

/// Adds a step.
type Add<'a> = &'a mut dyn FnMut(&'static str, &'static str, State);

impl Model for SlotMove {
    type State = State;

    fn initial(&self) -> State {
        let mut state = State::default();
        state.masters[OLD].owns = true;
        state
    }

    fn successors(&self, from: &State, into: &mut Vec<(Step, State)>) {
        let mut add = |who, what, mut state: State| {
            normalise(&mut state, self.config.staleness);
            into.push((Step { who, what }, state));
        };
        self.tick(from, &mut add);
        self.operator(from, &mut add);
        self.slot(from, &mut add);
        self.instance(from, &mut add);
        for m in [OLD, NEW] {
            self.execute(from, m, &mut add);
            self.receive(from, m, &mut add);
        }
    }

    fn fingerprint(&self, state: &State) -> u64 {
        fingerprint(state)
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        state
            .broken
            .then_some("answered with a value that an invalidation had revoked before the request")
    }

    fn describe(&self, state: &State) -> String {
        let [old, new] = state.masters;
        format!(
            "db v{}  slot {:?}  old: {:?} owns {} tracks {}  new: {:?} owns {} tracks {}  map {}  proofs {:?}  {:?}",
            state.database,
            state.slot,
            old.key,
            old.owns,
            old.tracks,
            new.key,
            new.owns,
            new.tracks,
            state.map,
            state.proved,
            state.entry
        )
    }
}

fn normalise(state: &mut State, staleness: u8) {
    state.entry = state.entry.filter(|entry| {
        entry.watch != Watch::Changed && !(entry.watch == Watch::None && entry.age >= staleness)
    });
    for proved in &mut state.proved {
        *proved = proved.filter(|age| *age < staleness);
    }
}

/// All sessions end, and others begin on the same links.
fn end_sessions(state: &mut State) {
    if let Some(entry) = &mut state.entry
        && entry.watch == Watch::Unchanged
    {
        let proof = state.proved[usize::from(entry.master)];
        entry.age = entry.age.min(proof.unwrap_or(entry.age));
        entry.watch = Watch::None;
    }
    if let Some(read) = &mut state.read {
        read.session_holds = false;
    }
    state.proved = [None; 2];
    state.moves_at_start = state.masters.map(|master| master.moves);
    // Replies to heartbeats that were sent before are ignored.
    state.heartbeats = [None; 2];
    for master in &mut state.masters {
        let is_heartbeat = |frame: &Option<Frame>| matches!(frame, Some(Frame::Heartbeat { .. }));
        let mut kept = [None; LENGTH];
        for frame in master
            .frames
            .iter()
            .filter(|frame| !is_heartbeat(frame))
            .flatten()
        {
            put(&mut kept, *frame);
        }
        master.frames = kept;
        let mut kept = [None; LENGTH];
        for command in master.commands.iter().flatten() {
            if *command != Command::Heartbeat {
                put(&mut kept, *command);
            }
        }
        master.commands = kept;
    }
}

impl SlotMove {
    fn holds(&self, rule: Rule) -> bool {
        self.config.rules.hold(rule)
    }

    fn tick(&self, from: &State, add: Add<'_>) {
        let mut state = *from;
        let older = |age: &mut u8| *age = (*age + 1).min(self.config.staleness);
        if let Some(entry) = &mut state.entry {
            older(&mut entry.age);
        }
        if let Some(read) = &mut state.read {
            older(&mut read.age);
        }
        for age in state
            .heartbeats
            .iter_mut()
            .chain(&mut state.proved)
            .flatten()
        {
            older(age);
        }
        if let Operator::Waits { waited } = &mut state.operator
            && !(self.config.from_learning && from.slot == Slot::Taken)
        {
            older(waited);
        }
        if state != *from {
            add("clock", "one tick passes", state);
        }
    }

    fn operator(&self, from: &State, add: Add<'_>) {
        let mut state = *from;
        match from.operator {
            Operator::Idle => {
                state.database = 1;
                state.operator = Operator::Committed;
                add("operator", "commits a change of the token", state);
            }
            Operator::Committed => {
                state.deleted = 1;
                state.operator = Operator::Deleted;
                let m = serving(from);
                if set_key(&mut state.masters[m], None) {
                    let what = ["DEL K at the old master", "DEL K at the new master"][m];
                    add("operator", what, state);
                }
            }
            Operator::Deleted => {
                state.operator = Operator::Waits { waited: 0 };
                add("operator", "gets the reply to DEL K", state);
            }
            Operator::Waits { waited } if waited >= self.config.staleness => {
                state.confirmed = 1;
                state.operator = Operator::Done;
                add("operator", "has waited S: Ok", state);
            }
            Operator::Waits { .. } | Operator::Done => {}
        }
        // Other instances fill K.
        let m = serving(from);
        if from.masters[m].key.is_none() {
            for version in from.deleted..=from.database {
                let mut state = *from;
                if set_key(&mut state.masters[m], Some(version)) {
                    add(
                        "others",
                        ["fill K at the old master", "fill K at the new master"][m],
                        state,
                    );
                }
            }
        }
    }

    /// The old master's slot is another's. It deletes the keys that it still has.
    fn lose_slot(&self, state: &mut State) -> bool {
        let old = &mut state.masters[OLD];
        old.owns = false;
        old.moves += 1;
        if self.holds(Rule::LostSlotPushes) {
            return set_key(old, None);
        }
        (old.key, old.tracks) = (None, false);
        true
    }

    fn slot(&self, from: &State, add: Add<'_>) {
        let mut state = *from;
        match from.slot {
            Slot::Settled => {
                let taken = |state: &mut State| {
                    let key = state.masters[OLD].key;
                    let new = &mut state.masters[NEW];
                    new.owns = true;
                    new.moves += 1;
                    set_key(new, key)
                };
                if self.config.migrates {
                    state.slot = Slot::Migrating;
                    add("cluster", "the slot begins to migrate", state);
                } else if self.config.late {
                    state.slot = Slot::Taken;
                    if taken(&mut state) {
                        add("cluster", "the new master takes the slot, with K", state);
                    }
                } else {
                    state.slot = Slot::Moved;
                    if taken(&mut state) && self.lose_slot(&mut state) {
                        add("cluster", "the slot moves to the new master, with K", state);
                    }
                }
            }
            Slot::Migrating => {
                if from.masters[OLD].key.is_some() {
                    // MIGRATE overwrites nothing that an earlier DEL at the old master could have missed.
                    let key = state.masters[OLD].key;
                    let [old, new] = &mut state.masters;
                    if set_key(new, key) && set_key(old, None) {
                        add("cluster", "MIGRATE moves K", state);
                    }
                } else {
                    state.slot = Slot::Moved;
                    state.masters[NEW].owns = true;
                    state.masters[NEW].moves += 1;
                    if self.lose_slot(&mut state) {
                        add("cluster", "the slot is assigned to the new master", state);
                    }
                }
                let mut state = *from;
                state.slot = Slot::Cancelled;
                add("cluster", "the migration is cancelled", state);
            }
            Slot::Taken => {
                state.slot = Slot::Moved;
                if self.lose_slot(&mut state) {
                    add("cluster", "the old master learns of the move", state);
                }
            }
            Slot::Moved | Slot::Cancelled => {}
        }
    }

    fn instance(&self, from: &State, add: Add<'_>) {
        if from.read.is_none() {
            let mut state = *from;
            state.read = Some(Read {
                age: 0,
                first: from.map,
                to: from.map,
                asking: false,
                stamp_holds: true,
                session_holds: true,
            });
            let link = &mut state.masters[usize::from(from.map)];
            if put(&mut link.commands, Command::Read { asking: false }) {
                add("A", "sends GET K", state);
            }
        }
        for m in [OLD, NEW] {
            if self.config.tracked && from.heartbeats[m].is_none() {
                let mut state = *from;
                state.heartbeats[m] = Some(0);
                if put(&mut state.masters[m].commands, Command::Heartbeat) {
                    let what = [
                        "sends a heartbeat to the old master",
                        "sends a heartbeat to the new master",
                    ][m];
                    add("A", what, state);
                }
            }
        }
        if from.map == OLD as u8 && from.masters[NEW].owns {
            let mut state = *from;
            self.learn(&mut state);
            add("A", "reads the slot map, and learns of the move", state);
        }
        if let Some(entry) = from.entry {
            let proof = from.proved[usize::from(entry.master)];
            let is_fresh = |age: u8| age < self.config.staleness;
            let usable = match entry.watch {
                Watch::None => is_fresh(entry.age),
                Watch::Unchanged => is_fresh(entry.age) || proof.is_some_and(is_fresh),
                Watch::Changed => false,
            };
            if usable && entry.value < from.confirmed {
                let mut state = *from;
                state.broken = true;
                add("A", "a request is answered by the local entry", state);
            }
        }
    }

    fn learn(&self, state: &mut State) {
        state.map = NEW as u8;
        if self.config.sessions_end {
            end_sessions(state);
        }
    }

    fn execute(&self, from: &State, m: usize, add: Add<'_>) {
        let mut state = *from;
        let master = &mut state.masters[m];
        let Some(command) = take(&mut master.commands) else {
            return;
        };
        let migrating = from.slot == Slot::Migrating;
        let reply = match command {
            Command::Heartbeat => Frame::Heartbeat {
                moves: master.moves,
            },
            Command::Read { asking } => {
                let imports = m == NEW && asking && migrating;
                if !master.owns && !imports {
                    Frame::Moved
                } else if m == OLD && migrating && master.key.is_none() {
                    Frame::Ask
                } else {
                    master.tracks |= self.config.tracked;
                    Frame::Value(master.key)
                }
            }
        };
        if put(&mut master.frames, reply) {
            add(["old", "new"][m], "runs a command", state);
        }
    }

    fn receive(&self, from: &State, m: usize, add: Add<'_>) {
        let mut state = *from;
        let Some(frame) = take(&mut state.masters[m].frames) else {
            return;
        };
        let what = match frame {
            Frame::Push => {
                if let Some(entry) = &mut state.entry
                    && entry.watch == Watch::Unchanged
                {
                    entry.watch = Watch::Changed;
                }
                if let Some(read) = &mut state.read {
                    read.stamp_holds = false;
                }
                "receives a push"
            }
            Frame::Heartbeat { moves } => {
                let age = state.heartbeats[m].take();
                if self.config.beat_shows_slots && moves != state.moves_at_start[m] {
                    end_sessions(&mut state);
                    "learns from a heartbeat that slots moved"
                } else {
                    let ages = [age, state.proved[m]];
                    state.proved[m] = ages.into_iter().flatten().min();
                    "credits the heartbeat to its master's session"
                }
            }
            Frame::Value(value) => {
                let read = state.read.take();
                if let (Some(read), Some(value)) = (read, value) {
                    let asked = read.asking && self.holds(Rule::AskedHasNoWatch);
                    let watch = if !self.config.tracked || asked || !read.session_holds {
                        Watch::None
                    } else if read.stamp_holds {
                        Watch::Unchanged
                    } else {
                        Watch::Changed
                    };
                    let master = if self.holds(Rule::WatchNamesMaster) {
                        read.to
                    } else {
                        read.first
                    };
                    if state.entry.is_none_or(|entry| read.age <= entry.age) {
                        state.entry = Some(Entry {
                            value,
                            age: read.age,
                            watch,
                            master,
                        });
                    }
                }
                "keeps the answer"
            }
            Frame::Moved | Frame::Ask => {
                let asking = frame == Frame::Ask;
                if m == NEW {
                    // It followed once already.
                    state.read = None;
                } else {
                    if asking {
                        // The slot map stays as it is.
                        if self.config.sessions_end && self.holds(Rule::AskedHasNoWatch) {
                            end_sessions(&mut state);
                        }
                    } else {
                        self.learn(&mut state);
                    }
                    if let Some(read) = &mut state.read {
                        read.to = NEW as u8;
                        read.asking = asking;
                        // It is sent again, over a link of a present session.
                        read.session_holds = true;
                        if !put(&mut state.masters[NEW].commands, Command::Read { asking }) {
                            return;
                        }
                    }
                }
                "follows a redirection"
            }
        };
        add("A", what, state);
    }
}
