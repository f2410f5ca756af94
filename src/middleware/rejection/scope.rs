//! OAuth scopes as text.

use crate::error::ConfigError;

/// Checks `scope = scope-token *( SP scope-token )`, `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`.
///
/// # Errors
/// Returns an error that names the setting if `scope` is something else.
pub(crate) fn check_scope(setting: &'static str, scope: &str) -> Result<(), ConfigError> {
    let is_good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_good);
    if !scope.split(' ').all(is_word) {
        let message = format!("one or more OAuth scopes (RFC 6749 section 3.3), not {scope:?}");
        return Err(ConfigError::of(setting, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_words_with_single_spaces_between_them() {
        for good in ["a", "orders:write", "a b c", "https://h/a !#[]~"] {
            assert!(check_scope("scope", good).is_ok(), "{good:?}");
        }
        for bad in [
            "", " ", "a ", " a", "a  b", "a\tb", "a\"b", "a\\b", "é", "a\n",
        ] {
            assert!(check_scope("scope", bad).is_err(), "{bad:?}");
        }
    }
}
