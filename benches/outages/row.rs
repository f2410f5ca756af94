//! A row of the table: the cost of a fault.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tower_api_token::UnavailableKind;

use super::load::{End, Request};

/// The measurements of a fault.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) requests: Vec<Request>,
    pub(crate) broke: Instant,
    pub(crate) healed: Instant,
    pub(crate) most: usize,
    pub(crate) loads: usize,
    pub(crate) store_errors: u64,
    pub(crate) invalidation: String,
    pub(crate) readiness: String,
}

pub(crate) fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

pub(crate) fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

pub(crate) fn errors(requests: &[Request]) -> String {
    let mut kinds: Vec<(UnavailableKind, usize)> = Vec::new();
    for request in requests {
        if let End::Unavailable(kind) = request.end {
            match kinds.iter_mut().find(|(known, _)| *known == kind) {
                Some((_, count)) => *count += 1,
                None => kinds.push((kind, 1)),
            }
        }
    }
    let texts: Vec<String> = kinds
        .iter()
        .map(|(kind, count)| format!("{count} {kind:?}"))
        .collect();
    if texts.is_empty() {
        return "0".to_owned();
    }
    texts.join(", ")
}

impl Row {
    pub(crate) const HEAD: &str = "| fault | lasted | requests | from Redis in the fault | errors | longest | p99 in the fault | \
        first from Redis after | all from Redis after | loads | most at once | store errors | invalidation in the \
        fault | check_store in the fault |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (broke, healed) = (self.broke, self.healed);
        let since = |from: Instant| self.requests.iter().filter(move |one| one.due >= from);
        let longest = since(broke).map(Request::took).max().unwrap_or_default();
        let during = since(broke).filter(|one| one.due < healed);
        let p99 = percentile(during.clone().map(Request::took).collect(), 99);
        let from_redis = during.filter(|one| one.is_shared() && one.done <= healed);
        let shared = since(healed).filter(|one| one.is_shared());
        let first = shared.map(|one| one.done).min();
        let other = since(healed).filter(|one| !one.is_shared());
        let all = other.map(|one| one.done).max().max(first).unwrap_or(healed);
        write!(
            f,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.name,
            ms(healed - broke),
            since(broke).count(),
            from_redis.count(),
            errors(&self.requests),
            ms(longest),
            ms(p99),
            first.map_or("never".to_owned(), |first| ms(first - healed)),
            ms(all - healed),
            self.loads,
            self.most,
            self.store_errors,
            self.invalidation,
            self.readiness,
        )
    }
}
