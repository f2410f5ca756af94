//! What a token may look like: RFC 6750 section 2.1, and a format.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::error::ConfigError;
use crate::token::TokenFormat;

/// What a request presents as a token.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// A well-formed token; borrowed unless it had to be decoded.
    Token(Cow<'a, str>),
    /// A token of another kind, which the layer lets pass without verifying it.
    Other(Cow<'a, str>),
    /// Nothing, or a credential of another scheme.
    Nothing,
    /// A credential that is not a token by its form.
    Malformed,
    /// More than one credential. Choosing one would be a guess, so none is taken.
    Multiple,
    /// A token among the subprotocols of a WebSocket, and no other protocol to answer with.
    NoProtocol,
}

impl Presented<'_> {
    /// Combines two places. Two credentials are too many even if they are equal.
    // guard: H4
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, one) | (one, Self::Nothing) => one,
            _ => Self::Multiple,
        }
    }

    /// Combines two places. Two credentials are one if they are equal.
    pub(super) fn and_equal(self, other: Self) -> Self {
        match (self, other) {
            (Self::Token(one), Self::Token(two)) if one == two => Self::Token(one),
            (Self::Other(one), Self::Other(two)) if one == two => Self::Other(one),
            (one, two) => one.and(two),
        }
    }

    /// Takes the first place that has a credential, whatever it is.
    pub(super) fn or(self, other: Self) -> Self {
        match self {
            Self::Nothing => other,
            one => one,
        }
    }
}

/// What a token may look like.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    lengths: RangeInclusive<usize>,
    visible_ascii: bool,
    /// If there are any, a token has to match one of them.
    formats: Vec<TokenFormat>,
    /// Whether tokens of other kinds are recognized, instead of being malformed.
    others: bool,
}

impl Limits {
    /// # Errors
    /// Returns an error if no token could be accepted, or none of a format, or the empty one.
    pub(crate) fn new(
        lengths: RangeInclusive<usize>,
        visible_ascii: bool,
        formats: Vec<TokenFormat>,
    ) -> Result<Self, ConfigError> {
        if lengths.is_empty() || *lengths.start() == 0 {
            let message = format!("a range from 1 upwards, not {lengths:?}");
            return Err(ConfigError::of("token_length", message));
        }
        // guard: H14
        let is_excluded = |format: &&TokenFormat| !lengths.contains(&format.token_length());
        if let Some(format) = formats.iter().find(is_excluded) {
            let length = format.token_length();
            let message = format!(
                "tokens of {format:?} have {length} bytes, and token_length is {lengths:?}"
            );
            return Err(ConfigError::of("token_format", message));
        }
        Ok(Self {
            lengths,
            visible_ascii,
            formats,
            others: false,
        })
    }

    /// Recognizes tokens of other kinds.
    ///
    /// # Errors
    /// Returns an error without a format: no token could be told from one of another kind.
    pub(crate) fn with_others(mut self) -> Result<Self, ConfigError> {
        if self.formats.is_empty() {
            let message = "needs a token_format, to tell own tokens from others".to_owned();
            return Err(ConfigError::of("pass_other_tokens", message));
        }
        self.others = true;
        Ok(self)
    }

    /// Recognizes no tokens of other kinds.
    pub(crate) fn without_others(mut self) -> Self {
        self.others = false;
        self
    }

    /// Returns the text if it has an accepted length and alphabet.
    pub(super) fn token<'a>(&self, text: &'a [u8]) -> Option<&'a str> {
        if !self.lengths.contains(&text.len()) {
            return None;
        }
        // guard: H13
        let is_good = if !self.formats.is_empty() {
            // Their alphabet is part of either other one.
            self.formats.iter().any(|format| format.matches_bytes(text))
        } else {
            self.has_alphabet(text)
        };
        if !is_good {
            return None;
        }
        std::str::from_utf8(text).ok()
    }

    /// Reads a text that must be a token.
    pub(super) fn presented<'a>(&self, text: &'a [u8]) -> Presented<'a> {
        match self.token(text) {
            Some(token) => Presented::Token(token.into()),
            None if self.others => self.other(text),
            None => Presented::Malformed,
        }
    }

    /// Reads a text that must be a token and had to be decoded.
    pub(super) fn presented_decoded(&self, text: Vec<u8>) -> Presented<'static> {
        let Ok(text) = String::from_utf8(text) else {
            return Presented::Malformed;
        };
        match self.presented(text.as_bytes()) {
            Presented::Token(_) => Presented::Token(text.into()),
            Presented::Other(_) => Presented::Other(text.into()),
            _ => Presented::Malformed,
        }
    }

    /// Reads a text that is not one of our tokens. With one of our prefixes it is a damaged one, and nobody
    /// else's. Others may have any length.
    #[cold]
    fn other<'a>(&self, text: &'a [u8]) -> Presented<'a> {
        // guard: H32
        let is_ours = self.formats.iter().any(|format| format.has_prefix(text));
        if is_ours || !self.has_alphabet(text) {
            return Presented::Malformed;
        }
        std::str::from_utf8(text).map_or(Presented::Malformed, |text| Presented::Other(text.into()))
    }

    fn has_alphabet(&self, text: &[u8]) -> bool {
        if self.visible_ascii {
            !text.is_empty() && text.iter().all(u8::is_ascii_graphic)
        } else {
            is_b64token(text)
        }
    }
}

/// `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`
fn is_b64token(text: &[u8]) -> bool {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = &text[..text.len() - padding];
    // Without a branch for each byte.
    !body.is_empty() && body.iter().fold(true, |good, byte| good & is_b64(*byte))
}

fn is_b64(byte: u8) -> bool {
    static TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            table[byte] = matches!(
                byte as u8,
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/'
            );
            byte += 1;
        }
        table
    };
    TABLE[usize::from(byte)]
}

/// Returns whether the text is a token of RFC 9110 section 5.6.2, as the names of schemes (section 11.1) and cookies
/// (RFC 6265 section 4.1.1) are.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_tchar)
}

pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}

/// Removes the optional whitespace around a header value, which is not part of it (RFC 9110 section 5.5).
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().take_while(|byte| is_blank(byte)).count();
    let value = &value[start..];
    let end = value.iter().rev().take_while(|byte| is_blank(byte)).count();
    &value[..value.len() - end]
}

/// The layer's defaults.
#[cfg(test)]
impl Default for Limits {
    fn default() -> Self {
        Self::new(8..=512, false, Vec::new()).unwrap()
    }
}
