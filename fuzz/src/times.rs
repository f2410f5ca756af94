//! Times in the formats of Python and RFC 3339, compared with a parser written by hand.

use chrono::{DateTime, Datelike, TimeDelta, Utc};
use tower_api_token::fuzzing::{from_isoformat, from_rfc3339, to_isoformat, to_rfc3339};

pub(crate) fn target(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let read = from_isoformat(text);
        assert_eq!(read, expected(text), "{text}");
        for at in [read, from_rfc3339(text)].into_iter().flatten() {
            round_trips(at);
        }
        // Python's format includes RFC 3339's, apart from leap seconds and further decimals.
        if let (Some(one), Some(other)) = (from_rfc3339(text), read) {
            assert_eq!(one, other, "{text}");
        }
    }
    if let Some((sign, rest)) = data.split_first()
        && let Some(nanos) = rest.first_chunk()
    {
        let (seconds, nanos) = (u64::from_le_bytes(*nanos), u32::from(*sign) * 3_900_000);
        let seconds = (seconds >> (sign >> 1 & 63)) as i64;
        let seconds = if sign & 1 == 1 {
            seconds.wrapping_neg()
        } else {
            seconds
        };
        if let Some(at) = DateTime::from_timestamp(seconds, nanos) {
            round_trips(at);
        }
    }
}

/// Asserts that a written time is read back, with nanoseconds or Python's microseconds. A time out of range is
/// written as the nearest one in range.
fn round_trips(at: DateTime<Utc>) {
    let text = to_rfc3339(at);
    let back = from_rfc3339(&text).expect("what was written");
    // The last microsecond of the last year is not divided.
    if (0..9999).contains(&at.year()) {
        assert_eq!(back, at, "{text}");
    }
    assert_eq!(to_rfc3339(back), text);
    let text = to_isoformat(at);
    let back = from_isoformat(&text).expect("what was written");
    if (1..=9999).contains(&at.year()) {
        let cut = TimeDelta::zero()..TimeDelta::microseconds(1);
        assert!(cut.contains(&(at - back)), "{text}");
    }
    assert_eq!(to_isoformat(back), text);
}

/// Parses `YYYY-MM-DD`, then `T`, `t` or a space, then `HH:MM[:SS[.1 to 9 digits]]`, then nothing, `Z`, `z`,
/// `±HH`, `±HHMM` or `±HH:MM`.
fn expected(text: &str) -> Option<DateTime<Utc>> {
    let mut rest = Rest(text.as_bytes());
    let year = rest.digits(4)?;
    rest.one_of(b"-")?;
    let month = rest.digits(2)?;
    rest.one_of(b"-")?;
    let day = rest.digits(2)?;
    rest.one_of(b"Tt ")?;
    let hour = rest.digits(2)?;
    rest.one_of(b":")?;
    let minute = rest.digits(2)?;
    let (mut second, mut nanos) = (0, 0);
    if rest.one_of(b":").is_some() {
        second = rest.digits(2)?;
        if rest.one_of(b".").is_some() {
            let count = rest
                .0
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            if !(1..=9).contains(&count) {
                return None;
            }
            nanos = rest.digits(count)? * 10_i64.pow(9 - count as u32);
        }
    }
    let offset = match rest.one_of(b"Zz+-") {
        None | Some(b'Z' | b'z') => 0,
        Some(sign) => {
            let hours = rest.digits(2)?;
            let colon = rest.one_of(b":").is_some();
            let minutes = match rest.0.is_empty() && !colon {
                true => 0,
                false => rest.digits(2)?,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            if sign == b'-' { -offset } else { offset }
        }
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [
        31,
        if leap { 29 } else { 28 },
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    let in_month = *days.get(usize::try_from(month - 1).ok()?)?;
    let good = (1..=in_month).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if !good || !rest.0.is_empty() {
        return None;
    }
    let before = |year: i64| year * 365 + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
    let past: i64 = days[..usize::try_from(month - 1).ok()?].iter().sum();
    let day = before(year) - before(1970) + past + day - 1;
    let seconds = day * 86400 + hour * 3600 + minute * 60 + second - offset;
    DateTime::from_timestamp(seconds, u32::try_from(nanos).ok()?)
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn digits(&mut self, count: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        digits.iter().try_fold(0, |value, byte| {
            byte.is_ascii_digit()
                .then(|| value * 10 + i64::from(byte - b'0'))
        })
    }

    fn one_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }
}
