//! What the server that the tests start can do: `REDIS_SERVER` may name another one than the machine's own.

use std::process::Command;
use std::sync::OnceLock;

use super::launch::program;

/// Something that a server may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// A program that was built with TLS.
    Tls,
    /// Rights to keys for reading or for writing alone, and subcommands that are taken away (Redis 7.0).
    FineAcl,
    /// A choice of what a node of a cluster is called (Redis 7.0).
    EndpointType,
}

impl Feature {
    /// Returns whether the server lacks this feature, and prints that the test is skipped if it does.
    pub fn is_missing(self) -> bool {
        let missing = match self {
            Self::Tls => !has_tls(),
            Self::FineAcl | Self::EndpointType => is_before_7(),
        };
        if missing {
            eprintln!("skipped: {} lacks {self:?}", program().display());
        }
        missing
    }
}

/// Returns whether the server is older than Redis 7.0. Valkey's own versions are above that.
pub(crate) fn is_before_7() -> bool {
    static BEFORE: OnceLock<bool> = OnceLock::new();
    *BEFORE.get_or_init(|| {
        let printed = printed(&["--version"]);
        let version = printed.split_once(" v=").and_then(|(_, version)| {
            let (major, _) = version.split_once('.')?;
            major.parse::<u32>().ok()
        });
        version.unwrap_or_else(|| panic!("no version in {printed}")) < 7
    })
}

fn has_tls() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    // One with TLS misses a certificate; the others do not know the option, or have no code for it.
    *HAS.get_or_init(|| printed(&["--port", "0", "--tls-port", "1"]).contains("tls-cert-file"))
}

/// What the program prints with arguments that make it end at once.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(program()).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program().display()));
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}
