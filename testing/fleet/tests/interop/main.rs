//! The formats and races that we share with the Python service, one by one, and both sides under load.

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
