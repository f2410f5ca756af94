//! http.md, line by line: the numbers in the comments are its lines.
//!
//! A table of cases, run by calling the service and over real connections; and what does not fit into a
//! table, a module a section.

mod answers;
mod case;
mod configuration;
mod coverage;
mod extraction;
mod methods;
mod places;
mod protocols;
mod table;
mod transport;
mod verdicts;
mod wire;
mod world;
