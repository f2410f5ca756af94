//! Pages of keys.

use tower_api_token_sqlx::{Cursor, KeyQuery, NewKey};

use crate::world::{World, issue};

crate::on_both!(
    pages_show_each_key_once_while_others_are_added,
    pages_of_a_tenant_have_its_keys_alone,
    limits_and_cursors_are_checked,
);

async fn pages_show_each_key_once_while_others_are_added(world: World) {
    let keys = world.keys().await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        expected.push(issue(&keys).await.key.id);
    }
    expected.sort();
    for newest_first in [false, true] {
        let query = || {
            let query = KeyQuery::new().limit(3);
            if newest_first {
                query.newest_first()
            } else {
                query
            }
        };
        let (mut seen, mut next): (Vec<String>, Option<Cursor>) = (Vec::new(), None);
        loop {
            let page = keys.list(query().after(next)).await.unwrap();
            assert!(page.keys.len() <= 3);
            seen.extend(page.keys.into_iter().map(|key| key.id));
            // In between, another key is added.
            issue(&keys).await;
            // As a client sends it back.
            next = page.next.map(|next| next.to_string().parse().unwrap());
            if next.is_none() {
                break;
            }
        }
        let old: Vec<_> = seen
            .iter()
            .filter(|id| expected.contains(id))
            .cloned()
            .collect();
        assert_eq!(old.len(), expected.len());
        let mut sorted = seen.clone();
        sorted.sort();
        if newest_first {
            sorted.reverse();
        }
        assert_eq!(seen, sorted);
    }
}

async fn pages_of_a_tenant_have_its_keys_alone(world: World) {
    let keys = world.keys().await;
    for number in 0..6 {
        let tenant = ["acme", "globex"][number % 2];
        keys.issue(NewKey::new(tenant)).await.unwrap();
    }
    let query = || KeyQuery::new().tenant("acme").limit(2);
    let first = keys.list(query()).await.unwrap();
    let last = keys.list(query().after(first.next)).await.unwrap();
    let of_acme = first.keys.iter().chain(&last.keys);
    assert!(of_acme.clone().all(|key| key.tenant_id == "acme"));
    assert_eq!((of_acme.count(), last.next), (3, None));
    let full = keys.list(KeyQuery::new().limit(6)).await.unwrap();
    assert_eq!((full.keys.len(), full.next), (6, None));
    let none = keys.list(KeyQuery::new().tenant("\0")).await.unwrap();
    assert!(none.keys.is_empty());
}

async fn limits_and_cursors_are_checked(world: World) {
    let keys = world.keys().await;
    for limit in [0, 1_001] {
        let error = keys.list(KeyQuery::new().limit(limit)).await.unwrap_err();
        assert!(error.to_string().starts_with("limit"), "{error}");
    }
    assert!("".parse::<Cursor>().is_err());
    assert!("\0".parse::<Cursor>().is_err());
}
