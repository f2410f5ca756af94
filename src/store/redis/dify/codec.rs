//! The entries of Dify's service: seven members of JSON, with UTC times without an offset, or `null`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::store::entry::{Entry, Generation, Value};
use crate::store::redis::codec::shared::{
    Decoded, EncodeError, LEASE, guarded, read_metadata, within_limit, write_metadata,
};
use crate::store::redis::codec::times;
use crate::token::{BearerToken, Scopes, TokenRecord};

const NULL: &[u8] = b"null";

/// The members in the order in which Python writes them. Ours follow, and Python ignores them. They begin
/// with `~`, so that no later member of Python's has the same name.
#[derive(Serialize)]
struct Written<'a> {
    id: &'a str,
    app_id: Option<&'a str>,
    tenant_id: Option<&'a str>,
    #[serde(rename = "type")]
    token_type: &'a str,
    token: &'a str,
    last_used_at: Option<String>,
    created_at: Option<String>,
    #[serde(rename = "~expires_at", skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(rename = "~generation", skip_serializing_if = "Option::is_none")]
    generation: Option<String>,
    #[serde(rename = "~scope", skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(rename = "~metadata", skip_serializing_if = "Option::is_none")]
    metadata: Option<serde_json::Value>,
}

/// All seven members must exist, although some may be null: otherwise Python rejects the entry, and a miss of
/// one side must not be a hit of the other.
#[derive(Deserialize)]
struct Read<M> {
    id: String,
    #[serde(deserialize_with = "present")]
    app_id: Option<String>,
    #[serde(deserialize_with = "present")]
    tenant_id: Option<String>,
    #[serde(rename = "type")]
    token_type: String,
    token: zeroize::Zeroizing<String>,
    #[serde(deserialize_with = "present_time")]
    last_used_at: Option<DateTime<Utc>>,
    #[serde(deserialize_with = "present_time")]
    created_at: Option<DateTime<Utc>>,
    #[serde(rename = "~expires_at", default, deserialize_with = "present_time")]
    expires_at: Option<DateTime<Utc>>,
    // guard: W13
    #[serde(rename = "~generation")]
    generation: Option<String>,
    #[serde(rename = "~scope")]
    scope: Option<String>,
    #[serde(rename = "~metadata", default = "Option::default")]
    metadata: Option<M>,
    #[serde(rename = "expires_at")]
    former_expires_at: Option<serde_json::Value>,
    #[serde(rename = "generation")]
    former_generation: Option<serde_json::Value>,
    #[serde(rename = "metadata")]
    former_metadata: Option<serde_json::Value>,
}

impl<M: DeserializeOwned> Read<M> {
    /// Takes our members from their former names, if the entry has none under the present ones. A member that
    /// cannot be read is not ours: Python may use those names.
    fn with_former_names(mut self) -> Self {
        if self.expires_at.is_none() && self.generation.is_none() && self.metadata.is_none() {
            let time = self.former_expires_at.take();
            self.expires_at = time.and_then(|time| times::from_isoformat(time.as_str()?));
            let generation = self.former_generation.take();
            self.generation = generation
                .and_then(|text| Some(text.as_str()?.to_owned()))
                .filter(|text| Generation::parse(text).is_some());
            let metadata = self.former_metadata.take();
            self.metadata =
                // guard: M3
                metadata.and_then(|value| guarded(|| serde_json::from_value(value).ok()));
        }
        self
    }
}

/// Reads a member that may be null and must exist: serde has no default for a member with a function.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(from)
}

fn present_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text: Option<String> = Option::deserialize(from)?;
    let read = |text: String| {
        times::from_isoformat(&text).ok_or_else(|| serde::de::Error::custom("not a time"))
    };
    text.map(read).transpose()
}

/// Returns `None` for what has no form here: a denied record, one without a type, and one of another type
/// than `asked`, which the key holds.
pub(crate) fn encode<M: Serialize>(
    value: &Value<M>,
    token: &BearerToken,
    asked: Option<&str>,
) -> Option<Result<Vec<u8>, EncodeError>> {
    let Value::Found(entry) = value else {
        return Some(Ok(NULL.to_vec()));
    };
    let token_type = entry.value.token_type.as_deref()?;
    let has_form = !entry.value.is_denied() && entry.value.is_of_type(asked);
    has_form.then(|| encode_record(entry, token_type, token))
}

