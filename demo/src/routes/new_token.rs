//! The body of `POST /admin/tokens`, which is checked by hand: an error of serde would contain the invalid
//! value, which may be a token in the wrong place.

use serde_json::{Map, Value};
use tower_api_token::BearerToken;

use super::problem::Problem;
use crate::db::Timestamp;
use crate::format::{self, Format};

/// The minimum length of an imported token. A shorter one could be guessed.
const SHORTEST_TOKEN: usize = 16;

/// The maximum length of an imported token. This is the layer's limit: a longer one is never looked up.
const LONGEST_TOKEN: usize = 512;

/// The maximum length of a tenant's or an application's id, in bytes.
const LONGEST_ID: usize = 200;

/// The token to create.
pub(super) struct NewTokenRequest {
    pub(super) tenant_id: String,
    pub(super) app_id: Option<String>,
    pub(super) token_type: &'static str,
    /// An existing token, to be imported.
    pub(super) token: Option<BearerToken>,
    pub(super) expires_at: Option<Timestamp>,
}

impl NewTokenRequest {
    /// Parses the body.
    pub(super) fn parse(body: &[u8], now: Timestamp, format: Format) -> Result<Self, Problem> {
        let mut members = members(body)?;
        let tenant_id = text(&mut members, "tenant_id")?.ok_or_else(|| missing("tenant_id"))?;
        let token_type = text(&mut members, "type")?.ok_or_else(|| missing("type"))?;
        let token_type = match token_type.as_str() {
            "app" => "app",
            "dataset" => "dataset",
            _ => return Err(Problem::unprocessable("type: not app or dataset")),
        };
        let wanted = Self {
            tenant_id: identifier("tenant_id", tenant_id)?,
            app_id: text(&mut members, "app_id")?
                .map(|id| identifier("app_id", id))
                .transpose()?,
            token_type,
            token: text(&mut members, "token")?
                .map(|token| importable(token, token_type, format))
                .transpose()?,
            expires_at: text(&mut members, "expires_at")?
                .map(|end| future(&end, now))
                .transpose()?,
        };
        // A misspelt `expires_at` must not create a token that never expires.
        if members.is_empty() {
            Ok(wanted)
        } else {
            Err(Problem::unprocessable(
                "unknown member; expected tenant_id, app_id, type, token and expires_at",
            ))
        }
    }
}

/// Parses a body that is a JSON object.
pub(super) fn members(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err(Problem::new(
            axum::http::StatusCode::BAD_REQUEST,
            "the body is not a JSON object",
        )),
    }
}

pub(super) fn missing(name: &str) -> Problem {
    Problem::unprocessable(format!("{name}: missing"))
}

/// Takes a member that is a string, null or missing.
pub(super) fn text(
    members: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<String>, Problem> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Problem::unprocessable(format!("{name}: not a string"))),
    }
}

pub(super) fn identifier(name: &str, text: String) -> Result<String, Problem> {
    if is_identifier(&text) {
        Ok(text)
    } else {
        Err(Problem::unprocessable(format!(
            "{name}: empty, longer than {LONGEST_ID} bytes, or has control characters"
        )))
    }
}

