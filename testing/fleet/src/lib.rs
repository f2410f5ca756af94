//! Several instances with one Redis, judged by an oracle: the parts of the programs and their tests.
//!
//! | module | |
//! |---|---|
//! | [`chaos`] | instances in several processes, during random faults of the network, servers and workers |
//! | [`interop`] | instances and nodes of the Python service that share their keys |

pub mod chaos;
pub mod interop;
