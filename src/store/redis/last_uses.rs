//! The times of last uses in the store (wire.md).

use chrono::{DateTime, Utc};

use super::codec::times;
use super::commands::Commands;
use super::transport::batch::Batch;
use super::transport::reply::{Reply, is_wrong_type, read};
use crate::store::backend::{LAST_USE_TTL, Put};
use crate::store::error::StoreError;
use crate::store::keys::EntryKey;

/// Replaces an earlier time, and anything that is not a time, of any type. This crate and Python write
/// times in one form, without an offset, in UTC and with the largest unit first, so that later times are
/// greater as texts.
// guard: U3
const SET_IF_LATER: &str = "\
local present = redis.pcall('GET', KEYS[1])
local form = '^%d%d%d%d%-%d%d%-%d%dT%d%d:%d%d:%d%d%.?%d*$'
if type(present) == 'string' and present >= ARGV[1] and string.find(present, form) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1";

impl Commands {
    pub(super) async fn write_last_uses(
        &self,
        uses: &[(EntryKey, DateTime<Utc>)],
    ) -> Result<Vec<Put>, StoreError> {
        let mut batch = Batch::new();
        for (key, at) in uses {
            let script = batch.cmd("EVAL").arg(SET_IF_LATER).arg(1);
            script.arg(self.keys.last_use(key));
            script
                .arg(times::to_isoformat(*at))
                .arg(LAST_USE_TTL.as_secs());
        }
        let replies = self.connection.send(&batch).await?.into_iter();
        Ok(replies.map(|reply| read::<i64>(reply).map(drop)).collect())
    }

    pub(super) async fn read_last_uses(
        &self,
        keys: &[EntryKey],
    ) -> Result<Vec<Option<DateTime<Utc>>>, StoreError> {
        let mut batch = Batch::new();
        for key in keys {
            batch.cmd("GET").arg(self.keys.last_use(key));
        }
        let replies = self.connection.send(&batch).await?.into_iter();
        replies.map(time).collect()
    }
}

/// Reads a time. A key that holds anything else counts as missing.
fn time(reply: Reply) -> Result<Option<DateTime<Utc>>, StoreError> {
    if is_wrong_type(&reply) {
        return Ok(None);
    }
    let bytes: Option<Vec<u8>> = read(reply)?;
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.and_then(|text| times::from_isoformat(&text)))
}
