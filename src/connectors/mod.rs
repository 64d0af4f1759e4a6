//! Connectors: the edges where rows come in and go out ([`crate::edges`]) for the values of the option `connector`.
//!
//! ```text
//!  table options ─► ConnectorFactory ─┬─► Source
//!                                     └─► Sink
//! ```

pub mod blackhole;
pub mod collect;
pub(crate) mod conform;
pub mod datagen;
pub mod faker;
pub mod filesystem;
pub mod iceberg;
pub mod jdbc;
pub mod kafka;
pub mod nexmark;
pub mod print;
pub mod registry;
pub mod rest;
pub mod savepoint;
pub mod synthetic;
pub mod values;

use std::sync::Arc;

use crate::catalog::ResolvedTable;
use crate::edges::{ConnectorEnv, Sink, Source};
use crate::error::{Error, Result};

/// Makes sources and sinks for one value of the `connector` option.
pub trait ConnectorFactory: Send + Sync {
    /// The value of `connector`.
    fn identifier(&self) -> &'static str;

    /// A source for a table. Validates options: an unknown one is an error that lists the supported ones.
    ///
    /// # Errors
    /// Validation for bad options; Unsupported if the connector has no source.
    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>>;

    /// A sink for a table.
    ///
    /// # Errors
    /// As [`ConnectorFactory::source`].
    fn sink(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Sink>>;
}

/// The error for a connector without a source or sink.
pub fn not_a(what: &str, table: &ResolvedTable, connector: &str) -> Error {
    Error::unsupported(format!(
        "the connector '{connector}' of table {} cannot be used as a {what}",
        table.def.path
    ))
}
