//! OAuth scopes as text.

use crate::error::ConfigError;

/// `scope = scope-token *( SP scope-token )`, `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`
pub(crate) fn scope_list(text: &str) -> Result<&str, ConfigError> {
    let is_good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_good);
    if !text.split(' ').all(is_word) {
        let message = format!("{text:?} is not a list of OAuth scopes (RFC 6749 section 3.3)");
        return Err(ConfigError::new(message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_words_with_single_spaces_between_them() {
        for good in ["a", "orders:write", "a b c", "https://h/a !#[]~"] {
            assert_eq!(scope_list(good).unwrap(), good);
        }
        for bad in [
            "", " ", "a ", " a", "a  b", "a\tb", "a\"b", "a\\b", "é", "a\n",
        ] {
            assert!(scope_list(bad).is_err(), "{bad:?}");
        }
    }
}
