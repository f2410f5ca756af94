//! The links of the documents: each leads somewhere in the repository, and in rustdoc to a module.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What `src/guide/mod.rs` includes, apart from the links.
fn guides() -> Vec<PathBuf> {
    let module = read(Path::new("src/guide/mod.rs"));
    let included = module.lines().filter_map(|line| {
        let path = line.strip_prefix("#[doc = include_str!(\"../../")?;
        path.strip_suffix("\")]").map(PathBuf::from)
    });
    included.collect()
}

fn read(path: &Path) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The lines outside of code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// `[label]: target`
fn definition(line: &str) -> Option<(&str, &str)> {
    let (label, target) = line.strip_prefix('[')?.split_once("]: ")?;
    Some((label, target))
}

fn definitions(text: &str) -> Vec<(&str, &str)> {
    prose(text).filter_map(definition).collect()
}

/// Whether `[label]` is a link in it, and no other link's text.
fn refers(line: &str, label: &str) -> bool {
    let link = format!("[{label}]");
    let mut found = line.match_indices(&link);
    found.any(|(at, _)| !line[at + link.len()..].starts_with(['[', ':']))
}

/// The targets of `[text](target)`.
fn inline_targets(text: &str) -> Vec<&str> {
    let in_line = |line| {
        let ends = str::split(line, "](").skip(1);
        ends.filter_map(|rest: &str| rest.split_once(')').map(|(target, _)| target))
    };
    prose(text).flat_map(in_line).collect()
}

/// As the hosts of repositories and rustdoc make them of headings.
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

/// What a relative link of a document does not lead to; nothing if it leads somewhere.
fn is_lost(document: &Path, target: &str) -> bool {
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
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(&path);
    match anchor {
        None => !whole.exists(),
        Some(anchor) => !whole.is_file() || !anchors(&read(&path)).contains(anchor),
    }
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let others = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from);
    for document in guides().into_iter().chain(others) {
        let text = read(&document);
        let defined = definitions(&text).into_iter().map(|(_, target)| target);
        for target in inline_targets(&text).into_iter().chain(defined) {
            assert!(!is_lost(&document, target), "{document:?}: {target}");
        }
    }
}

#[test]
fn in_rustdoc_the_guides_link_to_modules_and_not_to_files() {
    let links = read(Path::new("src/guide/links.md"));
    let modules: Vec<_> = definitions(&links)
        .into_iter()
        .map(|(label, _)| label)
        .collect();
    let guides = guides();
    assert!(guides.len() >= 13, "{guides:?}");
    for guide in guides {
        let text = read(&guide);
        for target in inline_targets(&text) {
            let alone = target.contains("://") || target.starts_with('#');
            assert!(alone, "{guide:?}: give {target} a definition");
        }
        let defined: Vec<_> = definitions(&text)
            .into_iter()
            .map(|(label, _)| label)
            .collect();
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
