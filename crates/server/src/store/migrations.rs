//! The steps that make the schema, in their order. They lie under `migrations/` and are part of the binary.
//!
//! They are listed by hand: the macro that reads the folder compiles a second Postgres client for the compiler's own use.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Description and SQL of each; the version is its place, counted from 1.
const MIGRATIONS: [(&str, &str); 4] = [
    ("accounts", include_str!("../../migrations/0001_accounts.sql")),
    ("conversations", include_str!("../../migrations/0002_conversations.sql")),
    ("usage records", include_str!("../../migrations/0003_usage_records.sql")),
    ("log storage", include_str!("../../migrations/0004_log_storage.sql")),
];

/// All migrations; Postgres' advisory lock lets one node at a time run them.
pub(super) fn migrator() -> Migrator {
    let migration = |(version, (description, sql)): (i64, (&'static str, &'static str))| {
        Migration::new(
            version,
            description.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    };
    Migrator::with_migrations((1..).zip(MIGRATIONS).map(migration).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_the_folder_is_listed_in_its_place() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder is there")
            .map(|entry| {
                entry
                    .expect("it is readable")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        files.sort();
        let listed: Vec<String> = migrator()
            .iter()
            .map(|step| format!("{:04}_{}.sql", step.version, step.description.replace(' ', "_")))
            .collect();
        assert_eq!(listed, files);
        for (step, file) in migrator().iter().zip(files) {
            let text = std::fs::read_to_string(format!("{folder}/{file}")).expect("it is text");
            assert_eq!(step.sql.as_str(), text, "{file}");
        }
    }
}
