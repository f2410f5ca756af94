//! Checks that each line of the checklist in docs/http.md has a case or names a test, and that the test exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::http_conformance::table::cases;

const LINES: u8 = 51;

/// Returns the lines of the checklist in docs/http.md, each with its text.
fn checklist() -> Vec<(u8, String)> {
    let text = fs::read_to_string(root().join("docs/http.md")).unwrap();
    let mut lines: Vec<(u8, String)> = Vec::new();
    for line in text.lines() {
        let number = line
            .split_once(". ")
            .and_then(|(number, _)| number.parse().ok());
        match (number, lines.last_mut()) {
            (Some(number), _) => lines.push((number, line.to_owned())),
            (None, Some((_, item))) if line.starts_with("   ") => {
                item.push('\n');
                item.push_str(line.trim());
            }
            _ => {}
        }
    }
    lines
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Adds the names of all tests in a directory.
fn tests(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            names.extend(tests_of(&text).map(str::to_owned));
        }
    }
}

fn tests_of(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().map(str::trim).filter_map(move |line| {
        is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
        let name = line.split_once("fn ").filter(|_| is_test)?.1;
        is_test = false;
        name.split_once('(').map(|(name, _)| name)
    })
}

/// Returns the names of tests after `Test:`: texts between backticks that have at least four words.
fn named_tests(item: &str) -> Vec<String> {
    let said = item.split_once("Test: ").map_or("", |(_, said)| said);
    let quoted = said.split('`').skip(1).step_by(2);
    let names = quoted.map(|quoted| quoted.rsplit("::").next().unwrap_or(quoted));
    let is_name = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric();
    let is_sentence = |name: &&str| name.matches('_').count() >= 3 && name.bytes().all(is_name);
    names.filter(is_sentence).map(str::to_owned).collect()
}

#[test]
fn every_line_of_the_checklist_has_a_case_or_a_test() {
    let mut existing = BTreeSet::new();
    for directory in ["src", "tests", "demo", "examples"] {
        tests(&root().join(directory), &mut existing);
    }
    let checklist = checklist();
    let numbers: Vec<u8> = checklist.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>());
    let cases = cases();
    for (number, item) in &checklist {
        let named = named_tests(item);
        for test in &named {
            assert!(existing.contains(test), "{number}: there is no {test}");
        }
        let in_table = cases
            .iter()
            .filter(|case| case.lines.contains(number))
            .count();
        let not_built = item.contains("Not built yet");
        let covered = in_table + named.len() > 0;
        assert!(
            covered || not_built,
            "{number} has neither a case nor a test"
        );
        println!("{number:2}: {in_table:2} cases, {} tests", named.len());
    }
}

#[test]
fn every_case_names_a_line_that_exists() {
    for case in cases() {
        assert!(!case.lines.is_empty(), "{}", case.name);
        for line in &case.lines {
            assert!((1..=LINES).contains(line), "{}: {line}", case.name);
        }
    }
}
