//! The time, which tests may advance by hand.

use std::time::Duration;

use chrono::{DateTime, Utc};

#[derive(Debug, Clone, Default)]
pub(crate) enum Clock {
    #[default]
    System,
    #[cfg(feature = "test-util")]
    Manual(tower_api_token::test_util::ManualClock),
}

impl Clock {
    /// Returns the time in whole microseconds, as databases store it.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        let now = match self {
            Self::System => Utc::now(),
            #[cfg(feature = "test-util")]
            Self::Manual(clock) => clock.now(),
        };
        crate::database::time::Timestamp::from(now).into()
    }

    pub(crate) async fn sleep(&self, duration: Duration) {
        match self {
            Self::System => tokio::time::sleep(duration).await,
            #[cfg(feature = "test-util")]
            Self::Manual(clock) => clock.sleep(duration).await,
        }
    }
}
