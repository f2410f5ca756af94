//! Tests that `demo/ops/grafana.json` and `demo/ops/alerts.yml` query metrics that exist.

use std::collections::BTreeSet;

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::metrics::promql::unknown;
use crate::metrics::table;

fn file(name: &str) -> String {
    let path = format!("{}/demo/ops/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn text<'a>(value: &'a Yaml, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field}: {value:?}"))
}

fn rules() -> Vec<Yaml> {
    let documents = YamlLoader::load_from_str(&file("alerts.yml")).unwrap();
    let [document] = &documents[..] else {
        panic!("one document");
    };
    let groups = document["groups"].as_vec().unwrap();
    let rules = |group: &Yaml| group["rules"].as_vec().unwrap().clone();
    groups.iter().flat_map(rules).collect()
}

fn panels() -> (Value, Vec<Value>) {
    let dashboard: Value = serde_json::from_str(&file("grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().clone();
    (dashboard, panels)
}

fn queries(panel: &Value) -> Vec<String> {
    let targets = panel["targets"].as_array().unwrap();
    let query = |target: &Value| target["expr"].as_str().unwrap().to_owned();
    targets.iter().map(query).collect()
}

#[test]
fn the_metrics_that_the_operator_is_told_to_check_exist() {
    let table = table::read();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/failures.md");
    let text = std::fs::read_to_string(path).unwrap();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names: BTreeSet<_> = words
        .filter(|word| word.starts_with("api_token_") || word.starts_with("demo_"))
        .collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(table.contains_key(name), "{name}");
    }
}

#[test]
fn every_alert_queries_existing_metrics_and_says_what_to_do() {
    let table = table::read();
    let rules = rules();
    let mut names = BTreeSet::new();
    for rule in &rules {
        assert!(names.insert(text(rule, "alert")), "{rule:?}");
        assert_eq!(unknown(text(rule, "expr"), &table), [""; 0], "{rule:?}");
        assert!(!text(rule, "for").is_empty());
        assert!(["critical", "warning"].contains(&text(&rule["labels"], "severity")));
        for annotation in ["summary", "description"] {
            assert!(text(&rule["annotations"], annotation).len() > 10);
        }
    }
    assert!(rules.len() >= 7, "{names:?}");
}

#[test]
fn every_panel_queries_existing_metrics_in_its_own_place() {
    let table = table::read();
    let (_, panels) = panels();
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in &panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |field: &str| panel["gridPos"][field].as_u64().unwrap();
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(x < 24 && places.insert((x, y)), "{panel}");
            }
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        for query in queries(panel) {
            assert_eq!(unknown(&query, &table), [""; 0], "{query}");
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric_of_a_chosen_source() {
    let (dashboard, panels) = panels();
    let asked: Vec<String> = panels.iter().flat_map(queries).collect();
    for (name, row) in table::read() {
        let name = match row.kind.as_str() {
            "histogram" => format!("{name}_bucket"),
            _ => name,
        };
        let shown = asked.iter().any(|query| query.contains(&name));
        assert!(shown, "{name}");
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let source = &variables[0];
    assert_eq!(
        (&source["name"], &source["type"], &source["query"]),
        (
            &"datasource".into(),
            &"datasource".into(),
            &"prometheus".into()
        )
    );
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 36);
    assert!(dashboard["uid"].is_string() && dashboard["title"].is_string());
}
