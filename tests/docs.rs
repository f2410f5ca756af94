//! Tests of the documents: their links resolve, in the repository and in rustdoc, and the files and tests that
//! they name exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the documents that `src/guide/mod.rs` includes, apart from the links.
fn guides() -> Vec<PathBuf> {
    let module = read(Path::new("src/guide/mod.rs"));
    let included = module.lines().filter_map(|line| {
        let path = line.strip_prefix("#[doc = include_str!(\"../../")?;
        path.strip_suffix("\")]").map(PathBuf::from)
    });
    included.collect()
}

/// Returns the guides, and the documents that rustdoc does not show.
fn documents() -> impl Iterator<Item = PathBuf> {
    let others = [
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/internals/fuzzing.md",
        "docs/internals/interleavings.md",
        "docs/internals/mutants.md",
        "examples/README.md",
        "demo/README.md",
        "model/README.md",
        "sqlx/README.md",
        "sqlx/docs/keys.md",
        "demo/ops/README.md",
    ];
    guides().into_iter().chain(others.map(PathBuf::from))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// Parses `[label]: target`.
fn definition(line: &str) -> Option<(&str, &str)> {
    let (label, target) = line.strip_prefix('[')?.split_once("]: ")?;
    Some((label, target))
}

fn definitions(text: &str) -> Vec<(&str, &str)> {
    prose(text).filter_map(definition).collect()
}

/// Returns whether `[label]` is a link in the line, and not the text of another link.
fn refers(line: &str, label: &str) -> bool {
    let link = format!("[{label}]");
    let mut found = line.match_indices(&link);
    found.any(|(at, _)| !line[at + link.len()..].starts_with(['[', ':']))
}

/// Returns the targets of `[text](target)`.
fn inline_targets(text: &str) -> Vec<&str> {
    let in_line = |line| {
        let ends = str::split(line, "](").skip(1);
        ends.filter_map(|rest: &str| rest.split_once(')').map(|(target, _)| target))
    };
    prose(text).flat_map(in_line).collect()
}

/// Returns the anchors that rustdoc and the hosts of repositories derive from headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter_map(|one| match one {
            ' ' => Some('-'),
            '-' | '_' => Some(one),
            _ => one.is_alphanumeric().then_some(one),
        });
        kept.collect()
    };
    headings.map(anchor).collect()
}

/// Returns whether a relative link of a document does not resolve.
fn is_broken(document: &Path, target: &str) -> bool {
    if target.contains("://") {
        return false;
    }
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (target, None),
    };
    let path = match path {
        "" => document.to_path_buf(),
        path => document.parent().unwrap().join(path),
    };
    let whole = root().join(&path);
    match anchor {
        None => !whole.exists(),
        Some(anchor) => !whole.is_file() || !anchors(&read(&path)).contains(anchor),
    }
}

/// Returns the texts between backticks, which may span lines.
fn quoted(text: &str) -> Vec<String> {
    let text = prose(text).collect::<Vec<_>>().join(" ");
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// Returns the paths that a pattern such as `dir/{one,two}.rs` stands for.
fn expand_braces(path: &str) -> Vec<String> {
    let braces = path.split_once('{').and_then(|(before, rest)| {
        let (names, after) = rest.split_once('}')?;
        Some((before, names, after))
    });
    let Some((before, names, after)) = braces else {
        return vec![path.to_owned()];
    };
    let name = |name| format!("{before}{name}{after}");
    names.split(',').map(name).collect()
}

/// Returns whether `path` begins with a directory of the repository, of the document's directory or of `src`, and
/// exists in none of them.
fn is_missing_path(document: &Path, path: &str) -> bool {
    let Some((first, _)) = path.split_once('/') else {
        return false;
    };
    let beside = document.parent().expect("a file's");
    let mut from = [Path::new(""), beside, Path::new("src")]
        .map(|directory| root().join(directory))
        .into_iter()
        .filter(|directory| !first.is_empty() && directory.join(first).is_dir())
        .peekable();
    // Build outputs may or may not exist.
    let is_ours = first != "target" && from.peek().is_some();
    is_ours && !from.any(|directory| directory.join(path).exists())
}

/// Appends the text of all sources in a directory.
fn sources(directory: &Path, into: &mut String) {
    for entry in fs::read_dir(directory).expect("a directory").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push_str(&fs::read_to_string(&path).expect("a source"));
        }
    }
}

