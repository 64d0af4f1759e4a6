//! What names of a statement mean: the planner's view of the session's catalogs and connectors.

use std::sync::Arc;

use crate::catalog::{CatalogManager, CatalogObject, ResolvedTable};
use crate::connectors::registry;
use crate::edges::{ConnectorEnv, Sink, Source};
use crate::error::{Error, Result};
use crate::functions::user::UserFunction;
use crate::plan::planner::NameResolver;

/// Resolves against a catalog manager.
#[derive(Debug)]
pub(super) struct SessionNames {
    catalogs: Arc<CatalogManager>,
    hints_allowed: bool,
}

impl SessionNames {
    pub(super) fn new(catalogs: Arc<CatalogManager>, hints_allowed: bool) -> Self {
        SessionNames { catalogs, hints_allowed }
    }
}

/// Runs catalog IO from the planner, which is synchronous.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    // The planner runs on a worker of a multi-threaded runtime; the other workers go on meanwhile.
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

impl NameResolver for SessionNames {
    fn lookup(&self, parts: &[String], within: Option<&(String, String)>) -> Result<Option<CatalogObject>> {
        wait(self.catalogs.lookup(parts, within))
    }

    fn not_found(&self, parts: &[String], within: Option<&(String, String)>) -> Error {
        wait(self.catalogs.not_found_at(parts, within))
    }

    fn function(&self, parts: &[String], within: Option<&(String, String)>) -> Option<Arc<UserFunction>> {
        self.catalogs.function(parts, within)
    }

    fn function_names(&self) -> Vec<String> {
        self.catalogs.function_names()
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        if !self.hints_allowed && table.options != table.def.options {
            return Err(Error::validation("OPTIONS hints are not allowed")
                .hint("SET 'table.dynamic-table-options.enabled' = 'true'"));
        }
        match &table.def.external {
            Some(external) => external.source(table, env),
            None => registry::factory_of(&table.def.path, &table.options)?.source(table, env),
        }
    }
}

/// The sink of a table.
///
/// # Errors
/// Validation for bad options.
pub(super) fn sink_of(table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
    match &table.def.external {
        Some(external) => external.sink(table, env),
        None => registry::factory_of(&table.def.path, &table.options)?.sink(table, env),
    }
}
