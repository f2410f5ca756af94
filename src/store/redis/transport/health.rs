//! Whether a connection's heartbeats are answered.

/// The number of heartbeats in a row that are refused after which the connection is replaced.
const REFUSALS: u32 = 2;

/// The number of heartbeats that may be under way.
const MOST: usize = 32;

/// What became of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    Executed,
    Refused,
    Unanswered,
    /// The connection broke.
    Broken,
}

/// Whether a connection's heartbeats are answered.
#[derive(Default)]
pub(super) struct Health {
    under_way: usize,
    /// The number of those under way that were sent in a session.
    proving: usize,
    /// The number of heartbeats in a row that the server refused.
    refused: u32,
    /// Whether a heartbeat was sent after the last answer.
    waits: bool,
    /// The number of periods since the first such heartbeat. Periods, and not a time, so that a process that stood
    /// still does not take its own silence for the server's.
    periods: u32,
}

impl Health {
    /// Begins a period. Returns whether no answer has arrived for as many as `most`.
    pub(super) fn is_silent(&mut self, most: u32) -> bool {
        self.periods += u32::from(self.waits);
        // guard: O7 O8
        self.periods >= most
    }

    /// Returns whether another heartbeat may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.under_way < MOST
    }

    /// Notes that a heartbeat is sent, in a session if it `proves` something.
    pub(super) fn sends(&mut self, proves: bool) {
        self.under_way += 1;
        self.proving += usize::from(proves);
        self.waits = true;
    }

    /// Returns whether a heartbeat is under way that proves something.
    pub(super) fn is_proving(&self) -> bool {
        self.proving > 0
    }

    /// Takes an answer. Returns whether the connection is to be kept.
    pub(super) fn takes(&mut self, answer: Beat, proves: bool) -> bool {
        self.under_way -= 1;
        self.proving -= usize::from(proves);
        match answer {
            Beat::Executed => self.refused = 0,
            Beat::Refused => self.refused += 1,
            Beat::Unanswered => return true,
            Beat::Broken => return false,
        }
        (self.waits, self.periods) = (false, 0);
        self.refused < REFUSALS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_silent_after_some_periods_without_an_answer() {
        let mut health = Health::default();
        assert!(!health.is_silent(3));
        health.sends(true);
        assert!(!health.is_silent(3) && !health.is_silent(3));
        assert!(health.takes(Beat::Unanswered, true));
        assert!(health.is_silent(3));
        health.sends(false);
        assert!(health.takes(Beat::Executed, false));
        assert!(!health.is_silent(3) && !health.is_proving());
    }

    #[test]
    fn at_most_32_heartbeats_are_under_way() {
        let mut health = Health::default();
        for _ in 0..2 {
            for _ in 0..32 {
                assert!(health.has_room());
                health.sends(false);
            }
            assert!(!health.has_room());
            for _ in 0..32 {
                assert!(health.takes(Beat::Unanswered, false));
            }
        }
    }

    #[test]
    fn two_refusals_in_a_row_replace_the_connection() {
        let mut health = Health::default();
        for (answer, keeps) in [
            (Beat::Refused, true),
            (Beat::Executed, true),
            (Beat::Refused, true),
            (Beat::Refused, false),
        ] {
            health.sends(false);
            assert_eq!(health.takes(answer, false), keeps);
        }
    }
}
