//! PostgreSQL's binary format of a time.

use chrono::{DateTime, Utc};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgTypeInfo;
use sqlx::{Decode, Encode, Postgres, Type};

use crate::database::time::Timestamp;

/// The beginning of 2000, which is PostgreSQL's epoch.
const EPOCH: i64 = 946_684_800_000_000;

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        // The number, not the name: sqlx looks a name up with a prepared statement, which a pooler in transaction mode
        // does not allow.
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl<'q> Encode<'q, Postgres> for Timestamp {
    fn encode_by_ref(
        &self,
        buf: &mut <Postgres as sqlx::Database>::ArgumentBuffer<'q>,
    ) -> Result<IsNull, BoxDynError> {
        // The server's binary format: microseconds in eight bytes.
        Encode::<Postgres>::encode(self.micros - EPOCH, buf)
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: <Postgres as sqlx::Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
        // `infinity` is the largest integer, `-infinity` the smallest.
        let micros = <i64 as Decode<'r, Postgres>>::decode(value)?;
        Ok(Self::clamped(micros.saturating_add(EPOCH)))
    }
}
