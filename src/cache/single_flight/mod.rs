//! Single flight: concurrent callers of one key share a call.
//!
//! [`call`] says who may share a call's answer, and [`work`] what memory it takes.

mod call;
mod work;

pub(crate) use call::{CallError, Completion, Leader, SendNumber, SingleFlight};
pub(crate) use work::Work;
