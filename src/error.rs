//! Errors of the configuration, and the type of other people's errors.

use std::error::Error;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// An error of any type, such as a [`TokenLoader`](crate::TokenLoader) may return.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// An invalid configuration. The text names the setting, and the range that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    setting: &'static str,
    message: String,
}

impl ConfigError {
    /// An error in the URL of a store.
    #[cfg(feature = "redis")]
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::of("url", message)
    }

    pub(crate) fn of(setting: &'static str, message: impl Into<String>) -> Self {
        Self {
            setting,
            message: message.into(),
        }
    }

    /// Returns the name of the setting, as the setter that takes it is called.
    pub fn setting(&self) -> &'static str {
        self.setting
    }

    /// Checks that `value` is in the `allowed` range.
    ///
    /// # Errors
    /// Returns an error that names the setting, the range and the value.
    pub(crate) fn unless_within<T: PartialOrd + fmt::Debug>(
        setting: &'static str,
        value: T,
        allowed: RangeInclusive<T>,
    ) -> Result<(), Self> {
        if allowed.contains(&value) {
            return Ok(());
        }
        let (least, most) = allowed.into_inner();
        Err(Self::of(
            setting,
            format!("from {least:?} to {most:?}, not {value:?}"),
        ))
    }
}

/// The longest timeout, wait or pause that a setting accepts: sums of them do not overflow.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

/// The largest number of entries that a setting accepts.
pub(crate) const MOST_ENTRIES: usize = 1_000_000_000;

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.message)
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
