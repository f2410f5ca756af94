//! The names of the tables.

use crate::error::Error;

/// The prefix in the files of `migrations/`.
pub(crate) const DEFAULT_PREFIX: &str = "api_token_";

/// PostgreSQL cuts names after 63 bytes, and the longest name has 22 after the prefix.
const LONGEST: usize = 40;

/// The schema and the prefix of the tables.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    schema: Option<String>,
    prefix: String,
    /// Both, as statements need them.
    qualified: String,
}

impl Tables {
    /// # Errors
    /// Returns an error for a name that would have to be quoted.
    pub(crate) fn new(schema: Option<String>, prefix: String) -> Result<Self, Error> {
        const RULE: &str =
            "not up to 40 letters from a to z, digits and _, which begin with a letter or _";
        if !is_identifier(&prefix) {
            return Err(Error::invalid("table_prefix", RULE));
        }
        let qualified = match &schema {
            Some(schema) if !is_identifier(schema) => return Err(Error::invalid("schema", RULE)),
            Some(schema) => format!("\"{schema}\".{prefix}"),
            None => prefix.clone(),
        };
        Ok(Self {
            schema,
            prefix,
            qualified,
        })
    }

    pub(crate) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the statement with the names of the tables, which it has as `~keys`.
    pub(crate) fn sql(&self, statement: &str) -> String {
        statement.replace('~', &self.qualified)
    }
}

/// Returns whether the text begins an identifier that no database changes or needs quoted.
fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next();
    first.is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && text.len() <= LONGEST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_need_quotes_are_rejected() {
        for name in [
            "",
            "1a",
            "a b",
            "a-b",
            "A",
            "a;",
            "a\"",
            "ä",
            &"a".repeat(41),
        ] {
            assert!(Tables::new(None, name.to_owned()).is_err(), "{name}");
            let schema = Some(name.to_owned());
            assert!(Tables::new(schema, "x_".to_owned()).is_err(), "{name}");
        }
    }

    #[test]
    fn statements_name_schema_and_prefix() {
        let tables = |schema: Option<&str>| {
            Tables::new(schema.map(str::to_owned), "my_".to_owned()).unwrap()
        };
        assert_eq!(tables(None).sql("~keys, ~audit"), "my_keys, my_audit");
        assert_eq!(tables(Some("user")).sql("~keys"), "\"user\".my_keys");
    }
}
