//! An Iceberg catalog as a catalog of the session: databases are namespaces, tables are read live.
//!
//! ```text
//!  CREATE TABLE lake.db.t (…) PARTITIONED BY (days(ts)) ─► schema, partition spec, properties ─► Iceberg catalog
//!  SELECT … FROM lake.db.t ─► get: TableDef from the table's current schema + IcebergTableHandle (source and sink)
//! ```
//!
//! State: the open client. Nothing is cached.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use iceberg::spec::{FormatVersion, TableMetadata, TableMetadataBuilder, TableMetadataRef};
use iceberg::{ErrorKind, TableCreation, TableIdent};
use uuid::Uuid;

use super::config::{CatalogKind, is_connection_key};
use super::connection::Connection;
use super::lake::{Created, Lake, namespace, table_ident};
use super::metadata_tables::MetadataTable;
use super::options::ReadOptions;
use super::row_changes;
use super::sink::{IcebergSink, Known, WriteOptions};
use super::sort_order::{self, SORT_ORDER};
use super::source::IcebergSource;
use super::{partition, types};
use crate::catalog::{
    Catalog, CatalogObject, DatabaseDef, ExternalTable, InferColumns, ObjectPath, ResolvedTable, TableDef,
    ViewDef, database_exists, object_exists,
};
use crate::edges::lookup::LookupCache;
use crate::edges::{ConnectorEnv, RowChanges, Sink, Source};
use crate::error::{Error, Location, Result};
use crate::options::{Options, is_secret};
use crate::sql::ast::TableChange;

/// `CREATE CATALOG … WITH ('type' = 'iceberg', …)`.
#[derive(Debug)]
pub struct IcebergCatalog {
    /// The name in the session.
    name: String,
    options: BTreeMap<String, String>,
    pub(super) lake: Arc<Lake>,
}

impl IcebergCatalog {
    /// A catalog over an open client.
    pub(super) fn new(name: &str, options: BTreeMap<String, String>, lake: Arc<Lake>) -> Self {
        IcebergCatalog { name: name.to_owned(), options, lake }
    }

    /// Creates the default database if it is missing. A REST catalog may forbid that, which is no reason not to read
    /// it; that it answers at all is checked.
    pub(super) async fn ensure_default_database(&self, must: bool) -> Result<()> {
        let ident = namespace(&self.lake.config.default_database)?;
        match self.lake.ensure_namespace(&ident).await {
            Err(e) if must => Err(e),
            Err(e) => match self.lake.client().list_namespaces(None).await {
                Ok(_) => Ok(()),
                Err(_) => Err(e),
            },
            Ok(()) => Ok(()),
        }
    }

    fn failed(&self, database: &str, e: &iceberg::Error) -> Error {
        self.lake.error(format!("catalog `{}`, database `{database}`", self.name), e)
    }

    fn no_views(&self) -> Error {
        Error::unsupported(format!("the Iceberg catalog `{}` cannot hold views", self.name))
            .hint("CREATE TEMPORARY VIEW, or create it in default_catalog")
    }

    pub(super) fn definition(
        &self,
        path: ObjectPath,
        ident: TableIdent,
        metadata: TableMetadataRef,
    ) -> Result<TableDef> {
        let schema = metadata.current_schema();
        let mut options = self.lake.config.to_options();
        options.insert("catalog-database".into(), path.database.clone());
        options.insert("catalog-table".into(), path.object.clone());
        let properties = metadata.properties();
        options.extend(
            properties
                .iter()
                .filter(|(k, _)| *k != "comment" && !is_connection_key(k))
                .map(|(k, v)| (k.clone(), v.clone())),
        );
        options.insert("format-version".into(), (metadata.format_version() as u8).to_string());
        options.extend(sort_order::to_text(&metadata).map(|text| (SORT_ORDER.to_owned(), text)));
        Ok(TableDef {
            columns: types::to_columns(schema)?,
            watermark: None,
            primary_key: types::to_primary_key(schema),
            partitioned_by: partition::to_exprs(metadata.default_partition_spec(), schema)?,
            comment: properties.get("comment").cloned(),
            options,
            temporary: false,
            location: Location::default(),
            external: Some(Arc::new(IcebergTableHandle {
                connection: Connection::opened(Arc::clone(&self.lake)),
                ident,
                metadata,
            })),
            path,
        })
    }
}

