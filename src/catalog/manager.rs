//! What names mean in a session.
//!
//! ```text
//!  Name ─ resolve ─► ObjectPath ─► temporary objects ─► catalog of that name
//! ```
//!
//! | state | holds | dropped |
//! |---|---|---|
//! | catalogs | name → catalog, its default database and comment | DROP CATALOG |
//! | current | catalog and database that short names mean | never empty |
//! | functions | those of the user | see [`super::functions`] |
//! | temporary | path → table or view that shadows a persistent one of that path | DROP TEMPORARY …, or the session ends |

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::functions::Functions;
use super::memory::{MemoryCatalog, object_exists};
use super::{Catalog, CatalogObject, DatabaseDef, ObjectPath, TableDef, ViewDef};
use crate::error::{Error, Location, Result};
use crate::sql::ast::{CreateView, DropKind, Name};
use crate::sql::{quote_ident, suggestion};

/// Name of the catalog a session begins with.
pub const DEFAULT_CATALOG: &str = "default_catalog";
/// Name of the database a session begins with.
pub const DEFAULT_DATABASE: &str = "default_database";

/// The catalogs of a session.
#[derive(Debug)]
pub struct CatalogManager {
    state: RwLock<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) catalogs: BTreeMap<String, Entry>,
    current: (String, String),
    temporary: BTreeMap<ObjectPath, CatalogObject>,
    pub(super) functions: Functions,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) comment: Option<String>,
}

impl Entry {
    fn default_database(&self) -> String {
        self.catalog.default_database().unwrap_or("default").to_owned()
    }
}

