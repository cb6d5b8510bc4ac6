//! The migrations, which are part of the program.

use std::sync::LazyLock;

use sqlx::SqlStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Makes a migration from the file `migrations/NUMBER_NAME.sql`.
macro_rules! migration {
    ($number:literal, $name:literal) => {
        Migration::new(
            $number,
            $name.into(),
            MigrationType::Simple,
            SqlStr::from_static(include_str!(concat!(
                "../../../migrations/000",
                $number,
                "_",
                $name,
                ".sql"
            ))),
            false,
        )
    };
}

/// Every migration. A file that is released is never changed: a database refuses a migration whose checksum differs
/// from the one that it has run.
pub static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    Migrator::with_migrations(vec![
        migration!(1, "jobs_and_models"),
        migration!(2, "queue_leases_aliases"),
        migration!(3, "growth"),
        migration!(4, "keys_of_clients"),
        migration!(5, "sources_of_models"),
    ])
});
