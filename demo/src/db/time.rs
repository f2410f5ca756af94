//! Times as the database keeps them: whole microseconds, the finest that both databases hold, so
//! that what is written and what is read back are equal.
//!
//! Whatever a column holds is a [`Timestamp`]: who runs the database by hand writes `infinity`, or a year
//! with five digits, and no row may end the request that reads it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Decode, Encode, Postgres, Sqlite, Type};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment in UTC: `INTEGER` microseconds in SQLite, `TIMESTAMPTZ` in PostgreSQL.
///
/// RFC 3339 has years from 0000 to 9999. A moment outside of them is the first or the last one inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Since the beginning of 1970.
    micros: i64,
}

/// The beginning of the year 0000.
const FIRST: i64 = -62_167_219_200_000_000;

/// The end of the year 9999.
const LAST: i64 = 253_402_300_799_999_999;

/// The beginning of 2000, from which PostgreSQL counts.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

impl Timestamp {
    /// The present moment.
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Reads an RFC 3339 time with `Z` or an offset; `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        // Nanoseconds of a year with four digits are far from the end of an i128.
        let micros = moment.unix_timestamp_nanos().div_euclid(1000);
        Some(Self::clamped(micros.try_into().unwrap_or(LAST)))
    }

    /// The end of a token as a row has it: `infinity` is PostgreSQL's "never", and nothing that is read
    /// here ends later than the year 9999.
    pub(super) fn end(column: Option<Self>) -> Option<Self> {
        column.filter(|end| end.micros < LAST)
    }

    fn clamped(micros: i64) -> Self {
        Self {
            micros: micros.clamp(FIRST, LAST),
        }
    }
}

/// RFC 3339, in UTC.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.micros) * 1000);
        let moment = moment.map_err(|_| std::fmt::Error)?;
        f.write_str(&moment.format(&Rfc3339).map_err(|_| std::fmt::Error)?)
    }
}

impl From<SystemTime> for Timestamp {
    fn from(moment: SystemTime) -> Self {
        let (micros, before) = match moment.duration_since(UNIX_EPOCH) {
            Ok(since) => (since.as_nanos() / 1000, false),
            // Rounded down, as after 1970.
            Err(error) => (error.duration().as_nanos().div_ceil(1000), true),
        };
        let micros = i64::try_from(micros).unwrap_or(i64::MAX);
        Self::clamped(if before { -micros } else { micros })
    }
}

impl From<Timestamp> for SystemTime {
    fn from(moment: Timestamp) -> Self {
        let age = Duration::from_micros(moment.micros.unsigned_abs());
        let time = if moment.micros < 0 {
            UNIX_EPOCH.checked_sub(age)
        } else {
            UNIX_EPOCH.checked_add(age)
        };
        // Some systems begin later than the year 0000: what is so old is long over in any case.
        time.unwrap_or(UNIX_EPOCH)
    }
}

impl Type<Sqlite> for Timestamp {
    fn type_info() -> <Sqlite as sqlx::Database>::TypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }

    fn compatible(ty: &<Sqlite as sqlx::Database>::TypeInfo) -> bool {
        <i64 as Type<Sqlite>>::compatible(ty)
    }
}

impl<'q> Encode<'q, Sqlite> for Timestamp {
    fn encode_by_ref(
        &self,
        buf: &mut <Sqlite as sqlx::Database>::ArgumentBuffer<'q>,
    ) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.micros, buf)
    }
}

impl<'r> Decode<'r, Sqlite> for Timestamp {
    fn decode(value: <Sqlite as sqlx::Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
        <i64 as Decode<'r, Sqlite>>::decode(value).map(Self::clamped)
    }
}

impl Type<Postgres> for Timestamp {
    fn type_info() -> <Postgres as sqlx::Database>::TypeInfo {
        <OffsetDateTime as Type<Postgres>>::type_info()
    }
}

impl<'q> Encode<'q, Postgres> for Timestamp {
    fn encode_by_ref(
        &self,
        buf: &mut <Postgres as sqlx::Database>::ArgumentBuffer<'q>,
    ) -> Result<IsNull, BoxDynError> {
        // As the server sends it: microseconds, in eight bytes.
        Encode::<Postgres>::encode(self.micros - POSTGRES_EPOCH, buf)
    }
}

impl<'r> Decode<'r, Postgres> for Timestamp {
    fn decode(value: <Postgres as sqlx::Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
        // `infinity` is the greatest number, and `-infinity` the least.
        let micros = <i64 as Decode<'r, Postgres>>::decode(value)?;
        Ok(Self::clamped(micros.saturating_add(POSTGRES_EPOCH)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_read_and_shown_as_utc() {
        let moment = Timestamp::parse("2030-01-01T02:00:00.1234567+02:00").unwrap();
        assert_eq!(moment.to_string(), "2030-01-01T00:00:00.123456Z");
    }

    #[test]
    fn a_time_without_offset_is_refused() {
        for text in ["2030-01-01T00:00:00", "2030-01-01", "1893456000", ""] {
            assert_eq!(Timestamp::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn microseconds_survive_the_round_trip() {
        let now = Timestamp::now();
        assert_eq!(Timestamp::clamped(now.micros), now);
        assert_eq!(Timestamp::from(SystemTime::from(now)), now);
        let old = Timestamp::parse("1969-12-31T23:59:59.999999Z").unwrap();
        assert_eq!(Timestamp::from(SystemTime::from(old)), old);
    }

    #[test]
    fn every_moment_can_be_shown() {
        for (micros, shown) in [
            (i64::MIN, "0000-01-01T00:00:00Z"),
            (FIRST, "0000-01-01T00:00:00Z"),
            (0, "1970-01-01T00:00:00Z"),
            (LAST, "9999-12-31T23:59:59.999999Z"),
            (i64::MAX, "9999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(Timestamp::clamped(micros).to_string(), shown);
        }
        for (text, shown) in [
            ("9999-12-31T23:59:59-02:00", "9999-12-31T23:59:59.999999Z"),
            ("0000-01-01T00:00:00+02:00", "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), shown);
        }
        let far = UNIX_EPOCH + Duration::from_secs(1 << 60);
        assert_eq!(Timestamp::from(far), Timestamp::clamped(LAST));
    }
}
