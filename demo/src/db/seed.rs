//! Fills an empty database, so that a new user has tokens to try.

use tower_api_token::BearerToken;

use super::tokens::{NewToken, StoredForm, add_token};
use super::{Database, Timestamp, on_pool};
use crate::{format, random};

const TENANTS: [(&str, &str); 2] = [("acme", "Acme"), ("globex", "Globex")];

/// A token that was created in an empty database.
pub struct Seeded {
    /// The token's id, which is public.
    pub id: String,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// `app` or `dataset`.
    pub token_type: &'static str,
    /// The token's text, to be printed once.
    pub text: BearerToken,
}

/// Shows everything except the text.
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
    /// Fills an empty database with two tenants and two tokens each. Returns `None` if it is not empty.
    ///
    /// If several instances start on one empty database, exactly one gets the tokens: the first statement
    /// inserts a tenant only if there is none, and the other instances wait for that row (PostgreSQL) or
    /// for the write lock (SQLite) until it is committed.
    pub async fn seed(&self, form: StoredForm) -> Result<Option<Vec<Seeded>>, sqlx::Error> {
        const FIRST: &str = "\
            INSERT INTO tenants (id, name) SELECT $1, $2 WHERE NOT EXISTS (SELECT 1 FROM tenants) \
            ON CONFLICT (id) DO NOTHING";
        const NEXT: &str = "INSERT INTO tenants (id, name) VALUES ($1, $2)";
        let [(first, first_name), others @ ..] = TENANTS;
        let tokens = tokens(form)?;
        on_pool!(self, pool => {
            let mut transaction = pool.begin().await?;
            let inserted = sqlx::query(FIRST).persistent(false).bind(first).bind(first_name).execute(&mut *transaction).await?;
            if inserted.rows_affected() == 0 {
                return Ok(None);
            }
            for (id, name) in others {
                sqlx::query(NEXT).persistent(false).bind(id).bind(name).execute(&mut *transaction).await?;
            }
            // Without rows in the outbox: the texts are random, so no cache holds an answer to them.
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

/// Generates the tokens with their texts.
fn tokens(form: StoredForm) -> std::io::Result<Vec<(NewToken, BearerToken)>> {
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
                text: form.text(&text),
                created_at: Timestamp::now(),
                expires_at: None,
            };
            tokens.push((token, text));
        }
    }
    Ok(tokens)
}
