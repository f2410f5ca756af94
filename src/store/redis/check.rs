//! The commands by which `check_store` probes a server.

use super::scripts::{COMPARE_AND_DELETE, COMPARE_AND_SET, SET_IF_MISSING};
use super::transport::batch::Batch;
use crate::store::entry::Nonce;
use crate::store::keys::Keys;

/// The number of slots in which a single server has to accept a deletion: it may be a node of a cluster.
// guard: C18
const SLOTS: u8 = 16;

/// The TTL of the keys that a check writes, in milliseconds.
const TTL: u64 = 1_000;

/// Returns the commands that requests and invalidations need, on keys of their own, and on a cluster on the
/// node of `tag`. Each has to succeed: a server that gives a lease, and refuses the script that fills it,
/// cannot be used.
pub(super) fn check(keys: &Keys, tag: Option<&str>) -> Batch {
    let (text, set) = (keys.probe(tag), keys.probe_set(tag));
    let (text, set) = (text.as_str(), set.as_str());
    let (first, second) = (Nonce::new().to_string(), Nonce::new().to_string());
    let mut batch = Batch::new();
    // The key of another check may still exist, and then nothing would be written.
    // guard: O3
    batch.cmd("DEL").arg(text);
    let mut script = |source: &str, values: &[&str], ttl: Option<u64>| {
        let script = batch.cmd("EVAL").arg(source).arg(1).arg(text);
        script.arg(values).arg(ttl);
    };
    // guard: O2
    script(SET_IF_MISSING, &[&first], Some(TTL));
    script(COMPARE_AND_SET, &[&first, &second], Some(TTL));
    script(COMPARE_AND_DELETE, &[&second], None);
    batch.cmd("GET").arg(text);
    // guard: E6
    batch.cmd("PTTL").arg(text);
    batch.cmd("PEXPIRE").arg(text).arg(TTL);
    batch.cmd("SADD").arg(set).arg(1);
    batch.cmd("PEXPIRE").arg(set).arg(TTL);
    batch.cmd("SMEMBERS").arg(set);
    if tag.is_none() {
        for n in 0..SLOTS {
            batch.cmd("DEL").arg(keys.probe(Some(&n.to_string())));
        }
    }
    if keys.is_dify() {
        batch.cmd("EXPIRE").arg(set).arg(1);
        batch.cmd("SREM").arg(set).arg(1);
        batch.cmd("SCAN").arg(0).arg("COUNT").arg(1);
    }
    batch
}
