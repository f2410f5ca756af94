//! Finds a Python interpreter that has the packages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const ADVICE: &str = "run scripts/test, which installs what the tests need, or name a Python with \
                      testing/fleet/python/requirements.txt in INTEROP_PYTHON";

/// Returns the interpreter that the environment variable `INTEROP_PYTHON` names, or else the one of the virtual
/// environment that `scripts/lib/python-env` creates.
///
/// # Panics
/// Panics if there is none, because a test that needs Python must not pass without it.
pub fn python() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| match std::env::var_os("INTEROP_PYTHON") {
        Some(named) => checked(named.into()),
        None => made(),
    })
}

fn made() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/lib/python-env");
    let output = Command::new(&script)
        .output()
        .unwrap_or_else(|error| panic!("scripts/lib/python-env: {error}; {ADVICE}"));
    assert!(
        output.status.success(),
        "there is no Python to test with; {ADVICE}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let path = String::from_utf8(output.stdout).expect("a path in UTF-8");
    PathBuf::from(path.trim_end())
}

fn checked(named: PathBuf) -> PathBuf {
    let imports = Command::new(&named)
        .args(["-c", "import openapi_spec_validator, pydantic, redis"])
        .output();
    let usable = imports.is_ok_and(|imports| imports.status.success());
    assert!(
        usable,
        "INTEROP_PYTHON names {}, which has not the packages; {ADVICE}",
        named.display()
    );
    named
}
