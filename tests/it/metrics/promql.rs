//! Parses as much of PromQL as our queries need: the names of metrics, and their labels.

use crate::metrics::table::Table;

/// The words of a query that are not metrics, labels or numbers.
const WORDS: [&str; 11] = [
    "sum",
    "max",
    "min",
    "by",
    "rate",
    "increase",
    "histogram_quantile",
    "clamp_min",
    "le",
    "and",
    "on",
];

/// The labels that a scrape adds to each series.
const TARGET: [&str; 2] = ["job", "instance"];

/// Returns the names in a query that do not exist.
pub(crate) fn unknown(query: &str, table: &Table) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '$') {
        // The unit of a number (`5m`) and a variable are not names.
        let before = rest[..at].chars().next_back();
        let end = rest[at..]
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '$')
            .map_or(rest.len(), |length| at + length);
        let word = &rest[at..end];
        rest = &rest[end..];
        if before.is_some_and(|c| c.is_ascii_digit()) || word.starts_with('$') {
            continue;
        }
        if let Some(labels) = labels_of(word, table) {
            if let Some(inside) = rest.strip_prefix('{') {
                let (matchers, after) = inside.split_once('}').expect("a closing brace");
                rest = after;
                unknown.extend(
                    matchers
                        .split(',')
                        .filter_map(|m| unmatched(m, word, &labels)),
                );
            }
        } else if !WORDS.contains(&word) && !TARGET.contains(&word) && !is_label(word, table) {
            unknown.push(word.to_owned());
        }
    }
    unknown
}

type Labels<'a> = Vec<(&'a str, Vec<&'a str>)>;

/// Returns the labels of a metric or of a part of a histogram.
fn labels_of<'a>(name: &str, table: &'a Table) -> Option<Labels<'a>> {
    let whole = |part: &&str| name.strip_suffix(part);
    let row = match ["_bucket", "_sum", "_count"].iter().find_map(whole) {
        Some(name) => table.get(name).filter(|row| row.kind == "histogram")?,
        None => table.get(name).filter(|row| row.kind != "histogram")?,
    };
    let label = |(name, values): (&'a String, &'a std::collections::BTreeSet<String>)| {
        (name.as_str(), values.iter().map(String::as_str).collect())
    };
    Some(row.labels.iter().map(label).collect())
}

fn is_label(word: &str, table: &Table) -> bool {
    word == "cache" || table.values().any(|row| row.labels.contains_key(word))
}

/// Returns the matcher if the metric does not have such a label, or the label such a value.
fn unmatched(matcher: &str, metric: &str, labels: &Labels<'_>) -> Option<String> {
    let (name, value) = matcher.split_once(['=', '!']).expect("a matcher");
    let (name, value) = (
        name.trim(),
        value.trim_start_matches(['=', '~']).trim_matches('"'),
    );
    let is_known = name == "cache"
        || TARGET.contains(&name)
        || labels.iter().any(|(label, values)| {
            *label == name && value.split('|').all(|value| values.contains(&value))
        });
    (!is_known).then(|| format!("{metric}{{{matcher}}}"))
}

#[test]
fn unknown_names_labels_and_values_are_found() {
    let table = crate::metrics::table::read();
    for (query, wrong) in [
        (
            "sum by (job) (rate(api_token_loads_total[5m])) > 0.5",
            vec![],
        ),
        (
            r#"api_token_lookups_total{origin="none",cache=~"$cache"}"#,
            vec![],
        ),
        (
            "rate(api_token_load_seconds_bucket[$__rate_interval])",
            vec![],
        ),
        (
            "rate(api_token_load_total[5m])",
            vec!["api_token_load_total"],
        ),
        ("api_token_load_seconds", vec!["api_token_load_seconds"]),
        (
            "api_token_loads_total_count",
            vec!["api_token_loads_total_count"],
        ),
        (
            r#"api_token_lookups_total{origin="redis"}"#,
            vec![r#"api_token_lookups_total{origin="redis"}"#],
        ),
        (
            r#"api_token_loads_total{origin="none"}"#,
            vec![r#"api_token_loads_total{origin="none"}"#],
        ),
        ("sum by (tenant) (api_token_loads_total)", vec!["tenant"]),
    ] {
        assert_eq!(unknown(query, &table), wrong, "{query}");
    }
}
