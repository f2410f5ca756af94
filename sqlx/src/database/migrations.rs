//! Migrations that are compiled in. They have a table of their own, beside that of the service's migrator.

use crate::database::tables::{DEFAULT_PREFIX, Tables};

/// A file of `migrations/`, whose tables have the default prefix.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// Returns the scripts that have not run yet, with the names of these tables. Each ends with a note that it ran.
pub(crate) fn missing(all: &[Migration], done: &[i64], tables: &Tables) -> Vec<String> {
    let missing = all.iter().filter(|it| !done.contains(&it.version));
    missing
        .map(|Migration { version, name, sql }| {
            let script = sql.replace(DEFAULT_PREFIX, tables.prefix());
            let note = format!(
                "\nINSERT INTO ~migrations (version, name) VALUES ({version}, '{name}');\n"
            );
            script + &tables.sql(&note)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    /// The prefix is replaced wherever it occurs, and so must occur nowhere else.
    #[test]
    fn default_prefix_is_only_in_names_of_tables_and_indexes() {
        for sql in [
            include_str!("../../migrations/postgres/0001_keys.sql"),
            include_str!("../../migrations/sqlite/0001_keys.sql"),
        ] {
            for (at, _) in sql.match_indices(crate::database::tables::DEFAULT_PREFIX) {
                let before = &sql[..at];
                let named = ["TABLE ", "INDEX ", " ON "]
                    .iter()
                    .any(|it| before.ends_with(it));
                assert!(named, "{}", &sql[at..at + 40]);
            }
        }
    }
}
