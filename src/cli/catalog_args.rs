//! Where tables are, on the command line.

use std::collections::BTreeMap;

use clap::Args;

use super::parse_setting;
use crate::error::{Error, Result};

/// The catalog and the storage of tables.
#[derive(Debug, Clone, Args)]
pub(super) struct CatalogArgs {
    /// Folder or s3://… of the tables; for a REST catalog what the server calls a warehouse.
    #[arg(long, value_name = "DIR|URL")]
    warehouse: Option<String>,
    /// The catalog: http(s)://… of a REST catalog, or sqlite:PATH [default: catalog.db in the warehouse].
    #[arg(long, value_name = "URL")]
    catalog_uri: Option<String>,
    /// An option of the catalog or of its storage, such as s3.endpoint or token. May be repeated.
    #[arg(long = "catalog-option", value_name = "KEY=VALUE", value_parser = parse_setting)]
    catalog_options: Vec<(String, String)>,
}

impl CatalogArgs {
    /// As options of `CREATE CATALOG`.
    ///
    /// # Errors
    /// Validation if nothing is said.
    pub fn options(self) -> Result<BTreeMap<String, String>> {
        let mut catalog: BTreeMap<String, String> = self.catalog_options.into_iter().collect();
        if let Some(uri) = self.catalog_uri {
            if uri.starts_with("http://") || uri.starts_with("https://") {
                catalog.entry("catalog-type".to_owned()).or_insert_with(|| "rest".to_owned());
            }
            catalog.insert("uri".to_owned(), uri);
        }
        if let Some(warehouse) = self.warehouse {
            catalog.insert("warehouse".to_owned(), warehouse);
        }
        if catalog.is_empty() {
            return Err(Error::validation("it is not said where the tables are")
                .hint("--warehouse DIR, or --catalog-uri http://… of a REST catalog"));
        }
        Ok(catalog)
    }
}
