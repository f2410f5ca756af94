//! Runs every target on its seeds and on mutations of them. `scripts/fuzz` does the same for longer, and guided by
//! coverage.

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

/// Returns the seeds of a target.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let files = fs::read_dir(folder).expect("each target has seeds");
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Repeat(Index, Index),
    Cut(Index),
    Append(Index),
}

/// Returns a byte that has a meaning in one of the grammars, or any byte.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![
        prop::sample::select(&b"\0 \t\"',/:@?#=+-._~%[]{}0159azAZT\x7f\x80\xff"[..]),
        any::<u8>(),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (any::<Index>(), byte()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        3 => (any::<Index>(), byte()).prop_map(|(at, byte)| Edit::Insert(at, byte)),
        3 => any::<Index>().prop_map(Edit::Remove),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Repeat(from, to)),
        1 => any::<Index>().prop_map(Edit::Cut),
        1 => any::<Index>().prop_map(Edit::Append),
    ]
}

fn edited(seeds: &[Vec<u8>], seed: Index, edits: &[Edit]) -> Vec<u8> {
    let mut data = seed.get(seeds).clone();
    for edit in edits {
        let length = data.len();
        match edit {
            Edit::Insert(at, byte) => data.insert(at.index(length + 1), *byte),
            Edit::Append(other) => data.extend(other.get(seeds).iter()),
            _ if length == 0 => {}
            Edit::Set(at, byte) => data[at.index(length)] = *byte,
            Edit::Remove(at) => {
                data.remove(at.index(length));
            }
            Edit::Repeat(from, to) => {
                let (from, to) = (from.index(length), to.index(length));
                data.extend_from_within(from.min(to)..from.max(to));
            }
            Edit::Cut(at) => data.truncate(at.index(length)),
        }
    }
    data
}

fn smoke(name: &str) {
    let target = fuzz::target(name);
    let seeds = seeds(name);
    for seed in &seeds {
        target(seed);
    }
    let config = Config {
        cases: 4096,
        // A failing input should become a seed.
        failure_persistence: None,
        ..Config::default()
    };
    let changes = (any::<Index>(), vec(edit(), 1..8));
    let run = TestRunner::new(config).run(&changes, |(seed, edits)| {
        target(&edited(&seeds, seed, &edits));
        Ok(())
    });
    if let Err(error) = run {
        panic!("{name}: {error}");
    }
}

#[test]
fn every_target_has_seeds_and_every_folder_of_seeds_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, fuzz::TARGETS.map(|(name, _)| name));
}

#[test]
fn bearer() {
    smoke("bearer");
}

#[test]
fn entry() {
    smoke("entry");
}

#[test]
fn entry_dify() {
    smoke("entry_dify");
}

#[test]
fn forward_auth() {
    smoke("forward_auth");
}

#[test]
fn pushes() {
    smoke("pushes");
}

#[test]
fn redis_url() {
    smoke("redis_url");
}

#[test]
fn times() {
    smoke("times");
}

#[test]
fn token_format() {
    smoke("token_format");
}
