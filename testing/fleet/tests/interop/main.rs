//! The formats and the races of the Python service and ours, one by one, and both under load.

mod acl;
mod common;
mod deletions;
mod entries;
mod fencing;
mod last_use;
mod local_level;
mod lock;
mod mixed;
mod nulls;
mod outage;
mod prefix;
mod refusals;
mod tenants;
mod times;
