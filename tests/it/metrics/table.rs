//! Reads the tables of `docs/metrics.md`.

use std::collections::{BTreeMap, BTreeSet};

/// The type of a metric, and the values of each of its labels.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) kind: String,
    pub(crate) labels: BTreeMap<String, BTreeSet<String>>,
}

pub(crate) type Table = BTreeMap<String, Row>;

/// Returns all rows, including those of the demo server.
pub(crate) fn read() -> Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut table = Table::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", name, kind, labels, says, ""] = cells[..] else {
            continue;
        };
        if !["counter", "gauge", "histogram"].contains(&kind) {
            continue;
        }
        assert!(!says.is_empty(), "{line}");
        let row = Row {
            kind: kind.to_owned(),
            labels: labels.split(';').filter_map(label).collect(),
        };
        let twice = table.insert(quoted(name).remove(0), row);
        assert!(twice.is_none(), "{line}");
    }
    table
}

/// Returns the rows of the metrics that the crate itself emits.
pub(crate) fn of_the_crate() -> Table {
    let mut table = read();
    table.retain(|name, _| name.starts_with("api_token_"));
    table
}

fn label(text: &str) -> Option<(String, BTreeSet<String>)> {
    let (name, values) = text.split_once(':')?;
    Some((quoted(name).remove(0), quoted(values).into_iter().collect()))
}

/// Returns the texts between backticks.
fn quoted(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}
