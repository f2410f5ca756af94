//! What a record's optional texts may be given as.

/// A text that may be missing: what a [`TokenRecord`](crate::TokenRecord) takes for its tenant and its
/// application.
///
/// It is implemented for every type that is `Into<String>`, such as `&str` and `uuid::Uuid`, and for an
/// `Option` of each. `K` (`String` or `Option<String>`) tells the two apart and is always inferred. This trait
/// is sealed.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a text",
    label = "expected an `Into<String>`, such as `&str`, `String` or `uuid::Uuid`, or an `Option` of one",
    note = "a number: `id.to_string()`"
)]
pub trait IntoOptionalText<K>: sealed::Sealed<K> {}

pub(super) mod sealed {
    pub trait Sealed<K> {
        fn into_optional_text(self) -> Option<String>;
    }
}

use sealed::Sealed;

#[diagnostic::do_not_recommend]
impl<T: Into<String>> IntoOptionalText<String> for T {}
impl<T: Into<String>> Sealed<String> for T {
    fn into_optional_text(self) -> Option<String> {
        Some(self.into())
    }
}

#[diagnostic::do_not_recommend]
impl<T: Into<String>> IntoOptionalText<Option<String>> for Option<T> {}
impl<T: Into<String>> Sealed<Option<String>> for Option<T> {
    fn into_optional_text(self) -> Option<String> {
        self.map(Into::into)
    }
}
