//! Behaviour under load and at scale.
//!
//! `cargo bench --bench scenes --all-features -- NAME`: a module's name.

mod cold_start;
#[path = "../common/mod.rs"]
mod common;
#[path = "../../tests/it/common/flood.rs"]
mod flood;
mod floods;
mod growth;
mod instances;
mod invalidations;
mod last_used;
mod revocation;
mod tenant_invalidation;

fn main() {
    common::program::run(&[
        ("cold_start", cold_start::main),
        ("floods", floods::main),
        ("growth", growth::main),
        ("instances", instances::main),
        ("invalidations", invalidations::main),
        ("last_used", last_used::main),
        ("revocation", revocation::main),
        ("tenant_invalidation", tenant_invalidation::main),
    ]);
}
