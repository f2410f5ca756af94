//! `WWW-Authenticate`: RFC 9110 section 11.6.1, RFC 6750 section 3, RFC 9728 section 5.1.

use http::{HeaderMap, HeaderValue, Uri, header::WWW_AUTHENTICATE};

use crate::error::ConfigError;
use crate::middleware::rejection::cause::Rejection;
use crate::middleware::rejection::scope::scope_list;

/// What the challenges of one layer say beside the error.
#[derive(Debug, Clone)]
struct Parameters {
    /// One challenge is sent for each.
    schemes: Vec<Box<str>>,
    /// Escaped for a quoted string.
    realm: String,
    scope: Option<String>,
    resource_metadata: Option<String>,
    described: bool,
}

/// The challenges of one layer, one for each scheme. They are built once.
#[derive(Debug, Clone)]
pub(crate) struct Challenges {
    parameters: Parameters,
    missing_token: Vec<HeaderValue>,
    invalid_token: Vec<HeaderValue>,
    multiple_tokens: Vec<HeaderValue>,
    denied: Vec<HeaderValue>,
    insufficient_scope: Vec<HeaderValue>,
}

impl Challenges {
    /// In the realm `api`.
    pub(crate) fn new(schemes: Vec<Box<str>>) -> Self {
        Self::of(Parameters {
            schemes,
            realm: "api".to_owned(),
            scope: None,
            resource_metadata: None,
            described: false,
        })
    }

    fn of(parameters: Parameters) -> Self {
        let scope = parameters.scope.as_deref();
        let challenges = |rejection: &Rejection, scope| parameters.challenges(rejection, scope);
        Self {
            missing_token: challenges(&Rejection::MissingToken, scope),
            invalid_token: challenges(&Rejection::InvalidToken, scope),
            insufficient_scope: challenges(&Rejection::INSUFFICIENT_SCOPE, scope),
            // No scope would help.
            multiple_tokens: challenges(&Rejection::MultipleTokens, None),
            denied: challenges(&Rejection::Denied("".into()), None),
            parameters,
        }
    }

    fn with(&mut self, change: impl FnOnce(&mut Parameters)) {
        change(&mut self.parameters);
        *self = Self::of(self.parameters.clone());
    }

    pub(crate) fn set_schemes(&mut self, schemes: Vec<Box<str>>) {
        self.with(|parameters| parameters.schemes = schemes);
    }

    /// # Errors
    /// The realm cannot stand in a quoted string of a header field.
    pub(crate) fn set_realm(&mut self, realm: &str) -> Result<(), ConfigError> {
        let quotable = realm
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if realm.is_empty() || !quotable {
            return Err(ConfigError::new(
                "a realm is one or more visible ASCII characters or spaces",
            ));
        }
        let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
        self.with(|parameters| parameters.realm = realm);
        Ok(())
    }

    /// # Errors
    /// It is no list of OAuth scopes.
    pub(crate) fn set_scope(&mut self, scope: &str) -> Result<(), ConfigError> {
        let scope = Some(scope_list(scope)?.to_owned());
        self.with(|parameters| parameters.scope = scope);
        Ok(())
    }

    /// # Errors
    /// It is no absolute URL.
    pub(crate) fn set_resource_metadata(&mut self, url: &str) -> Result<(), ConfigError> {
        let parsed = url.parse::<Uri>().ok();
        let is_absolute = parsed.is_some_and(|url| {
            let scheme = url.scheme_str();
            matches!(scheme, Some("https" | "http")) && url.authority().is_some()
        });
        let is_quotable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        if !is_absolute || !url.bytes().all(is_quotable) {
            let message = format!("{url:?} is no absolute URL of protected resource metadata");
            return Err(ConfigError::new(message));
        }
        let url = Some(url.to_owned());
        self.with(|parameters| parameters.resource_metadata = url);
        Ok(())
    }

    pub(crate) fn describe(&mut self) {
        self.with(|parameters| parameters.described = true);
    }

    /// Appends the challenges for a rejection; none if a challenge would ask for what was sent. Those of
    /// other schemes that the response has already stay.
    pub(super) fn append(&self, rejection: &Rejection, headers: &mut HeaderMap) {
        let challenges = match rejection {
            Rejection::MissingToken => &self.missing_token,
            Rejection::InvalidToken => &self.invalid_token,
            Rejection::MultipleTokens => &self.multiple_tokens,
            Rejection::Denied(_) => &self.denied,
            Rejection::InsufficientScope { scope: None } => &self.insufficient_scope,
            Rejection::InsufficientScope { scope } => {
                &self.parameters.challenges(rejection, scope.as_deref())
            }
            Rejection::Unavailable { .. } => return,
        };
        for challenge in challenges {
            headers.append(WWW_AUTHENTICATE, challenge.clone());
        }
    }
}

impl Parameters {
    /// One challenge for each scheme.
    fn challenges(&self, rejection: &Rejection, scope: Option<&str>) -> Vec<HeaderValue> {
        let mut text = format!(" realm=\"{}\"", self.realm);
        let mut add = |name: &str, value: &str| {
            text.push_str(", ");
            text.push_str(name);
            text.push_str("=\"");
            text.push_str(value);
            text.push('"');
        };
        if let Some(code) = rejection.error_code() {
            add("error", code);
            if self.described {
                // The same text for every reason that has this code.
                add("error_description", rejection.detail());
            }
        }
        if let Some(scope) = scope {
            add("scope", scope);
        }
        if let Some(url) = &self.resource_metadata {
            add("resource_metadata", url);
        }
        let schemes = self.schemes.iter();
        let challenges = schemes.map(|scheme| HeaderValue::try_from(format!("{scheme}{text}")));
        // Each part was checked when it was set, so that all of them are header values.
        challenges.filter_map(Result::ok).collect()
    }
}
