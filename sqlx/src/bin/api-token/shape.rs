//! A key as JSON and as text. The names in JSON are those of the router of the administration, and stable: fields are added,
//! never renamed.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tower_api_token_sqlx::{Key, Rotation};

use crate::output::clean;
use crate::span::time;

pub(crate) fn optional_time(moment: Option<DateTime<Utc>>) -> Value {
    moment.map(time).into()
}

/// Returns a key as JSON. Its digest is not shown: it would find the text of a key that was imported and is short.
pub(crate) fn key(key: &Key, now: DateTime<Utc>) -> Value {
    let tenant_status = if key.tenant_suspended {
        "suspended"
    } else {
        "active"
    };
    json!({
        "id": key.id,
        "tenant_id": key.tenant_id,
        "tenant_status": tenant_status,
        "status": key.status_at(now).as_str(),
        "name": key.name,
        "token_type": key.token_type,
        "app_id": key.app_id,
        "scopes": key.scopes,
        "metadata": key.metadata,
        "created_at": time(key.created_at),
        "expires_at": optional_time(key.expires_at),
        "revoked_at": optional_time(key.revoked_at),
        "last_used_at": optional_time(key.last_used_at),
        "rotated_at": optional_time(key.rotated_at),
        "successor_id": key.successor_id,
        "predecessor_id": key.predecessor_id,
    })
}

/// Returns a rotation as JSON.
pub(crate) fn rotation(rotation: &Rotation) -> Value {
    let (old, new) = (&rotation.predecessor, &rotation.successor);
    json!({
        "predecessor_id": old.id,
        "predecessor_last_used_at": optional_time(old.last_used_at),
        "predecessor_ends_at": optional_time(old.expires_at),
        "successor_id": new.id,
        "successor_last_used_at": optional_time(new.last_used_at),
        "still_used_at": optional_time(rotation.still_used_at()),
    })
}

/// Returns the fields of a key that are set, with their names, for people.
pub(crate) fn fields(key: &Key, now: DateTime<Utc>) -> Vec<(&'static str, String)> {
    let text = |text: &Option<String>| text.as_deref().map(clean);
    let scopes = Some(clean(&key.scopes.join(" "))).filter(|all| !all.is_empty());
    let all = [
        ("id", Some(clean(&key.id))),
        ("tenant", Some(clean(&key.tenant_id))),
        ("status", Some(key.status_at(now).as_str().to_owned())),
        ("name", text(&key.name)),
        ("token type", text(&key.token_type)),
        ("app", text(&key.app_id)),
        ("scopes", scopes),
        (
            "metadata",
            key.metadata.as_ref().map(|it| clean(&it.to_string())),
        ),
        ("created", Some(time(key.created_at))),
        (
            "expires",
            Some(key.expires_at.map_or("never".to_owned(), time)),
        ),
        ("revoked", key.revoked_at.map(time)),
        (
            "last used",
            Some(key.last_used_at.map_or("never".to_owned(), time)),
        ),
        ("rotated", key.rotated_at.map(time)),
        ("successor", text(&key.successor_id)),
        ("predecessor", text(&key.predecessor_id)),
    ];
    let set = all.into_iter();
    set.filter_map(|(name, value)| Some((name, value?)))
        .collect()
}
