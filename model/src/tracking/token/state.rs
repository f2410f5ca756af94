//! The state of the token's tracking model.

use crate::tracking::config::{MAX_HEARTBEATS, MAX_INSTANCES};

/// A version of the token's record in the database.
pub(super) type Version = u8;
/// Ticks since an event.
pub(super) type Age = u8;

/// How many commands, and frames, a link holds in each direction.
const LENGTH: usize = 3;

/// What is under way in one direction of a link, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Queue<T>([Option<T>; LENGTH]);

impl<T: Copy> Default for Queue<T> {
    fn default() -> Self {
        Self([None; LENGTH])
    }
}

impl<T: Copy> Queue<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.0[0].is_none()
    }

    pub(super) fn has_room(&self, for_items: usize) -> bool {
        self.0[LENGTH - for_items].is_none()
    }

    pub(super) fn push(&mut self, item: T) {
        let free = self.0.iter_mut().find(|slot| slot.is_none());
        *free.expect("the queue has room") = Some(item);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.0[0].take();
        self.0.rotate_left(1);
        item
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = T> {
        self.0.iter().flatten().copied()
    }

    /// Exchanges the first two items.
    pub(super) fn swap(&mut self) {
        self.0.swap(0, 1);
    }

    pub(super) fn first_mut(&mut self) -> Option<&mut T> {
        self.0[0].as_mut()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Command {
    /// `GET K`, with `CLIENT CACHING YES` before it if it is tracked.
    Read {
        tracked: bool,
    },
    /// The compare-and-set of a fill. A tracked `GET K` follows in the same write.
    Cas,
    /// `CLIENT CACHING YES; DEL <heartbeat>`.
    Heartbeat,
    SelfTest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Frame {
    /// An invalidation of K. `overtaken`: a reply was delivered before it (only without `OneStream`).
    Push {
        overtaken: bool,
    },
    /// The reply to a read. `caching`: `CLIENT CACHING` was answered OK.
    Value {
        value: Option<Version>,
        caching: bool,
    },
    /// The reply to a compare-and-set: what it wrote, if it did.
    Filled(Option<Version>),
    Heartbeat {
        caching: bool,
    },
    SelfTest,
}

/// An instance's sessions, relative to the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Session {
    Present,
    Previous,
    /// Older ones. No heartbeat is credited to them any longer.
    #[default]
    Gone,
}

impl Session {
    /// Returns the index into [`Instance::proved`], `None` for a session that is gone.
    pub(super) fn index(self) -> Option<usize> {
        match self {
            Self::Present => Some(0),
            Self::Previous => Some(1),
            Self::Gone => None,
        }
    }

    /// Returns what this session is once another one has begun.
    pub(super) fn after_another(self) -> Self {
        match self {
            Self::Present => Self::Previous,
            Self::Previous | Self::Gone => Self::Gone,
        }
    }
}

/// A connection, with the server's side of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Link {
    /// The server has not closed it.
    pub(super) open: bool,
    /// The server has tracking switched on for it.
    pub(super) tracking: bool,
    /// The server will push the next change of K.
    pub(super) tracks: bool,
    pub(super) session: Session,
    pub(super) commands: Queue<Command>,
    pub(super) frames: Queue<Frame>,
}

impl Link {
    /// A new connection, after a good self-test.
    pub(super) fn new() -> Self {
        Self {
            open: true,
            tracking: true,
            session: Session::Present,
            ..Self::default()
        }
    }

    /// Sends a command. A link that the server closed loses it.
    pub(super) fn send(&mut self, command: Command) {
        if self.open {
            self.commands.push(command);
        }
    }
}

/// Whether an entry is watched, and whether its counter still is its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Watch {
    None,
    Unchanged,
    Changed,
}

/// A local entry of K.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) value: Version,
    /// Since its own command was sent.
    pub(super) age: Age,
    pub(super) watch: Watch,
    pub(super) session: Session,
    /// Its command was sent before this instance's own invalidation, which is remembered for S (I4).
    pub(super) before_mark: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Phase {
    #[default]
    Idle,
    /// The counter was read.
    Stamped,
    Sent,
    Replied {
        value: Option<Version>,
        caching: bool,
    },
}

/// A read of K, or a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Read {
    pub(super) phase: Phase,
    pub(super) age: Age,
    pub(super) tracked: bool,
    pub(super) fill: bool,
    /// What the compare-and-set wrote.
    pub(super) wrote: Option<Version>,
    /// The counter has not moved since the stamp.
    pub(super) stamp_holds: bool,
    /// The link that carries it: 0 is the present one.
    pub(super) link: u8,
    pub(super) session: Session,
    pub(super) before_mark: bool,
}

impl Read {
    /// True from the sending until the answer is kept.
    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.phase, Phase::Sent | Phase::Replied { .. })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Heartbeat {
    pub(super) age: Age,
    /// It is on its link, or was. Of two, those that were sent come first, in this order.
    pub(super) sent: bool,
    /// The reply, if it has arrived: whether `CLIENT CACHING` was answered OK.
    pub(super) reply: Option<bool>,
    pub(super) link: u8,
    pub(super) session: Session,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Instance {
    /// The present link, and an older one that a second supervisor keeps, or that carries a read.
    pub(super) links: [Link; 2],
    pub(super) entry: Option<Entry>,
    pub(super) read: Read,
    pub(super) heartbeats: [Option<Heartbeat>; MAX_HEARTBEATS],
    /// A repeated self-test is under way.
    pub(super) self_test: bool,
    /// A push waits for its task (only without `InlinePush`).
    pub(super) queued_push: bool,
    /// How long ago the present session was proved, and the previous one.
    pub(super) proved: [Option<Age>; 2],
    /// `CLIENT CACHING` was refused: the session has ended.
    pub(super) ended: [bool; 2],
    /// The age of its own last invalidation (I4).
    pub(super) mark: Option<Age>,
}

/// How far a request is with reading when its entry's session was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Proof {
    Unread,
    /// The counter was read first (only without `ProvedFirst`).
    AfterCounter,
    Read(Option<Age>),
}

/// The observed request. Its clock was read `nap` ticks ago, and all ages are as of then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Request {
    #[default]
    Idle,
    Started {
        instance: u8,
        needs: Version,
        nap: u8,
    },
    Found {
        instance: u8,
        needs: Version,
        nap: u8,
        entry: Entry,
        proof: Proof,
    },
}

impl Request {
    pub(super) fn nap(&self) -> u8 {
        match *self {
            Self::Idle => 0,
            Self::Started { nap, .. } | Self::Found { nap, .. } => nap,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Operator {
    #[default]
    Idle,
    Committed,
    Deleted,
    /// The reply arrived `waited` ticks ago.
    Waits {
        waited: u8,
    },
}

/// The state of the whole system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    pub(super) database: Version,
    /// The version that the last DEL invalidated.
    pub(super) deleted: Version,
    /// The version that the last invalidation confirmed to its own instance.
    pub(super) replied: Version,
    /// The version that the last invalidation confirmed to all instances.
    pub(super) confirmed: Version,
    /// What K holds.
    pub(super) key: Option<Version>,
    pub(super) operator: Operator,
    pub(super) losses: u8,
    pub(super) instances: [Instance; MAX_INSTANCES],
    pub(super) request: Request,
    pub(super) broken: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_small() {
        // Millions of states are in memory at a time.
        assert!(size_of::<State>() <= 256, "{}", size_of::<State>());
    }
}
