//! Memory, descriptors, threads and tasks of an instance.

use std::collections::HashSet;
use std::fs;

use crate::server::Demo;

#[derive(Clone, Copy, Default)]
pub(super) struct Figures {
    /// Resident memory, in KiB.
    pub(super) memory: u64,
    pub(super) threads: u64,
    pub(super) descriptors: usize,
    /// Those of them that are connections to the database, whose pool grows and shrinks.
    pub(super) pool: usize,
    pub(super) tasks: u64,
}

impl Figures {
    /// Reads them from `/proc` and from the instance's `/metrics`.
    pub(super) fn of(demo: &Demo, database: u16) -> Self {
        let process = format!("/proc/{}", demo.id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            word.unwrap_or(0)
        };
        let open = links(&process);
        let of_pool = sockets(&process, database);
        Self {
            memory: number("VmRSS:"),
            threads: number("Threads:"),
            descriptors: open.len(),
            pool: open.iter().filter(|link| of_pool.contains(*link)).count(),
            tasks: demo.metric("demo_tasks", &[]),
        }
    }
}

fn links(process: &str) -> Vec<String> {
    let open = fs::read_dir(format!("{process}/fd")).into_iter().flatten();
    let links = open.flatten().map(|file| fs::read_link(file.path()));
    links
        .flatten()
        .map(|link| link.display().to_string())
        .collect()
}

/// Returns the TCP sockets that are connected to this port, in the form of a link in `/proc/PID/fd`.
fn sockets(process: &str, port: u16) -> HashSet<String> {
    let table = fs::read_to_string(format!("{process}/net/tcp")).unwrap_or_default();
    let remote = format!(":{port:04X}");
    let rows = table.lines().filter_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        words
            .get(2)?
            .ends_with(&remote)
            .then(|| words.get(9))?
            .map(|inode| format!("socket:[{inode}]"))
    });
    rows.collect()
}
