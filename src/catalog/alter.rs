//! `ALTER TABLE|VIEW|DATABASE|CATALOG`.
//!
//! ```text
//!  name ─► the persistent object of that name ─► its catalog: replace the definition, or evolve what is stored
//! ```
//!
//! As in Flink, temporary tables and views are not altered: they are made again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::manager::CatalogManager;
use super::show::InferColumns;
use super::{Catalog, CatalogObject, ObjectPath, ViewDef};
use crate::error::{Error, Result};
use crate::sql::ast::{CatalogAction, Name, TableAction};
use crate::sql::quote_ident;

/// What a statement is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Table,
    View,
}

impl Kind {
    fn of(object: &CatalogObject) -> Self {
        match object {
            CatalogObject::Table(_) => Kind::Table,
            CatalogObject::View(_) => Kind::View,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Kind::Table => "table",
            Kind::View => "view",
        }
    }
}

impl CatalogManager {
    /// `ALTER TABLE`.
    ///
    /// # Errors
    /// Validation by Flink's rules, at the place of the cause; Unsupported for what the catalog cannot do; External if it
    /// fails.
    pub async fn alter_table(
        &self,
        name: &Name,
        if_exists: bool,
        action: &TableAction,
        infer: &dyn InferColumns,
    ) -> Result<()> {
        let found = self.persistent(name, if_exists, Kind::Table).await.map_err(|e| e.at(name.location))?;
        let Some((path, _)) = found else { return Ok(()) };
        let catalog = self.catalog(&path.catalog)?;
        match action {
            TableAction::RenameTo(to) => self.rename(&catalog, &path, to, false).await,
            TableAction::Change(change) => catalog.alter_table(&path, change, infer).await,
        }
        .map_err(|e| e.at(name.location))
    }

    /// `ALTER VIEW v RENAME TO w`.
    ///
    /// # Errors
    /// As [`CatalogManager::alter_table`].
    pub async fn rename_view(&self, name: &Name, to: &Name) -> Result<()> {
        let found = self.persistent(name, false, Kind::View).await.map_err(|e| e.at(name.location))?;
        let Some((path, _)) = found else { return Ok(()) };
        let catalog = self.catalog(&path.catalog)?;
        self.rename(&catalog, &path, to, true).await.map_err(|e| e.at(name.location))
    }

    /// The view that `ALTER VIEW v AS` changes.
    ///
    /// # Errors
    /// Validation if there is none.
    pub async fn view_to_alter(&self, name: &Name) -> Result<Arc<ViewDef>> {
        match self.persistent(name, false, Kind::View).await.map_err(|e| e.at(name.location))? {
            Some((_, CatalogObject::View(view))) => Ok(view),
            _ => Err(Error::internal("a view that is none")),
        }
    }

    /// Puts a view in the place of the one that is there.
    ///
    /// # Errors
    /// External, or Unsupported if the catalog keeps no views.
    pub async fn replace_view(&self, view: ViewDef) -> Result<()> {
        self.catalog(&view.path.catalog)?.replace_view(view).await
    }

    /// `ALTER DATABASE d SET`.
    ///
    /// # Errors
    /// Validation if it does not exist; External if the catalog fails.
    pub async fn alter_database(&self, name: &Name, options: &BTreeMap<String, String>) -> Result<()> {
        let at = |e: Error| e.at(name.location);
        let (catalog, database) = self.resolve_database(name)?;
        self.database(&catalog, &database).await.map_err(at)?;
        self.catalog(&catalog)?.alter_database(&database, options).await.map_err(at)
    }

    /// The options that `ALTER CATALOG c SET|RESET` leaves; `None` for a change of the comment.
    ///
    /// # Errors
    /// Validation for none of that name, and for options that stay.
    pub fn altered_catalog_options(
        &self,
        name: &Name,
        action: &CatalogAction,
    ) -> Result<Option<BTreeMap<String, String>>> {
        let catalog = self.catalog(&name.parts.join(".")).map_err(|e| e.at(name.location))?;
        let mut options = catalog.options().clone();
        let kind = options.get("type").cloned();
        let stays = || {
            Error::validation("the option 'type' of a catalog stays as it is")
                .hint("CREATE another CATALOG of that type")
        };
        match action {
            CatalogAction::Comment(_) => return Ok(None),
            CatalogAction::Set(new) => {
                if new.get("type").is_some_and(|new| kind.as_ref() != Some(new)) {
                    return Err(stays().at(name.location));
                }
                options.extend(new.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            CatalogAction::Reset(keys) => {
                for (key, at) in keys {
                    if key == "type" {
                        return Err(stays().at(*at));
                    }
                    options.remove(key);
                }
            }
        }
        Ok(Some(options))
    }

    /// Puts a catalog in the place of the one of that name, whose objects it has.
    pub fn replace_catalog(&self, name: &str, catalog: Arc<dyn Catalog>) {
        if let Some(entry) = self.write().catalogs.get_mut(name) {
            entry.catalog = catalog;
        }
    }

    /// `ALTER CATALOG c COMMENT`.
    pub fn set_catalog_comment(&self, name: &str, comment: String) {
        if let Some(entry) = self.write().catalogs.get_mut(name) {
            entry.comment = Some(comment);
        }
    }

    /// The object that a statement alters; `None` if there is none and that is fine.
    async fn persistent(
        &self,
        name: &Name,
        if_exists: bool,
        kind: Kind,
    ) -> Result<Option<(ObjectPath, CatalogObject)>> {
        let path = self.resolve(name)?;
        if let Some(temporary) = self.temporary(&path) {
            let noun = Kind::of(&temporary).noun();
            let hint = format!("DROP TEMPORARY {0}, and create it again", noun.to_uppercase());
            return Err(Error::unsupported(format!(
                "{path} is a temporary {noun}, and ALTER is for persistent ones"
            ))
            .hint(hint));
        }
        let found = match self.catalog(&path.catalog) {
            Ok(catalog) => catalog.get(&path.database, &path.object).await?,
            Err(_) if if_exists => None,
            Err(e) => return Err(e),
        };
        match found {
            None if if_exists => Ok(None),
            None => Err(self.not_found(&path).await),
            Some(object) if Kind::of(&object) != kind => {
                let is = Kind::of(&object).noun();
                Err(Error::validation(format!("{path} is a {is}"))
                    .hint(format!("write ALTER {}", is.to_uppercase())))
            }
            Some(object) => Ok(Some((path, object))),
        }
    }

    /// A short name stays where the object is.
    async fn rename(
        &self,
        catalog: &Arc<dyn Catalog>,
        from: &ObjectPath,
        to: &Name,
        view: bool,
    ) -> Result<()> {
        let to_path = self.resolve_in(to, &(from.catalog.clone(), from.database.clone()))?;
        if to_path.catalog != from.catalog {
            return Err(Error::validation(format!(
                "{from} cannot be renamed into another catalog, {}",
                quote_ident(&to_path.catalog)
            ))
            .at(to.location)
            .hint("CREATE it there, and INSERT the rows"));
        }
        self.database(&to_path.catalog, &to_path.database).await.map_err(|e| e.at(to.location))?;
        catalog.rename(from, &to_path, view).await.map_err(|e| e.at(to.location))
    }
}
