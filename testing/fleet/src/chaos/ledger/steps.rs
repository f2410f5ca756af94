//! The minimum version of an answer as a function of time.

use crate::chaos::clock::Stamp;

/// A step function: times, each with the newest version that is required from then on.
#[derive(Debug, Default)]
pub(super) struct Steps(Vec<(Stamp, usize)>);

impl Steps {
    /// Requires `version` or a newer one from `at` on.
    pub(super) fn demand(&mut self, at: Stamp, version: usize) {
        let place = self.0.partition_point(|&(earlier, _)| earlier <= at);
        let before = place.checked_sub(1).map_or(0, |last| self.0[last].1);
        self.0.insert(place, (at, version.max(before)));
        for (_, later) in &mut self.0[place..] {
            *later = version.max(*later);
        }
    }

    /// Returns the version that was required before `at`.
    pub(super) fn before(&self, at: Stamp) -> usize {
        let place = self.0.partition_point(|&(earlier, _)| earlier < at);
        place.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::Steps;

    #[test]
    fn requirement_applies_to_later_times() {
        let mut steps = Steps::default();
        steps.demand(10, 3);
        assert_eq!((steps.before(10), steps.before(11)), (0, 3));
    }

    #[test]
    fn late_requirement_does_not_lower_another() {
        let mut steps = Steps::default();
        steps.demand(10, 3);
        steps.demand(20, 2);
        steps.demand(5, 4);
        assert_eq!(steps.before(6), 4);
        assert_eq!(steps.before(30), 4);
    }
}
