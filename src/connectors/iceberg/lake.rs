//! An open catalog client: the Iceberg crate's catalog, its error translation and its names.
//!
//! State: the client. Tables are loaded afresh for every use, so that commits of others are seen. Those who would open the same
//! catalog share one client, with its connections: a process may write a thousand tables.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use iceberg::io::StorageFactory;
use iceberg::table::Table;
use iceberg::{CatalogBuilder, ErrorKind, NamespaceIdent, Runtime, TableIdent};
use iceberg_catalog_rest::RestCatalogBuilder;
use iceberg_catalog_sql::{SqlBindStyle, SqlCatalogBuilder};
use iceberg_storage_opendal::{OpenDalResolvingStorageFactory, OpenDalStorageFactory};

use super::backend::{Backend, RestBackend, SqlBackend};
use super::config::{CatalogConfig, CatalogKind, sqlite_folder};
use crate::error::{Error, Result};

/// An open catalog.
pub(super) struct Lake {
    /// How it was opened.
    pub config: CatalogConfig,
    inner: Arc<dyn iceberg::Catalog>,
    backend: Arc<dyn Backend>,
    runtime: Runtime,
    secrets: Vec<String>,
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lake({})", self.config.name)
    }
}

/// An open catalog, with the runtime that its connections live in.
type Open = (tokio::runtime::Id, Weak<Lake>);

/// Those of the process.
static OPEN: LazyLock<Mutex<Vec<Open>>> = LazyLock::new(Mutex::default);

impl Lake {
    /// The catalog if it is open, for as long as somebody uses it; else it is opened.
    ///
    /// # Errors
    /// As [`Lake::open`].
    pub async fn shared(config: &CatalogConfig) -> Result<Arc<Lake>> {
        let runtime = tokio::runtime::Handle::current().id();
        let find = || {
            let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
            open.retain(|(_, lake)| lake.strong_count() > 0);
            let mut same =
                open.iter().filter(|(of, _)| *of == runtime).filter_map(|(_, lake)| lake.upgrade());
            (same.find(|lake| lake.config == *config), open)
        };
        if let (Some(lake), _) = find() {
            return Ok(lake);
        }
        let lake = Lake::open(config.clone()).await?;
        // Another may have been faster.
        let (there, mut open) = find();
        if there.is_none() {
            open.push((runtime, Arc::downgrade(&lake)));
        }
        Ok(there.unwrap_or(lake))
    }

    /// Opens the catalog, creating the warehouse folder and the SQLite database if they are missing.
    ///
    /// # Errors
    /// External, naming the catalog.
    pub async fn open(config: CatalogConfig) -> Result<Arc<Lake>> {
        let secrets = config.secrets();
        let place = |what: &str, e: &std::io::Error| {
            Error::external(format!("catalog `{}`: cannot create {what}: {e}", config.name))
        };
        if let Some(folder) = &config.folder {
            std::fs::create_dir_all(folder)
                .map_err(|e| place(&format!("the warehouse folder {}", folder.display()), &e))?;
        }
        let mut properties = config.properties.clone();
        properties.insert("uri".into(), config.uri.clone());
        if let Some(w) = &config.warehouse {
            properties.insert("warehouse".into(), w.clone());
        }
        let runtime = Runtime::try_current().map_err(|e| Error::internal(e.message()))?;
        let opened: iceberg::Result<Arc<dyn iceberg::Catalog>> = match config.kind {
            CatalogKind::Sql => {
                if let Some(folder) = sqlite_folder(&config.uri) {
                    std::fs::create_dir_all(&folder).map_err(|e| {
                        place(&format!("the folder {} of the database", folder.display()), &e)
                    })?;
                }
                // The plain file factory also reads locations without a scheme, which PyIceberg writes.
                let storage: Arc<dyn StorageFactory> = if config.folder.is_some() {
                    Arc::new(OpenDalStorageFactory::Fs)
                } else {
                    Arc::new(OpenDalResolvingStorageFactory::new())
                };
                SqlCatalogBuilder::default()
                    .with_storage_factory(storage)
                    .sql_bind_style(SqlBindStyle::QMark)
                    .load(config.name.clone(), properties)
                    .await
                    .map(|c| Arc::new(c) as Arc<dyn iceberg::Catalog>)
            }
            CatalogKind::Rest => RestCatalogBuilder::default()
                .with_storage_factory(Arc::new(OpenDalResolvingStorageFactory::new()))
                .load(config.name.clone(), properties)
                .await
                .map(|c| Arc::new(c) as Arc<dyn iceberg::Catalog>),
        };
        let backend: iceberg::Result<Arc<dyn Backend>> = match config.kind {
            CatalogKind::Sql => SqlBackend::new(&config.uri, &config.name).map(|b| Arc::new(b) as _),
            CatalogKind::Rest => {
                let warehouse = config.warehouse.as_deref();
                Ok(Arc::new(RestBackend::new(&config.uri, warehouse, &config.properties)))
            }
        };
        match opened.and_then(|inner| Ok((inner, backend?))) {
            Ok((inner, backend)) => Ok(Arc::new(Lake { inner, backend, runtime, secrets, config })),
            Err(e) => Err(translate(&e, &secrets).context(format!(
                "catalog `{}`: cannot open {}",
                config.name,
                shown_uri(&config.uri)
            ))),
        }
    }

    /// With another way to commit, for tests of its failures.
    #[cfg(test)]
    pub fn over(&self, backend: Arc<dyn Backend>) -> Arc<Lake> {
        let (inner, runtime) = (Arc::clone(&self.inner), self.runtime.clone());
        Arc::new(Lake { inner, backend, runtime, secrets: self.secrets.clone(), config: self.config.clone() })
    }

