//! Times as text: RFC 3339 in the digest layout, and what Python's `isoformat` prints in the Dify layout.

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Timelike, Utc};

/// The last microsecond that both forms can write.
const LAST: DateTime<Utc> = NaiveDate::from_ymd_opt(9999, 12, 31)
    .unwrap()
    .and_time(NaiveTime::from_hms_nano_opt(23, 59, 59, 999_999_000).unwrap())
    .and_utc();

/// Returns the first moment of `year`.
const fn first_of(year: i32) -> DateTime<Utc> {
    let day = NaiveDate::from_ymd_opt(year, 1, 1).expect("a year");
    day.and_time(NaiveTime::MIN).and_utc()
}

/// Writes a time in RFC 3339, which has the years 0 to 9999. A time out of its range is written as the
/// nearest one in it: it means "since ever" or "never", as a database's `infinity` does.
pub(crate) fn to_rfc3339(at: DateTime<Utc>) -> String {
    const FIRST: DateTime<Utc> = first_of(0);
    at.clamp(FIRST, LAST)
        .to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Reads an RFC 3339 time; `None` if it is not one.
///
/// A leap second is possible only at the end of a month in UTC, and is read as the nanosecond before it.
pub(crate) fn from_rfc3339(text: &str) -> Option<DateTime<Utc>> {
    let at = parse(text)?;
    if !is_leap_second(at) {
        return Some(at);
    }
    let before = at.with_nanosecond(999_999_999)?;
    let next = before + TimeDelta::nanoseconds(1);
    (next.day() == 1 && next.time() == NaiveTime::MIN).then_some(before)
}

/// Writes what Python's `datetime.isoformat()` prints of a naive time in UTC: six decimals, or none if they
/// are zero. Anything below a microsecond is cut off. A time out of Python's years, 1 to 9999, is written
/// as the nearest one in them.
pub(crate) fn to_isoformat(at: DateTime<Utc>) -> String {
    const FIRST: DateTime<Utc> = first_of(1);
    let at = at.clamp(FIRST, LAST);
    let form = match at.timestamp_subsec_micros() {
        0 => "%Y-%m-%dT%H:%M:%S",
        _ => "%Y-%m-%dT%H:%M:%S%.6f",
    };
    at.format(form).to_string()
}

/// Reads what `isoformat`, pydantic and RFC 3339 write. Seconds and decimals are optional, `T` may be a
/// space, and the offset may be `Z`, `±HH:MM`, `±HHMM` or `±HH`. A naive time is in UTC.
pub(crate) fn from_isoformat(text: &str) -> Option<DateTime<Utc>> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, offset) = rest.split_at(rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len()));
    // chrono ignores decimals beyond the ninth. No Python prints them.
    if time.len() > "00:00:00.000000000".len() {
        return None;
    }
    let seconds = if time.len() == 5 { ":00" } else { "" };
    let offset = match offset.len() {
        0 => "Z".to_owned(),
        3 => format!("{offset}:00"),
        5 => format!("{}:{}", offset.get(..3)?, offset.get(3..)?),
        _ => offset.to_owned(),
    };
    parse(&format!("{date}T{time}{seconds}{offset}")).filter(|at| !is_leap_second(*at))
}

fn parse(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|at| at.to_utc())
}

fn is_leap_second(at: DateTime<Utc>) -> bool {
    at.nanosecond() >= 1_000_000_000
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_survives_the_round_trip_to_the_nanosecond() {
        for nanos in [0, 1, 999_999_999, 1_700_000_000_123_456_789] {
            for at in [nanos, -nanos].map(DateTime::from_timestamp_nanos) {
                assert_eq!(from_rfc3339(&to_rfc3339(at)), Some(at));
            }
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
    fn a_leap_second_ends_a_month() {
        let before = from_rfc3339("2016-12-31T23:59:59.999999999Z");
        assert!(before.is_some());
        assert_eq!(from_rfc3339("2016-12-31T23:59:60Z"), before);
        assert_eq!(from_rfc3339("2017-01-01T01:59:60.5+02:00"), before);
        for none in ["2016-12-31T22:59:60Z", "2016-12-30T23:59:60Z"] {
            assert_eq!(from_rfc3339(none), None, "{none}");
        }
        assert_eq!(from_isoformat("2016-12-31T23:59:60"), None);
    }

    #[test]
    fn a_time_out_of_range_is_written_as_the_nearest() {
        for (far, rfc3339, isoformat) in [
            (
                DateTime::<Utc>::MAX_UTC,
                "9999-12-31T23:59:59.999999Z",
                "9999-12-31T23:59:59.999999",
            ),
            (
                DateTime::<Utc>::MIN_UTC,
                "0000-01-01T00:00:00Z",
                "0001-01-01T00:00:00",
            ),
        ] {
            assert_eq!(to_rfc3339(far), rfc3339);
            assert_eq!(to_isoformat(far), isoformat);
        }
    }

    #[test]
    fn isoformat_has_six_decimals_or_none() {
        let nanos = DateTime::from_timestamp_nanos;
        assert_eq!(to_isoformat(nanos(0)), "1970-01-01T00:00:00");
        assert_eq!(to_isoformat(nanos(999)), "1970-01-01T00:00:00");
        for one in [1_000, 1_999] {
            assert_eq!(to_isoformat(nanos(one)), "1970-01-01T00:00:00.000001");
        }
        for micros in [0, 1, 120_000, 1_700_000_000_123_456] {
            let at = DateTime::UNIX_EPOCH + Duration::from_micros(micros);
            assert_eq!(from_isoformat(&to_isoformat(at)), Some(at));
        }
    }

    #[test]
    fn every_form_that_python_prints_is_read_and_naive_means_utc() {
        let at = from_rfc3339("2026-01-02T03:04:05.12Z").unwrap();
        for text in [
            "2026-01-02T03:04:05.120000",
            "2026-01-02 03:04:05.12",
            "2026-01-02T03:04:05.120Z",
            "2026-01-02T03:04:05.120+00:00",
            "2026-01-02T05:04:05.120+0200",
            "2026-01-02T05:04:05.120+02",
            "2026-01-01T22:34:05.120-04:30",
        ] {
            assert_eq!(from_isoformat(text), Some(at), "{text}");
        }
        assert_eq!(
            from_isoformat("2026-01-02T03:04"),
            from_rfc3339("2026-01-02T03:04:00Z")
        );
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-01-02",
            "2026-01-02T",
            "2026-01-02T03",
            "2026-1-02T03:04:05",
            "2026-+1-02T03:04:05",
            "02026-1-02T03:04:05",
            "2026-01-02T+3:04:05",
            "2026-02-30T03:04:05",
            "2026-01-02T24:04:05",
            "2026-01-02T03:04.5",
            "2026-01-02T03:04:05.",
            "2026-01-02T03:04:05.1234567890",
            "2026-01-02T03:04:05+",
            "2026-01-02T03:04:05+2:00",
            "2026-01-02T03:04:05+24:00",
            "2026-01-02T03:04:05+02:60",
            "2026-01-02T03:04:05-02:60",
            "2026-01-02T03:04:05ZZ",
            "2026-01-02T03:04:05é",
            "２026-01-02T03:04:05",
        ] {
            assert_eq!(from_isoformat(text), None, "{text}");
        }
    }
}
