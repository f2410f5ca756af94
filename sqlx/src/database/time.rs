//! Times as the database stores them: whole microseconds, the resolution of PostgreSQL, so that a value
//! is the same after it was written and read back.

use chrono::{DateTime, Utc};

/// A time in UTC: `INTEGER` microseconds in SQLite, `TIMESTAMPTZ` in PostgreSQL.
///
/// Every value of such a column can be read. sqlx's own decoding of a `DateTime` panics for `infinity` and
/// for years that chrono does not support, and an operator may write either by hand. A time outside of the
/// years 0000 to 9999, which RFC 3339 is limited to, is replaced by the first or the last time within.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timestamp {
    /// Microseconds since the beginning of 1970.
    pub(crate) micros: i64,
}

/// The beginning of the year 0000.
const FIRST: i64 = -62_167_219_200_000_000;

/// The end of the year 9999.
const LAST: i64 = 253_402_300_799_999_999;

impl Timestamp {
    pub(crate) fn clamped(micros: i64) -> Self {
        Self {
            micros: micros.clamp(FIRST, LAST),
        }
    }
}

/// Returns when a key ends. Returns `None` for PostgreSQL's `infinity` and for times after the year 9999.
pub(crate) fn end(column: Option<Timestamp>) -> Option<DateTime<Utc>> {
    column
        .filter(|end| end.micros < LAST)
        .map(DateTime::<Utc>::from)
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

#[cfg(feature = "sqlite")]
mod sqlite {
    use sqlx::encode::IsNull;
    use sqlx::error::BoxDynError;
    use sqlx::{Database, Decode, Encode, Sqlite, Type};

    use super::Timestamp;

    impl Type<Sqlite> for Timestamp {
        fn type_info() -> <Sqlite as Database>::TypeInfo {
            <i64 as Type<Sqlite>>::type_info()
        }

        fn compatible(ty: &<Sqlite as Database>::TypeInfo) -> bool {
            <i64 as Type<Sqlite>>::compatible(ty)
        }
    }

    impl<'q> Encode<'q, Sqlite> for Timestamp {
        fn encode_by_ref(
            &self,
            buf: &mut <Sqlite as Database>::ArgumentBuffer<'q>,
        ) -> Result<IsNull, BoxDynError> {
            Encode::<Sqlite>::encode(self.micros, buf)
        }
    }

    impl<'r> Decode<'r, Sqlite> for Timestamp {
        fn decode(value: <Sqlite as Database>::ValueRef<'r>) -> Result<Self, BoxDynError> {
            <i64 as Decode<'r, Sqlite>>::decode(value).map(Self::clamped)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_survive_the_round_trip() {
        let old = DateTime::from_timestamp_micros(-1).unwrap();
        let now = DateTime::from(Timestamp::from(Utc::now()));
        for moment in [now, old] {
            assert_eq!(DateTime::from(Timestamp::from(moment)), moment);
        }
    }

    #[test]
    fn every_time_can_be_shown() {
        for (micros, shown) in [
            (i64::MIN, "0000-01-01T00:00:00+00:00"),
            (0, "1970-01-01T00:00:00+00:00"),
            (i64::MAX, "9999-12-31T23:59:59.999999+00:00"),
        ] {
            let moment = DateTime::<Utc>::from(Timestamp::clamped(micros));
            assert_eq!(moment.to_rfc3339(), shown);
        }
        let latest = Timestamp::from(DateTime::<Utc>::MAX_UTC);
        assert_eq!(latest, Timestamp::clamped(LAST));
        assert_eq!(end(Some(latest)), None);
    }
}
