//! The models by name, and for each rule a model that needs it.

mod large;
mod named;
mod needing;
mod parts;
mod small;

pub use self::large::LARGE;
pub use self::named::Named;
pub use self::needing::needing;
pub use self::small::{LOADS_LOCAL, SMALL};

/// Returns the model of this name.
pub fn find(name: &str) -> Option<&'static Named> {
    SMALL.iter().chain(LARGE).find(|named| named.name == name)
}
