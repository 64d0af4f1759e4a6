//! A catalog that lives as long as the session.
//!
//! State: databases → tables and views, behind one lock that is never held across an await.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;

use super::{Catalog, CatalogObject, DatabaseDef, InferColumns, ObjectPath, TableDef, ViewDef, altered};
use crate::error::{Error, Result};
use crate::sql::ast::TableChange;

/// Flink's `generic_in_memory` catalog.
#[derive(Debug)]
pub struct MemoryCatalog {
    name: String,
    options: BTreeMap<String, String>,
    /// Shared with the same catalog under other options.
    databases: Arc<RwLock<BTreeMap<String, Database>>>,
}

#[derive(Debug, Default)]
struct Database {
    def: DatabaseDef,
    objects: BTreeMap<String, CatalogObject>,
}

impl MemoryCatalog {
    /// The `type` option of such a catalog.
    pub const KIND: &str = "generic_in_memory";

    /// A catalog with one empty database: the option `default-database`, or `default`.
    ///
    /// # Errors
    /// Validation for an option other than `type` and `default-database`.
    pub fn new(name: &str, options: BTreeMap<String, String>) -> Result<Self> {
        Self::check_options(name, &options)?;
        let database = options.get("default-database").map_or("default", String::as_str).to_owned();
        let databases = Arc::new(RwLock::new(BTreeMap::from([(database, Database::default())])));
        Ok(MemoryCatalog { name: name.to_owned(), options, databases })
    }

