//! How a change of a table reaches its catalog.
//!
//! ```text
//!  Update { requirements, changes } ─► SqlBackend    new metadata file, then a compare-and-swap of its address
//!                                   └► RestBackend   POST …/tables/t: the server checks and applies
//! ```
//!
//! The crate's own transactions know appends and nothing else, and what its catalogs commit cannot be made outside of the
//! crate. Reading, creating, renaming and dropping of tables stay with its catalogs; commits go through here, so that deletes, rewritten
//! files and changed columns are commits like all others.

mod rest;
mod sql;

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::table::Table;
use iceberg::{Catalog, NamespaceIdent, TableIdent, TableRequirement, TableUpdate};

pub(super) use rest::RestBackend;
pub(super) use sql::SqlBackend;

/// A change of a table, all of it or nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Update {
    /// What has to be true of the table, or nothing is changed.
    pub requirements: Vec<TableRequirement>,
    /// What is changed, in this order.
    pub changes: Vec<TableUpdate>,
}

/// Commits changes.
#[async_trait]
pub(super) trait Backend: Debug + Send + Sync {
    /// Commits a change of a table that was loaded as `base`.
    ///
    /// # Errors
    /// `CatalogCommitConflicts` if the table is another one by now: nothing was changed. After any other error nobody knows,
    /// and the table has to be looked at.
    async fn commit(&self, base: &Table, update: Update) -> iceberg::Result<()>;

    /// Sets properties of a namespace; others stay. `client` is the crate's catalog.
    ///
    /// # Errors
    /// `NamespaceNotFound`; after any other error nobody knows.
    async fn set_namespace_properties(
        &self,
        client: &Arc<dyn Catalog>,
        namespace: &NamespaceIdent,
        updates: HashMap<String, String>,
    ) -> iceberg::Result<()> {
        client.update_namespace(namespace, updates).await
    }

    /// Whether a table of the catalog other than `except` has its metadata in a folder; `None` if the catalog cannot tell
    /// without loading all of them.
    ///
    /// # Errors
    /// `Unexpected`.
    async fn is_in_use(&self, _folder: &str, _except: Option<&TableIdent>) -> iceberg::Result<Option<bool>> {
        Ok(None)
    }
}

/// The error for a table that has changed since it was loaded.
fn conflict(why: impl Into<String>) -> iceberg::Error {
    iceberg::Error::new(iceberg::ErrorKind::CatalogCommitConflicts, why).with_retryable(true)
}
