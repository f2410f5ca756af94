//! What an empty database is filled with, so that a newcomer has something to call.

use tower_api_token::BearerToken;

use super::tokens::{Kept, NewToken, add_token};
use super::{Database, Timestamp, on_pool};
use crate::{format, random};

const TENANTS: [(&str, &str); 2] = [("acme", "Acme"), ("globex", "Globex")];

/// A token that was made for an empty database.
pub struct Seeded {
    /// The token's public name.
    pub id: String,
    /// Its tenant.
    pub tenant_id: String,
    /// `app` or `dataset`.
    pub token_type: &'static str,
    /// The token itself, to be printed once.
    pub text: BearerToken,
}

/// Everything but the text.
impl std::fmt::Debug for Seeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            id,
            tenant_id,
            token_type,
            text: _,
        } = self;
        f.debug_struct("Seeded")
            .field("id", id)
            .field("tenant_id", tenant_id)
            .field("type", token_type)
            .finish()
    }
}

impl Database {
    /// Fills an empty database with two tenants and two tokens each; `None` if it is not empty.
    ///
    /// Of several instances that start on one empty database exactly one gets the tokens: the first
    /// statement inserts the first tenant only where there is none, and a rival waits at that row
    /// (PostgreSQL) or for the write lock (SQLite) until it is committed.
    pub async fn seed(&self, kept: Kept) -> Result<Option<Vec<Seeded>>, sqlx::Error> {
        const FIRST: &str = "\
            INSERT INTO tenants (id, name) SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM tenants) \
            ON CONFLICT (id) DO NOTHING";
        const NEXT: &str = "INSERT INTO tenants (id, name) VALUES ($1, $2)";
        let [(first, first_name), others @ ..] = TENANTS;
        let tokens = tokens(kept)?;
        on_pool!(self, pool => {
            let mut transaction = pool.begin().await?;
            let inserted = sqlx::query(FIRST).persistent(false).bind(first).bind(first_name).execute(&mut *transaction).await?;
            if inserted.rows_affected() == 0 {
                return Ok(None);
            }
            for (id, name) in others {
                sqlx::query(NEXT).persistent(false).bind(id).bind(name).execute(&mut *transaction).await?;
            }
            // Random and new: no cache can hold anything about them, so nothing is owed to the
            // outbox.
            for (token, _) in &tokens {
                add_token!(transaction, token)?;
            }
            transaction.commit().await?;
        });
        let seeded = tokens.into_iter().map(|(token, text)| {
            let NewToken {
                id,
                tenant_id,
                token_type,
                ..
            } = token;
            Seeded {
                id,
                tenant_id,
                token_type,
                text,
            }
        });
        Ok(Some(seeded.collect()))
    }
}

/// The tokens with their texts.
fn tokens(kept: Kept) -> std::io::Result<Vec<(NewToken, BearerToken)>> {
    let mut tokens = Vec::new();
    for (tenant, _) in TENANTS {
        for (token_type, app_id) in [("app", Some(format!("{tenant}-chat"))), ("dataset", None)] {
            let text = format::of_type(token_type)
                .generate()
                .map_err(std::io::Error::other)?;
            let token = NewToken {
                id: random::id("tok")?,
                tenant_id: tenant.to_owned(),
                app_id,
                token_type,
                digest: text.digest(),
                text: kept.text(&text),
                created_at: Timestamp::now(),
                expires_at: None,
            };
            tokens.push((token, text));
        }
    }
    Ok(tokens)
}
