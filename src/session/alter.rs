//! `ALTER …` and `ANALYZE TABLE`: what of them needs the planner.

use std::collections::BTreeSet;

use super::ddl::Columns;
use super::{Session, StatementResult, table};
use crate::catalog::{CatalogObject, MemoryCatalog, Scope, ViewDef};
use crate::error::{Error, ErrorKind, Result};
use crate::sql::NO_ANALYZE;
use crate::sql::ast::{
    Alter, Analyze, CatalogAction, ColumnKind, CreateFunction, Name, Query, TableAction, ViewAction,
};

const DONE: StatementResult = StatementResult::Done { notice: None };

impl Session {
    pub(super) async fn alter(&self, alter: &Alter) -> Result<StatementResult> {
        match alter {
            Alter::Table { name, if_exists, action } => {
                self.catalogs.alter_table(name, *if_exists, action, &Columns(self)).await?;
            }
            Alter::View { name, action: ViewAction::RenameTo(to) } => {
                self.catalogs.rename_view(name, to).await?;
            }
            Alter::View { name, action: ViewAction::As(query) } => self.alter_view(name, query).await?,
            Alter::Database { name, options } => self.catalogs.alter_database(name, options).await?,
            Alter::Catalog { name, action } => self.alter_catalog(name, action).await?,
            Alter::Function { function, if_exists } => self.alter_function(function, *if_exists)?,
        }
        Ok(DONE)
    }

    /// An ALTER that is explained. What lives as long as the session is altered, so that what follows can be explained; what
    /// outlives it stays as it is.
    pub(super) async fn explain_alter(&self, alter: &Alter) -> Result<StatementResult> {
        let catalog = match alter {
            Alter::Table { name, .. } | Alter::View { name, .. } => self.catalogs.resolve(name)?.catalog,
            Alter::Database { name, .. } => self.catalogs.resolve_database(name)?.0,
            // Both are the session's own.
            Alter::Catalog { .. } | Alter::Function { .. } => return self.alter(alter).await,
        };
        let is_lasting = self.catalogs.catalog(&catalog).is_ok_and(|c| c.kind() != MemoryCatalog::KIND);
        if !is_lasting {
            return self.alter(alter).await;
        }
        let what = match alter {
            Alter::Table { action: TableAction::RenameTo(to), .. } => {
                format!("it would be renamed to {}", to.parts.join("."))
            }
            _ => "it would be changed".to_owned(),
        };
        table(&["result"], vec![vec![format!("{}: {what}", alter.subject())]])
    }

    /// The new query has to make sense, and must not read the view itself.
    async fn alter_view(&self, name: &Name, query: &Query) -> Result<()> {
        let old = self.catalogs.view_to_alter(name).await?;
        let new = ViewDef {
            columns: Vec::new(),
            query: query.clone(),
            resolve_in: self.catalogs.current(),
            ..ViewDef::clone(&old)
        };
        let unreachable = |e: &Error| matches!(e.kind(), ErrorKind::External | ErrorKind::Data);
        match self.prepare_query(query) {
            Err(e) if !unreachable(&e) => return Err(e),
            _ => {}
        }
        self.catalogs.replace_view(new).await?;
        // Whether it reads itself, perhaps through other views, is seen when it is there.
        match self.prepare_query(query) {
            Err(e) if !unreachable(&e) => {
                self.catalogs.replace_view(ViewDef::clone(&old)).await?;
                Err(e.hint("the view is as it was"))
            }
            _ => Ok(()),
        }
    }

    async fn alter_catalog(&self, name: &Name, action: &CatalogAction) -> Result<()> {
        let own = name.parts.join(".");
        let at = |e: Error| e.at(name.location);
        if let Some(options) = self.catalogs.altered_catalog_options(name, action)? {
            let catalog = match self.catalogs.catalog(&own)?.with_options(&options).await.map_err(at)? {
                Some(catalog) => catalog,
                None => self.open_catalog(&own, &options).await.map_err(at)?,
            };
            self.catalogs.replace_catalog(&own, catalog);
        }
        if let CatalogAction::Comment(comment) = action {
            // Says that there is none of that name.
            self.catalogs.catalog(&own).map_err(at)?;
            self.catalogs.set_catalog_comment(&own, comment.clone());
        }
        Ok(())
    }

    fn alter_function(&self, create: &CreateFunction, if_exists: bool) -> Result<()> {
        let scope = Scope::new(create.temporary, create.system);
        if !self.catalogs.has_function(&create.name, scope, if_exists)? {
            return Ok(());
        }
        self.catalogs.add_function(&create.name, scope, self.make_function(create)?)
    }

    /// There is nothing to compute, but what is asked for has to make sense.
    pub(super) async fn analyze_table(&self, analyze: &Analyze) -> Result<StatementResult> {
        let def = match self.catalogs.get(&analyze.table).await? {
            CatalogObject::Table(def) => def,
            CatalogObject::View(view) => {
                return Err(Error::validation(format!("{} is a view: ANALYZE takes a table", view.path))
                    .at(analyze.table.location));
            }
        };
        let physical: BTreeSet<&str> = def
            .columns
            .iter()
            .filter(|c| matches!(c.kind, ColumnKind::Physical))
            .map(|c| c.name.as_str())
            .collect();
        if let Some((column, at)) =
            analyze.partition.iter().chain(&analyze.columns).find(|(c, _)| !physical.contains(c.as_str()))
        {
            return Err(Error::validation(format!("{} has no physical column `{column}`", def.path)).at(*at));
        }
        Err(Error::unsupported("ANALYZE TABLE is not supported: there are no statistics that could be kept")
            .at(analyze.table.location)
            .hint(NO_ANALYZE))
    }
}