    /// The crate's client.
    pub fn client(&self) -> &Arc<dyn iceberg::Catalog> {
        &self.inner
    }

    /// How commits reach the catalog.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// For tables that are made here.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The name of a table in messages.
    pub fn shown(&self, ident: &TableIdent) -> String {
        format!("table {}.{}.{}", self.config.name, ident.namespace().join("."), ident.name())
    }

    /// An error of the crate as ours, with `what` as culprit and without secrets.
    pub fn error(&self, what: impl Into<String>, e: &iceberg::Error) -> Error {
        let error = translate(e, &self.secrets).context(what);
        match e.kind() {
            ErrorKind::NamespaceNotFound => {
                error.hint("SHOW DATABASES lists them; CREATE DATABASE makes one")
            }
            _ => error,
        }
    }

    /// Creates a namespace unless it is there.
    ///
    /// # Errors
    /// External.
    pub async fn ensure_namespace(&self, ident: &NamespaceIdent) -> Result<()> {
        let shown = || format!("database {}.{}", self.config.name, ident.join("."));
        if self.inner.namespace_exists(ident).await.map_err(|e| self.error(shown(), &e))? {
            return Ok(());
        }
        match self.create_namespace(ident, HashMap::new()).await {
            Ok(Created::Here | Created::Elsewhere) => Ok(()),
            Ok(Created::Lost) => Err(Error::external(format!("{} was not stored by the catalog", shown()))),
            Err(e) => Err(self.error(shown(), &e)),
        }
    }

    /// Creates a namespace and looks what became of it. The SQL catalog does not notice when its COMMIT fails, and when
    /// somebody else creates the namespace in the same moment, it says no more than that its database refuses a second
    /// row.
    pub async fn create_namespace(
        &self,
        ident: &NamespaceIdent,
        properties: HashMap<String, String>,
    ) -> iceberg::Result<Created> {
        let created = self.inner.create_namespace(ident, properties).await;
        match (created, self.inner.namespace_exists(ident).await) {
            (Ok(_), Ok(true)) => Ok(Created::Here),
            (Ok(_), Ok(false)) => Ok(Created::Lost),
            (Err(_), Ok(true)) => Ok(Created::Elsewhere),
            (Err(e), _) | (Ok(_), Err(e)) => Err(e),
        }
    }

    /// Loads a table; `None` if it or its database does not exist.
    ///
    /// # Errors
    /// External.
    pub async fn find(&self, ident: &TableIdent) -> Result<Option<Table>> {
        match self.inner.load_table(ident).await {
            Ok(t) => Ok(Some(t)),
            Err(e) if matches!(e.kind(), ErrorKind::TableNotFound | ErrorKind::NamespaceNotFound) => Ok(None),
            Err(e) => Err(self.error(self.shown(ident), &e)),
        }
    }

    /// Loads a table that has to exist.
    ///
    /// # Errors
    /// External or Validation.
    pub async fn load(&self, ident: &TableIdent) -> Result<Table> {
        self.find(ident).await?.ok_or_else(|| {
            Error::validation(format!("{} does not exist", self.shown(ident)))
                .hint("SHOW TABLES lists the tables of the current database")
        })
    }
}

/// Who created a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// This process.
    Here,
    /// Somebody else, before.
    Elsewhere,
    /// Nobody: the catalog said yes and did not keep it.
    Lost,
}

/// A database is a namespace; dots separate its levels.
pub(super) fn namespace(database: &str) -> Result<NamespaceIdent> {
    if database.split('.').any(str::is_empty) {
        return Err(Error::validation(format!("'{database}' is not a database name")));
    }
    NamespaceIdent::from_strs(database.split('.')).map_err(|e| Error::validation(e.message()))
}

/// `database`.`table` as the crate's identifier.
pub(super) fn table_ident(database: &str, table: &str) -> Result<TableIdent> {
    if table.is_empty() || table.contains(['/', '\0']) {
        return Err(Error::validation(format!("'{table}' cannot be the name of an Iceberg table")));
    }
    Ok(TableIdent::new(namespace(database)?, table.to_owned()))
}

fn shown_uri(uri: &str) -> String {
    match url::Url::parse(uri) {
        Ok(mut u) if u.password().is_some() => {
            let _ = u.set_password(Some("******"));
            u.to_string()
        }
        _ => uri.to_owned(),
    }
}

/// The message of an Iceberg error and of its causes, each once, without its debug context (which may hold headers).
fn translate(e: &iceberg::Error, secrets: &[String]) -> Error {
    let mut text = e.message().trim_end_matches('.').to_owned();
    let mut cause = std::error::Error::source(e);
    while let Some(c) = cause {
        let part = match c.downcast_ref::<iceberg::Error>() {
            Some(inner) => inner.message().to_owned(),
            None => c.to_string(),
        };
        let part = part.lines().next().unwrap_or_default().to_owned();
        if !part.is_empty() && !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = c.source();
    }
    for secret in secrets {
        text = text.replace(secret, "******");
    }
    match e.kind() {
        ErrorKind::FeatureUnsupported => Error::unsupported(text),
        ErrorKind::NamespaceNotFound
        | ErrorKind::TableNotFound
        | ErrorKind::NamespaceAlreadyExists
        | ErrorKind::TableAlreadyExists => Error::validation(text),
        _ => Error::external(text),
    }
}
