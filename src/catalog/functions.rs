//! The functions of the user, by name.
//!
//! | kind | known by | until |
//! |---|---|---|
//! | TEMPORARY SYSTEM | name, in every database | DROP, or the session ends |
//! | TEMPORARY | catalog, database and name; hides one of that path that is not | DROP, or the session ends |
//! | others | catalog, database and name | DROP; the catalog has to be one in memory, which the session is the end of, too |
//!
//! Names are the same in any case, as in Flink.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::manager::CatalogManager;
use super::{MemoryCatalog, ObjectPath};
use crate::error::{Error, Location, Result};
use crate::functions::is_builtin;
use crate::functions::user::UserFunction;
use crate::sql::ast::Name;
use crate::sql::suggestion;

/// All of a session.
#[derive(Debug, Default)]
pub(super) struct Functions {
    system: BTreeMap<String, Arc<UserFunction>>,
    temporary: BTreeMap<ObjectPath, Arc<UserFunction>>,
    persistent: BTreeMap<ObjectPath, Arc<UserFunction>>,
}

impl Functions {
    /// Forgets those of a catalog, or of one database of it.
    pub(super) fn forget(&mut self, catalog: &str, database: Option<&str>) {
        let stays =
            |path: &ObjectPath| path.catalog != catalog || database.is_some_and(|d| d != path.database);
        self.temporary.retain(|path, _| stays(path));
        self.persistent.retain(|path, _| stays(path));
    }
}

/// Where a function is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `TEMPORARY SYSTEM`.
    System,
    /// `TEMPORARY`.
    Temporary,
    /// Neither.
    Catalog,
}

impl Scope {
    /// By the words of a statement.
    pub fn new(temporary: bool, system: bool) -> Self {
        match (temporary, system) {
            (_, true) => Scope::System,
            (true, false) => Scope::Temporary,
            (false, false) => Scope::Catalog,
        }
    }
}

impl CatalogManager {
    /// Whether a name is free for a function; `false` if one of that name exists and `if_not_exists`.
    ///
    /// # Errors
    /// Validation for names that are taken, of built-in functions and of unknown databases; Unsupported for catalogs that
    /// keep no functions.
    pub async fn is_free_for_function(&self, name: &Name, scope: Scope, if_not_exists: bool) -> Result<bool> {
        let at = |e: Error| e.at(name.location);
        self.check_function_name(name)?;
        let own = name.parts.last().map_or("", String::as_str);
        let taken = match scope {
            Scope::System => self.read().functions.system.contains_key(&own.to_lowercase()),
            _ => {
                let path = self.function_path(name, None).map_err(at)?;
                self.database(&path.catalog, &path.database).await.map_err(at)?;
                if scope == Scope::Catalog && self.catalog(&path.catalog)?.kind() != MemoryCatalog::KIND {
                    return Err(at(Error::unsupported(format!(
                        "the catalog `{}` keeps no functions",
                        path.catalog
                    ))
                    .hint("write CREATE TEMPORARY FUNCTION")));
                }
                let state = self.read();
                let known = if scope == Scope::Temporary {
                    &state.functions.temporary
                } else {
                    &state.functions.persistent
                };
                known.contains_key(&path)
            }
        };
        if taken && !if_not_exists {
            return Err(at(Error::validation(format!(
                "the function {} already exists",
                name.parts.join(".")
            ))
            .hint("DROP it first, or write IF NOT EXISTS")));
        }
        Ok(!taken)
    }

    /// Whether there is a function of that name and scope; `false` only with `if_exists`.
    ///
    /// # Errors
    /// Validation if there is none.
    pub fn has_function(&self, name: &Name, scope: Scope, if_exists: bool) -> Result<bool> {
        let path = self.function_path(name, None).map_err(|e| e.at(name.location))?;
        let is_there = {
            let known = &self.read().functions;
            match scope {
                Scope::System => known.system.contains_key(&path.object),
                Scope::Temporary => known.temporary.contains_key(&path),
                Scope::Catalog => known.persistent.contains_key(&path),
            }
        };
        if is_there || if_exists {
            return Ok(is_there);
        }
        let kind = match scope {
            Scope::System => "temporary system function",
            Scope::Temporary => "temporary function",
            Scope::Catalog => "function",
        };
        let own = name.parts.last().map_or("", String::as_str);
        let e = Error::validation(format!("the {kind} {} does not exist", name.parts.join(".")))
            .at(name.location);
        let names = self.function_names();
        Err(if is_builtin(own) {
            e.hint("built-in functions stay as they are")
        } else if names.iter().any(|n| n.eq_ignore_ascii_case(own)) {
            e.hint("there is one of that name: ALTER it with TEMPORARY, TEMPORARY SYSTEM or neither, as it was created")
        } else {
            e.hint("CREATE FUNCTION makes one")
        })
    }

