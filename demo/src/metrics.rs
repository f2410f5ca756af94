//! The recorder behind `/metrics`. The metrics are described in the crate's `docs/metrics.md`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::config::StartError;

/// From a lookup in a nearby Redis to the timeout of a load.
const BUCKETS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0,
];

/// How often recorded times are merged into the histograms. A scrape merges them too.
const UPKEEP: Duration = Duration::from_secs(5);

/// Installs the process's recorder, which has to happen before anything is counted. Later calls return
/// the same handle.
///
/// # Errors
/// Returns an error if another recorder is installed.
pub fn install() -> Result<PrometheusHandle, StartError> {
    static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    // Histograms can be added up over instances; quantiles cannot.
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(StartError::other)?;
    *installed = Some(handle.clone());
    Ok(handle)
}

/// Merges recorded times, so that a server that is never scraped does not accumulate them.
pub(crate) async fn keep_up(handle: PrometheusHandle) {
    let mut interval = tokio::time::interval(UPKEEP);
    loop {
        interval.tick().await;
        handle.run_upkeep();
    }
}