impl CatalogManager {
    /// A manager with the in-memory `default_catalog` and its `default_database`, which are current.
    ///
    /// # Errors
    /// Never in practice: the options of the default catalog are valid.
    pub fn new() -> Result<Self> {
        let options = BTreeMap::from([
            ("type".to_owned(), "generic_in_memory".to_owned()),
            ("default-database".to_owned(), DEFAULT_DATABASE.to_owned()),
        ]);
        let catalog: Arc<dyn Catalog> = Arc::new(MemoryCatalog::new(DEFAULT_CATALOG, options)?);
        let catalogs = BTreeMap::from([(DEFAULT_CATALOG.to_owned(), Entry { catalog, comment: None })]);
        let current = (DEFAULT_CATALOG.to_owned(), DEFAULT_DATABASE.to_owned());
        Ok(CatalogManager {
            state: RwLock::new(State {
                catalogs,
                current,
                temporary: BTreeMap::new(),
                functions: Functions::default(),
            }),
        })
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- catalogs ----

    /// Adds a catalog.
    ///
    /// # Errors
    /// Validation if the name is taken.
    pub fn register_catalog(&self, name: &str, catalog: Arc<dyn Catalog>) -> Result<()> {
        self.register_with_comment(name, catalog, None)
    }

    /// Adds a catalog that has a comment.
    ///
    /// # Errors
    /// Validation if the name is taken.
    pub fn register_with_comment(
        &self,
        name: &str,
        catalog: Arc<dyn Catalog>,
        comment: Option<String>,
    ) -> Result<()> {
        let mut state = self.write();
        if state.catalogs.contains_key(name) {
            return Err(Error::validation(format!("the catalog `{name}` already exists"))
                .hint("add IF NOT EXISTS if that is fine, or drop it first"));
        }
        state.catalogs.insert(name.to_owned(), Entry { catalog, comment });
        Ok(())
    }

    /// Whether there is a catalog of that name.
    pub fn has_catalog(&self, name: &str) -> bool {
        self.read().catalogs.contains_key(name)
    }

    /// A catalog.
    ///
    /// # Errors
    /// Validation if there is none of that name.
    pub fn catalog(&self, name: &str) -> Result<Arc<dyn Catalog>> {
        self.entry(name).map(|e| e.catalog)
    }

    /// The comment of a catalog.
    ///
    /// # Errors
    /// Validation if there is none of that name.
    pub fn catalog_comment(&self, name: &str) -> Result<Option<String>> {
        self.entry(name).map(|e| e.comment)
    }

    fn entry(&self, name: &str) -> Result<Entry> {
        let state = self.read();
        state.catalogs.get(name).cloned().ok_or_else(|| {
            let e = Error::validation(format!("the catalog `{name}` does not exist"));
            let names: Vec<&str> = state.catalogs.keys().map(String::as_str).collect();
            e.hint(format!("{}; CREATE CATALOG makes one", suggestion(name, &names, "there are")))
        })
    }

    /// Names of the catalogs, sorted.
    pub fn list_catalogs(&self) -> Vec<String> {
        self.read().catalogs.keys().cloned().collect()
    }

    /// Current catalog and database.
    pub fn current(&self) -> (String, String) {
        self.read().current.clone()
    }

    /// The current database.
    pub fn current_database(&self) -> String {
        self.read().current.1.clone()
    }

    /// `USE CATALOG c`; its default database becomes current.
    ///
    /// # Errors
    /// Validation if there is none of that name.
    pub fn use_catalog(&self, name: &Name) -> Result<()> {
        let catalog = last(name);
        let entry = self.entry(catalog).map_err(|e| e.at(name.location))?;
        self.write().current = (catalog.to_owned(), entry.default_database());
        Ok(())
    }

    /// `USE [c.]d`.
    ///
    /// # Errors
    /// Validation if catalog or database do not exist.
    pub async fn use_database(&self, name: &Name) -> Result<()> {
        let (catalog, database) = self.resolve_database(name)?;
        self.database(&catalog, &database).await.map_err(|e| e.at(name.location))?;
        self.write().current = (catalog, database);
        Ok(())
    }

    /// `DROP CATALOG c`.
    ///
    /// # Errors
    /// Validation for the current catalog, and for none of that name.
    pub fn drop_catalog(&self, name: &Name, if_exists: bool) -> Result<()> {
        let catalog = last(name);
        if !self.has_catalog(catalog) && if_exists {
            return Ok(());
        }
        self.entry(catalog).map_err(|e| e.at(name.location))?;
        let mut state = self.write();
        if state.current.0 == catalog {
            return Err(Error::validation(format!("the catalog `{catalog}` is in use"))
                .at(name.location)
                .hint("USE another CATALOG first"));
        }
        state.catalogs.remove(catalog);
        state.temporary.retain(|path, _| path.catalog != catalog);
        state.functions.forget(catalog, None);
        Ok(())
    }

    // ---- databases ----

    /// Catalog and database that a name of one or two parts means.
    ///
    /// # Errors
    /// Validation for more parts.
    pub fn resolve_database(&self, name: &Name) -> Result<(String, String)> {
        match name.parts.as_slice() {
            [database] => Ok((self.current().0, database.clone())),
            [catalog, database] => Ok((catalog.clone(), database.clone())),
            _ => Err(too_many_parts(name, "a database is `database` or `catalog.database`")),
        }
    }

    /// A database.
    ///
    /// # Errors
    /// Validation if it does not exist.
    pub async fn database(&self, catalog: &str, database: &str) -> Result<DatabaseDef> {
        let c = self.catalog(catalog)?;
        match c.get_database(database).await? {
            Some(def) => Ok(def),
            None => {
                let names = c.list_databases().await?;
                let e = Error::validation(format!(
                    "the database `{database}` does not exist in the catalog `{catalog}`"
                ));
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                Err(e.hint(suggestion(database, &names, "there are")))
            }
        }
    }

    /// `CREATE DATABASE`.
    ///
    /// # Errors
    /// Validation if it exists; External if the catalog fails.
    pub async fn create_database(
        &self,
        name: &Name,
        if_not_exists: bool,
        comment: Option<&str>,
        options: BTreeMap<String, String>,
    ) -> Result<()> {
        let (catalog, database) = self.resolve_database(name)?;
        let catalog = self.catalog(&catalog).map_err(|e| e.at(name.location))?;
        catalog
            .create_database(&database, comment, options, if_not_exists)
            .await
            .map_err(|e| e.at(name.location))
    }

    async fn drop_database(&self, name: &Name, if_exists: bool, cascade: bool) -> Result<()> {
        let (catalog, database) = self.resolve_database(name)?;
        if self.current() == (catalog.clone(), database.clone()) {
            return Err(Error::validation(format!("the database `{database}` is in use"))
                .hint("USE another database first"));
        }
        self.catalog(&catalog)?.drop_database(&database, if_exists, cascade).await?;
        self.write().functions.forget(&catalog, Some(&database));
        Ok(())
    }

    // ---- tables and views ----

    /// The full path of a name of up to three parts.
    ///
    /// # Errors
    /// Validation for more parts.
    pub fn resolve(&self, name: &Name) -> Result<ObjectPath> {
        self.resolve_in(name, &self.current())
    }

    /// As [`CatalogManager::resolve`], but in another current catalog and database, as for the query of a view.
    ///
    /// # Errors
    /// Validation for more than three parts.
    pub fn resolve_in(&self, name: &Name, current: &(String, String)) -> Result<ObjectPath> {
        let path = |catalog: &str, database: &str, object: &str| ObjectPath {
            catalog: catalog.to_owned(),
            database: database.to_owned(),
            object: object.to_owned(),
        };
        match name.parts.as_slice() {
            [o] => Ok(path(&current.0, &current.1, o)),
            [d, o] => Ok(path(&current.0, d, o)),
            [c, d, o] => Ok(path(c, d, o)),
            _ => {
                Err(too_many_parts(name, "a table is `table`, `database.table` or `catalog.database.table`"))
            }
        }
    }

    /// The table or view of a name; an error that suggests near misses if there is none.
    ///
    /// # Errors
    /// Validation, with the place of the name; External if the catalog fails.
    pub async fn get(&self, name: &Name) -> Result<CatalogObject> {
        let path = self.resolve(name)?;
        match self.find(&path).await.map_err(|e| e.at(name.location))? {
            Some(object) => Ok(object),
            None => Err(self.not_found(&path).await.at(name.location)),
        }
    }

    /// The table or view at a path, temporary ones first.
    ///
    /// # Errors
    /// Validation if there is no such catalog; External if it fails.
    pub async fn find(&self, path: &ObjectPath) -> Result<Option<CatalogObject>> {
        if let Some(object) = self.temporary(path) {
            return Ok(Some(object));
        }
        self.catalog(&path.catalog)?.get(&path.database, &path.object).await
    }

    /// As [`CatalogManager::find`] for one to three name parts; `within` is the catalog and database that short
    /// names mean, the current ones when `None`.
    ///
    /// # Errors
    /// As [`CatalogManager::find`].
    pub async fn lookup(
        &self,
        parts: &[String],
        within: Option<&(String, String)>,
    ) -> Result<Option<CatalogObject>> {
        let name = Name { parts: parts.to_vec(), location: Location::default() };
        let current = self.current();
        self.find(&self.resolve_in(&name, within.unwrap_or(&current))?).await
    }

    /// The error for a name at which [`CatalogManager::lookup`] finds nothing.
    pub async fn not_found_at(&self, parts: &[String], within: Option<&(String, String)>) -> Error {
        let name = Name { parts: parts.to_vec(), location: Location::default() };
        let current = self.current();
        match self.resolve_in(&name, within.unwrap_or(&current)) {
            Ok(path) => self.not_found(&path).await,
            Err(e) => e,
        }
    }

    pub(super) fn temporary(&self, path: &ObjectPath) -> Option<CatalogObject> {
        self.read().temporary.get(path).cloned()
    }

    /// The error for a path at which nothing is.
    pub async fn not_found(&self, path: &ObjectPath) -> Error {
        if let Err(e) = self.database(&path.catalog, &path.database).await {
            return e;
        }
        let names = self.list_objects(&path.catalog, &path.database).await.unwrap_or_default();
        let e = Error::validation(format!(
            "the table or view {} does not exist in {}.{}",
            quote_ident(&path.object),
            path.catalog,
            path.database
        ));
        if names.is_empty() {
            return e.hint("the database has no tables and views; CREATE TABLE makes one");
        }
        let names: Vec<&str> = names.iter().map(|(n, _)| n.as_str()).collect();
        e.hint(suggestion(&path.object, &names, "there are"))
    }

    /// Tables and views of a database, temporary ones included, sorted, with `true` for views.
    ///
    /// # Errors
    /// Validation if catalog or database do not exist.
    pub async fn list_objects(&self, catalog: &str, database: &str) -> Result<Vec<(String, bool)>> {
        let mut all: BTreeMap<String, bool> =
            self.catalog(catalog)?.list_objects(database).await?.into_iter().collect();
        for (path, object) in &self.read().temporary {
            if path.catalog == catalog && path.database == database {
                all.insert(path.object.clone(), matches!(object, CatalogObject::View(_)));
            }
        }
        Ok(all.into_iter().collect())
    }

    /// Adds a table that [`CatalogManager::define_table`] made. False if it was there and `if_not_exists`.
    ///
    /// # Errors
    /// Validation if something of that name exists; External if the catalog fails.
    pub async fn create_table(&self, def: TableDef, if_not_exists: bool) -> Result<bool> {
        let (path, at) = (def.path.clone(), def.location);
        if def.temporary {
            return self
                .add_temporary(path, CatalogObject::Table(Arc::new(def)), if_not_exists)
                .map_err(|e| e.at(at));
        }
        let catalog = self.catalog(&path.catalog).map_err(|e| e.at(at))?;
        let there =
            if_not_exists && catalog.get(&path.database, &path.object).await.map_err(|e| e.at(at))?.is_some();
        if there {
            return Ok(false);
        }
        catalog.create_table(def, if_not_exists).await.map_err(|e| e.at(at))
    }

    /// The definition a `CREATE VIEW` makes.
    ///
    /// # Errors
    /// Validation for a bad name.
    pub fn define_view(&self, view: &CreateView) -> Result<ViewDef> {
        Ok(ViewDef {
            path: self.resolve(&view.name)?,
            columns: view.columns.clone(),
            query: view.query.clone(),
            comment: view.comment.clone(),
            temporary: view.temporary,
            resolve_in: self.current(),
        })
    }

    /// Adds a view that [`CatalogManager::define_view`] made. False if it was there and `if_not_exists`.
    ///
    /// # Errors
    /// Validation, at `at`, if something of that name exists; External if the catalog fails.
    pub async fn create_view(&self, def: ViewDef, if_not_exists: bool, at: Location) -> Result<bool> {
        let path = def.path.clone();
        if def.temporary {
            return self
                .add_temporary(path, CatalogObject::View(Arc::new(def)), if_not_exists)
                .map_err(|e| e.at(at));
        }
        let catalog = self.catalog(&path.catalog).map_err(|e| e.at(at))?;
        let there =
            if_not_exists && catalog.get(&path.database, &path.object).await.map_err(|e| e.at(at))?.is_some();
        if !there {
            catalog.create_view(def, if_not_exists).await.map_err(|e| e.at(at))?;
        }
        Ok(!there)
    }

    fn add_temporary(&self, path: ObjectPath, object: CatalogObject, if_not_exists: bool) -> Result<bool> {
        let mut state = self.write();
        match state.temporary.get(&path) {
            Some(_) if if_not_exists => Ok(false),
            Some(CatalogObject::Table(_)) => Err(object_exists("temporary table", &path)),
            Some(CatalogObject::View(_)) => Err(object_exists("temporary view", &path)),
            None => {
                state.temporary.insert(path, object);
                Ok(true)
            }
        }
    }

    /// Any `DROP`.
    ///
    /// # Errors
    /// Validation by Flink's rules, with the place of the name; External if the catalog fails.
    pub async fn drop_named(
        &self,
        kind: DropKind,
        name: &Name,
        if_exists: bool,
        temporary: bool,
        cascade: bool,
    ) -> Result<()> {
        let dropped = match kind {
            DropKind::Catalog => self.drop_catalog(name, if_exists),
            DropKind::Database => self.drop_database(name, if_exists, cascade).await,
            DropKind::Table => self.drop_object(name, if_exists, temporary, false).await,
            DropKind::View => self.drop_object(name, if_exists, temporary, true).await,
        };
        dropped.map_err(|e| e.at(name.location))
    }

    async fn drop_object(&self, name: &Name, if_exists: bool, temporary: bool, view: bool) -> Result<()> {
        let path = self.resolve(name)?;
        let kind = if view { "view" } else { "table" };
        let shadow = self.temporary(&path).map(|o| matches!(o, CatalogObject::View(_)));
        if temporary {
            return match shadow {
                Some(is_view) if is_view == view => {
                    self.write().temporary.remove(&path);
                    Ok(())
                }
                _ if if_exists => Ok(()),
                _ => Err(Error::validation(format!("the temporary {kind} {path} does not exist"))
                    .hint("add IF EXISTS if that is fine")),
            };
        }
        if let Some(is_view) = shadow {
            let kind = if is_view { "VIEW" } else { "TABLE" };
            return Err(Error::validation(format!("a temporary object hides {path}"))
                .hint(format!("DROP TEMPORARY {kind} drops that one; do it first")));
        }
        let catalog = self.catalog(&path.catalog)?;
        if view {
            catalog.drop_view(&path.database, &path.object, if_exists).await
        } else {
            catalog.drop_table(&path.database, &path.object, if_exists).await
        }
    }
}

fn last(name: &Name) -> &str {
    name.parts.last().map_or("", String::as_str)
}

fn too_many_parts(name: &Name, hint: &str) -> Error {
    Error::validation(format!("`{}` has {} parts", name.parts.join("."), name.parts.len()))
        .at(name.location)
        .hint(hint)
}
