//! The settings, from environment variables.

use std::env;
use std::net::SocketAddr;

use crate::answer::{Preflights, Rules};

pub(crate) struct Config {
    pub(crate) listen: SocketAddr,
    pub(crate) database_url: String,
    pub(crate) redis_url: Option<String>,
    pub(crate) rules: Rules,
}

impl Config {
    /// Reads the environment. An error names the variable, and not its value, which may hold a password.
    pub(crate) fn from_environment() -> Result<Self, String> {
        let listen = optional("LISTEN")?.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
        Ok(Self {
            listen: listen
                .parse()
                .map_err(|_| "LISTEN: not an address with a port, such as 127.0.0.1:3000")?,
            database_url: optional("DATABASE_URL")?
                .ok_or("DATABASE_URL: not set; postgres://USER@HOST/DATABASE")?,
            redis_url: optional("REDIS_URL")?,
            rules: Rules {
                token_type: optional("TOKEN_TYPE")?,
                token_header: optional("TOKEN_HEADER")?,
                preflights: match optional("CORS_PREFLIGHTS")?.as_deref() {
                    None | Some("refuse") => Preflights::Refuse,
                    Some("x-forwarded-method") => Preflights::ByXForwardedMethod,
                    Some("method") => Preflights::ByMethod,
                    Some(_) => {
                        return Err(
                            "CORS_PREFLIGHTS: neither refuse, x-forwarded-method nor method"
                                .to_owned(),
                        );
                    }
                },
            },
        })
    }
}

/// Returns a variable. An empty one is an error: with `TOKEN_TYPE=` by mistake, tokens of all types would be good.
fn optional(name: &str) -> Result<Option<String>, String> {
    match env::var(name) {
        Ok(value) if value.is_empty() => Err(format!("{name}: empty; unset it")),
        Ok(value) => Ok(Some(value)),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name}: not UTF-8")),
    }
}
