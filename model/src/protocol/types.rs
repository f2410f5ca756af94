//! Token types: K holds one entry for all types, and each request compares the record's type with its own.
//!
//! A call has no type. The type of the request that started it matters only with one of these rules taken out.

use super::state::Record;
use super::steps::Steps;
use crate::rules::Rule;

impl Steps<'_> {
    /// The types that requests may demand.
    pub(super) fn types(&self) -> &'static [u8] {
        if self.config.type_of.is_some() {
            &[0, 1]
        } else {
            &[0]
        }
    }

    pub(super) fn calls_have_types(&self) -> bool {
        !self.holds(Rule::OtherTypeIsStored) || !self.holds(Rule::OtherTypeIsValid)
    }

    pub(super) fn types_of_calls(&self) -> &'static [u8] {
        if self.calls_have_types() {
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

    /// Returns what a fill writes for `record`: with K2 broken, a negative entry if the call is for another type.
    pub(super) fn stored(&self, i: usize, record: Record) -> Record {
        let is_other = !self.has_type(record, self.instance(i).asked);
        Record {
            negative: is_other && !self.holds(Rule::OtherTypeIsStored),
            ..record
        }
    }

    /// True, with K3 broken, if the call replaces a value because it is of another type.
    pub(super) fn replaces_other_type(&self, i: usize, record: Record) -> bool {
        !self.holds(Rule::OtherTypeIsValid) && !self.has_type(record, self.instance(i).asked)
    }

    /// True if an answer from `record` accepts a type that the token did not have at that version, or refuses the type
    /// that it had.
    pub(super) fn is_wrong_for_type(&self, record: Record, token_type: u8) -> bool {
        let good = self.has_type(record, token_type);
        let compared = !self.holds(Rule::TypePerRequest) || good;
        (!record.negative && compared) != good
    }
}