/// The table properties of a `WITH` clause.
fn table_properties(lake: &Lake, def: &TableDef) -> Result<(HashMap<String, String>, FormatVersion)> {
    let liked = match def.options.get("connector").map(String::as_str) {
        None => false,
        // CREATE TABLE … LIKE a table of an Iceberg catalog copies how that one is reached.
        Some("iceberg") if def.options.contains_key("catalog-table") => true,
        Some(other) => {
            return Err(Error::validation(format!(
                "a table of an Iceberg catalog has no 'connector' option (it is '{other}')"
            ))
            .hint("leave it out, use LIKE … (EXCLUDING OPTIONS), or create the table in default_catalog"));
        }
    };
    let mut properties = HashMap::new();
    let mut version = FormatVersion::V2;
    for (key, value) in &def.options {
        if key == "format-version" {
            version = format_version(value)?;
        } else if key == SORT_ORDER {
            // Part of the table and no property of it.
        } else if is_connection_key(key) {
            if !liked {
                return Err(Error::validation(format!(
                    "the option '{key}' belongs to the catalog, not to a table in it"
                ))
                .hint(format!("give it in CREATE CATALOG {}", lake.config.name)));
            }
        } else if is_secret(key) {
            return Err(Error::validation(format!(
                "the option '{key}' looks like a secret, and table properties can be read by everybody"
            )));
        } else {
            properties.insert(key.clone(), value.clone());
        }
    }
    if let Some(comment) = &def.comment {
        properties.insert("comment".into(), comment.clone());
    }
    Ok((properties, version))
}

/// Where the files of a table would be that is not created.
const NOT_CREATED: &str = "memory:/not-created";

/// The value of `format-version`.
///
/// # Errors
/// Validation.
pub(super) fn format_version(value: &str) -> Result<FormatVersion> {
    match value.trim() {
        "1" => Ok(FormatVersion::V1),
        "2" => Ok(FormatVersion::V2),
        "3" => Ok(FormatVersion::V3),
        _ => Err(Error::validation(format!("invalid value '{value}' for option 'format-version'"))
            .hint("expected 1, 2 or 3")),
    }
}

/// Creates a table; gives whether it did, and nobody else before it.
///
/// # Errors
/// For columns, partitions and options that Iceberg tables cannot have, at the definition; External.
pub(super) async fn create(
    lake: &Lake,
    ident: &TableIdent,
    def: &TableDef,
    if_not_exists: bool,
) -> Result<bool> {
    let shown = lake.shown(ident);
    let mut creation = creation(lake, ident, def)?;
    creation.location = another_folder(lake, ident).await?;
    if lake.config.kind == CatalogKind::Rest {
        // The request has no field for it: servers take it from here, where other catalogs refuse it.
        let version = (creation.format_version as u8).to_string();
        creation.properties.insert("format-version".into(), version);
    }
    let created = lake.client().create_table(ident.namespace(), creation).await;
    // Asked also after success: the SQL catalog does not notice when its COMMIT fails. And after any failure: when
    // somebody else creates the table in the same moment, it says no more than that its database refuses a second row.
    match (created, lake.find(ident).await) {
        (Ok(own), Ok(Some(stored))) if own.metadata().uuid() == stored.metadata().uuid() => Ok(true),
        (_, Ok(Some(_))) if if_not_exists => Ok(false),
        (_, Ok(Some(_))) => Err(object_exists("table", &def.path).at(def.location)),
        (Ok(_), Ok(None)) => Err(Error::external(format!("{shown} was not stored by the catalog"))),
        (Ok(_), Err(e)) => Err(e),
        (Err(e), _) => Err(lake.error(shown, &e).at(def.location)),
    }
}

