//! Several instances on one Redis, judged by an oracle: what each program and its tests are made of.
//!
//! | module | |
//! |---|---|
//! | [`chaos`] | instances in processes of their own, while wires, servers and workers break at random |
//! | [`interop`] | instances beside nodes of the Python service, on the same keys |

pub mod chaos;
pub mod interop;