/// Returns whether the text can be an identifier in our tables. PostgreSQL reports a NUL character as a
/// database error, which would look like an outage.
pub(super) fn is_identifier(text: &str) -> bool {
    (1..=LONGEST_ID).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Checks that the layer will accept the token: RFC 6750's `b64token`, and the format of its type with
/// [`Format::Checked`].
fn importable(text: String, token_type: &str, format: Format) -> Result<BearerToken, Problem> {
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
    if format == Format::Checked && !format::of_type(token_type).matches(text) {
        return Err(Problem::unprocessable(format!(
            "token: not demo_{token_type}_ followed by 30 random characters and a valid checksum; with \
             TOKEN_FORMAT=checked no other token is looked up"
        )));
    }
    Ok(token)
}

fn future(text: &str, now: Timestamp) -> Result<Timestamp, Problem> {
    let end = Timestamp::parse(text).ok_or_else(|| {
        Problem::unprocessable("expires_at: not a time such as 2030-01-31T12:00:00Z (RFC 3339)")
    })?;
    if end > now {
        Ok(end)
    } else {
        Err(Problem::unprocessable("expires_at: in the past"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &str) -> Result<NewTokenRequest, Problem> {
        parse_with(body, Format::Any)
    }

    fn parse_with(body: &str, format: Format) -> Result<NewTokenRequest, Problem> {
        let now = Timestamp::parse("2030-01-01T00:00:00Z").unwrap();
        NewTokenRequest::parse(body.as_bytes(), now, format)
    }

    #[test]
    fn checked_import_needs_its_types_prefix_and_a_checksum() {
        let token = format::of_type("app").generate().unwrap();
        let body = |token_type: &str, token: &str| {
            format!(r#"{{"tenant_id":"acme","type":"{token_type}","token":"{token}"}}"#)
        };
        let good = parse_with(&body("app", token.expose()), Format::Checked).unwrap();
        assert_eq!(good.token.unwrap().expose(), token.expose());
        let slip = token.expose().replace("demo_app_", "demo_app-");
        for (token_type, text) in [
            ("dataset", token.expose()),
            ("app", &slip),
            ("app", "hunter22-hunter22"),
        ] {
            let body = body(token_type, text);
            let shown = format!("{:?}", parse_with(&body, Format::Checked).err().unwrap());
            assert!(shown.contains("token: not demo_"), "{shown}");
            assert!(!shown.contains(text), "{shown}");
            assert!(parse_with(&body, Format::Any).is_ok(), "{body}");
        }
    }

    #[test]
    fn all_members_are_read() {
        let wanted = parse(
            r#"{"tenant_id":"acme","app_id":"chat","type":"dataset","token":"abcdefgh-._~+/01==",
                "expires_at":"2030-01-01T02:00:01+01:00"}"#,
        )
        .unwrap();
        assert_eq!(wanted.tenant_id, "acme");
        assert_eq!(wanted.app_id.as_deref(), Some("chat"));
        assert_eq!(wanted.token_type, "dataset");
        assert_eq!(wanted.token.unwrap().expose(), "abcdefgh-._~+/01==");
        assert_eq!(
            wanted.expires_at.unwrap().to_string(),
            "2030-01-01T01:00:01Z"
        );
    }

    #[test]
    fn null_members_count_as_missing() {
        let wanted = parse(
            r#"{"tenant_id":"acme","type":"app","app_id":null,"token":null,"expires_at":null}"#,
        )
        .unwrap();
        assert!(wanted.app_id.is_none() && wanted.token.is_none() && wanted.expires_at.is_none());
    }

    #[test]
    fn errors_name_the_member_and_not_its_value() {
        let long = "hunter22".repeat(65);
        let cases = [
            (r#"{"type":"app"}"#.to_owned(), "tenant_id"),
            (r#"{"tenant_id":"acme"}"#.to_owned(), "type"),
            (r#"{"tenant_id":"","type":"app"}"#.to_owned(), "tenant_id"),
            (
                r#"{"tenant_id":"hunter22\u0000","type":"app"}"#.to_owned(),
                "tenant_id",
            ),
            (
                r#"{"tenant_id":"acme","type":"hunter22"}"#.to_owned(),
                "type",
            ),
            (
                r#"{"tenant_id":"acme","type":["hunter22"]}"#.to_owned(),
                "type",
            ),
            (
                r#"{"tenant_id":"acme","type":"app","token":"hunter22"}"#.to_owned(),
                "token",
            ),
            (
                r#"{"tenant_id":"acme","type":"app","token":"hunter22 hunter22 "}"#.to_owned(),
                "token",
            ),
            (
                r#"{"tenant_id":"acme","type":"app","token":"================"}"#.to_owned(),
                "token",
            ),
            (
                r#"{"tenant_id":"acme","type":"app","token":"hunter22=hunter22"}"#.to_owned(),
                "token",
            ),
            (
                format!(r#"{{"tenant_id":"acme","type":"app","token":"{long}"}}"#),
                "token",
            ),
            (
                r#"{"tenant_id":"acme","type":"app","app_id":7}"#.to_owned(),
                "app_id",
            ),
            (
                r#"{"tenant_id":"acme","type":"app","expires_at":"hunter22"}"#.to_owned(),
                "expires_at",
            ),
            (
                r#"{"tenant_id":"acme","type":"app","expires_at":"2029-12-31T23:59:59Z"}"#
                    .to_owned(),
                "expires_at",
            ),
            (
                r#"{"tenant_id":"acme","type":"app","expire_at":"hunter22"}"#.to_owned(),
                "unknown member",
            ),
            (r#"["hunter22"]"#.to_owned(), "JSON"),
            ("hunter22".to_owned(), "JSON"),
        ];
        for (body, name) in cases {
            let shown = format!("{:?}", parse(&body).err().expect(&body));
            assert!(
                shown.contains(name) && !shown.contains("hunter22"),
                "{body}: {shown}"
            );
        }
    }
}
