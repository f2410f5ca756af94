//! Values that nobody should read over somebody's shoulder.

use std::fmt;

use tower_api_token::{BearerToken, TokenDigest, TokenFormat};

use super::StartError;

/// The bearer token for `/admin`.
#[derive(Clone)]
pub struct AdminToken {
    digest: TokenDigest,
    /// Kept only if it is ours, to be printed.
    generated: Option<BearerToken>,
}

impl AdminToken {
    /// The operator's own.
    pub(super) fn given(text: &str) -> Result<Self, StartError> {
        if text.len() < 8 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StartError::of(
                "ADMIN_TOKEN",
                "needs at least 8 characters, visible ASCII only",
            ));
        }
        Ok(Self {
            digest: TokenDigest::of(text),
            generated: None,
        })
    }

    pub(super) fn random() -> Result<Self, StartError> {
        let token = TokenFormat::from_static("demo_admin_")
            .generate()
            .map_err(|error| StartError::of("ADMIN_TOKEN", error))?;
        Ok(Self {
            digest: token.digest(),
            generated: Some(token),
        })
    }

    /// What a presented token's digest is compared with.
    pub fn digest(&self) -> TokenDigest {
        self.digest
    }

    /// The text, if it was made here. One that was given is never printed.
    pub fn generated(&self) -> Option<&str> {
        self.generated.as_ref().map(BearerToken::expose)
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}
