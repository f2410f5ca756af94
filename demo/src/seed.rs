//! The keys of the demo, and the first of a new database.

use tower_api_token::BearerToken;
use tower_api_token_sqlx::{ApiKeys, ChangeError, Database, Error, NewKey};

use crate::config::{Layout, TYPES, of_type};
use crate::tables::Tables;

/// The tenants of a new database, with their names.
const TENANTS: [(&str, &str); 2] = [("acme", "Acme"), ("globex", "Globex")];

/// A token of a new database.
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

/// The keys, the tables beside them, and the tokens of a database that was new.
#[derive(Debug)]
pub struct Opened {
    /// The keys.
    pub keys: ApiKeys,
    /// The other tables.
    pub tables: Tables,
    /// What was added to a new database: two tenants with two tokens each.
    pub seeded: Option<Vec<Seeded>>,
}

/// Opens the keys in this database, and fills it if it is new.
///
/// # Errors
/// Returns the database's error.
pub async fn open(database: Database, layout: &Layout) -> Result<Opened, Error> {
    let mut builder = ApiKeys::builder(database.clone()).id_prefix("tok_");
    for token_type in TYPES {
        builder = builder.format_of(token_type, of_type(token_type));
    }
    if layout.needs_texts() {
        let [storing, finding] = [(); 2].map(|()| Tables::of(&database));
        builder = builder.store_texts(move |token| {
            let tables = storing.clone();
            async move { Ok(tables.store_text(&token).await?) }
        });
        builder = builder.texts(move |digest| {
            let tables = finding.clone();
            async move { Ok(tables.text(digest).await?) }
        });
    }
    let keys = builder.build().await?;
    let (tables, is_new) = Tables::prepare(&database, &TENANTS).await?;
    let seeded = if is_new {
        Some(seed(&keys).await?)
    } else {
        None
    };
    Ok(Opened {
        keys,
        tables,
        seeded,
    })
}

async fn seed(keys: &ApiKeys) -> Result<Vec<Seeded>, Error> {
    let mut seeded = Vec::new();
    for (tenant, _) in TENANTS {
        for token_type in TYPES {
            let mut new = NewKey::new(tenant).token_type(token_type);
            if token_type == "app" {
                new = new.app_id(format!("{tenant}-chat"));
            }
            let issued = match keys.issue(new).await {
                Ok(issued) => issued.into_inner(),
                Err(ChangeError::Failed(error)) => return Err(error),
                // The text is random, so that nothing has to be invalidated.
                Err(error) => error.into_committed().expect("it is committed"),
            };
            seeded.push(Seeded {
                id: issued.key.id,
                tenant_id: tenant.to_owned(),
                token_type,
                text: issued.token,
            });
        }
    }
    Ok(seeded)
}
