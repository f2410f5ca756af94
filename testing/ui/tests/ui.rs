//! Compares the compiler's messages with those in `cases/`.

use std::process::Command;

#[test]
fn likely_mistakes_name_their_remedy() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output();
    let version = version.expect("a compiler").stdout;
    let version = String::from_utf8_lossy(&version);
    if !version.starts_with(ui::COMPILER) {
        let words = ui::COMPILER;
        eprintln!("skipped: the messages in cases/ are those of {words}, and this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("cases/*.rs");
}