#[test]
fn every_file_that_a_document_names_exists() {
    for document in documents() {
        for words in quoted(&read(&document)) {
            // A script may have arguments, and a glob ends the path.
            let path = words.split([' ', '*']).next().unwrap_or_default();
            for path in expand_braces(path) {
                assert!(!is_missing_path(&document, &path), "{document:?}: {path}");
            }
        }
    }
}

#[test]
fn every_test_that_a_document_names_exists() {
    let mut all = String::new();
    for directory in [
        "src", "tests", "demo", "examples", "fuzz", "model", "sqlx", "testing",
    ] {
        sources(&root().join(directory), &mut all);
    }
    let is_of_a_name = |one: char| one == '_' || one.is_ascii_alphanumeric();
    let existing: BTreeSet<&str> = all.split(|one| !is_of_a_name(one)).collect();
    let mut named = 0;
    for document in documents() {
        for words in quoted(&read(&document)) {
            let name = words.rsplit("::").next().unwrap_or_default();
            if name.matches('_').count() >= 4 && name.chars().all(is_of_a_name) {
                assert!(existing.contains(name), "{document:?}: there is no {name}");
                named += 1;
            }
        }
    }
    assert!(named >= 100, "{named}");
}

/// The words of a text that are names: not digits, and not single letters, which stand for arguments.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|one: char| one != '_' && !one.is_ascii_alphanumeric());
    words.filter(|word| word.len() > 1 && !word.starts_with(|one: char| one.is_ascii_digit()))
}

#[test]
fn every_new_name_of_the_changelog_is_compiled_or_written_by_a_program() {
    let compiled = read(Path::new("tests/it/renames.rs"));
    let compiled: BTreeSet<&str> = names(&compiled).collect();
    // Labels, metrics, settings and keys are no items: they are in texts.
    let mut all = String::new();
    for directory in ["src", "demo/src", "sqlx/src/admin"] {
        sources(&root().join(directory), &mut all);
    }
    let texts = all.lines().filter(|line| line.contains('"'));
    let written: BTreeSet<&str> = texts.flat_map(names).collect();

    let text = read(Path::new("CHANGELOG.md"));
    let (_, table) = text.split_once("### Renames").expect("a table");
    let mut rows = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let new = row.split(" | ").nth(1).expect("two columns");
        let is_text = |name: &str| {
            name.contains("api_token_")
                || name.starts_with('_')
                || row.starts_with("| Redis keys")
                || row.starts_with("| demo")
        };
        let quoted = quoted(new);
        for words in quoted.iter().flat_map(|words| expand_braces(words)) {
            let is_label = words.contains("=\"");
            for name in names(&words) {
                let known = if is_label || is_text(name) {
                    &written
                } else {
                    &compiled
                };
                // `last_uses_*_total` stands for several.
                let is_known = known.iter().any(|known| {
                    *known == name
                        || name.ends_with('_') && known.starts_with(name)
                        || name.starts_with('_') && known.ends_with(name)
                });
                assert!(is_known, "{name} in {row}");
            }
        }
        rows += 1;
    }
    assert!(rows >= 50, "{rows}");
}

/// The lines of each Rust block, without indentation.
fn rust_blocks(text: &str) -> Vec<Vec<&str>> {
    let parts = text.split("```").skip(1).step_by(2);
    let blocks = parts.filter_map(|part| part.strip_prefix("rust,ignore\n"));
    blocks
        .map(|block| block.lines().map(str::trim).collect())
        .collect()
}

/// Checks that the document has `least` blocks of Rust or more, and that each is in one of the programs.
fn assert_in_programs(document: &str, least: usize, programs: &[&str]) {
    let text = read(Path::new(document));
    let programs: Vec<String> = programs.iter().map(|it| read(Path::new(it))).collect();
    let has = |program: &String, block: &[&str]| {
        let lines: Vec<&str> = program.lines().map(str::trim).collect();
        lines.windows(block.len()).any(|lines| lines == block)
    };
    let blocks = rust_blocks(&text);
    assert!(blocks.len() >= least, "{blocks:?}");
    for block in blocks {
        let found = programs.iter().any(|program| has(program, &block));
        assert!(found, "{block:?}");
    }
}

