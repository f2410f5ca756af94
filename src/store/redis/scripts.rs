//! The Lua scripts, and the commands that several files send.

use std::time::Duration;

use super::transport::batch::Batch;

/// Replaces the old value of a key by a new one, if the key holds the old one.
// guard: N4
pub(super) const COMPARE_AND_SET: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
return 0";

/// Deletes a key, if it holds the value.
pub(super) const COMPARE_AND_DELETE: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0";

/// Creates a key if it is missing, and otherwise returns its value. It is a script, and not `SET … NX PX …
/// GET`, so that a server that refuses scripts gives no lease: nothing could fill it, or give it back.
pub(super) const SET_IF_MISSING: &str = "\
local present = redis.pcall('GET', KEYS[1])
if present then return present end
local set = redis.pcall('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if set.err then return set end
return false";

/// Deletes a key that does not hold a set. It is one step, because another instance may have made it a set
/// again meanwhile.
const CLEAR_UNLESS_SET: &str = "\
local reply = redis.pcall('SMEMBERS', KEYS[1])
if type(reply) == 'table' and reply.err and string.find(reply.err, 'WRONGTYPE', 1, true) then
  return redis.call('DEL', KEYS[1])
end
return 0";

pub(super) fn compare_and_delete(batch: &mut Batch, name: &str, value: &[u8]) {
    let script = batch.cmd("EVAL").arg(COMPARE_AND_DELETE).arg(1);
    script.arg(name).arg(value);
}

pub(super) fn set_if_missing(batch: &mut Batch, name: &str, value: &str, ttl: Duration) {
    // guard: E4
    let script = batch.cmd("EVAL").arg(SET_IF_MISSING).arg(1).arg(name);
    script.arg(value).arg(millis(ttl));
}

pub(super) fn clear_unless_set(batch: &mut Batch, name: &str) {
    batch.cmd("EVAL").arg(CLEAR_UNLESS_SET).arg(1).arg(name);
}

/// Returns a time for `PX`, which must not be zero.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
