//! From which time on at least which version has to be answered.

use crate::chaos::clock::Stamp;

/// A staircase: times, each with the newest version that was demanded by then.
#[derive(Debug, Default)]
pub(super) struct Steps(Vec<(Stamp, usize)>);

impl Steps {
    /// From `at` on, `version` or a newer one.
    pub(super) fn demand(&mut self, at: Stamp, version: usize) {
        let place = self.0.partition_point(|&(earlier, _)| earlier <= at);
        let before = place.checked_sub(1).map_or(0, |last| self.0[last].1);
        self.0.insert(place, (at, version.max(before)));
        for (_, later) in &mut self.0[place..] {
            *later = version.max(*later);
        }
    }

    /// What had been demanded before `at`.
    pub(super) fn before(&self, at: Stamp) -> usize {
        let place = self.0.partition_point(|&(earlier, _)| earlier < at);
        place.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::Steps;

    #[test]
    fn a_demand_holds_for_what_comes_after_it() {
        let mut steps = Steps::default();
        steps.demand(10, 3);
        assert_eq!((steps.before(10), steps.before(11)), (0, 3));
    }

    #[test]
    fn a_demand_that_is_heard_of_late_never_lowers_another() {
        let mut steps = Steps::default();
        steps.demand(10, 3);
        steps.demand(20, 2);
        steps.demand(5, 4);
        assert_eq!(steps.before(6), 4);
        assert_eq!(steps.before(30), 4);
    }
}
