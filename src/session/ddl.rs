//! temporary
use super::*;
use crate::catalog::*;
use std::sync::Arc;
impl Session {
    pub(super) async fn execute_ddl(&mut self, statement: &Statement) -> Result<StatementResult> {
        match statement {
            Statement::CreateTable(t) => {
                let def = TableDef {
                    path: self.catalogs.resolve(&t.name),
                    columns: t.columns.clone(),
                    watermark: t.watermark.clone(),
                    primary_key: t.primary_key.clone(),
                    partitioned_by: t.partitioned_by.clone(),
                    comment: t.comment.clone(),
                    options: t.options.clone(),
                    temporary: t.temporary,
                    location: t.name.location,
                    external: None,
                };
                if let Some(c) = self.catalogs.catalog(&def.path.catalog) {
                    c.create_table(def, t.if_not_exists).await?;
                } else {
                    self.catalogs.put(def.path.clone(), CatalogObject::Table(Arc::new(def)));
                }
            }
            Statement::CreateView(v) => {
                let path = self.catalogs.resolve(&v.name);
                let within = (path.catalog.clone(), path.database.clone());
                self.catalogs.put(
                    path.clone(),
                    CatalogObject::View(Arc::new(ViewDef {
                        path,
                        columns: v.columns.clone(),
                        query: v.query.clone(),
                        comment: None,
                        temporary: v.temporary,
                        resolve_in: within,
                    })),
                );
            }
            Statement::CreateCatalog { name, options, .. } => {
                let c = crate::connectors::iceberg::create_catalog(name, options, &self.base_dir).await?;
                self.catalogs.register_catalog(name, c);
            }
            Statement::CreateDatabase { name, if_not_exists, .. } => {
                if let [c, d] = name.parts.as_slice() {
                    if let Some(c) = self.catalogs.catalog(c) {
                        c.create_database(d, None, Default::default(), *if_not_exists).await?;
                    }
                }
            }
            _ => return Err(CatalogManager::unsupported()),
        }
        Ok(StatementResult::Done { notice: None })
    }
}
