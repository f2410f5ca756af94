//! Responses of the demo server, with assertions.

use serde_json::Value;
use ureq::http;

/// A response with its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("an ASCII header"))
    }

    /// Asserts the status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn expect_origin(self, origin: &str) -> Self {
        let answer = self.expect(200);
        assert_eq!(answer.json()["origin"], origin, "{answer:?}");
        answer
    }

    /// Asserts that this is a 503 for a change that was made and whose invalidation is not confirmed.
    #[track_caller]
    pub(crate) fn expect_unconfirmed(self) -> Self {
        let answer = self.expect(503);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["confirmed"], false, "{answer:?}");
        answer
    }
}
