//! `WWW-Authenticate`: RFC 9110 section 11.6.1, RFC 6750 section 3, RFC 9728 section 5.1.

use http::{HeaderMap, HeaderValue, Uri, header::WWW_AUTHENTICATE};

use crate::error::ConfigError;
use crate::middleware::rejection::cause::Rejection;
use crate::middleware::rejection::scope::check_scope;

/// The parameters of a layer's challenges, as they were set.
#[derive(Clone)]
pub(crate) struct Parameters {
    pub(crate) realm: String,
    pub(crate) scope: Option<String>,
    pub(crate) resource_metadata: Option<String>,
    /// Whether challenges say what is wrong.
    pub(crate) errors: bool,
    /// Whether errors have an `error_description`.
    pub(crate) descriptions: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            realm: "api".to_owned(),
            scope: None,
            resource_metadata: None,
            errors: true,
            descriptions: false,
        }
    }
}

/// The challenges of one layer, one for each scheme. They are built once, except for those that name a
/// policy's scope.
#[derive(Clone)]
pub(crate) struct Challenges {
    schemes: Vec<Box<str>>,
    /// Checked, and the realm escaped for a quoted string.
    parameters: Parameters,
    missing_token: Vec<HeaderValue>,
    invalid_token: Vec<HeaderValue>,
    multiple_tokens: Vec<HeaderValue>,
    missing_protocol: Vec<HeaderValue>,
    denied: Vec<HeaderValue>,
    insufficient_scope: Vec<HeaderValue>,
}

impl Challenges {
    /// # Errors
    /// Returns an error if a parameter cannot be part of a challenge.
    pub(crate) fn new(schemes: Vec<Box<str>>, parameters: Parameters) -> Result<Self, ConfigError> {
        if let Some(scope) = &parameters.scope {
            check_scope("challenge_scope", scope)?;
        }
        if let Some(url) = &parameters.resource_metadata {
            check_url(url)?;
        }
        let parameters = Parameters {
            realm: quotable(&parameters.realm)?,
            ..parameters
        };
        let scope = parameters.scope.as_deref();
        let build = |rejection, scope| challenges(&schemes, &parameters, &rejection, scope);
        Ok(Self {
            missing_token: build(Rejection::MissingToken, scope),
            invalid_token: build(Rejection::InvalidToken, scope),
            insufficient_scope: build(Rejection::INSUFFICIENT_SCOPE, scope),
            // No scope would help.
            multiple_tokens: build(Rejection::MultipleTokens, None),
            missing_protocol: build(Rejection::MissingProtocol, None),
            denied: build(Rejection::Denied("".into()), None),
            schemes,
            parameters,
        })
    }

    /// Appends the challenges for a rejection; none if a challenge would ask for what was sent. Those of
    /// other schemes that the response has already stay.
    pub(super) fn append(&self, rejection: &Rejection, headers: &mut HeaderMap) {
        let challenges = match rejection {
            Rejection::MissingToken => &self.missing_token,
            Rejection::InvalidToken => &self.invalid_token,
            Rejection::MultipleTokens => &self.multiple_tokens,
            Rejection::MissingProtocol => &self.missing_protocol,
            Rejection::Denied(_) => &self.denied,
            Rejection::InsufficientScope { scope: None } => &self.insufficient_scope,
            Rejection::InsufficientScope { scope } => {
                &challenges(&self.schemes, &self.parameters, rejection, scope.as_deref())
            }
            Rejection::TooManyRequests { .. } | Rejection::Unavailable { .. } => return,
        };
        for challenge in challenges {
            headers.append(WWW_AUTHENTICATE, challenge.clone());
        }
    }
}

/// One challenge for each scheme.
fn challenges(
    schemes: &[Box<str>],
    parameters: &Parameters,
    rejection: &Rejection,
    scope: Option<&str>,
) -> Vec<HeaderValue> {
    let mut text = format!(" realm=\"{}\"", parameters.realm);
    let mut add = |name: &str, value: &str| {
        text.push_str(", ");
        text.push_str(name);
        text.push_str("=\"");
        text.push_str(value);
        text.push('"');
    };
    if let Some(code) = rejection.error_code().filter(|_| parameters.errors) {
        add("error", code);
        if parameters.descriptions {
            // The same text for every reason that has this code.
            add("error_description", rejection.detail());
        }
    }
    if let Some(scope) = scope {
        add("scope", scope);
    }
    if let Some(url) = &parameters.resource_metadata {
        add("resource_metadata", url);
    }
    let schemes = schemes.iter();
    let challenges = schemes.map(|scheme| HeaderValue::try_from(format!("{scheme}{text}")));
    // Each part was checked, so that all of them are header values.
    challenges.filter_map(Result::ok).collect()
}

/// The realm as it is written in a quoted string.
fn quotable(realm: &str) -> Result<String, ConfigError> {
    let is_quotable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if realm.is_empty() || !realm.bytes().all(is_quotable) {
        let message = format!("one or more visible ASCII characters or spaces, not {realm:?}");
        return Err(ConfigError::of("realm", message));
    }
    Ok(realm.replace('\\', "\\\\").replace('"', "\\\""))
}

fn check_url(url: &str) -> Result<(), ConfigError> {
    let parsed = url.parse::<Uri>().ok();
    let is_absolute = parsed.is_some_and(|url| {
        let scheme = url.scheme_str();
        matches!(scheme, Some("https" | "http")) && url.authority().is_some()
    });
    let is_quotable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if !is_absolute || !url.bytes().all(is_quotable) {
        let message = format!("an absolute http or https URL, not {url:?}");
        return Err(ConfigError::of("resource_metadata", message));
    }
    Ok(())
}