fn encode_record<M: Serialize>(
    entry: &Entry<TokenRecord<M>>,
    token_type: &str,
    token: &BearerToken,
) -> Result<Vec<u8>, EncodeError> {
    let record = &entry.value;
    let written = Written {
        id: &record.id,
        app_id: record.app_id.as_deref(),
        tenant_id: record.tenant_id.as_deref(),
        token_type,
        token: token.expose(),
        last_used_at: record.last_used_at.map(times::to_isoformat),
        created_at: record.created_at.map(times::to_isoformat),
        expires_at: record.expires_at.map(times::to_isoformat),
        generation: entry.generation.map(|generation| generation.to_string()),
        scope: record.scopes.as_str(),
        metadata: write_metadata(&record.metadata)?,
    };
    within_limit(serde_json::to_vec(&written).map_err(|_| EncodeError::Unwritable)?)
}

pub(crate) fn decode<M: DeserializeOwned>(bytes: &[u8], token: &BearerToken) -> Decoded<M> {
    if is_lease(bytes) {
        return Decoded::Lease;
    }
    if bytes == NULL {
        return Decoded::Value(Value::Absent(Arc::new(Entry::new((), None))));
    }
    let value = guarded(|| Some(Value::Found(Arc::new(decode_record(bytes, token)?))));
    value.map_or(Decoded::Corrupt, Decoded::Value)
}

fn decode_record<M: DeserializeOwned>(
    bytes: &[u8],
    token: &BearerToken,
) -> Option<Entry<TokenRecord<M>>> {
    let read: Read<M> = serde_json::from_slice(bytes).ok()?;
    let read = read.with_former_names();
    if read.id.is_empty() || !token.is(&read.token) {
        return None;
    }
    let generation = match read.generation {
        Some(text) => Some(Generation::parse(&text)?),
        None => None,
    };
    let record = TokenRecord {
        id: read.id,
        app_id: read.app_id,
        tenant_id: read.tenant_id,
        token_type: Some(read.token_type),
        scopes: Scopes::new(read.scope),
        digest: None,
        last_used_at: read.last_used_at,
        created_at: read.created_at,
        expires_at: read.expires_at,
        denied: None,
        metadata: read_metadata(read.metadata)?,
    };
    Some(Entry::new(record, generation))
}

pub(crate) fn is_lease(bytes: &[u8]) -> bool {
    bytes.starts_with(LEASE)
}

