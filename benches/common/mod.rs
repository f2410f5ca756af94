//! Code that several benches share.

#![allow(dead_code, reason = "each program uses its own part")]

pub(crate) mod child;
pub(crate) mod good;
pub(crate) mod hot;
pub(crate) mod program;
pub(crate) mod table;
