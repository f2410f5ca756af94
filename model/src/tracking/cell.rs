//! TR10: a tenant's cell, which requests read without a lock while a writer stores into it.
//!
//! Two links, each with a session of its own, carry reads of T and heartbeats. T is deleted once, and a read of it finds
//! generation 1 after that. The cell holds an observation (generation, watch and `sent`) that is replaced as a whole. Or its
//! parts are stored one by one. Then a cell is of one generation: the model holds generation 0's, or, without
//! `OneGeneration`, one cell for both. The request's K is usable throughout and carries generation 0. Every load and every store is a step.

use crate::rules::Rule;
use crate::search::{Model, Step, fingerprint};
use crate::tracking::config::TenantCell;

const LENGTH: usize = 2;

/// A tenant's cell with the parts that a [`TenantCell`] names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CellTracking {
    pub(crate) config: TenantCell,
}

/// A read of T. `watched`: tracked, and answered as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Read {
    sent: u8,
    stamp: u8,
    watched: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Command {
    Read(Read),
    Heartbeat { sent: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Frame {
    Push,
    Read(Read, u8),
    Heartbeat { sent: u8 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Link {
    tracks: bool,
    proved: Option<u8>,
    commands: [Option<Command>; LENGTH],
    frames: [Option<Frame>; LENGTH + 1],
}

/// A cell's watch: its session is its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Word {
    link: u8,
    stamp: u8,
}

/// A reply that a writer stores, in three steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Write {
    step: u8,
    link: u8,
    read: Read,
    generation: u8,
}

/// What a request loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Load {
    /// Generation, word and `sent` together.
    Observation,
    Word,
    Proof,
    Sent,
    Counter,
    Generation,
    /// The stamp alone (only without `OneWord`).
    Stamp,
}

/// The observed request, which starts after the invalidation of T was confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Request {
    step: u8,
    now: u8,
    /// It took the cell's lock for all but the proof and the counter.
    locked: bool,
    word: Option<Word>,
    proof: Option<u8>,
    sent: u8,
    counter: u8,
    generation: Option<u8>,
}

/// The state of the cell, its links and its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    now: u8,
    deleted: bool,
    renewed: bool,
    /// When the reply to the deletion arrived.
    replied: Option<u8>,
    links: [Link; 2],
    counter: u8,
    reads: u8,
    heartbeats: u8,
    generation: Option<u8>,
    word: Option<Word>,
    /// 0: the cell is closed, or empty.
    sent: u8,
    write: Option<Write>,
    request: Option<Request>,
    broken: bool,
}

const NAMES: [&str; 2] = ["link 0", "link 1"];

fn put<T: Copy>(queue: &mut [Option<T>], item: T) -> bool {
    let free = queue.iter_mut().find(|slot| slot.is_none());
    free.map(|slot| *slot = Some(item)).is_some()
}

fn take<T: Copy>(queue: &mut [Option<T>]) -> Option<T> {
    let item = queue[0].take();
    queue.rotate_left(1);
    item
}

/// Pushes a change of T. False if a queue is full, so that the change must wait.
fn push_all(state: &mut State) -> bool {
    state
        .links
        .iter_mut()
        .all(|link| !std::mem::take(&mut link.tracks) || put(&mut link.frames, Frame::Push))
}

impl Model for CellTracking {
    type State = State;

    fn initial(&self) -> State {
        State {
            now: 1,
            ..State::default()
        }
    }

    fn successors(&self, from: &State, into: &mut Vec<(Step, State)>) {
        let mut add = |who, what, state| into.push((Step { who, what }, state));
        self.time_and_operator(from, &mut add);
        for l in 0..2 {
            self.send(from, l, &mut add);
            self.execute(from, l, &mut add);
            self.receive(from, l, &mut add);
        }
        self.write(from, &mut add);
        self.request(from, &mut add);
    }

    fn fingerprint(&self, state: &State) -> u64 {
        fingerprint(state)
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        state
            .broken
            .then_some("accepted a generation that an invalidation had ended before the request")
    }

    fn describe(&self, state: &State) -> String {
        let State {
            now,
            deleted,
            counter,
            word,
            sent,
            generation,
            ..
        } = state;
        let proofs = [state.links[0].proved, state.links[1].proved];
        format!(
            "now {now}  T g{}  counter {counter}  proofs {proofs:?}  cell: generation {generation:?} sent {sent} {word:?}",
            u8::from(*deleted)
        )
    }
}

