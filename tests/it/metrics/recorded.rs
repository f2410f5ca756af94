//! A recorder of this thread's metrics.

use std::collections::BTreeMap;

use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::common::Cache;

pub(crate) type Labels = BTreeMap<String, String>;

#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) help: Option<String>,
    pub(crate) labels: Labels,
    pub(crate) value: DebugValue,
}

/// A recorder for the thread that creates it, because each of these tests runs on one thread.
pub(crate) struct Recorder {
    snapshotter: Snapshotter,
    _guard: metrics::LocalRecorderGuard<'static>,
}

impl Recorder {
    pub(crate) fn install() -> Self {
        // The guard borrows the recorder. The leak ends with the test's process.
        let recorder: &'static DebuggingRecorder = Box::leak(Box::default());
        Self {
            snapshotter: recorder.snapshotter(),
            _guard: metrics::set_default_local_recorder(recorder),
        }
    }

    /// Publishes the cache's metrics and returns them. A counter's value is the increase since the last call.
    pub(crate) fn scrape(&self, cache: &Cache) -> Vec<Sample> {
        cache.publish_metrics();
        let seen = self.snapshotter.snapshot().into_vec();
        let sample = |(key, _, help, value): (metrics_util::CompositeKey, _, Option<_>, _)| {
            let label = |label: &metrics::Label| (label.key().to_owned(), label.value().to_owned());
            Sample {
                name: key.key().name().to_owned(),
                kind: match key.kind() {
                    MetricKind::Counter => "counter",
                    MetricKind::Gauge => "gauge",
                    MetricKind::Histogram => "histogram",
                },
                help: help.map(|help: metrics::SharedString| help.to_string()),
                labels: key.key().labels().map(label).collect(),
                value,
            }
        };
        seen.into_iter().map(sample).collect()
    }
}

/// Returns the value of the one sample with this name and label.
pub(crate) fn value(samples: &[Sample], name: &str, label: Option<(&str, &str)>) -> u64 {
    let wanted = |sample: &&Sample| {
        sample.name == name && label.is_none_or(|(label, value)| sample.labels[label] == value)
    };
    let found: Vec<&Sample> = samples.iter().filter(wanted).collect();
    let [sample] = found[..] else {
        panic!("{name} {label:?}: {found:?}");
    };
    match &sample.value {
        DebugValue::Counter(count) => *count,
        DebugValue::Gauge(level) => level.into_inner() as u64,
        DebugValue::Histogram(times) => times.len() as u64,
    }
}
