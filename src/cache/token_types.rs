//! The token types that the service declared.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::error::ConfigError;
use crate::store::keys::Keys;

#[derive(Debug)]
pub(crate) struct TokenTypes {
    declared: Option<BTreeSet<Arc<str>>>,
}

impl TokenTypes {
    /// Checks the declared names.
    ///
    /// # Errors
    /// Returns an error if the list is empty, if it is missing although keys hold a type, or if a name cannot
    /// be a type.
    pub(crate) fn new(names: Option<&[String]>, keys: &Keys) -> Result<Self, ConfigError> {
        let Some(names) = names else {
            if keys.is_dify() {
                return Err(ConfigError::of(
                    "token_types",
                    "declare them all, because keys of this layout hold a type and an invalidation deletes each of them",
                ));
            }
            return Ok(Self { declared: None });
        };
        if names.is_empty() {
            return Err(ConfigError::of(
                "token_types",
                "declare at least one, or leave the setter out",
            ));
        }
        for name in names {
            keys.check_token_type(name)?;
        }
        let declared = names.iter().map(|name| Arc::from(name.as_str())).collect();
        Ok(Self {
            declared: Some(declared),
        })
    }

    pub(crate) fn are_declared(&self) -> bool {
        self.declared.is_some()
    }

    /// Returns one of the declared types.
    pub(crate) fn first(&self) -> Option<Arc<str>> {
        self.declared.as_ref()?.first().cloned()
    }

    /// Returns whether a request may ask for this type; `None` asks for any.
    pub(crate) fn allow(&self, token_type: Option<&str>) -> bool {
        match (&self.declared, token_type) {
            (_, Some("")) => false,
            (Some(declared), Some(token_type)) => declared.contains(token_type),
            _ => true,
        }
    }

    /// Returns the types that a token's keys can hold, and `None` for the key without a type.
    pub(crate) fn in_keys(&self) -> Vec<Option<Arc<str>>> {
        let declared = self.declared.iter().flatten().cloned().map(Some);
        declared.chain([None]).collect()
    }
}
