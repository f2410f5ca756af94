//! Tests of http.md. The numbers in the comments are its lines.
//!
//! A table of cases is run by calling the service and over real connections. Tests that do not fit into the
//! table have one module for each section.

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