/// Returns the tenant that an entry names, whatever else it holds. A sweep decides by it.
pub(crate) fn tenant_of(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct OfTenant {
        tenant_id: Option<String>,
    }
    serde_json::from_slice::<OfTenant>(bytes).ok()?.tenant_id
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::redis::codec::shared::MAX_BYTES;

    fn token() -> BearerToken {
        BearerToken::new("app-tok")
    }

    fn read(json: &str) -> Option<TokenRecord> {
        match decode::<()>(json.as_bytes(), &token()) {
            Decoded::Value(Value::Found(entry)) => Some(entry.value.clone()),
            _ => None,
        }
    }

    fn at(micros: u64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::from_micros(micros)
    }

    const TIME: u64 = 1_700_000_000_000_000; // 2023-11-14T22:13:20

    #[test]
    fn a_record_is_written_as_pydantic_writes_it_with_ours_after() {
        let record = TokenRecord::new("1")
            .token_type("app")
            .tenant_id("t".to_owned())
            .created_at(at(TIME + 120_000));
        let entry = Entry::new(record.clone(), None);
        let bytes = encode(&Value::Found(Arc::new(entry)), &token(), None)
            .unwrap()
            .unwrap();
        let seven = r#"{"id":"1","app_id":null,"tenant_id":"t","type":"app","token":"app-tok","last_used_at":null,"created_at":"2023-11-14T22:13:20.120000""#;
        assert_eq!(String::from_utf8(bytes).unwrap(), format!("{seven}}}"));

        let generation = Generation::new();
        let entry = Entry::new(record.expires_at(at(TIME)).metadata(7), Some(generation));
        let bytes = encode(&Value::Found(Arc::new(entry)), &token(), None)
            .unwrap()
            .unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            format!(
                r#"{seven},"~expires_at":"2023-11-14T22:13:20","~generation":"{generation}","~metadata":7}}"#
            )
        );
    }

    #[test]
    fn what_either_python_version_writes_is_read() {
        let spaced = r#"{"id": "1", "app_id": null, "tenant_id": "t\u00e9", "type": "app", "token": "app-tok", "last_used_at": null, "created_at": "2023-11-14T22:13:20"}"#;
        let record = read(spaced).unwrap();
        assert_eq!(record.tenant_id.as_deref(), Some("té"));
        assert_eq!(record.created_at, Some(at(TIME)));
        let compact = spaced
            .replace(": ", ":")
            .replace(", ", ",")
            .replace("\\u00e9", "é");
        assert_eq!(read(&compact), Some(record));
        let more = compact.replace("\"id\"", "\"unknown\":{},\"id\"");
        assert!(read(&more).is_some());
    }

    #[test]
    fn what_we_wrote_under_our_former_names_is_read() {
        let generation = Generation::new();
        let seven = r#"{"id":"1","app_id":null,"tenant_id":"t","type":"app","token":"app-tok","last_used_at":null,"created_at":null"#;
        let former = format!(
            r#"{seven},"expires_at":"2023-11-14T22:13:20","generation":"{generation}","soft":5,"metadata":7}}"#
        );
        let Decoded::Value(Value::Found(entry)) = decode::<u8>(former.as_bytes(), &token()) else {
            panic!("{former}");
        };
        assert_eq!(
            (entry.generation, entry.value.metadata),
            (Some(generation), 7)
        );
        assert_eq!(entry.value.expires_at, Some(at(TIME)));
    }

    #[test]
    fn members_that_python_may_have_one_day_are_not_taken_for_ours() {
        let seven = r#"{"id":"1","app_id":null,"tenant_id":"t","type":"app","token":"app-tok","last_used_at":null,"created_at":null"#;
        let strange = r#""expires_at":{"never":true},"generation":"second","metadata":{"a":[1]}"#;
        let metadata = |ours: &str| {
            let entry = format!("{seven},{strange}{ours}}}");
            match decode::<Option<String>>(entry.as_bytes(), &token()) {
                Decoded::Value(Value::Found(entry)) => {
                    assert_eq!((entry.generation, entry.value.expires_at), (None, None));
                    entry.value.metadata.clone()
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(metadata(""), None);
        assert_eq!(metadata(r#","~metadata":"pro""#).as_deref(), Some("pro"));
        // What is ours has to be readable.
        for ours in [r#","~generation":"second""#, r#","~expires_at":"x""#] {
            let entry = format!("{seven}{ours}}}");
            assert!(read(&entry).is_none(), "{ours}");
        }
    }

    #[test]
    fn what_python_would_refuse_is_refused() {
        let good = r#"{"id":"1","app_id":null,"tenant_id":null,"type":"app","token":"app-tok","last_used_at":null,"created_at":null}"#;
        assert!(read(good).is_some());
        for member in [
            "id",
            "app_id",
            "tenant_id",
            "type",
            "token",
            "last_used_at",
            "created_at",
        ] {
            let left_out = good.replace(&format!("\"{member}\""), "\"other\"");
            assert!(read(&left_out).is_none(), "{member}");
        }
        for (from, to) in [
            ("app-tok", "app-other"),
            ("\"1\"", "\"\""),
            ("\"1\"", "1"),
            ("\"created_at\":null", "\"created_at\":\"yesterday\""),
            ("}", ""),
        ] {
            assert!(read(&good.replace(from, to)).is_none(), "{to}");
        }
        for text in ["", "nul", "null ", "[]", "\"x\"", "V1{}", "L2x"] {
            assert!(
                matches!(decode::<()>(text.as_bytes(), &token()), Decoded::Corrupt),
                "{text}"
            );
        }
        assert!(matches!(
            decode::<()>(b"null", &token()),
            Decoded::Value(Value::Absent(_))
        ));
        assert!(matches!(decode::<()>(b"L1ab", &token()), Decoded::Lease));
    }

    #[test]
    fn the_longest_record_has_sixteen_kib() {
        let length = |padding: usize| {
            let record = TokenRecord::new("1")
                .token_type("app")
                .metadata("x".repeat(padding));
            let value = Value::Found(Arc::new(Entry::new(record, None)));
            encode(&value, &token(), None)
                .unwrap()
                .map(|bytes| bytes.len())
        };
        let rest = MAX_BYTES - length(0).unwrap();
        assert_eq!(length(rest), Ok(MAX_BYTES));
        assert_eq!(length(rest + 1), Err(EncodeError::TooLarge));
        assert_eq!(length(2 * MAX_BYTES), Err(EncodeError::TooLarge));
    }
}
