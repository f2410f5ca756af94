//! The bench `load` runs, with few keys.

#[path = "../../benches/load/scenes.rs"]
mod scenes;

#[tokio::test(flavor = "multi_thread")]
async fn scenes_of_the_bench_run() {
    let rows = scenes::run(&scenes::SMALL).await;
    // The figures depend on the machine, and on what else it does.
    assert_eq!(rows.len(), 9);
    assert!(rows.iter().all(|row| !row.what.is_empty()));
    let reached = rows.iter().filter(|row| row.reached()).count();
    assert!(reached > 0, "no goal is reached, not even with few keys");
}