    fn check_options(name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        match options.keys().find(|k| *k != "type" && *k != "default-database") {
            Some(key) => Err(Error::validation(format!("catalog `{name}`: unsupported option '{key}'"))
                .hint("a generic_in_memory catalog has the options 'type' and 'default-database'")),
            None => Ok(()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Database>> {
        self.databases.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Database>> {
        self.databases.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_database(&self, database: &str) -> Error {
        Error::validation(format!("the database `{database}` does not exist in the catalog `{}`", self.name))
            .hint("SHOW DATABASES lists those there are")
    }

    /// Whether it was created, and was not there already.
    fn create(&self, path: &ObjectPath, object: CatalogObject, if_not_exists: bool) -> Result<bool> {
        let mut databases = self.write();
        let database = databases.get_mut(&path.database).ok_or_else(|| self.no_database(&path.database))?;
        match database.objects.get(&path.object) {
            Some(_) if if_not_exists => Ok(false),
            Some(CatalogObject::Table(_)) => Err(object_exists("table", path)),
            Some(CatalogObject::View(_)) => Err(object_exists("view", path)),
            None => {
                database.objects.insert(path.object.clone(), object);
                Ok(true)
            }
        }
    }

    fn drop_object(&self, database: &str, name: &str, if_exists: bool, view: bool) -> Result<()> {
        let mut databases = self.write();
        let objects = databases.get_mut(database).map(|d| &mut d.objects);
        let path = || format!("{}.{database}.{name}", self.name);
        let is_view = objects.as_ref().and_then(|o| o.get(name)).map(|o| matches!(o, CatalogObject::View(_)));
        match is_view {
            Some(is_view) if is_view == view => {
                if let Some(objects) = objects {
                    objects.remove(name);
                }
                Ok(())
            }
            _ if if_exists => Ok(()),
            Some(true) => Err(Error::validation(format!("{} is a view", path())).hint("write DROP VIEW")),
            Some(false) => Err(Error::validation(format!("{} is a table", path())).hint("write DROP TABLE")),
            None => {
                let kind = if view { "view" } else { "table" };
                Err(Error::validation(format!("the {kind} {} does not exist", path()))
                    .hint("add IF EXISTS if that is fine"))
            }
        }
    }
}

/// The error of RENAME TO a name that is taken.
pub(crate) fn taken(kind: &str, path: &ObjectPath) -> Error {
    Error::validation(format!("a {kind} {path} already exists"))
        .hint("choose another name, or drop that one first")
}

/// The error of CREATE for what is there already.
pub(crate) fn object_exists(kind: &str, path: &ObjectPath) -> Error {
    Error::validation(format!("a {kind} {path} already exists"))
        .hint("add IF NOT EXISTS if that is fine, or drop it first")
}

/// The error of CREATE DATABASE for what is there already.
pub(crate) fn database_exists(catalog: &str, database: &str) -> Error {
    Error::validation(format!("the database `{database}` already exists in the catalog `{catalog}`"))
        .hint("add IF NOT EXISTS if that is fine")
}

#[async_trait]
impl Catalog for MemoryCatalog {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn options(&self) -> &BTreeMap<String, String> {
        &self.options
    }

    fn default_database(&self) -> Option<&str> {
        Some(self.options.get("default-database").map_or("default", String::as_str))
    }

    async fn list_databases(&self) -> Result<Vec<String>> {
        Ok(self.read().keys().cloned().collect())
    }

    async fn get_database(&self, name: &str) -> Result<Option<DatabaseDef>> {
        Ok(self.read().get(name).map(|d| d.def.clone()))
    }

    async fn create_database(
        &self,
        name: &str,
        comment: Option<&str>,
        options: BTreeMap<String, String>,
        if_not_exists: bool,
    ) -> Result<()> {
        let mut databases = self.write();
        if databases.contains_key(name) {
            if if_not_exists {
                return Ok(());
            }
            return Err(database_exists(&self.name, name));
        }
        let def = DatabaseDef { comment: comment.map(str::to_owned), options };
        databases.insert(name.to_owned(), Database { def, objects: BTreeMap::new() });
        Ok(())
    }

    async fn drop_database(&self, name: &str, if_exists: bool, cascade: bool) -> Result<()> {
        let mut databases = self.write();
        match databases.get(name) {
            None if if_exists => Ok(()),
            None => Err(self.no_database(name)),
            Some(d) if !d.objects.is_empty() && !cascade => Err(Error::validation(format!(
                "the database `{name}` in the catalog `{}` is not empty",
                self.name
            ))
            .hint("drop its tables and views first, or add CASCADE")),
            Some(_) => {
                databases.remove(name);
                Ok(())
            }
        }
    }

    async fn list_objects(&self, database: &str) -> Result<Vec<(String, bool)>> {
        let databases = self.read();
        let database = databases.get(database).ok_or_else(|| self.no_database(database))?;
        Ok(database.objects.iter().map(|(n, o)| (n.clone(), matches!(o, CatalogObject::View(_)))).collect())
    }

    async fn get(&self, database: &str, name: &str) -> Result<Option<CatalogObject>> {
        Ok(self.read().get(database).and_then(|d| d.objects.get(name)).cloned())
    }

    async fn create_table(&self, def: TableDef, if_not_exists: bool) -> Result<bool> {
        self.create(&def.path.clone(), CatalogObject::Table(def.into()), if_not_exists)
    }

    async fn create_view(&self, def: ViewDef, if_not_exists: bool) -> Result<()> {
        self.create(&def.path.clone(), CatalogObject::View(def.into()), if_not_exists).map(|_| ())
    }

    async fn drop_table(&self, database: &str, name: &str, if_exists: bool) -> Result<()> {
        self.drop_object(database, name, if_exists, false)
    }

    async fn drop_view(&self, database: &str, name: &str, if_exists: bool) -> Result<()> {
        self.drop_object(database, name, if_exists, true)
    }

    async fn alter_table(
        &self,
        path: &ObjectPath,
        change: &TableChange,
        infer: &dyn InferColumns,
    ) -> Result<()> {
        let gone = || Error::validation(format!("the table {path} does not exist any more"));
        loop {
            let Some(CatalogObject::Table(before)) = self.get(&path.database, &path.object).await? else {
                return Err(gone());
            };
            let after = Arc::new(altered(&before, change, true)?);
            if !matches!(change, TableChange::Set(_) | TableChange::Reset(_)) {
                infer.computed_columns(&after).await?;
            }
            let mut databases = self.write();
            let objects = databases.get_mut(&path.database).map(|d| &mut d.objects);
            match objects.and_then(|o| o.get_mut(&path.object)) {
                Some(CatalogObject::Table(now)) if Arc::ptr_eq(now, &before) => {
                    *now = after;
                    return Ok(());
                }
                // Somebody else was faster: what they left is altered.
                Some(_) => {}
                None => return Err(gone()),
            }
        }
    }

    async fn rename(&self, from: &ObjectPath, to: &ObjectPath, _view: bool) -> Result<()> {
        let mut databases = self.write();
        let target = databases.get(&to.database).ok_or_else(|| self.no_database(&to.database))?;
        match target.objects.get(&to.object) {
            Some(CatalogObject::Table(_)) => return Err(taken("table", to)),
            Some(CatalogObject::View(_)) => return Err(taken("view", to)),
            None => {}
        }
        let source = databases.get_mut(&from.database).and_then(|d| d.objects.remove(&from.object));
        let object = match source {
            Some(CatalogObject::Table(def)) => {
                CatalogObject::Table(Arc::new(TableDef { path: to.clone(), ..TableDef::clone(&def) }))
            }
            Some(CatalogObject::View(def)) => {
                CatalogObject::View(Arc::new(ViewDef { path: to.clone(), ..ViewDef::clone(&def) }))
            }
            None => return Err(Error::validation(format!("{from} does not exist any more"))),
        };
        if let Some(database) = databases.get_mut(&to.database) {
            database.objects.insert(to.object.clone(), object);
        }
        Ok(())
    }

    async fn replace_view(&self, def: ViewDef) -> Result<()> {
        let mut databases = self.write();
        let objects = databases.get_mut(&def.path.database).map(|d| &mut d.objects);
        match objects.and_then(|o| o.get_mut(&def.path.object)) {
            Some(object @ CatalogObject::View(_)) => {
                *object = CatalogObject::View(Arc::new(def));
                Ok(())
            }
            _ => Err(Error::validation(format!("the view {} does not exist any more", def.path))),
        }
    }

    async fn alter_database(&self, name: &str, options: &BTreeMap<String, String>) -> Result<()> {
        let mut databases = self.write();
        let database = databases.get_mut(name).ok_or_else(|| self.no_database(name))?;
        database.def.options.extend(options.iter().map(|(k, v)| (k.clone(), v.clone())));
        Ok(())
    }

    async fn with_options(&self, options: &BTreeMap<String, String>) -> Result<Option<Arc<dyn Catalog>>> {
        Self::check_options(&self.name, options)?;
        let (name, databases) = (self.name.clone(), Arc::clone(&self.databases));
        let catalog = MemoryCatalog { name, options: options.clone(), databases };
        let default = catalog.default_database().unwrap_or("default");
        if !catalog.read().contains_key(default) {
            return Err(catalog.no_database(default));
        }
        Ok(Some(Arc::new(catalog)))
    }
}