/// What a table is created from, its folder aside.
fn creation(lake: &Lake, ident: &TableIdent, def: &TableDef) -> Result<TableCreation> {
    let prepare = || {
        let (properties, version) = table_properties(lake, def)?;
        let schema = types::to_schema(def)?;
        let spec = partition::to_spec(&def.partitioned_by, &schema)?;
        let order = def.options.get(SORT_ORDER).map(|text| sort_order::parse(text, &schema)).transpose()?;
        Ok::<_, Error>((schema, spec, order, properties, version))
    };
    let (schema, spec, order, properties, version) =
        prepare().map_err(|e| e.context(lake.shown(ident)).at(def.location))?;
    Ok(TableCreation::builder()
        .name(ident.name().to_owned())
        .schema(schema)
        .partition_spec_opt(spec)
        .sort_order_opt(order)
        .properties(properties)
        .format_version(version)
        .build())
}

/// A folder for a new table if the one of its name is that of another table, which had the name before it was renamed: what
/// one of them does not know it would delete as left behind. A server chooses folders by itself.
async fn another_folder(lake: &Lake, ident: &TableIdent) -> Result<Option<String>> {
    let Some(warehouse) = lake.config.warehouse.as_deref().filter(|_| lake.config.kind == CatalogKind::Sql)
    else {
        return Ok(None);
    };
    let failed = |e: iceberg::Error| lake.error(lake.shown(ident), &e);
    let properties = match lake.client().get_namespace(ident.namespace()).await {
        Ok(namespace) => namespace.properties().clone(),
        // Creating the table says so.
        Err(_) => return Ok(None),
    };
    let folder = match properties.get("location") {
        Some(location) => format!("{location}/{}", ident.name()),
        None => format!("{warehouse}/{}/{}", ident.namespace().join("/"), ident.name()),
    };
    let is_in_use = lake.backend().is_in_use(&folder, None).await.map_err(failed)?;
    Ok((is_in_use == Some(true)).then(|| format!("{folder}-{}", Uuid::new_v4())))
}