/// Replaces the observation as a whole.
fn replace(from: &State, write: Write, add: Add<'_>) {
    let Write {
        link,
        read,
        generation,
        ..
    } = write;
    let mut state = *from;
    state.write = None;
    // A watch is worth more than a later reply without one.
    let same = from.generation == Some(generation);
    let is_watched = from.word.is_some_and(|word| word.stamp == from.counter);
    if !(same && is_watched && !read.watched) {
        let stamp = read.stamp;
        state.generation = Some(generation);
        state.word = read.watched.then_some(Word { link, stamp });
        state.sent = read.sent;
    }
    add("writer", "replaces the observation", state);
}

/// Adds a step.
type Add<'a> = &'a mut dyn FnMut(&'static str, &'static str, State);

impl CellTracking {
    fn holds(&self, rule: Rule) -> bool {
        self.config.rules.hold(rule)
    }

    fn time_and_operator(&self, from: &State, add: Add<'_>) {
        // Everything is older than S by then.
        if from.now < self.config.staleness + 2 {
            let mut state = *from;
            state.now += 1;
            add("clock", "one tick passes", state);
        }
        if !from.deleted {
            let mut state = *from;
            state.deleted = true;
            if push_all(&mut state) {
                add("operator", "DEL T", state);
            }
        }
        // A push without a change, as TR11's renewal and the server's full table cause it.
        if !from.renewed && !from.deleted {
            let mut state = *from;
            state.renewed = true;
            if push_all(&mut state) && state.links != from.links {
                add("others", "PEXPIRE T", state);
            }
        }
        if from.deleted && from.replied.is_none() {
            let mut state = *from;
            state.replied = Some(from.now);
            add("operator", "gets the reply to DEL T", state);
        }
    }

    fn send(&self, from: &State, l: usize, add: Add<'_>) {
        if from.reads < self.config.reads {
            for (watched, what) in [(true, "a tracked GET T is sent"), (false, "GET T is sent")] {
                let mut state = *from;
                state.reads += 1;
                let read = Read {
                    sent: from.now,
                    stamp: from.counter,
                    watched,
                };
                if put(&mut state.links[l].commands, Command::Read(read)) {
                    add(NAMES[l], what, state);
                }
            }
        }
        if from.heartbeats < self.config.heartbeats {
            let mut state = *from;
            state.heartbeats += 1;
            let heartbeat = Command::Heartbeat { sent: from.now };
            if put(&mut state.links[l].commands, heartbeat) {
                add(NAMES[l], "a heartbeat is sent", state);
            }
        }
    }

    fn execute(&self, from: &State, l: usize, add: Add<'_>) {
        let mut state = *from;
        let link = &mut state.links[l];
        let reply = match take(&mut link.commands) {
            None => return,
            Some(Command::Read(read)) => {
                link.tracks |= read.watched;
                Frame::Read(read, u8::from(from.deleted))
            }
            Some(Command::Heartbeat { sent }) => Frame::Heartbeat { sent },
        };
        if put(&mut link.frames, reply) {
            add(NAMES[l], "the server runs the command", state);
        }
    }

    fn receive(&self, from: &State, l: usize, add: Add<'_>) {
        let mut state = *from;
        let link = &mut state.links[l];
        match take(&mut link.frames) {
            None => {}
            Some(Frame::Push) => {
                state.counter += 1;
                add(NAMES[l], "a push arrives", state);
            }
            Some(Frame::Heartbeat { sent }) => {
                link.proved = link.proved.max(Some(sent));
                add(
                    NAMES[l],
                    "the heartbeat's reply arrives and is credited",
                    state,
                );
            }
            // One writer at a time has the lock.
            Some(Frame::Read(..)) if from.write.is_some() => {}
            Some(Frame::Read(read, generation)) => {
                let is_newer = from.sent == 0 || read.sent > from.sent;
                let is_of_cell = generation == 0 || !self.holds(Rule::OneGeneration);
                if is_newer && (self.config.whole || is_of_cell) {
                    state.write = Some(Write {
                        step: 0,
                        link: l as u8,
                        read,
                        generation,
                    });
                }
                add(NAMES[l], "the reply to GET T arrives", state);
            }
        }
    }

