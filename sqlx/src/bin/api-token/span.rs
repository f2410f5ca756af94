//! Lengths of time, as arguments and as texts.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Parses a whole number with a unit: `250ms`, `10s`, `5m`, `1h`, `90d`. A zero needs no unit.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    const RULE: &str = "not a whole number with a unit, such as 250ms, 10s, 5m, 1h or 90d";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = UNITS.iter().find(|(name, _)| *name == unit);
    let millis = number.parse::<u64>().ok().zip(unit);
    let millis = millis.and_then(|(number, (_, millis))| number.checked_mul(*millis));
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| RULE.to_owned())
}

/// Shows a length of time with two or three digits: `3 ms`, `1.25 s`.
pub(crate) fn show(span: TimeDelta) -> String {
    let millis = span.num_milliseconds().max(0);
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{:02} s", millis / 1_000, millis % 1_000 / 10),
        _ => format!("{} min {} s", millis / 60_000, millis % 60_000 / 1_000),
    }
}

/// Shows a time as RFC 3339 in UTC.
pub(crate) fn time(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_need_a_number_and_a_unit() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("250ms", 250),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("90d", 7_776_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in [
            "",
            "5",
            "h",
            "-1h",
            "1.5h",
            "1 h",
            "1w",
            "18446744073709551615d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_time_are_shown_in_the_unit_that_fits() {
        for (millis, shown) in [
            (-5, "0 ms"),
            (999, "999 ms"),
            (1_250, "1.25 s"),
            (61_000, "1 min 1 s"),
        ] {
            assert_eq!(show(TimeDelta::milliseconds(millis)), shown);
        }
    }
}
