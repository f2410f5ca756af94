//! RFC 3339 times in UTC, as they lie in Redis.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `None` for a time outside the years that RFC 3339 can write (0 to 9999).
pub(crate) fn to_rfc3339(at: SystemTime) -> Option<String> {
    // `From<SystemTime>` panics outside its range, so the range is asked for first.
    let (sign, distance) = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (1, after),
        Err(before) => (-1, before.duration()),
    };
    let nanos = sign * i128::try_from(distance.as_nanos()).ok()?;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    at.format(&Rfc3339).ok()
}

/// `None` where the text is no RFC 3339 time.
pub(crate) fn from_rfc3339(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .map(SystemTime::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_survives_the_round_trip_to_the_nanosecond() {
        for nanos in [0, 1, 999_999_999, 1_700_000_000_123_456_789] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
            assert_eq!(from_rfc3339(&to_rfc3339(at).unwrap()), Some(at));
            let before = SystemTime::UNIX_EPOCH - Duration::from_nanos(nanos);
            assert_eq!(from_rfc3339(&to_rfc3339(before).unwrap()), Some(before));
        }
    }

    #[test]
    fn offsets_are_understood_and_nonsense_is_not() {
        let utc = from_rfc3339("2026-01-02T03:04:05Z").unwrap();
        assert_eq!(from_rfc3339("2026-01-02T05:04:05+02:00"), Some(utc));
        for bad in ["", "2026-01-02", "2026-13-02T03:04:05Z", "yesterday"] {
            assert_eq!(from_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_beyond_the_year_9999_is_refused_instead_of_panicking() {
        let far = SystemTime::UNIX_EPOCH + Duration::from_secs(400_000_000_000);
        assert_eq!(to_rfc3339(far), None);
    }
}
