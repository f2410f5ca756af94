//! What a record's times may be given as.

use std::time::SystemTime;

use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};

/// A point in time: what a [`TokenRecord`](crate::TokenRecord) takes for its times.
///
/// It is implemented for chrono's `DateTime` and `NaiveDateTime`, which is read as UTC, for
/// [`SystemTime`], and for an `Option` of each. This trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a point in time",
    label = "expected chrono's `DateTime` or `NaiveDateTime`, a `SystemTime`, or an `Option` of one of them",
    note = "`time::OffsetDateTime`: `SystemTime::from(time)`",
    note = "seconds since 1970: `chrono::DateTime::from_timestamp(seconds, 0)`"
)]
pub trait IntoTimestamp: sealed::Sealed {}

pub(super) mod sealed {
    use chrono::{DateTime, Utc};

    pub trait Sealed {
        fn into_timestamp(self) -> Option<DateTime<Utc>>;
    }
}

use sealed::Sealed;

impl<Tz: TimeZone> IntoTimestamp for DateTime<Tz> {}
impl<Tz: TimeZone> Sealed for DateTime<Tz> {
    fn into_timestamp(self) -> Option<DateTime<Utc>> {
        Some(at(self.timestamp(), self.timestamp_subsec_nanos()))
    }
}

impl IntoTimestamp for NaiveDateTime {}
impl Sealed for NaiveDateTime {
    fn into_timestamp(self) -> Option<DateTime<Utc>> {
        self.and_utc().into_timestamp()
    }
}

impl IntoTimestamp for SystemTime {}
impl Sealed for SystemTime {
    fn into_timestamp(self) -> Option<DateTime<Utc>> {
        Some(from_system(self))
    }
}

impl<T: IntoTimestamp> IntoTimestamp for Option<T> {}
impl<T: IntoTimestamp> Sealed for Option<T> {
    fn into_timestamp(self) -> Option<DateTime<Utc>> {
        self.and_then(T::into_timestamp)
    }
}

/// Converts a system time. One that chrono cannot hold (before the year -262,142 or after 262,142) becomes
/// the nearest one that it can.
pub(crate) fn from_system(time: SystemTime) -> DateTime<Utc> {
    let seconds = |distance: u64| i64::try_from(distance).unwrap_or(i64::MAX);
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => at(seconds(after.as_secs()), after.subsec_nanos()),
        Err(before) => {
            // In whole seconds, rounded down, and nanoseconds after that.
            let before = before.duration();
            let nanos = before.subsec_nanos();
            let whole = seconds(before.as_secs()).saturating_add((nanos > 0).into());
            at(-whole, (1_000_000_000 - nanos) % 1_000_000_000)
        }
    }
}

/// Returns the time at this distance from 1970. chrono writes a leap second as nanoseconds beyond 999,999,999:
/// it becomes the second that follows, because [`SystemTime`] and databases have none.
fn at(seconds: i64, nanos: u32) -> DateTime<Utc> {
    let seconds = seconds.saturating_add((nanos / 1_000_000_000).into());
    let nearest = if seconds < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    };
    DateTime::from_timestamp(seconds, nanos % 1_000_000_000).unwrap_or(nearest)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{FixedOffset, NaiveDate, Timelike};

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_zoned_time_is_converted_and_a_naive_one_is_utc() {
        let there: DateTime<FixedOffset> = "2026-01-02T05:04:05.6+02:00".parse().unwrap();
        let here = utc("2026-01-02T03:04:05.6Z");
        assert_eq!(there.into_timestamp(), Some(here));
        assert_eq!(here.naive_utc().into_timestamp(), Some(here));
        assert_eq!(Some(here).into_timestamp(), Some(here));
        assert_eq!(None::<NaiveDateTime>.into_timestamp(), None);
    }

    #[test]
    fn a_system_time_is_converted_to_the_nanosecond() {
        for nanos in [0, 1, 999_999_999, 1_700_000_000_123_456_789] {
            let distance = Duration::from_nanos(nanos);
            let (after, before) = (
                SystemTime::UNIX_EPOCH + distance,
                SystemTime::UNIX_EPOCH - distance,
            );
            assert_eq!(SystemTime::from(from_system(after)), after);
            assert_eq!(SystemTime::from(from_system(before)), before);
        }
    }

    #[test]
    fn a_system_time_that_chrono_cannot_hold_becomes_the_nearest() {
        let far = Duration::from_secs(1 << 62);
        if let Some(after) = SystemTime::UNIX_EPOCH.checked_add(far) {
            assert_eq!(from_system(after), DateTime::<Utc>::MAX_UTC);
        }
        if let Some(before) = SystemTime::UNIX_EPOCH.checked_sub(far) {
            assert_eq!(from_system(before), DateTime::<Utc>::MIN_UTC);
        }
    }

    #[test]
    fn a_leap_second_becomes_the_second_that_follows() {
        let day = NaiveDate::from_ymd_opt(2016, 12, 31).unwrap();
        let leap = day.and_hms_nano_opt(23, 59, 59, 1_500_000_000).unwrap();
        assert!(leap.nanosecond() > 1_000_000_000);
        assert_eq!(leap.into_timestamp(), Some(utc("2017-01-01T00:00:00.5Z")));
    }
}
