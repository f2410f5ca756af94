//! The chaos run, and concurrent requests in several processes.

mod herd;
mod short;
