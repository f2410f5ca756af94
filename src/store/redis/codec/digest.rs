//! The values of the digest layout: their kind, the version of the format, and JSON (`V1{…}`, `D2{…}`) or the generation of
//! all entries (`N1…`).

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::shared::{
    Decoded, EncodeError, LEASE, guarded, read_metadata, within_limit, write_metadata,
};
use super::times;
use crate::store::entry::{Entry, Generation, ShortGeneration, Value};
use crate::store::keys::KeyDigest;
use crate::token::{Scopes, TokenRecord};

const RECORD: &[u8] = b"V1";
const ABSENT: &[u8] = b"N1";
const DENIED: &[u8] = b"D2";

/// A record to be written. What is empty is left out: it would cost each read of it time, and Redis memory.
#[derive(Serialize)]
struct RecordJson<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    token_type: Option<&'a str>,
    digest: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<&'a str>,
    /// The first half of the generation of all entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<&'a str>,
    /// The time from the soft end to the end of the entry, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    soft: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    denied: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<serde_json::Value>,
}

/// A record to be read. Texts that are only compared or parsed are borrowed.
#[derive(Deserialize)]
struct ReadRecordJson<'a, M> {
    id: String,
    app_id: Option<String>,
    tenant_id: Option<String>,
    #[serde(rename = "type")]
    token_type: Option<String>,
    #[serde(borrow)]
    digest: Text<'a>,
    #[serde(borrow)]
    last_used_at: Option<Text<'a>>,
    #[serde(borrow)]
    created_at: Option<Text<'a>>,
    #[serde(borrow)]
    expires_at: Option<Text<'a>>,
    #[serde(borrow)]
    all: Option<Text<'a>>,
    #[serde(borrow)]
    generation: Option<Text<'a>>,
    soft: Option<u64>,
    denied: Option<String>,
    #[serde(borrow)]
    scope: Option<Text<'a>>,
    #[serde(default = "Option::default")]
    metadata: Option<M>,
}

/// A text that is borrowed unless it holds escapes. serde does not borrow within an `Option<Cow<str>>`.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

pub(crate) fn encode<M: Serialize>(
    value: &Value<M>,
    digest: &KeyDigest,
) -> Result<Vec<u8>, EncodeError> {
    let bytes = match value {
        Value::Absent(entry) => {
            let all = entry.all.map(|all| all.to_string());
            [ABSENT, all.unwrap_or_default().as_bytes()].concat()
        }
        Value::Found(entry) => encode_record(entry, digest)?,
    };
    within_limit(bytes)
}

fn encode_record<M: Serialize>(
    entry: &Entry<TokenRecord<M>>,
    digest: &KeyDigest,
) -> Result<Vec<u8>, EncodeError> {
    let record = &entry.value;
    let last_used_at = record.last_used_at.map(times::to_rfc3339);
    let created_at = record.created_at.map(times::to_rfc3339);
    let expires_at = record.expires_at.map(times::to_rfc3339);
    let digest = digest.to_string();
    let all = entry.all.map(|all| all.to_string());
    let generation = entry.generation.map(|generation| generation.to_string());
    let json = RecordJson {
        id: &record.id,
        app_id: record.app_id.as_deref(),
        tenant_id: record.tenant_id.as_deref(),
        token_type: record.token_type.as_deref(),
        digest: &digest,
        last_used_at: last_used_at.as_deref(),
        created_at: created_at.as_deref(),
        expires_at: expires_at.as_deref(),
        all: all.as_deref(),
        generation: generation.as_deref(),
        soft: soft(entry.grace()),
        denied: record.denied.as_deref().map(AsRef::as_ref),
        scope: record.scopes.as_str(),
        metadata: write_metadata(&record.metadata)?,
    };
    let kind = if record.is_denied() { DENIED } else { RECORD };
    let mut bytes = Vec::with_capacity(512);
    bytes.extend_from_slice(kind);
    serde_json::to_writer(&mut bytes, &json).map_err(|_| EncodeError::Unwritable)?;
    Ok(bytes)
}

fn soft(grace: Duration) -> Option<u64> {
    let millis = u64::try_from(grace.as_millis()).ok()?;
    (millis > 0).then_some(millis)
}

pub(crate) fn decode<M: DeserializeOwned>(bytes: &[u8], digest: &KeyDigest) -> Decoded<M> {
    if bytes.starts_with(LEASE) {
        return Decoded::Lease;
    }
    let value = match bytes.strip_prefix(ABSENT) {
        Some(all) => decode_absent(all).map(|entry| Value::Absent(Arc::new(entry))),
        None => guarded(|| Some(Value::Found(Arc::new(decode_record(bytes, digest)?)))),
    };
    value.map_or(Decoded::Corrupt, Decoded::Value)
}

/// Reads an optional text, which must be valid if it exists.
fn each<T>(text: Option<Text<'_>>, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(Text(text)) => read(&text).map(Some),
    }
}

