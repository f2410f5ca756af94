//! Times: we read every form that Python writes, and Python reads ours.

use std::time::Duration;

use crate::common::{APP, ENTRY, TOKEN, World, found, found_shared, micros_after, record};
use fleet::interop::database::Row;
use fleet::interop::python::Version;

/// A time in Python, and its microseconds after 03:04:05 UTC.
const HELD: [(&str, u64); 9] = [
    ("2026-01-02T03:04:05", 0),
    ("2026-01-02T03:04:05.120000", 120_000),
    ("2026-01-02T03:04:05.000001", 1),
    ("2026-01-02T03:04:05+00:00", 0),
    ("2026-01-02T03:04:05.120000+00:00", 120_000),
    ("2026-01-02T05:04:05+02:00", 0),
    ("2026-01-01T22:34:05.999999-04:30", 999_999),
    ("2026-01-02T08:49:05+05:45", 0),
    ("2026-01-02T03:04:05.123000", 123_000),
];

#[tokio::test]
async fn every_form_of_pythons_times_is_the_same_instant() {
    let mut forms = Vec::new();
    for version in Version::ALL {
        let world = World::new();
        let (rust, mut python) = (world.rust(), world.python(version));
        for (held, micros) in HELD {
            let mut written = record("py-1", TOKEN);
            written["created_at"] = held.into();
            python.set(APP, &written);
            let raw = world.text(ENTRY).unwrap();
            let token = found_shared(&rust, TOKEN).await;
            assert_eq!(token.created_at(), Some(micros_after(micros)), "{raw}");
            forms.push(raw);
        }
        assert_eq!(world.database.loads(), 0);
    }
    // Otherwise the test would have covered one form only.
    for form in [
        "03:04:05\"",
        "03:04:05.120000\"",
        "03:04:05Z\"",
        "03:04:05.120000Z\"",
        "03:04:05+00:00\"",
        "05:04:05+02:00\"",
        "22:34:05.999999-04:30\"",
    ] {
        assert!(forms.iter().any(|raw| raw.contains(form)), "{form}");
    }
}

#[tokio::test]
async fn times_with_three_decimals_or_none_are_read() {
    let world = World::new();
    let (rust, mut python) = (world.rust(), world.python(Version::First));
    for (timespec, form, micros) in [
        ("milliseconds", "03:04:05.120\"", 120_000),
        ("microseconds", "03:04:05.120456\"", 120_456),
        ("seconds", "03:04:05\"", 0),
        ("minutes", "T03:04\"", 0),
    ] {
        let mut written = record("py-1", TOKEN);
        written["last_used_at"] = "2026-01-02T03:04:05.120456".into();
        python.set_with_timespec(APP, &written, timespec);
        assert!(world.text(ENTRY).unwrap().contains(form), "{timespec}");
        let read = found_shared(&rust, TOKEN).await.last_used_at().unwrap();
        let expected = match timespec {
            "minutes" => micros_after(0) - Duration::from_secs(5),
            _ => micros_after(micros),
        };
        assert_eq!(read, expected, "{timespec}");
    }
}

#[tokio::test]
async fn our_times_are_naive_utc_with_six_decimals_or_none() {
    for version in Version::ALL {
        for (at, expected) in [
            (micros_after(0), "2026-01-02T03:04:05"),
            (micros_after(6), "2026-01-02T03:04:05.000006"),
            (micros_after(120_000), "2026-01-02T03:04:05.120000"),
            // Python has no nanoseconds, so they are truncated.
            (
                micros_after(999_999) + Duration::from_nanos(999),
                "2026-01-02T03:04:05.999999",
            ),
        ] {
            let mut row = Row::new("tok-1");
            row.created_at = Some(at);
            row.last_used_at = Some(at);
            let world = World::with(row);
            found(&world.rust(), TOKEN).await;
            let seen = world.python(version).get(TOKEN, APP).record.unwrap();
            assert_eq!(seen["created_at"], expected);
            assert_eq!(seen["last_used_at"], expected);
        }
    }
}
