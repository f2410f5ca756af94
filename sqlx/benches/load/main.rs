//! What keys cost in a large table: `cargo bench -p tower-api-token-sqlx --bench load --all-features`.
//!
//! It starts PostgreSQL on this machine, with its data synced to no disk, or uses the empty database that `DATABASE_URL` names.
//! It prints rows of a table: what was measured, the goal, the figure, and whether the goal is met. A test runs it with
//! fewer keys.

mod scenes;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    println!("| what | goal | measured | reached |\n|---|---|---|---|");
    for row in runtime.block_on(scenes::run(&scenes::LARGE)) {
        let reached = if row.reached() { "yes" } else { "no" };
        println!(
            "| {} | {} | {} | {reached} |",
            row.what,
            row.goal_text(),
            row.measured_text()
        );
    }
}