/// Reads the rest of a negative. A former release wrote none.
fn decode_absent(all: &[u8]) -> Option<Entry<()>> {
    let all = if all.is_empty() {
        None
    } else {
        Some(ShortGeneration::parse(std::str::from_utf8(all).ok()?)?)
    };
    Some(Entry::new((), None).under(all))
}

fn decode_record<M: DeserializeOwned>(
    bytes: &[u8],
    digest: &KeyDigest,
) -> Option<Entry<TokenRecord<M>>> {
    let (json, denied) = match bytes.strip_prefix(RECORD) {
        Some(json) => (json, false),
        None => (bytes.strip_prefix(DENIED)?, true),
    };
    // Checked once, and not for each text in it.
    let json = std::str::from_utf8(json).ok()?;
    let json: ReadRecordJson<'_, M> = serde_json::from_str(json).ok()?;
    if json.id.is_empty() || !digest.is_written(&json.digest.0) || json.denied.is_some() != denied {
        return None;
    }
    let all = each(json.all, ShortGeneration::parse)?;
    let generation = each(json.generation, Generation::parse)?;
    let entry = Entry::new(
        TokenRecord {
            id: json.id,
            app_id: json.app_id,
            tenant_id: json.tenant_id,
            token_type: json.token_type,
            scopes: Scopes::new(json.scope.map(|Text(text)| text)),
            digest: None,
            last_used_at: each(json.last_used_at, times::from_rfc3339)?,
            created_at: each(json.created_at, times::from_rfc3339)?,
            expires_at: each(json.expires_at, times::from_rfc3339)?,
            denied: json.denied.map(|reason| Box::new(reason.into())),
            metadata: read_metadata(json.metadata)?,
        },
        generation,
    );
    let grace = Duration::from_millis(json.soft.unwrap_or(0));
    Some(entry.under(all).with_grace(grace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenRecord;
    use crate::store::keys::Keys;
    use crate::store::layout::KeyLayout;
    use crate::store::redis::codec::shared::MAX_BYTES;
    use crate::token::BearerToken;

    /// Releases that do not know a member ignore it, and this one reads what they write.
    #[test]
    fn a_record_with_unknown_members_or_without_scopes_is_read() {
        let keys = Keys::new("api_token".to_owned(), KeyLayout::digest()).unwrap();
        let token = BearerToken::new("abc");
        let digest = keys.key(&token, &token.digest(), None).digest;
        let written = |record| {
            let bytes = encode(&Value::Found(Arc::new(Entry::new(record, None))), &digest);
            String::from_utf8(bytes.unwrap()).unwrap()
        };
        let scopes = |text: &str| match decode::<()>(text.as_bytes(), &digest) {
            Decoded::Value(Value::Found(entry)) => entry.value.scopes.as_str().map(str::to_owned),
            decoded => panic!("{text}: {decoded:?}"),
        };
        let former = written(TokenRecord::new("1"));
        assert!(!former.contains("scope"), "{former}");
        assert_eq!(scopes(&former), None);
        let new = written(TokenRecord::new("1").scopes(["a", "b:\"c\""]));
        assert_eq!(new.matches(r#","scope":"a b:\"c\"""#).count(), 1, "{new}");
        assert_eq!(scopes(&new).as_deref(), Some(r#"a b:"c""#));
        // As a release without `scope` reads the above.
        let later = former.replace('}', r#","later":["a",{"b":1}]}"#);
        assert_eq!(scopes(&later), None);
    }

    #[test]
    fn what_is_empty_is_not_written_and_may_be_null() {
        let keys = Keys::new("api_token".to_owned(), KeyLayout::digest()).unwrap();
        let token = BearerToken::new("abc");
        let digest = keys.key(&token, &token.digest(), None).digest;
        let value = Value::Found(Arc::new(Entry::new(TokenRecord::<()>::new("1"), None)));
        let written = String::from_utf8(encode(&value, &digest).unwrap()).unwrap();
        assert_eq!(written, format!(r#"V1{{"id":"1","digest":"{digest}"}}"#));
        let nulls =
            r#","app_id":null,"tenant_id":null,"type":null,"last_used_at":null,"created_at":null}"#;
        let nulls = written.replace('}', nulls);
        assert!(
            matches!(decode::<()>(nulls.as_bytes(), &digest), Decoded::Value(_)),
            "{nulls}"
        );
    }

    #[test]
    fn the_longest_record_has_sixteen_kib() {
        let keys = Keys::new("api_token".to_owned(), KeyLayout::digest()).unwrap();
        let token = BearerToken::new("abc");
        let digest = keys.key(&token, &token.digest(), None).digest;
        let length = |padding: usize| {
            let record = TokenRecord::new("1").metadata("x".repeat(padding));
            let value = Value::Found(Arc::new(Entry::new(record, None)));
            encode(&value, &digest).map(|bytes| bytes.len())
        };
        let rest = MAX_BYTES - length(0).unwrap();
        assert_eq!(length(rest), Ok(MAX_BYTES));
        assert_eq!(length(rest + 1), Err(EncodeError::TooLarge));
    }
}