#[async_trait]
impl Catalog for IcebergCatalog {
    fn kind(&self) -> &'static str {
        "iceberg"
    }

    fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    fn default_database(&self) -> Option<&str> {
        Some(&self.lake.config.default_database)
    }

    async fn list_databases(&self) -> Result<Vec<String>> {
        let found = self.lake.client().list_namespaces(None).await;
        let found = found.map_err(|e| self.lake.error(format!("catalog `{}`", self.name), &e))?;
        let mut names: Vec<String> = found.iter().map(|n| n.join(".")).collect();
        names.sort();
        Ok(names)
    }

    async fn get_database(&self, name: &str) -> Result<Option<DatabaseDef>> {
        let Ok(ident) = namespace(name) else { return Ok(None) };
        match self.lake.client().get_namespace(&ident).await {
            Ok(found) => {
                let mut options: BTreeMap<String, String> = found.properties().clone().into_iter().collect();
                // How the SQL catalog marks a namespace that has no property.
                options.remove("exists");
                Ok(Some(DatabaseDef { comment: options.remove("comment"), options }))
            }
            Err(e) if e.kind() == ErrorKind::NamespaceNotFound => Ok(None),
            Err(e) => Err(self.failed(name, &e)),
        }
    }

    async fn create_database(
        &self,
        name: &str,
        comment: Option<&str>,
        options: BTreeMap<String, String>,
        if_not_exists: bool,
    ) -> Result<()> {
        let mut properties: HashMap<String, String> = options.into_iter().collect();
        if let Some(c) = comment {
            properties.insert("comment".into(), c.to_owned());
        }
        let created = self.lake.create_namespace(&namespace(name)?, properties).await;
        match created.map_err(|e| self.failed(name, &e))? {
            Created::Here => Ok(()),
            Created::Elsewhere if if_not_exists => Ok(()),
            Created::Elsewhere => Err(database_exists(&self.name, name)),
            Created::Lost => Err(Error::external(format!(
                "catalog `{}`: the database `{name}` was not stored by the catalog",
                self.name
            ))),
        }
    }

    async fn drop_database(&self, name: &str, if_exists: bool, cascade: bool) -> Result<()> {
        let ident = namespace(name)?;
        let client = self.lake.client();
        match client.namespace_exists(&ident).await {
            Ok(true) => {}
            Ok(false) if if_exists => return Ok(()),
            Ok(false) => {
                return Err(Error::validation(format!("catalog `{}` has no database `{name}`", self.name)));
            }
            Err(e) => return Err(self.failed(name, &e)),
        }
        let tables = client.list_tables(&ident).await.map_err(|e| self.failed(name, &e))?;
        if !tables.is_empty() && !cascade {
            return Err(Error::validation(format!(
                "the database `{}`.`{name}` has {} table(s)",
                self.name,
                tables.len()
            ))
            .hint("drop them first, or DROP DATABASE … CASCADE"));
        }
        for table in tables {
            client.drop_table(&table).await.map_err(|e| self.lake.error(self.lake.shown(&table), &e))?;
        }
        client.drop_namespace(&ident).await.map_err(|e| self.failed(name, &e))
    }

    async fn list_objects(&self, database: &str) -> Result<Vec<(String, bool)>> {
        let tables = self.lake.client().list_tables(&namespace(database)?).await;
        let mut names: Vec<(String, bool)> = tables
            .map_err(|e| self.failed(database, &e))?
            .into_iter()
            .map(|t| (t.name().to_owned(), false))
            .collect();
        names.sort();
        Ok(names)
    }

    async fn get(&self, database: &str, name: &str) -> Result<Option<CatalogObject>> {
        let path =
            ObjectPath { catalog: self.name.clone(), database: database.to_owned(), object: name.to_owned() };
        let ident = table_ident(database, name)?;
        let Some(table) = self.lake.find(&ident).await? else {
            let Some((of, what)) = MetadataTable::parse(name) else { return Ok(None) };
            let Some(table) = self.lake.find(&table_ident(database, of)?).await? else { return Ok(None) };
            let def = what.define(path, &table).await.map_err(|e| e.context(self.lake.shown(&ident)))?;
            return Ok(Some(CatalogObject::Table(Arc::new(def))));
        };
        let def = self
            .definition(path, ident.clone(), table.metadata_ref())
            .map_err(|e| e.context(self.lake.shown(&ident)))?;
        Ok(Some(CatalogObject::Table(Arc::new(def))))
    }

    async fn create_table(&self, def: TableDef, if_not_exists: bool) -> Result<bool> {
        let ident = table_ident(&def.path.database, &def.path.object)?;
        create(&self.lake, &ident, &def, if_not_exists).await
    }

    async fn as_created(&self, object: CatalogObject) -> Result<CatalogObject> {
        let CatalogObject::Table(def) = object else { return Err(self.no_views()) };
        let ident = table_ident(&def.path.database, &def.path.object)?;
        let mut creation = creation(&self.lake, &ident, &def)?;
        creation.location = Some(NOT_CREATED.to_owned());
        let failed = |e: iceberg::Error| self.lake.error(self.lake.shown(&ident), &e);
        let built = TableMetadataBuilder::from_table_creation(creation).and_then(|b| b.build());
        let metadata = Arc::new(built.map_err(failed)?.metadata);
        let planned = self.definition(def.path.clone(), ident.clone(), metadata)?;
        Ok(CatalogObject::Table(Arc::new(planned)))
    }

    async fn create_view(&self, _def: ViewDef, _if_not_exists: bool) -> Result<()> {
        Err(self.no_views())
    }

    /// Removes the table from the catalog. Its files stay, as in other Iceberg catalogs, so that a table dropped by
    /// mistake can be registered again.
    async fn drop_table(&self, database: &str, name: &str, if_exists: bool) -> Result<()> {
        let ident = table_ident(database, name)?;
        match self.lake.client().drop_table(&ident).await {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), ErrorKind::TableNotFound | ErrorKind::NamespaceNotFound) => {
                return if if_exists {
                    Ok(())
                } else {
                    Err(Error::validation(format!("{} does not exist", self.lake.shown(&ident))))
                };
            }
            Err(e) => return Err(self.lake.error(self.lake.shown(&ident), &e)),
        }
        match self.lake.client().table_exists(&ident).await {
            Ok(false) => Ok(()),
            Ok(true) => {
                Err(Error::external(format!("{} was not dropped by the catalog", self.lake.shown(&ident))))
            }
            Err(e) => Err(self.lake.error(self.lake.shown(&ident), &e)),
        }
    }

    async fn drop_view(&self, database: &str, name: &str, if_exists: bool) -> Result<()> {
        if if_exists {
            return Ok(());
        }
        Err(Error::validation(format!("there is no view {}.{database}.{name}", self.name)))
    }

    async fn alter_table(
        &self,
        path: &ObjectPath,
        change: &TableChange,
        _infer: &dyn InferColumns,
    ) -> Result<()> {
        self.alter(path, change).await
    }

    async fn rename(&self, from: &ObjectPath, to: &ObjectPath, view: bool) -> Result<()> {
        if view { Err(self.no_views()) } else { self.rename_table(from, to).await }
    }

    async fn alter_database(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        let (ident, client) = (namespace(name)?, self.lake.client());
        let updates: HashMap<String, String> = options.clone().into_iter().collect();
        let set = self.lake.backend().set_namespace_properties(client, &ident, updates).await;
        set.map_err(|e| self.failed(name, &e))?;
        let stored = client.get_namespace(&ident).await.map_err(|e| self.failed(name, &e))?;
        match options.iter().find(|(k, v)| stored.properties().get(*k) != Some(v)) {
            None => Ok(()),
            Some((key, _)) => Err(Error::external(format!(
                "catalog `{}`: the option '{key}' of the database `{name}` was not stored by the catalog",
                self.name
            ))),
        }
    }
}

