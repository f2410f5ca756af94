//! What `check_store` asks of a server.

use super::batch::Batch;
use super::commands::{COMPARE_AND_DELETE, COMPARE_AND_SET, SET_IF_MISSING};
use crate::store::Nonce;
use crate::store::keys::Keys;

/// In how many slots one server has to take a deletion: it may be one node of a cluster.
const SLOTS: u8 = 16;

/// How long what a check writes lasts, in milliseconds.
const LASTS: u64 = 1_000;

/// The commands that requests and invalidations need, each of which has to be permitted and possible: a
/// server that gives a lease and refuses the script that fills it is no store. On keys of its own, and on
/// a cluster on the node's that the tag belongs to.
pub(super) fn check(keys: &Keys, tag: Option<&str>) -> Batch {
    let (text, set) = (keys.probe(tag), keys.probe_set(tag));
    let (text, set) = (text.as_str(), set.as_str());
    let (first, second) = (Nonce::new().to_string(), Nonce::new().to_string());
    let mut batch = Batch::new();
    // Another check's may still be there, and nothing would be written.
    batch.cmd("DEL").arg(text);
    let mut script = |source: &str, values: &[&str], lasts: Option<u64>| {
        let script = batch.cmd("EVAL").arg(source).arg(1).arg(text);
        script.arg(values).arg(lasts);
    };
    script(SET_IF_MISSING, &[&first], Some(LASTS));
    script(COMPARE_AND_SET, &[&first, &second], Some(LASTS));
    script(COMPARE_AND_DELETE, &[&second], None);
    batch.cmd("GET").arg(text);
    batch.cmd("PTTL").arg(text);
    batch.cmd("PEXPIRE").arg(text).arg(LASTS);
    batch.cmd("SADD").arg(set).arg(1);
    batch.cmd("PEXPIRE").arg(set).arg(LASTS);
    batch.cmd("SMEMBERS").arg(set);
    if tag.is_none() {
        for n in 0..SLOTS {
            batch.cmd("DEL").arg(keys.probe(Some(&n.to_string())));
        }
    }
    if keys.is_seed() {
        batch.cmd("EXPIRE").arg(set).arg(1);
        batch.cmd("SREM").arg(set).arg(1);
        batch.cmd("SCAN").arg(0).arg("COUNT").arg(1);
    }
    batch
}
