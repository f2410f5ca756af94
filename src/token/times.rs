//! Times as they lie in Redis: RFC 3339 in UTC, or what Python's `isoformat` prints. Pure.

use std::time::{Duration, SystemTime};

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// `None` for a time outside the years that RFC 3339 can write (0 to 9999).
pub(crate) fn to_rfc3339(at: SystemTime) -> Option<String> {
    date_time(at)?.format(&Rfc3339).ok()
}

fn date_time(at: SystemTime) -> Option<OffsetDateTime> {
    // `From<SystemTime>` panics outside its range, so the range is asked for first.
    let (sign, distance) = match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (1, after),
        Err(before) => (-1, before.duration()),
    };
    let nanos = sign * i128::try_from(distance.as_nanos()).ok()?;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
}

/// Returns the nearest time that every form here has: the beginning of the year 1, or the last
/// microsecond of the year 9999. What is out of their range means "since ever" or "never", as a
/// database's `infinity` does.
pub(crate) fn nearest(at: SystemTime) -> SystemTime {
    const YEAR_1: Duration = Duration::from_secs(62_135_596_800);
    const YEAR_9999: Duration = Duration::from_micros(253_402_300_799_999_999);
    match at.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => SystemTime::UNIX_EPOCH + after.min(YEAR_9999),
        Err(before) => SystemTime::UNIX_EPOCH - before.duration().min(YEAR_1),
    }
}

/// `None` where the text is no RFC 3339 time.
pub(crate) fn from_rfc3339(text: &str) -> Option<SystemTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .ok()
        .map(SystemTime::from)
}

/// What `datetime.isoformat()` prints of a naive time in UTC: six decimals, or none where they are
/// zero. What lies below a microsecond is cut. `None` outside the years 1 to 9999, Python's own.
pub(crate) fn to_isoformat(at: SystemTime) -> Option<String> {
    let at = date_time(at).filter(|at| (1..=9999).contains(&at.year()))?;
    let (date, time) = (at.date(), at.time());
    let (month, micros) = (u8::from(date.month()), time.microsecond());
    let seconds = format!(
        "{:04}-{month:02}-{:02}T{:02}:{:02}:{:02}",
        date.year(),
        date.day(),
        time.hour(),
        time.minute(),
        time.second()
    );
    Some(if micros == 0 {
        seconds
    } else {
        format!("{seconds}.{micros:06}")
    })
}

/// Reads what `isoformat`, pydantic and RFC 3339 write: seconds and decimals may be left out, `T` may
/// be a space, the offset may be `Z`, `±HH:MM`, `±HHMM` or `±HH`. A naive time is in UTC.
pub(crate) fn from_isoformat(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked(10)?;
    let date = date_of(date)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let end = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (time, offset) = rest.split_at(end);
    let at = PrimitiveDateTime::new(date, time_of(time)?).assume_offset(offset_of(offset)?);
    let nanos = at.unix_timestamp_nanos();
    let distance = u64::try_from(nanos.unsigned_abs() / 1_000_000_000).ok()?;
    let part = u32::try_from(nanos.unsigned_abs() % 1_000_000_000).ok()?;
    let distance = Duration::new(distance, part);
    if nanos < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    }
}

/// `digits` of them, and nothing else: `parse` alone would take a sign.
fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Option<T> {
    let all = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok())?
}

fn date_of(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let month = Month::try_from(number::<u8>(month, 2)?).ok()?;
    if parts.next().is_some() {
        return None;
    }
    Date::from_calendar_date(number(year, 4)?, month, number(day, 2)?).ok()
}

fn time_of(text: &str) -> Option<Time> {
    let (clock, decimals) = match text.split_once('.') {
        None => (text, None),
        Some((clock, decimals)) => (clock, Some(decimals)),
    };
    let mut parts = clock.split(':');
    let (hour, minute) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
    let second = match parts.next() {
        Some(second) => number(second, 2)?,
        // Decimals of a minute are nobody's form.
        None if decimals.is_none() => 0,
        None => return None,
    };
    if parts.next().is_some() {
        return None;
    }
    let nanos = match decimals {
        None => 0,
        Some(decimals) if (1..=9).contains(&decimals.len()) => {
            let power = u32::try_from(9 - decimals.len()).ok()?;
            number::<u32>(decimals, decimals.len())? * 10_u32.pow(power)
        }
        Some(_) => return None,
    };
    Time::from_hms_nano(hour, minute, second, nanos).ok()
}

fn offset_of(text: &str) -> Option<UtcOffset> {
    if matches!(text, "" | "Z" | "z") {
        return Some(UtcOffset::UTC);
    }
    let (sign, rest) = match text.split_at(1) {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match rest.len() {
        2 => (rest, "00"),
        4 => rest.split_at_checked(2)?,
        5 => rest.split_once(':')?,
        _ => return None,
    };
    let (hours, minutes) = (number::<i8>(hours, 2)?, number::<i8>(minutes, 2)?);
    // Of minutes `from_hms` takes 59 and no more, but of hours 25.
    (hours < 24).then(|| UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok())?
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

    #[test]
    fn the_nearest_time_has_every_form() {
        let distance = Duration::from_secs(400_000_000_000);
        for (far, naive) in [
            (
                SystemTime::UNIX_EPOCH.checked_add(distance),
                "9999-12-31T23:59:59.999999",
            ),
            (
                SystemTime::UNIX_EPOCH.checked_sub(distance),
                "0001-01-01T00:00:00",
            ),
        ] {
            // Not every system has such times.
            let Some(far) = far else { continue };
            assert_eq!(to_isoformat(far), None);
            assert_eq!(to_isoformat(nearest(far)).unwrap(), naive);
            assert_eq!(to_rfc3339(nearest(far)).unwrap(), format!("{naive}Z"));
        }
    }

    #[test]
    fn isoformat_has_six_decimals_or_none() {
        let micros = |micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        assert_eq!(to_isoformat(micros(0)).unwrap(), "1970-01-01T00:00:00");
        assert_eq!(
            to_isoformat(micros(1)).unwrap(),
            "1970-01-01T00:00:00.000001"
        );
        let nanos = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_999);
        assert_eq!(to_isoformat(nanos).unwrap(), "1970-01-01T00:00:00.000001");
        for micros_since in [0, 1, 120_000, 1_700_000_000_123_456] {
            let at = micros(micros_since);
            assert_eq!(from_isoformat(&to_isoformat(at).unwrap()), Some(at));
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
