//! That no line of the checklist is without a test: docs/HTTP.md names them, and they exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::table::cases;

const LINES: u8 = 43;

/// The checklist's lines as docs/HTTP.md has them, with what belongs to each.
fn checklist() -> Vec<(u8, String)> {
    let text = fs::read_to_string(root().join("docs/HTTP.md")).unwrap();
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

/// The names of all functions under a directory.
fn functions(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let after = text.split("fn ").skip(1);
            let found = after.filter_map(|text| text.split(['(', '<']).next());
            names.extend(found.map(str::to_owned));
        }
    }
}

/// What stands between backquotes and is a sentence, as the names of tests are.
fn named_tests(item: &str) -> Vec<String> {
    let quoted = item.split('`').skip(1).step_by(2);
    let names = quoted.map(|quoted| quoted.rsplit("::").next().unwrap_or(quoted));
    let is_test = |name: &&str| {
        name.matches('_').count() >= 3
            && name
                .bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
    };
    names.filter(is_test).map(str::to_owned).collect()
}

#[test]
fn every_line_of_the_checklist_has_a_case_or_a_test_that_exists() {
    let mut functions_of_all = BTreeSet::new();
    for directory in ["src", "tests", "examples"] {
        functions(&root().join(directory), &mut functions_of_all);
    }
    let checklist = checklist();
    let numbers: Vec<u8> = checklist.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=LINES).collect::<Vec<_>>());
    let cases = cases();
    for (number, item) in &checklist {
        let tests = named_tests(item);
        for test in &tests {
            assert!(
                functions_of_all.contains(test),
                "{number}: there is no {test}"
            );
        }
        let in_table = cases
            .iter()
            .filter(|case| case.lines.contains(number))
            .count();
        let not_built = item.contains("Not built yet");
        let covered = in_table + tests.len() > 0;
        assert!(
            covered || not_built,
            "{number} has neither a case nor a test"
        );
        println!("{number:2}: {in_table:2} cases, {} tests", tests.len());
    }
}

#[test]
fn no_case_is_of_a_line_that_does_not_exist() {
    for case in cases() {
        assert!(!case.lines.is_empty(), "{}", case.name);
        for line in &case.lines {
            assert!((1..=LINES).contains(line), "{}: {line}", case.name);
        }
    }
}
