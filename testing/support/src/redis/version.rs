//! The features of the server that the tests start, which `REDIS_SERVER` may name.

use std::process::Command;
use std::sync::OnceLock;

use super::launch::program;

/// A feature that a server may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// The program was built with TLS.
    Tls,
    /// Users can have rights to keys for only reading or writing, and lack rights to subcommands (Redis 7.0).
    FineAcl,
    /// The endpoint type of a cluster's nodes can be chosen (Redis 7.0).
    EndpointType,
    /// A push of client tracking precedes later replies, and is never inside one (Redis 7.0).
    Tracking,
}

impl Feature {
    /// Returns whether the server lacks this feature, and prints that the test is skipped if it does.
    pub fn is_missing(self) -> bool {
        let missing = match self {
            Self::Tls => !has_tls(),
            Self::FineAcl | Self::EndpointType | Self::Tracking => is_before_7(),
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
    // With TLS a certificate is missing; without, the option is unknown or not supported.
    *HAS.get_or_init(|| printed(&["--port", "0", "--tls-port", "1"]).contains("tls-cert-file"))
}

/// Returns the program's output with arguments that make it end immediately.
fn printed(arguments: &[&str]) -> String {
    let output = Command::new(program()).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", program().display()));
    let both = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}
