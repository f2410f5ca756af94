//! What holds for all values: what is written is read back, and TTLs keep their promises.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::Value as Json;

use crate::cache::ttl::Ttls;
use crate::store::entry::{Entry, Generation, ShortGeneration, Value};
use crate::store::keys::{KeyDigest, Keys};
use crate::store::layout::KeyLayout;
use crate::store::redis::codec::shared::{Decoded, EncodeError};
use crate::store::redis::codec::{digest, times};
use crate::store::redis::dify::codec;
use crate::token::timestamp;
use crate::{BearerToken, TokenRecord};

/// What fails is to become a test of its own, not a file of seeds.
fn config() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The first second of year 0, of year 1, and of year 10000, from 1970 on.
const YEAR_0: i64 = -62_167_219_200;
const YEAR_1: i64 = -62_135_596_800;
const YEAR_10000: i64 = 253_402_300_800;

fn at(seconds: i64, nanos: u32) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, nanos).unwrap()
}

/// Any time that RFC 3339 can write.
fn time() -> impl Strategy<Value = DateTime<Utc>> {
    (YEAR_0..YEAR_10000, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| at(seconds, nanos))
}

/// Any time that Python can hold.
fn python_time() -> impl Strategy<Value = DateTime<Utc>> {
    (YEAR_1..YEAR_10000, 0..1_000_000_u32).prop_map(|(seconds, micros)| at(seconds, micros * 1000))
}

/// Any text, with what needs an escape more often than by chance.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z\"\\\\/\u{0}-\u{1f}\u{7f}\u{2028}é\u{1f600}]{0,40}",
    ]
}

fn metadata() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        text().prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Json::from),
            hash_map(text(), inner, 0..6).prop_map(|members| members.into_iter().collect()),
        ]
    })
}

prop_compose! {
    fn record(time: fn() -> BoxedStrategy<DateTime<Utc>>)(
        id in text().prop_filter("an id", |id| !id.is_empty()),
        texts in (text(), option::of(text()), option::of(text())),
        times in (option::of(time()), option::of(time()), option::of(time())),
        scopes in vec(text(), 0..3),
        metadata in metadata(),
    ) -> TokenRecord<Json> {
        let (token_type, app_id, tenant_id) = texts;
        let (created_at, expires_at, last_used_at) = times;
        TokenRecord::new(id)
            .token_type(token_type)
            .app_id(app_id)
            .tenant_id(tenant_id)
            .created_at(created_at)
            .expires_at(expires_at)
            .last_used_at(last_used_at)
            .scopes(scopes)
            .metadata(metadata)
    }
}

fn generation() -> impl Strategy<Value = Option<Generation>> {
    option::of(any::<u128>().prop_map(|n| Generation::parse(&format!("{n:032x}")).unwrap()))
}

/// The generation of all entries, as entries name it.
fn all() -> impl Strategy<Value = Option<ShortGeneration>> {
    option::of(any::<u64>().prop_map(ShortGeneration))
}

fn found(
    record: TokenRecord<Json>,
    all: Option<ShortGeneration>,
    generation: Option<Generation>,
    grace: u64,
) -> Value<Json> {
    let entry = Entry::new(record, generation).under(all);
    Value::Found(Arc::new(entry.with_grace(Duration::from_millis(grace))))
}

fn key_digest(token: &BearerToken) -> KeyDigest {
    let keys = Keys::new("properties".to_owned(), KeyLayout::digest()).unwrap();
    keys.key(token, &token.digest(), None).digest
}

