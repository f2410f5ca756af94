//! The recorder behind `/metrics`. What is in it: the crate's `docs/metrics.md`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::config::StartError;

/// From a look-up in a near Redis to the deadline of a load.
const BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0,
];

/// Times wait in memory for a scrape or for this, whichever comes first.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the process's recorder: before anything is counted. Called again, it gives the same.
///
/// # Errors
/// Somebody else installed another.
pub fn install() -> Result<PrometheusHandle, StartError> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    // As histograms, and not as the quantiles of one instance, which cannot be added up.
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(StartError::other)?;
    *installed = Some(handle.clone());
    Ok(handle)
}

/// So that a server that nobody scrapes does not collect times for ever.
pub(crate) async fn keep_up(handle: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        handle.run_upkeep();
    }
}