/// Source and sink of a table found in a catalog.
#[derive(Debug)]
struct IcebergTableHandle {
    connection: Connection,
    ident: TableIdent,
    metadata: Arc<TableMetadata>,
}

/// The options of the statement: what hints added to or changed in the definition.
fn statement_options(table: &ResolvedTable) -> Options {
    let hints: BTreeMap<String, String> = table
        .options
        .iter()
        .filter(|(k, v)| table.def.options.get(*k) != Some(v))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    Options::new(&table.def.path, "iceberg", &hints)
}

#[async_trait]
impl ExternalTable for IcebergTableHandle {
    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        let options = statement_options(table);
        let read = ReadOptions::parse(&options)?;
        let lookup = LookupCache::parse(&options, false)?;
        options.finish()?;
        let source = IcebergSource::new(
            self.connection.clone(),
            self.ident.clone(),
            read,
            table.scan_schema(),
            lookup,
            env.notices.clone(),
        );
        Ok(Arc::new(match self.metadata.location() == NOT_CREATED {
            true => source.uncreated(Arc::clone(&self.metadata)),
            false => source,
        }))
    }

    fn sink(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        let options = statement_options(table);
        let write = WriteOptions::parse(&options)?;
        options.finish()?;
        Ok(Arc::new(IcebergSink::new(
            self.connection.clone(),
            self.ident.clone(),
            table.sink_schema(),
            write,
            Known::Metadata(&self.metadata),
            env.notices.clone(),
        )))
    }

    async fn row_changes(
        &self,
        table: &ResolvedTable,
        env: &ConnectorEnv,
        updates: bool,
    ) -> Result<RowChanges> {
        row_changes::row_changes(&self.connection, &self.ident, table, updates, &env.notices).await
    }

    async fn truncate(&self, _table: &ResolvedTable, env: &ConnectorEnv) -> Result<()> {
        row_changes::truncate(&self.connection, &self.ident, &env.notices).await
    }
}
