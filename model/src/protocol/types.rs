//! Token types: K holds one entry for all of them, and each request compares the record's type with its own.
//!
//! A call has no type of its own. Only where a rule about types is taken out does it matter for which request it began.

use super::Steps;
use super::state::Record;
use crate::rules::Rule;

impl Steps<'_> {
    /// The types that requests may be for.
    pub(super) fn types(&self) -> &'static [u8] {
        if self.config.type_of.is_some() {
            &[0, 1]
        } else {
            &[0]
        }
    }

    pub(super) fn flights_have_types(&self) -> bool {
        !self.holds(Rule::OtherTypeIsStored) || !self.holds(Rule::OtherTypeIsCurrent)
    }

    pub(super) fn types_of_flights(&self) -> &'static [u8] {
        if self.flights_have_types() {
            self.types()
        } else {
            &[0]
        }
    }

    fn has_type(&self, record: Record, token_type: u8) -> bool {
        let Some(type_of) = self.config.type_of else {
            return true;
        };
        type_of[usize::from(record.token)] == token_type
    }

    /// What a fill writes for `record`. With K2 broken, a negative entry where the call did not ask for its type.
    pub(super) fn stored(&self, i: usize, record: Record) -> Record {
        let is_other = !self.has_type(record, self.instance(i).asked);
        Record {
            negative: is_other && !self.holds(Rule::OtherTypeIsStored),
            ..record
        }
    }

    /// With K3 broken: a value that the call did not ask for is to be replaced.
    pub(super) fn replaces_other_type(&self, i: usize, record: Record) -> bool {
        !self.holds(Rule::OtherTypeIsCurrent) && !self.has_type(record, self.instance(i).asked)
    }

    /// True if `record` accepts a request of this type that the database, at that version, refuses, or refuses one that
    /// it accepts.
    pub(super) fn is_wrong_for_type(&self, record: Record, token_type: u8) -> bool {
        let good = self.has_type(record, token_type);
        let compared = !self.holds(Rule::TypePerRequest) || good;
        (!record.negative && compared) != good
    }
}
