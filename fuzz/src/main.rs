//! With `--cfg fuzzing`, which `scripts/fuzz` sets, this is a libFuzzer binary for the target that `FUZZ_TARGET`
//! names. Otherwise it runs the target in its first argument on the files in the others, to reproduce findings.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
fn chosen() -> fuzz::Target {
    static CHOSEN: std::sync::OnceLock<fuzz::Target> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        fuzz::target(&std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target"))
    })
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| chosen()(data));

#[cfg(not(fuzzing))]
fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let target = fuzz::target(&name);
    for file in arguments {
        println!("{file}");
        target(&std::fs::read(file)?);
    }
    Ok(())
}