/// Both are records, and the same.
fn assert_same(decoded: Decoded<Json>, value: &Value<Json>) {
    match (decoded, value) {
        (Decoded::Value(Value::Found(read)), Value::Found(written)) => {
            // `Debug` of a record does not show it.
            assert_eq!(read.value.metadata, written.value.metadata);
            assert!(read.value == written.value, "{:?}", read.value);
            assert_eq!(read.all, written.all);
            assert_eq!(read.generation, written.generation);
            assert_eq!(read.grace(), written.grace());
        }
        (decoded, value) => panic!("{decoded:?} for {value:?}"),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_record_is_read_as_it_was_written(
        record in record(|| time().boxed()),
        all in all(),
        generation in generation(),
        grace in any::<u32>(),
        token in text(),
    ) {
        let digest = key_digest(&BearerToken::new(token));
        let value = found(record, all, generation, grace.into());
        match digest::encode(&value, &digest) {
            Ok(bytes) => assert_same(digest::decode(&bytes, &digest), &value),
            Err(error) => prop_assert_eq!(error, EncodeError::TooLarge),
        }
    }

    #[test]
    fn a_denied_record_is_read_as_it_was_written(
        record in record(|| time().boxed()),
        reason in text(),
        all in all(),
        generation in generation(),
    ) {
        let digest = key_digest(&BearerToken::new("app-0123456789abcdef"));
        let value = found(record.denied(reason), all, generation, 0);
        match digest::encode(&value, &digest) {
            Ok(bytes) => assert_same(digest::decode(&bytes, &digest), &value),
            Err(error) => prop_assert_eq!(error, EncodeError::TooLarge),
        }
    }

    #[test]
    fn a_negative_is_read_as_it_was_written(all in all()) {
        let digest = key_digest(&BearerToken::new("app-0123456789abcdef"));
        let value = Value::<Json>::Absent(Arc::new(Entry::new((), None).under(all)));
        let bytes = digest::encode(&value, &digest).unwrap();
        match digest::decode::<Json>(&bytes, &digest) {
            Decoded::Value(Value::Absent(read)) => prop_assert_eq!(read.all, all),
            decoded => panic!("{decoded:?}"),
        }
    }

    #[test]
    fn an_entry_of_the_seed_layout_is_read_as_it_was_written(
        record in record(|| python_time().boxed()),
        generation in generation(),
        token in text(),
    ) {
        let token = BearerToken::new(token);
        // It has no generation of all entries.
        let value = found(record, None, generation, 0);
        match codec::encode(&value, &token, None).unwrap() {
            Ok(bytes) => assert_same(codec::decode(&bytes, &token), &value),
            Err(error) => prop_assert_eq!(error, EncodeError::TooLarge),
        }
    }

    #[test]
    fn a_time_is_read_as_it_was_written(at in time()) {
        let written = times::to_rfc3339(at);
        prop_assert_eq!(times::from_rfc3339(&written), Some(at));
    }

    #[test]
    fn python_loses_what_lies_below_a_microsecond_and_nothing_else(
        whole in python_time(),
        nanos in 0..1_000_u64,
    ) {
        let written = times::to_isoformat(whole + Duration::from_nanos(nanos));
        prop_assert_eq!(times::from_isoformat(&written), Some(whole));
        // And with an offset it is what a clock there shows.
        prop_assert_eq!(times::from_isoformat(&format!("{written}+00:00")), Some(whole));
    }

    #[test]
    fn every_system_time_can_be_written(seconds in any::<i64>(), nanos in 0..1_000_000_000_u32) {
        let distance = Duration::new(seconds.unsigned_abs(), nanos);
        let time = match seconds < 0 {
            true => SystemTime::UNIX_EPOCH.checked_sub(distance),
            false => SystemTime::UNIX_EPOCH.checked_add(distance),
        };
        if let Some(time) = time.map(timestamp::from_system) {
            let nearest = time.clamp(at(YEAR_0, 0), at(YEAR_10000 - 1, 999_999_000));
            prop_assert_eq!(times::from_rfc3339(&times::to_rfc3339(time)), Some(nearest));
            prop_assert!(times::from_isoformat(&times::to_isoformat(time)).is_some());
        }
    }
}

prop_compose! {
    /// All that a builder takes.
    fn ttls()(
        ttl in 1..=30 * DAY.as_millis() as u64,
        negative_ttl in 1..=DAY.as_millis() as u64,
        jitter_percent in 0..=50_u32,
        stale in 0..=30 * DAY.as_millis() as u64,
    ) -> Ttls {
        Ttls {
            ttl: Duration::from_millis(ttl),
            negative_ttl: Duration::from_millis(negative_ttl),
            jitter_percent,
            stale_if_error: Duration::from_millis(stale),
        }
    }
}

/// Also the ends of what a clock can show.
fn any_time() -> impl Strategy<Value = DateTime<Utc>> {
    prop_oneof![
        4 => time(),
        1 => Just(DateTime::<Utc>::MIN_UTC),
        1 => Just(DateTime::<Utc>::MAX_UTC),
        1 => Just(DateTime::UNIX_EPOCH),
    ]
}

/// Any two times, and often near each other.
fn end_and_wall() -> impl Strategy<Value = (DateTime<Utc>, DateTime<Utc>)> {
    // Also by less than the least TTL.
    let distance = prop_oneof![
        (0..3_000_000_u64).prop_map(Duration::from_nanos),
        (0..40 * DAY.as_millis() as u64).prop_map(Duration::from_millis),
    ];
    let near = (time(), distance, any::<bool>());
    prop_oneof![
        (any_time(), any_time()),
        near.prop_map(|(wall, distance, after)| {
            let end = match after {
                true => wall + distance,
                false => wall - distance,
            };
            (end, wall)
        }),
    ]
}

const LEAST: Duration = Duration::from_millis(1);

/// A TTL that jitter made of a whole one.
fn is_shortened(ttl: Duration, whole: Duration, percent: u32) -> bool {
    let least = whole - whole * percent / 100;
    (least..=whole).contains(&ttl) || ttl == LEAST && least < LEAST
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn jitter_only_shortens(ttls in ttls(), dice in any::<u32>(), wall in any_time()) {
        let record = ttls.of_record(None, wall, dice);
        prop_assert!(is_shortened(record, ttls.ttl, ttls.jitter_percent), "{record:?}");
        let negative = ttls.of_negative(dice);
        prop_assert!(is_shortened(negative, ttls.negative_ttl, ttls.jitter_percent), "{negative:?}");
        prop_assert_eq!(ttls.grace_of_record(None, wall, record), ttls.stale_if_error);
    }

    #[test]
    fn no_record_is_kept_past_its_tokens_end(
        ttls in ttls(),
        dice in any::<u32>(),
        (end, wall) in end_and_wall(),
    ) {
        let ttl = ttls.of_record(Some(end), wall, dice);
        prop_assert!(ttl >= LEAST);
        let grace = ttls.grace_of_record(Some(end), wall, ttl);
        prop_assert!(grace <= ttls.stale_if_error);
        match (end - wall).to_std() {
            Ok(left) if !left.is_zero() => {
                prop_assert!(ttl <= ttls.ttl);
                // Redis counts whole milliseconds, so that the last one may be begun.
                prop_assert!(ttl <= left.max(LEAST), "{ttl:?} of {left:?}");
                prop_assert!(ttl + grace <= left.max(LEAST), "{grace:?}");
            }
            // Past its expiry: the negative TTL, and no grace.
            _ => {
                prop_assert!(is_shortened(ttl, ttls.negative_ttl, ttls.jitter_percent));
                prop_assert_eq!(grace, Duration::ZERO);
            }
        }
    }

    /// The same token asked for later is not kept for longer: a TTL does not slide.
    #[test]
    fn a_later_look_does_not_move_the_end(
        ttls in ttls(),
        dice in any::<u32>(),
        (end, wall) in end_and_wall(),
        later in 0..40 * DAY.as_millis() as i64,
    ) {
        let Some(then) = wall.checked_add_signed(TimeDelta::milliseconds(later)).filter(|then| *then < end) else {
            return Ok(());
        };
        let first = ttls.of_record(Some(end), wall, dice);
        let second = ttls.of_record(Some(end), then, dice);
        prop_assert!(second <= first);
    }
}
