//! Catalogs: what names mean.
//!
//! ```text
//!  CatalogManager ── current catalog and database, temporary objects
//!    ├── default_catalog   MemoryCatalog      databases → tables, views
//!    └── lake, …           e.g. IcebergCatalog (connectors/iceberg), under a RehearsalCatalog for EXPLAIN of a script
//! ```

mod alter;
mod altered;
mod ddl_text;
mod define;
mod functions;
mod like;
mod manager;
mod memory;
mod rehearsal;
mod show;
mod table;

#[cfg(test)]
mod tests;

pub(crate) use altered::altered;
pub use functions::Scope;
pub use manager::{CatalogManager, DEFAULT_CATALOG, DEFAULT_DATABASE};
pub use memory::MemoryCatalog;
pub(crate) use memory::{database_exists, object_exists, taken};
pub use rehearsal::RehearsalCatalog;
pub(crate) use show::info;
pub use show::{InferColumns, ViewColumn};

pub use table::{
    CatalogObject, ExternalTable, MetadataColumn, ObjectPath, ResolvedTable, TableDef, ViewDef, unchangeable,
};

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::sql::ast::TableChange;

/// A database as declared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DatabaseDef {
    /// `COMMENT '…'`.
    pub comment: Option<String>,
    /// `WITH (…)`.
    pub options: BTreeMap<String, String>,
}

/// A catalog: databases that hold tables and views.
#[async_trait]
pub trait Catalog: Send + Sync + Debug {
    /// The `type` option: `generic_in_memory`, `iceberg`.
    fn kind(&self) -> &'static str;

    /// The options it was created with. May hold secrets: print through [`crate::options::redact`].
    fn options(&self) -> &BTreeMap<String, String>;

    /// The database that `USE CATALOG` makes current; `None` if the catalog has no such notion.
    fn default_database(&self) -> Option<&str> {
        None
    }

    /// Names of the databases, sorted.
    async fn list_databases(&self) -> Result<Vec<String>>;

    /// Looks a database up. The default knows only whether it exists.
    async fn get_database(&self, name: &str) -> Result<Option<DatabaseDef>> {
        Ok(self.list_databases().await?.iter().any(|d| d == name).then(DatabaseDef::default))
    }

    /// Creates a database; an existing one is an error unless `if_not_exists`.
    async fn create_database(
        &self,
        name: &str,
        comment: Option<&str>,
        options: BTreeMap<String, String>,
        if_not_exists: bool,
    ) -> Result<()>;

    /// Drops a database; a non-empty one only with `cascade`.
    async fn drop_database(&self, name: &str, if_exists: bool, cascade: bool) -> Result<()>;

    /// Names of tables and views of a database, sorted, with `true` for views.
    async fn list_objects(&self, database: &str) -> Result<Vec<(String, bool)>>;

    /// Looks a table or view up.
    async fn get(&self, database: &str, name: &str) -> Result<Option<CatalogObject>>;

    /// Creates a table; `def.path` says where. Gives whether it did: `false` if it was there, perhaps because another
    /// process made it in the same moment.
    async fn create_table(&self, def: TableDef, if_not_exists: bool) -> Result<bool>;

    /// Creates a view.
    async fn create_view(&self, def: ViewDef, if_not_exists: bool) -> Result<()>;

    /// A table or a view as this catalog would give it back if it were created, which it is not.
    ///
    /// # Errors
    /// For what the catalog cannot hold.
    async fn as_created(&self, object: CatalogObject) -> Result<CatalogObject> {
        Ok(object)
    }

    /// Drops a table.
    async fn drop_table(&self, database: &str, name: &str, if_exists: bool) -> Result<()>;

    /// Drops a view.
    async fn drop_view(&self, database: &str, name: &str, if_exists: bool) -> Result<()>;

    /// Changes the definition of a table. `infer` tells whether its expressions still plan.
    async fn alter_table(
        &self,
        path: &ObjectPath,
        change: &TableChange,
        infer: &dyn InferColumns,
    ) -> Result<()>;

    /// Gives a table, or a view, another name, perhaps in another database. One of that name must not be there.
    async fn rename(&self, from: &ObjectPath, to: &ObjectPath, view: bool) -> Result<()>;

    /// Puts a view in the place of the one that is there.
    async fn replace_view(&self, def: ViewDef) -> Result<()> {
        Err(Error::unsupported(format!("the catalog `{}` keeps no views", def.path.catalog)))
    }

    /// Sets options of a database.
    async fn alter_database(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()>;

    /// The same catalog with other options; `None` if it has to be opened again for them.
    ///
    /// # Errors
    /// Validation for options that make no sense.
    async fn with_options(&self, _options: &BTreeMap<String, String>) -> Result<Option<Arc<dyn Catalog>>> {
        Ok(None)
    }
}
