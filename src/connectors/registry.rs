//! Connectors by the value of the option `connector`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use crate::connectors::ConnectorFactory;
use crate::connectors::blackhole::BlackholeFactory;
use crate::connectors::datagen::DatagenFactory;
use crate::connectors::faker::FakerFactory;
use crate::connectors::filesystem::FilesystemFactory;
use crate::connectors::iceberg::IcebergFactory;
use crate::connectors::jdbc::JdbcFactory;
use crate::connectors::kafka::{KafkaFactory, UpsertKafkaFactory};
use crate::connectors::nexmark::NexmarkFactory;
use crate::connectors::print::PrintFactory;
use crate::connectors::rest::RestFactory;
use crate::connectors::savepoint::SavepointFactory;
use crate::error::{Error, Result};

fn all() -> Vec<Arc<dyn ConnectorFactory>> {
    vec![
        Arc::new(BlackholeFactory),
        Arc::new(DatagenFactory),
        Arc::new(FakerFactory),
        Arc::new(FilesystemFactory),
        Arc::new(IcebergFactory),
        Arc::new(JdbcFactory),
        Arc::new(KafkaFactory),
        Arc::new(NexmarkFactory),
        Arc::new(PrintFactory),
        Arc::new(RestFactory::http()),
        Arc::new(RestFactory::rest_lookup()),
        Arc::new(SavepointFactory),
        Arc::new(UpsertKafkaFactory),
    ]
}

/// The factory of a connector.
///
/// # Errors
/// Validation that lists the connectors there are.
pub fn factory(identifier: &str) -> Result<Arc<dyn ConnectorFactory>> {
    let factories = all();
    let names: Vec<&str> = factories.iter().map(|f| f.identifier()).collect();
    let names = names.join(", ");
    factories.into_iter().find(|f| f.identifier() == identifier).ok_or_else(|| {
        Error::validation(format!("Could not find any factory for identifier '{identifier}'"))
            .hint(format!("available connectors: {names}"))
    })
}

/// The factory that the options of `table` ask for.
///
/// # Errors
/// Validation if there is no `connector` option, or an unknown one.
pub fn factory_of(
    table: impl Display,
    options: &BTreeMap<String, String>,
) -> Result<Arc<dyn ConnectorFactory>> {
    match options.get("connector") {
        Some(identifier) => factory(identifier).map_err(|e| e.context(format!("table {table}"))),
        None => Err(Error::validation(format!("table {table}: the option 'connector' is missing"))
            .hint("add 'connector' = '…' to the WITH clause")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_connectors_are_answered_with_the_list() {
        let Err(e) = factory("mysql") else { panic!("mysql is no connector") };
        assert!(e.to_string().starts_with("Could not find any factory for identifier 'mysql'"), "{e}");
        assert!(e.to_string().contains("nexmark, print, http, rest-lookup, savepoint"), "{e}");
        let Err(e) = factory_of("c.d.t", &BTreeMap::new()) else { panic!("no connector given") };
        assert!(e.to_string().contains("'connector' is missing"), "{e}");
        assert_eq!(factory("print").unwrap().identifier(), "print");
    }
}
