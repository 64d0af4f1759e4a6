//! A catalog as it would be after definitions that are only rehearsed: `tidelake explain` reads the catalog that there is and
//! leaves it alone.
//!
//! ```text
//!  CREATE, DROP ─► what would be there, what would be gone (here)      SELECT … ─► here first, then the catalog below
//! ```
//!
//! State: databases and objects that would be there (or would not), for as long as the session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{
    Catalog, CatalogObject, DatabaseDef, InferColumns, ObjectPath, TableDef, ViewDef, database_exists,
    object_exists,
};
use crate::error::{Error, Result};
use crate::sql::ast::TableChange;

/// What lies over a catalog.
#[derive(Debug)]
pub struct RehearsalCatalog {
    name: String,
    below: Arc<dyn Catalog>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Databases that would be there, and those that would be gone.
    databases: BTreeMap<String, Option<DatabaseDef>>,
    /// Tables and views by database and name, and those that would be gone.
    objects: BTreeMap<(String, String), Option<CatalogObject>>,
}

impl RehearsalCatalog {
    /// Over `below`, which has the name `name`.
    pub fn new(name: &str, below: Arc<dyn Catalog>) -> Self {
        RehearsalCatalog { name: name.to_owned(), below, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what the catalog below has in a database is hidden: it would be dropped, and perhaps made anew.
    fn hides(&self, database: &str) -> bool {
        self.state().databases.contains_key(database)
    }

    fn put(&self, path: &ObjectPath, object: Option<CatalogObject>) {
        self.state().objects.insert((path.database.clone(), path.object.clone()), object);
    }

    /// Whether it would be created, and is not there already.
    async fn create(&self, object: CatalogObject, if_not_exists: bool) -> Result<bool> {
        let path = match &object {
            CatalogObject::Table(table) => table.path.clone(),
            CatalogObject::View(view) => view.path.clone(),
        };
        if self.get_database(&path.database).await?.is_none() {
            return Err(self.no_database(&path.database));
        }
        match self.get(&path.database, &path.object).await? {
            Some(_) if if_not_exists => Ok(false),
            Some(CatalogObject::Table(_)) => Err(object_exists("table", &path)),
            Some(CatalogObject::View(_)) => Err(object_exists("view", &path)),
            None => {
                let object = self.below.as_created(object).await?;
                self.put(&path, Some(object));
                Ok(true)
            }
        }
    }

    async fn drop_object(&self, database: &str, name: &str, if_exists: bool, view: bool) -> Result<()> {
        let path =
            ObjectPath { catalog: self.name.clone(), database: database.to_owned(), object: name.to_owned() };
        match (self.get(database, name).await?, view) {
            (Some(CatalogObject::Table(_)), false) | (Some(CatalogObject::View(_)), true) => {
                self.put(&path, None);
                Ok(())
            }
            _ if if_exists => Ok(()),
            (Some(_), true) => Err(Error::validation(format!("{path} is a table")).hint("write DROP TABLE")),
            (Some(_), false) => Err(Error::validation(format!("{path} is a view")).hint("write DROP VIEW")),
            (None, _) => {
                let kind = if view { "view" } else { "table" };
                Err(Error::validation(format!("the {kind} {path} does not exist"))
                    .hint("add IF EXISTS if that is fine"))
            }
        }
    }

    fn no_database(&self, database: &str) -> Error {
        Error::validation(format!("the database `{database}` does not exist in the catalog `{}`", self.name))
            .hint("SHOW DATABASES lists those there are")
    }

    fn not_rehearsed(&self, what: &str) -> Error {
        Error::unsupported(format!("{what} in the catalog `{}` is not rehearsed", self.name))
    }
}

#[async_trait]
impl Catalog for RehearsalCatalog {
    fn kind(&self) -> &'static str {
        self.below.kind()
    }

    fn options(&self) -> &BTreeMap<String, String> {
        self.below.options()
    }

    fn default_database(&self) -> Option<&str> {
        self.below.default_database()
    }

    async fn list_databases(&self) -> Result<Vec<String>> {
        let mut names: BTreeSet<String> = self.below.list_databases().await?.into_iter().collect();
        for (name, database) in &self.state().databases {
            match database {
                Some(_) => names.insert(name.clone()),
                None => names.remove(name),
            };
        }
        Ok(names.into_iter().collect())
    }

    async fn get_database(&self, name: &str) -> Result<Option<DatabaseDef>> {
        let here = self.state().databases.get(name).cloned();
        match here {
            Some(database) => Ok(database),
            None => self.below.get_database(name).await,
        }
    }

    async fn create_database(
        &self,
        name: &str,
        comment: Option<&str>,
        options: BTreeMap<String, String>,
        if_not_exists: bool,
    ) -> Result<()> {
        match self.get_database(name).await? {
            Some(_) if if_not_exists => Ok(()),
            Some(_) => Err(database_exists(&self.name, name)),
            None => {
                let def = DatabaseDef { comment: comment.map(str::to_owned), options };
                self.state().databases.insert(name.to_owned(), Some(def));
                Ok(())
            }
        }
    }

    async fn drop_database(&self, name: &str, if_exists: bool, cascade: bool) -> Result<()> {
        if self.get_database(name).await?.is_none() {
            return if if_exists { Ok(()) } else { Err(self.no_database(name)) };
        }
        let objects = self.list_objects(name).await?;
        if !objects.is_empty() && !cascade {
            return Err(Error::validation(format!(
                "the database `{}`.`{name}` has {} table(s)",
                self.name,
                objects.len()
            ))
            .hint("drop them first, or DROP DATABASE … CASCADE"));
        }
        let mut state = self.state();
        state.objects.retain(|(database, _), _| database != name);
        state.databases.insert(name.to_owned(), None);
        Ok(())
    }

    async fn list_objects(&self, database: &str) -> Result<Vec<(String, bool)>> {
        let below = match self.hides(database) {
            true => Vec::new(),
            false => self.below.list_objects(database).await?,
        };
        let mut objects: BTreeMap<String, bool> = below.into_iter().collect();
        for ((_, name), object) in self.state().objects.iter().filter(|((d, _), _)| d == database) {
            match object {
                Some(object) => objects.insert(name.clone(), matches!(object, CatalogObject::View(_))),
                None => objects.remove(name),
            };
        }
        Ok(objects.into_iter().collect())
    }

    async fn get(&self, database: &str, name: &str) -> Result<Option<CatalogObject>> {
        let here = self.state().objects.get(&(database.to_owned(), name.to_owned())).cloned();
        match here {
            Some(object) => Ok(object),
            None if self.hides(database) => Ok(None),
            None => self.below.get(database, name).await,
        }
    }

    async fn create_table(&self, def: TableDef, if_not_exists: bool) -> Result<bool> {
        self.create(CatalogObject::Table(Arc::new(def)), if_not_exists).await
    }

    async fn create_view(&self, def: ViewDef, if_not_exists: bool) -> Result<()> {
        self.create(CatalogObject::View(Arc::new(def)), if_not_exists).await.map(|_| ())
    }

    async fn drop_table(&self, database: &str, name: &str, if_exists: bool) -> Result<()> {
        self.drop_object(database, name, if_exists, false).await
    }

    async fn drop_view(&self, database: &str, name: &str, if_exists: bool) -> Result<()> {
        self.drop_object(database, name, if_exists, true).await
    }

    async fn alter_table(&self, _: &ObjectPath, _: &TableChange, _: &dyn InferColumns) -> Result<()> {
        Err(self.not_rehearsed("ALTER TABLE"))
    }

    async fn rename(&self, _: &ObjectPath, _: &ObjectPath, _: bool) -> Result<()> {
        Err(self.not_rehearsed("RENAME"))
    }

    async fn replace_view(&self, def: ViewDef) -> Result<()> {
        self.put(&def.path.clone(), Some(CatalogObject::View(Arc::new(def))));
        Ok(())
    }

    async fn alter_database(&self, _: &str, _: &BTreeMap<String, String>) -> Result<()> {
        Err(self.not_rehearsed("ALTER DATABASE"))
    }
}
