//! The OAuth scopes of a record.

/// OAuth scopes (RFC 6749 section 3.3), with a space between them.
///
/// Boxed twice, because few services use them: inline, a text would take 8 more bytes for each entry.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Scopes(Option<Box<Box<str>>>);

impl Scopes {
    pub(crate) fn new(scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut text = String::new();
        for scope in scopes {
            let scope: String = scope.into();
            for word in scope.split_ascii_whitespace() {
                if !text.is_empty() {
                    text.push(' ');
                }
                text.push_str(word);
            }
        }
        Self((!text.is_empty()).then(|| Box::new(text.into())))
    }

    /// Returns the scopes as one text, or `None` if there are none.
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.0.as_deref().map(AsRef::as_ref)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.as_str().unwrap_or_default().split_ascii_whitespace()
    }

    pub(crate) fn contain(&self, scope: &str) -> bool {
        self.iter().any(|own| own == scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words_whatever_divides_them() {
        for given in [
            vec!["a:read", "b"],
            vec!["a:read b"],
            vec![" a:read", "", "\tb\n"],
        ] {
            let scopes = Scopes::new(given);
            assert_eq!(scopes.as_str(), Some("a:read b"));
            assert_eq!(scopes.iter().collect::<Vec<_>>(), ["a:read", "b"]);
            assert!(scopes.contain("a:read") && scopes.contain("b"));
            for none in ["", "a", "a:read b", " b", "B", "a:read "] {
                assert!(!scopes.contain(none), "{none:?}");
            }
        }
        for none in [Scopes::new([""]), Scopes::new([" "]), Scopes::default()] {
            assert_eq!(none.as_str(), None);
            assert!(!none.contain(""));
        }
    }

    #[test]
    fn scopes_take_a_pointer_in_a_record() {
        assert_eq!(size_of::<Scopes>(), size_of::<usize>());
    }
}
