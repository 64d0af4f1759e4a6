//! Commits to a catalog in a SQLite database, as the crate's catalog, PyIceberg and Java's JDBC catalog keep it.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use iceberg::spec::TableMetadataRef;
use iceberg::table::Table;
use iceberg::{MetadataLocation, TableIdent};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};

use super::{Backend, Update, conflict};

/// How long another process may hold the database.
const BUSY: Duration = Duration::from_secs(10);

/// A catalog database.
#[derive(Debug)]
pub(in super::super) struct SqlBackend {
    pool: SqlitePool,
    /// Name of the catalog in the database.
    catalog: String,
}

fn failed(e: &sqlx::Error) -> iceberg::Error {
    iceberg::Error::new(iceberg::ErrorKind::Unexpected, format!("the catalog database: {e}"))
}

impl SqlBackend {
    /// Over the database at `uri`, which is opened when it is needed.
    ///
    /// # Errors
    /// `Unexpected` for an address that is none.
    pub fn new(uri: &str, catalog: &str) -> iceberg::Result<Self> {
        let options = SqliteConnectOptions::from_str(uri).map_err(|e| failed(&e))?.busy_timeout(BUSY);
        let pool = SqlitePoolOptions::new().max_connections(1).connect_lazy_with(options);
        Ok(SqlBackend { pool, catalog: catalog.to_owned() })
    }
}

#[async_trait]
impl Backend for SqlBackend {
    async fn commit(&self, base: &Table, update: Update) -> iceberg::Result<()> {
        let before = base.metadata_location_result()?;
        let after = apply(base, update)?;
        let location = MetadataLocation::from_str(before)?.with_next_version().with_new_metadata(&after);
        after.write_to(base.file_io(), &location).await?;
        let location = location.to_string();
        // One statement is one transaction: whoever comes second finds another address and changes nothing.
        let swapped = sqlx::query(
            "UPDATE iceberg_tables SET metadata_location = ?, previous_metadata_location = ? \
             WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? AND metadata_location = ? \
             AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)",
        )
        .bind(&location)
        .bind(before)
        .bind(&self.catalog)
        .bind(base.identifier().namespace().join("."))
        .bind(base.identifier().name())
        .bind(before)
        .execute(&self.pool)
        .await
        .map_err(|e| failed(&e))?;
        if swapped.rows_affected() == 0 {
            // Nobody has ever seen it.
            let _ = base.file_io().delete(&location).await;
            return Err(conflict("somebody else has changed the table"));
        }
        forget(base, &after).await;
        Ok(())
    }

    /// A table that was renamed keeps its folder, and another one may be created under the name that it had.
    async fn is_in_use(&self, folder: &str, except: Option<&TableIdent>) -> iceberg::Result<Option<bool>> {
        let folder = format!("{}/", folder.trim_end_matches('/'));
        let (namespace, name) = match except {
            Some(t) => (t.namespace().join("."), t.name()),
            None => (String::new(), ""),
        };
        let found = sqlx::query(
            "SELECT 1 FROM iceberg_tables WHERE catalog_name = ? AND substr(metadata_location, 1, length(?)) = ? \
             AND NOT (table_namespace = ? AND table_name = ?) LIMIT 1",
        )
        .bind(&self.catalog)
        .bind(&folder)
        .bind(&folder)
        .bind(namespace)
        .bind(name)
        .fetch_optional(&self.pool)
        .await
        .map_err(|e| failed(&e))?;
        Ok(Some(found.is_some()))
    }
}

/// The table as it will be.
fn apply(base: &Table, update: Update) -> iceberg::Result<TableMetadataRef> {
    for requirement in &update.requirements {
        requirement.check(Some(base.metadata())).map_err(|e| conflict(e.message()))?;
    }
    let location = base.metadata_location().map(str::to_owned);
    let mut builder = base.metadata().clone().into_builder(location);
    for change in update.changes {
        builder = change.apply(builder)?;
    }
    Ok(Arc::new(builder.build()?.metadata))
}

/// Deletes the metadata files that the table does not name any more, if it is to be so. A server does this by itself.
async fn forget(before: &Table, after: &TableMetadataRef) {
    let wanted = after.properties().get("write.metadata.delete-after-commit.enabled");
    if !wanted.is_some_and(|v| v.eq_ignore_ascii_case("true")) {
        return;
    }
    let kept: Vec<&str> = after.metadata_log().iter().map(|l| l.metadata_file.as_str()).collect();
    for old in before.metadata().metadata_log() {
        if !kept.contains(&old.metadata_file.as_str()) {
            // Best effort: a file that stays is one that nothing names.
            let _ = before.file_io().delete(&old.metadata_file).await;
        }
    }
}
