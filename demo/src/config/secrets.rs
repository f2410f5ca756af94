//! Values that are never shown.

use std::fmt;

use tower_api_token::{BearerToken, TokenDigest, TokenFormat};

use super::StartError;

/// The bearer token for `/admin`.
#[derive(Clone)]
pub struct AdminToken {
    digest: TokenDigest,
    /// The text, if this process generated the token and has to print it.
    generated: Option<BearerToken>,
}

impl AdminToken {
    /// Takes the operator's own token.
    pub(super) fn given(text: &str) -> Result<Self, StartError> {
        if text.len() < 8 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StartError::of(
                "ADMIN_TOKEN",
                "needs at least 8 characters, all of them visible ASCII",
            ));
        }
        Ok(Self {
            digest: TokenDigest::of(text),
            generated: None,
        })
    }

    /// Generates a token.
    pub(super) fn random() -> Result<Self, StartError> {
        let token = TokenFormat::from_static("demo_admin_")
            .generate()
            .map_err(|error| StartError::of("ADMIN_TOKEN", error))?;
        Ok(Self {
            digest: token.digest(),
            generated: Some(token),
        })
    }

    /// Returns the digest, which is compared with that of a presented token.
    pub fn digest(&self) -> TokenDigest {
        self.digest
    }

    /// Returns the text of a generated token. A token from the configuration is never printed.
    pub fn generated(&self) -> Option<&str> {
        self.generated.as_ref().map(BearerToken::expose)
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}
