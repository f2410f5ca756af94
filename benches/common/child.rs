//! Another process of this program, which executes orders, one per line.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{ChildStdin, ChildStdout, Stdio};

use super::program::again;

pub(crate) struct Child {
    process: std::process::Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Child {
    pub(crate) fn start(arguments: [&str; 2]) -> Self {
        let mut process = again()
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let answers = BufReader::new(process.stdout.take().expect("its output")).lines();
        Self {
            orders: process.stdin.take().expect("its input"),
            answers,
            process,
        }
    }

    pub(crate) fn order(&mut self, order: impl Display) {
        writeln!(self.orders, "{order}").expect("its input");
    }

    /// Returns the numbers of its next line.
    pub(crate) fn answer(&mut self) -> Vec<f64> {
        let line = self.answers.next().expect("a line").expect("a line");
        let number = |word: &str| word.parse().expect("a number");
        line.split_whitespace().map(number).collect()
    }

    pub(crate) fn stop(mut self) {
        drop(self.orders);
        assert!(self.process.wait().expect("its end").success());
    }
}