    /// Refuses names of built-in functions.
    ///
    /// # Errors
    /// Validation.
    pub fn check_function_name(&self, name: &Name) -> Result<()> {
        let own = name.parts.last().map_or("", String::as_str);
        if is_builtin(own) {
            return Err(Error::validation(format!("{} is a built-in function", own.to_uppercase()))
                .at(name.location)
                .hint("give yours another name: calls would not tell them apart"));
        }
        Ok(())
    }

    /// Adds a function; one of that name and scope makes room.
    ///
    /// # Errors
    /// Validation for a bad name.
    pub fn add_function(&self, name: &Name, scope: Scope, function: UserFunction) -> Result<()> {
        let function = Arc::new(function);
        let path = self.function_path(name, None).map_err(|e| e.at(name.location))?;
        let known = &mut self.write().functions;
        match scope {
            Scope::System => known.system.insert(path.object, function),
            Scope::Temporary => known.temporary.insert(path, function),
            Scope::Catalog => known.persistent.insert(path, function),
        };
        Ok(())
    }

    /// `DROP FUNCTION`.
    ///
    /// # Errors
    /// Validation if there is none of that name and kind, unless `if_exists`.
    pub fn drop_function(&self, name: &Name, scope: Scope, if_exists: bool) -> Result<()> {
        let path = self.function_path(name, None).map_err(|e| e.at(name.location))?;
        let mut state = self.write();
        let known = &mut state.functions;
        let dropped = match scope {
            Scope::System => known.system.remove(&path.object),
            Scope::Temporary => known.temporary.remove(&path),
            // Flink's rule: what is seen has to go first.
            Scope::Catalog if known.temporary.contains_key(&path) => {
                return Err(Error::validation(format!(
                    "a temporary function of the name {} exists",
                    name.parts.join(".")
                ))
                .at(name.location)
                .hint("DROP TEMPORARY FUNCTION drops that one"));
            }
            Scope::Catalog => known.persistent.remove(&path),
        };
        if dropped.is_some() || if_exists {
            return Ok(());
        }
        let (system, temporary) =
            (known.system.contains_key(&path.object), known.temporary.contains_key(&path));
        let persistent = known.persistent.contains_key(&path);
        drop(state);
        let own = name.parts.last().map_or("", String::as_str);
        let e = Error::validation(format!("the function {} does not exist", name.parts.join(".")))
            .at(name.location);
        Err(if system {
            e.hint("DROP TEMPORARY SYSTEM FUNCTION drops the one of that name")
        } else if temporary {
            e.hint("DROP TEMPORARY FUNCTION drops the one of that name")
        } else if persistent {
            e.hint("DROP FUNCTION drops the one of that name")
        } else if is_builtin(own) {
            e.hint("built-in functions stay")
        } else {
            let names = self.function_names();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            if names.is_empty() {
                e.hint("there are no functions of yours")
            } else {
                e.hint(suggestion(own, &names, "there are"))
            }
        })
    }

    /// The function that `parts` (one to three) mean; `within` is the catalog and database for short names, the current
    /// ones when `None`.
    pub fn function(&self, parts: &[String], within: Option<&(String, String)>) -> Option<Arc<UserFunction>> {
        let name = Name { parts: parts.to_vec(), location: Location::default() };
        let path = self.function_path(&name, within).ok()?;
        let known = &self.read().functions;
        let system = if parts.len() == 1 { known.system.get(&path.object) } else { None };
        system.or_else(|| known.temporary.get(&path)).or_else(|| known.persistent.get(&path)).cloned()
    }

    /// Names of those that are known by their bare name, sorted.
    pub fn function_names(&self) -> Vec<String> {
        let (catalog, database) = self.current();
        let here = |path: &&ObjectPath| path.catalog == catalog && path.database == database;
        let known = &self.read().functions;
        let mut names: Vec<String> = known.system.keys().cloned().collect();
        names.extend(known.temporary.keys().filter(here).map(|p| p.object.clone()));
        names.extend(known.persistent.keys().filter(here).map(|p| p.object.clone()));
        names.sort_unstable();
        names.dedup();
        names
    }

    fn function_path(&self, name: &Name, within: Option<&(String, String)>) -> Result<ObjectPath> {
        let current = self.current();
        let mut path = self.resolve_in(name, within.unwrap_or(&current))?;
        path.object = path.object.to_lowercase();
        Ok(path)
    }
}
