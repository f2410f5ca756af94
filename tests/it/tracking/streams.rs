//! The end of an open stream's token.

use super::world::{BOUND, TENANT, TOKEN, World};
use crate::common::{PATIENCE, found};

#[tokio::test]
async fn an_open_stream_ends_with_its_token() {
    for tenant in [None, Some(TENANT)] {
        let Some(world) = World::new(tenant) else {
            return;
        };
        let (one, two) = (world.instance().await, world.instance().await);
        let open = found(&two, TOKEN).await;
        let stream = tokio::spawn(open.revoked());
        two.advance(BOUND).await;
        two.advance(BOUND).await;
        assert!(!stream.is_finished());
        match tenant {
            None => {
                world.db.revoke(TOKEN);
                one.invalidate(TOKEN).await.unwrap();
            }
            Some(tenant) => {
                world.db.suspend(tenant);
                one.invalidate_tenant(tenant).await.unwrap();
            }
        }
        ends(stream).await;
    }
}

async fn ends(stream: tokio::task::JoinHandle<()>) {
    let ended = tokio::time::timeout(PATIENCE, stream).await;
    ended.expect("the stream ends").unwrap();
}
