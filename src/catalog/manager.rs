//! temporary
#![allow(missing_docs)]
use crate::catalog::*;
use crate::error::{Error, Result};
use crate::sql::ast::Name;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

#[derive(Debug)]
pub struct CatalogManager {
    catalogs: RwLock<BTreeMap<String, Arc<dyn Catalog>>>,
    current: RwLock<(String, String)>,
    objects: RwLock<BTreeMap<ObjectPath, CatalogObject>>,
}
impl CatalogManager {
    pub fn new() -> Self {
        CatalogManager {
            catalogs: Default::default(),
            current: RwLock::new(("default_catalog".into(), "default_database".into())),
            objects: Default::default(),
        }
    }
    pub fn current_database(&self) -> String {
        self.current.read().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
    pub fn path(&self, parts: &[String], within: Option<&(String, String)>) -> ObjectPath {
        let cur = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (c, d) = within.cloned().unwrap_or(cur);
        match parts {
            [a] => ObjectPath { catalog: c, database: d, object: a.clone() },
            [b, a] => ObjectPath { catalog: c, database: b.clone(), object: a.clone() },
            [x, b, a] => ObjectPath { catalog: x.clone(), database: b.clone(), object: a.clone() },
            _ => ObjectPath { catalog: c, database: d, object: parts.join(".") },
        }
    }
    pub async fn lookup(
        &self,
        parts: &[String],
        within: Option<&(String, String)>,
    ) -> Result<Option<CatalogObject>> {
        let p = self.path(parts, within);
        let ext = self.catalogs.read().unwrap_or_else(PoisonError::into_inner).get(&p.catalog).cloned();
        if let Some(c) = ext {
            return c.get(&p.database, &p.object).await;
        }
        Ok(self.objects.read().unwrap_or_else(PoisonError::into_inner).get(&p).cloned())
    }
    pub async fn table_names(&self) -> Vec<String> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).keys().map(|k| k.object.clone()).collect()
    }
    pub fn register_catalog(&self, name: &str, c: Arc<dyn Catalog>) {
        self.catalogs.write().unwrap_or_else(PoisonError::into_inner).insert(name.into(), c);
    }
    pub fn catalog(&self, name: &str) -> Option<Arc<dyn Catalog>> {
        self.catalogs.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
    pub fn put(&self, p: ObjectPath, o: CatalogObject) {
        self.objects.write().unwrap_or_else(PoisonError::into_inner).insert(p, o);
    }
    pub fn use_(&self, c: Option<String>, d: Option<String>) {
        let mut cur = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(c) = c {
            cur.0 = c;
        }
        if let Some(d) = d {
            cur.1 = d;
        }
    }
    pub fn resolve(&self, n: &Name) -> ObjectPath {
        self.path(&n.parts, None)
    }
    pub fn unsupported() -> Error {
        Error::unsupported("temporary")
    }
}
