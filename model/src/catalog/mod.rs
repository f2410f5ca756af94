//! The models by name, and for each rule a model that needs it.

mod large;
mod named;
mod needing;
mod parts;
mod small;
mod tracking;

pub use self::large::LARGE;
pub use self::named::Named;
pub use self::needing::needing;
pub use self::small::{LOADS_LOCAL, SMALL};
pub use self::tracking::{LARGE_TRACKING, SMALL_TRACKING};

/// Returns every model.
pub fn all() -> impl Iterator<Item = &'static Named> {
    [SMALL, SMALL_TRACKING, LARGE, LARGE_TRACKING]
        .into_iter()
        .flatten()
}

/// Returns the model of this name.
pub fn find(name: &str) -> Option<&'static Named> {
    all().find(|named| named.name == name)
}
