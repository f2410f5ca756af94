//! Times as the database stores them: whole microseconds, the resolution of PostgreSQL, so that a value
//! is the same after it was written and read back.

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Decode, Encode, Sqlite, Type};

/// A time in UTC: `INTEGER` microseconds in SQLite, `TIMESTAMPTZ` in PostgreSQL.
///
/// Every value of such a column can be read. sqlx's own decoding of a `DateTime` panics for `infinity` and
/// for years that chrono does not support, and an operator may write either by hand. A time outside of the
/// years 0000 to 9999, which RFC 3339 is limited to, is replaced by the first or the last time within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Microseconds since the beginning of 1970.
    pub(super) micros: i64,
}

/// The beginning of the year 0000.
const FIRST: i64 = -62_167_219_200_000_000;

/// The end of the year 9999.
const LAST: i64 = 253_402_300_799_999_999;

impl Timestamp {
    /// Returns the current time.
    pub fn now() -> Self {
        Utc::now().into()
    }

    /// Parses an RFC 3339 time with `Z` or an offset. Returns `None` if `text` is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let moment = DateTime::parse_from_rfc3339(text).ok()?;
        Some(moment.to_utc().into())
    }

    /// Returns when a token expires. Returns `None` for PostgreSQL's `infinity` and for times after the
    /// year 9999.
    pub(super) fn end(column: Option<Self>) -> Option<Self> {
        column.filter(|end| end.micros < LAST)
    }

    pub(super) fn clamped(micros: i64) -> Self {
        Self {
            micros: micros.clamp(FIRST, LAST),
        }
    }
}

/// Formats the time by RFC 3339, in UTC.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let moment = DateTime::from(*self);
        f.write_str(&moment.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(moment: DateTime<Utc>) -> Self {
        Self::clamped(moment.timestamp_micros())
    }
}

impl From<Timestamp> for DateTime<Utc> {
    fn from(moment: Timestamp) -> Self {
        Self::from_timestamp_micros(moment.micros).expect("a year from 0000 to 9999")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_with_an_offset_is_converted_to_utc() {
        let moment = Timestamp::parse("2030-01-01T02:00:00.1234567+02:00").unwrap();
        assert_eq!(moment.to_string(), "2030-01-01T00:00:00.123456Z");
    }

    #[test]
    fn time_without_an_offset_is_rejected() {
        for text in ["2030-01-01T00:00:00", "2030-01-01", "1893456000", ""] {
            assert_eq!(Timestamp::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn microseconds_survive_the_round_trip() {
        let old = Timestamp::parse("1969-12-31T23:59:59.999999Z").unwrap();
        for moment in [Timestamp::now(), old] {
            assert_eq!(Timestamp::from(DateTime::from(moment)), moment);
        }
    }

    #[test]
    fn every_time_can_be_formatted() {
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
        assert_eq!(
            Timestamp::from(DateTime::<Utc>::MAX_UTC),
            Timestamp::clamped(LAST)
        );
    }
}
