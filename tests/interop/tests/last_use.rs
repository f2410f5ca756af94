//! The times of last uses, which a job of either side takes to the database.

mod common;

use common::{APP, TOKEN, World, micros_after};
use interop::python::Version;

#[tokio::test]
async fn each_side_reads_the_uses_that_the_other_recorded() {
    let world = World::new();
    let (rust, mut python) = (world.rust(), world.python(Version::Current));
    for scope in [APP, None] {
        python.record_use(TOKEN, scope, "2026-01-02T03:04:05.000006");
        let read = rust.recorded_use(TOKEN, scope).await.unwrap();
        assert_eq!(read, Some(micros_after(6)));
        rust.record_use(TOKEN, scope, micros_after(120_000))
            .await
            .unwrap();
        let read = python.read_use(TOKEN, scope);
        assert_eq!(read.as_deref(), Some("2026-01-02T03:04:05.120000"));
    }
    assert_eq!(
        world.redis.keys("*"),
        [
            format!("api_token_active:None:{TOKEN}"),
            format!("api_token_active:app:{TOKEN}"),
        ]
    );
}

#[tokio::test]
async fn they_last_for_an_hour_on_both_sides_and_have_no_decimals_where_there_are_none() {
    let world = World::new();
    let (rust, mut python) = (world.rust(), world.python(Version::Current));
    let name = format!("api_token_active:app:{TOKEN}");
    let left = || world.redis.command(&["TTL", &name]).int();
    python.record_use(TOKEN, APP, "2026-01-02T05:04:05+02:00");
    assert!((3590..=3600).contains(&left()));
    assert_eq!(world.text(&name).as_deref(), Some("2026-01-02T03:04:05"));
    let pythons = world.text(&name);
    rust.record_use(TOKEN, "app", micros_after(0))
        .await
        .unwrap();
    assert!((3590..=3600).contains(&left()));
    assert_eq!(world.text(&name), pythons);
}

#[tokio::test]
async fn they_outlive_every_deletion_of_entries() {
    for version in Version::BOTH {
        let world = World::new();
        let (rust, mut python) = (world.rust(), world.python(version));
        rust.record_use(TOKEN, "app", micros_after(0))
            .await
            .unwrap();
        rust.invalidate(TOKEN).await.unwrap();
        rust.invalidate_tenant("t-1").await.unwrap();
        python.delete_all_scopes(TOKEN);
        python.invalidate_tenant("t-1");
        assert!(python.read_use(TOKEN, APP).is_some());
    }
}