#[test]
fn the_readmes_examples_are_part_of_a_program_that_compiles() {
    assert_in_programs("README.md", 5, &["examples/readme.rs"]);
}

#[test]
fn the_frameworks_examples_are_part_of_programs_that_are_tested() {
    let programs = ["examples/actix.rs", "examples/aide.rs"];
    assert_in_programs("docs/frameworks.md", 2, &programs);
}

#[test]
fn the_outbox_of_the_guide_is_the_one_that_is_tested() {
    let programs = [
        "examples/own_table/outbox.rs",
        "examples/own_table/tokens.rs",
    ];
    assert_in_programs("docs/deployment.md", 2, &programs);
    let guide = read(Path::new("docs/deployment.md"));
    let migration = read(Path::new("examples/own_table/migrations/0001_tokens.sql"));
    let table = migration.split_once("outbox.rs).\n").unwrap().1;
    assert!(guide.contains(table), "{table}");
}

#[test]
fn the_settings_of_proxies_in_the_guide_are_those_that_are_tested() {
    let guide = read(Path::new("docs/forward-auth.md"));
    for (language, file) in [
        ("nginx", "nginx.conf"),
        ("caddyfile", "Caddyfile"),
        ("haproxy", "haproxy.cfg"),
        ("lua", "verify.lua"),
        ("yaml", "traefik.yml"),
        ("yaml", "envoy.yaml"),
        ("sql", "tokens.sql"),
    ] {
        let tested = read(&Path::new("examples/forward_auth").join(file));
        let block = format!("\n```{language}\n{tested}```\n");
        assert!(guide.contains(&block), "{file}");
    }
}

/// Returns the first cells of the table under a heading.
fn first_cells(document: &str, heading: &str) -> Vec<String> {
    let text = read(Path::new(document));
    let part = text.split_once(heading).expect("the heading").1;
    let rows = part.lines().skip_while(|line| !line.starts_with('|'));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.split('|').nth(1).unwrap().trim().to_owned())
        .collect()
}

#[test]
fn every_promise_has_a_row_about_what_shows_it() {
    let promises = first_cells("README.md", "## What is promised\n");
    let shown = first_cells("model/README.md", "## What shows each promise\n");
    assert!(promises.len() == shown.len() && shown.len() >= 10);
    for (promise, shown) in promises.iter().zip(&shown) {
        assert!(promise.starts_with(shown), "{promise:?}: {shown:?}");
    }
}

#[test]
fn every_link_of_the_documents_resolves() {
    for document in documents() {
        let text = read(&document);
        let defined = definitions(&text).into_iter().map(|(_, target)| target);
        for target in inline_targets(&text).into_iter().chain(defined) {
            assert!(!is_broken(&document, target), "{document:?}: {target}");
        }
    }
}

#[test]
fn the_guides_link_to_modules_in_rustdoc() {
    let links = read(Path::new("src/guide/links.md"));
    let modules: Vec<_> = definitions(&links)
        .into_iter()
        .map(|(label, _)| label)
        .collect();
    // Of labels that differ in case alone, Markdown takes the first for both.
    let distinct: BTreeSet<_> = modules.iter().map(|label| label.to_lowercase()).collect();
    assert_eq!(distinct.len(), modules.len(), "{modules:?}");
    let guides = guides();
    assert!(guides.len() >= 13, "{guides:?}");
    for guide in guides {
        let text = read(&guide);
        for target in inline_targets(&text) {
            let alone = target.contains("://") || target.starts_with('#');
            assert!(alone, "{guide:?}: give {target} a definition");
        }
        let mut files = definitions(&text);
        files.retain(|(_, target)| !target.contains("://"));
        let defined: Vec<_> = files.into_iter().map(|(label, _)| label).collect();
        for label in &defined {
            assert!(modules.contains(label), "{guide:?}: no module for {label}");
        }
        for label in &modules {
            let used = prose(&text).any(|line| refers(line, label));
            assert!(
                !used || defined.contains(label),
                "{guide:?}: no file for {label}"
            );
        }
    }
}