    /// Stores the generation, the word, and `sent`, in this order.
    fn write(&self, from: &State, add: Add<'_>) {
        let Some(write) = from.write else {
            return;
        };
        if self.config.whole {
            return replace(from, write, add);
        }
        let mut state = *from;
        let Write {
            step,
            link,
            read,
            generation,
        } = write;
        match step {
            0 => {
                let is_other = state.generation != Some(generation);
                if !self.holds(Rule::OneGeneration) && !read.watched && is_other {
                    state.word = None;
                }
                state.generation = Some(generation);
            }
            1 if read.watched => {
                let stamp = read.stamp;
                state.word = Some(Word { link, stamp });
            }
            // A watch that has moved is no longer of use.
            1 => state.word = state.word.filter(|word| word.stamp == state.counter),
            _ => state.sent = read.sent,
        }
        state.write = (step < 2).then_some(Write {
            step: step + 1,
            ..write
        });
        add(
            "writer",
            ["stores the generation", "stores the word", "stores sent"][usize::from(step)],
            state,
        );
    }

    fn request(&self, from: &State, add: Add<'_>) {
        let Some(request) = from.request else {
            let confirmed = from
                .replied
                .is_some_and(|at| from.now >= at + self.config.staleness);
            if confirmed && (from.sent != 0 || from.word.is_some()) {
                let mut state = *from;
                let request = Request {
                    step: 0,
                    now: from.now,
                    locked: false,
                    word: None,
                    proof: None,
                    sent: 0,
                    counter: 0,
                    generation: None,
                };
                state.request = Some(request);
                add("request", "starts", state);
                if from.write.is_none() && !self.config.whole {
                    state.request = Some(Request {
                        locked: true,
                        word: from.word,
                        sent: from.sent,
                        generation: from.generation,
                        ..request
                    });
                    add("request", "starts, and takes the lock", state);
                }
            }
            return;
        };
        use Load::{Counter, Generation, Observation, Proof, Sent, Stamp, Word};
        let in_order = self.holds(Rule::ProvedFirstForT);
        let loads: &[Load] = if self.config.whole && in_order {
            &[Observation, Proof, Counter]
        } else if self.config.whole {
            &[Observation, Counter, Proof]
        } else if request.locked {
            &[Proof, Counter]
        } else if !in_order {
            &[Word, Counter, Proof, Sent, Generation]
        } else if !self.holds(Rule::OneWord) {
            &[Word, Proof, Sent, Stamp, Counter, Generation]
        } else {
            &[Word, Proof, Sent, Counter, Generation]
        };
        let mut state = *from;
        let Some(&load) = loads.get(usize::from(request.step)) else {
            state.request = None;
            state.broken = self.is_accepted(&request);
            add("request", "is answered", state);
            return;
        };
        let mut next = request;
        next.step += 1;
        let what = match load {
            Observation => {
                (next.word, next.sent) = (from.word, from.sent);
                next.generation = from.generation;
                "loads the observation"
            }
            Word => {
                next.word = from.word;
                "loads the word"
            }
            Proof => {
                let of = |word: self::Word| from.links[usize::from(word.link)].proved;
                next.proof = request.word.and_then(of);
                "loads the proof"
            }
            Sent => {
                next.sent = from.sent;
                "loads sent"
            }
            Counter => {
                next.counter = from.counter;
                "loads the counter"
            }
            Generation => {
                next.generation = from.generation;
                "loads the generation"
            }
            Stamp => {
                if let (Some(loaded), Some(present)) = (&mut next.word, from.word) {
                    loaded.stamp = present.stamp;
                }
                "loads the stamp"
            }
        };
        state.request = Some(next);
        add("request", what, state);
    }

    /// True if the request takes its K's generation 0 for current.
    fn is_accepted(&self, request: &Request) -> bool {
        let base = request
            .proof
            .map_or(request.sent, |proof| proof.max(request.sent));
        let unchanged = request
            .word
            .is_none_or(|word| word.stamp == request.counter);
        request.sent != 0
            && unchanged
            && request.now.saturating_sub(base) < self.config.staleness
            && request.generation == Some(0)
    }
}
