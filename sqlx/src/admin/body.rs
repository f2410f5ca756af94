//! The body of a new key, which is checked by hand: an error of serde would contain the invalid value, which may be a token
//! in the wrong place.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use tower_api_token::BearerToken;

use crate::admin::problem::Problem;
use crate::admin::settings::Admin;
use crate::arguments::is_id;
use crate::new_key::NewKey;

/// The minimum length of an imported token. A shorter one could be guessed.
const SHORTEST_TOKEN: usize = 16;

/// The maximum length of an imported token. This is the layer's limit: a longer one is never looked up.
const LONGEST_TOKEN: usize = 512;

/// The key to create.
pub(crate) struct NewKeyRequest {
    pub(crate) tenant: String,
    pub(crate) key: NewKey,
    /// An existing text, to be imported.
    pub(crate) token: Option<BearerToken>,
}

impl NewKeyRequest {
    pub(crate) fn parse(body: &[u8], admin: &Admin) -> Result<Self, Problem> {
        let mut members = members(body)?;
        let tenant = id(&mut members, "tenant_id")?.ok_or_else(|| missing("tenant_id"))?;
        let token_type = id(&mut members, "token_type")?;
        if let Some(types) = &admin.settings.token_types {
            let token_type = token_type.as_ref().ok_or_else(|| missing("token_type"))?;
            if !types.contains(token_type) {
                let detail = format!("token_type: not {}", types.join(" or "));
                return Err(Problem::unprocessable(detail));
            }
        }
        let token = text(&mut members, "token")?
            .map(|text| importable(text, token_type.as_deref(), admin))
            .transpose()?;

        let mut key = NewKey::new(&tenant).scopes(words(&mut members)?);
        if let Some(token_type) = token_type {
            key = key.token_type(token_type);
        }
        if let Some(app_id) = id(&mut members, "app_id")? {
            key = key.app_id(app_id);
        }
        if let Some(name) = id(&mut members, "name")? {
            key = key.name(name);
        }
        if let Some(metadata) = members.remove("metadata") {
            key = key.metadata(metadata);
        }
        let end = text(&mut members, "expires_at")?;
        key = key.expires_at(end.map(|end| time(&end)).transpose()?);
        // A misspelt `expires_at` must not create a key that never expires.
        if members.is_empty() {
            Ok(Self { tenant, key, token })
        } else {
            Err(Problem::unprocessable(
                "unknown member; expected tenant_id, app_id, token_type, name, scopes, metadata, token and expires_at",
            ))
        }
    }
}

/// Parses a body that is a JSON object.
pub(crate) fn members(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Problem::bad("the body is not a JSON object")),
    }
}

fn missing(name: &str) -> Problem {
    Problem::unprocessable(format!("{name}: missing"))
}

/// Takes a member that is a string, null or missing.
fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::unprocessable(format!("{name}: not a string"))),
    }
}

fn id(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match text(members, name)? {
        Some(id) if !is_id(&id) => Err(Problem::unprocessable(format!(
            "{name}: empty, longer than 200 bytes, or has control characters"
        ))),
        id => Ok(id),
    }
}

/// Takes the scopes, which are checked with the key.
fn words(members: &mut Map<String, Value>) -> Result<Vec<String>, Problem> {
    let not_strings = || Problem::unprocessable("scopes: not an array of strings");
    let words = match members.remove("scopes") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(words)) => words,
        Some(_) => return Err(not_strings()),
    };
    let words = words.into_iter().map(|word| match word {
        Value::String(word) => Ok(word),
        _ => Err(not_strings()),
    });
    words.collect()
}

/// Checks that the layer will accept the token: RFC 6750's `b64token`, and the format of its type if imports need it.
fn importable(
    text: String,
    token_type: Option<&str>,
    admin: &Admin,
) -> Result<BearerToken, Problem> {
    // Before the checks, so that a rejected text is wiped too.
    let token = BearerToken::new(text);
    let text = token.expose();
    let characters = text.trim_end_matches('=');
    let grammar = !characters.is_empty()
        && characters
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
    if !grammar || !(SHORTEST_TOKEN..=LONGEST_TOKEN).contains(&text.len()) {
        return Err(Problem::unprocessable(format!(
            "token: not {SHORTEST_TOKEN} to {LONGEST_TOKEN} letters, digits and -._~+/, optionally followed by ="
        )));
    }
    let format = admin.keys.core().format_of(token_type);
    if admin.settings.imports_have_format && !format.matches(text) {
        return Err(Problem::unprocessable(
            "token: not the prefix of its type, followed by 30 random characters and a valid checksum; no other \
             token is looked up",
        ));
    }
    Ok(token)
}

fn time(text: &str) -> Result<DateTime<Utc>, Problem> {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(time.to_utc()),
        Err(_) => Err(Problem::unprocessable(
            "expires_at: not a time such as 2030-01-31T12:00:00Z (RFC 3339)",
        )),
    }
}
