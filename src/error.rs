//! Errors of the configuration, and the type of other people's errors.

use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// An error of any type, such as a [`TokenLoader`](crate::TokenLoader) may return.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// An invalid configuration. The text names the setting and the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    message: String,
}

impl ConfigError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }

    /// Checks that `value` is in the `allowed` range.
    ///
    /// # Errors
    /// Returns an error that names the setting, the range and the value.
    pub(crate) fn unless_within<T: PartialOrd + fmt::Debug>(
        name: &str,
        value: T,
        allowed: RangeInclusive<T>,
    ) -> Result<(), Self> {
        if allowed.contains(&value) {
            return Ok(());
        }
        let (least, most) = allowed.into_inner();
        Err(Self::new(format!(
            "{name}: from {least:?} to {most:?}, not {value:?}"
        )))
    }
}

/// The longest timeout, wait or pause that a setting accepts: sums of them do not overflow.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// The largest number of entries that a setting accepts.
pub(crate) const MOST_ENTRIES: usize = 1_000_000_000;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ConfigError {}

/// For a configuration that is written in the program: a mistake in it shows when the program starts, and
/// where it was made.
#[track_caller]
pub(crate) fn valid<T>(configured: Result<T, ConfigError>) -> T {
    match configured {
        Ok(value) => value,
        // A closure of `unwrap_or_else` would be the place that the panic names.
        Err(error) => panic!("{error}"),
    }
}
