//! What the compiler says to the likely mistakes: it has to name the remedy, and not a bound ten types
//! deep. The mistakes are in `cases/`, each with the compiler's words beside it.
//!
//! A package of its own, because its dependencies are compiled once more for the cases: it has few.

/// The compiler whose words are in `cases/`. With another one the test says so and looks at nothing.
///
/// After a change that was meant: `TRYBUILD=overwrite cargo test -p ui`, and read what was written.
pub const COMPILER: &str = "rustc 1.95";
