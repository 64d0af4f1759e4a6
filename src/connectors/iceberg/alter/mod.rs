//! `ALTER TABLE` of an Iceberg table: one commit of its schema or its properties, no rows are touched.
//!
//! ```text
//!      ┌─► load ─► TableDef ─ altered ─► TableDef ─► schema (ids kept) ─┐
//!      │           SET, RESET ─────────────────────► properties ────────┴─► Backend: commit, if the table is as it was loaded
//!      └────────────────── somebody else was faster, or nobody knows: look again ◄──┘
//! ```
//!
//! State: none. What was asked for is looked for in the table after every try, so that an answer that was lost is no failure.

mod schema;

use std::collections::HashMap;
use std::time::Duration;

use iceberg::spec::{DEFAULT_SCHEMA_NAME_MAPPING, FormatVersion, Schema, TableMetadata, TableProperties};
use iceberg::table::Table;
use iceberg::{ErrorKind, TableIdent, TableRequirement, TableUpdate};
use serde_json::Value;

use super::backend::Update;
use super::catalog::IcebergCatalog;
use super::config::is_connection_key;
use super::lake::{Lake, table_ident};
use super::metadata_tables::MetadataTable;
use super::sort_order::SORT_ORDER;
use super::turns::turn;
use crate::catalog::{ObjectPath, altered, taken};
use crate::error::{Error, Result, ResultExt};
use crate::options::is_secret;
use crate::sql::ast::TableChange;

/// Tries when others change the table at the same time.
const MAX_CONFLICTS: u32 = 50;
/// Tries after errors of the catalog.
const MAX_FAILURES: u32 = 4;
/// Begins the properties in which jobs keep how far they have read.
const OWN: &str = "tidelake.";

/// What a table has to be afterwards.
#[derive(Default)]
struct Wanted {
    schema: Option<Schema>,
    set: HashMap<String, String>,
    removed: Vec<String>,
    version: Option<FormatVersion>,
}

impl Wanted {
    fn is_in(&self, metadata: &TableMetadata) -> bool {
        let properties = metadata.properties();
        let schema = self.schema.as_ref().is_none_or(|s| same(s, metadata.current_schema()));
        schema
            && self.set.iter().all(|(k, v)| properties.get(k) == Some(v))
            && !self.removed.iter().any(|k| properties.contains_key(k))
            && self.version.is_none_or(|v| metadata.format_version() == v)
    }

    /// What makes a table so.
    fn update(&self, metadata: &TableMetadata) -> Update {
        let mut update = Update {
            requirements: vec![TableRequirement::UuidMatch { uuid: metadata.uuid() }],
            changes: Vec::new(),
        };
        if let Some(version) = self.version {
            update.changes.push(TableUpdate::UpgradeFormatVersion { format_version: version });
        }
        if let Some(schema) = &self.schema {
            update.requirements.extend([
                TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() },
                TableRequirement::LastAssignedFieldIdMatch {
                    last_assigned_field_id: metadata.last_column_id(),
                },
            ]);
            // One that the table had before is not added again: catalogs then know of no last added one.
            let before = metadata.schemas_iter().find(|known| same(schema, known));
            if before.is_none() {
                update.changes.push(TableUpdate::AddSchema { schema: schema.clone() });
            }
            let schema_id = before.map_or(-1, |known| known.schema_id());
            update.changes.push(TableUpdate::SetCurrentSchema { schema_id });
        }
        if !self.set.is_empty() {
            update.changes.push(TableUpdate::SetProperties { updates: self.set.clone() });
        }
        if !self.removed.is_empty() {
            update.changes.push(TableUpdate::RemoveProperties { removals: self.removed.clone() });
        }
        update
    }
}

/// Whether two schemas have the same columns and key.
fn same(a: &Schema, b: &Schema) -> bool {
    let key = |s: &Schema| {
        let mut ids: Vec<i32> = s.identifier_field_ids().collect();
        ids.sort_unstable();
        ids
    };
    a.as_struct() == b.as_struct() && key(a) == key(b)
}

impl IcebergCatalog {
    /// Changes columns, key or properties of a table.
    ///
    /// # Errors
    /// Validation and Unsupported, at their place, for what cannot be; External.
    pub(super) async fn alter(&self, path: &ObjectPath, change: &TableChange) -> Result<()> {
        let (lake, ident) = (&self.lake, table_ident(&path.database, &path.object)?);
        let shown = lake.shown(&ident);
        let _turn = turn(lake, &ident).await;
        let (mut conflicts, mut failures) = (0, 0);
        loop {
            let Some(table) = lake.find(&ident).await? else { return Err(not_stored(lake, &ident)) };
            let wanted = self.wanted(path, &ident, &table, change).map_err(|e| {
                // The name of the table is no news to who has just typed it, unless its columns are.
                if conflicts > 0 {
                    e.context(format!("{shown} was changed by somebody else in this moment, and now"))
                } else {
                    e
                }
            })?;
            if wanted.is_in(table.metadata()) {
                return Ok(());
            }
            let committed = lake.backend().commit(&table, wanted.update(table.metadata())).await;
            let now = lake.find(&ident).await;
            if let Ok(Some(now)) = &now
                && wanted.is_in(now.metadata())
            {
                return Ok(());
            }
            match committed {
                Ok(()) => {
                    now?;
                    return Err(Error::external(format!(
                        "{shown}: the catalog accepted the change and lost it"
                    )));
                }
                Err(e) if e.kind() == ErrorKind::CatalogCommitConflicts => {
                    conflicts += 1;
                    if conflicts > MAX_CONFLICTS {
                        return Err(lake
                            .error(shown, &e)
                            .hint("others change the table all the time; try again when they are done"));
                    }
                }
                Err(e) => {
                    failures += 1;
                    // What the update itself cannot do is no outage.
                    let is_refused =
                        matches!(e.kind(), ErrorKind::DataInvalid | ErrorKind::FeatureUnsupported);
                    if is_refused || failures > MAX_FAILURES {
                        return Err(lake.error(shown, &e));
                    }
                }
            }
            let pause = 20u64 << (conflicts + 4 * failures).min(6);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn wanted(
        &self,
        path: &ObjectPath,
        ident: &TableIdent,
        table: &Table,
        change: &TableChange,
    ) -> Result<Wanted> {
        let metadata = table.metadata();
        match change {
            TableChange::Set(options) => set(&self.lake, metadata, options.iter()),
            TableChange::Reset(keys) => {
                for (key, at) in keys {
                    if key == "format-version" || key == SORT_ORDER {
                        return Err(Error::validation(format!("the option '{key}' cannot be reset")).at(*at));
                    }
                    check_key(&self.lake, key).map_err(|e| e.at(*at))?;
                }
                Ok(Wanted { removed: keys.iter().map(|(k, _)| k.clone()).collect(), ..Wanted::default() })
            }
            change => {
                let before = self.definition(path.clone(), ident.clone(), table.metadata_ref())?;
                let after = altered(&before, change, false)?;
                let schema = schema::schema_after(metadata, &after, change)?;
                let mut set = HashMap::new();
                if let TableChange::RenameColumn { from, to } = change
                    && let Some(mapping) = metadata.properties().get(DEFAULT_SCHEMA_NAME_MAPPING)
                    && let Some(id) = metadata.current_schema().field_id_by_name(&from.0)
                {
                    let mapping = mapped(mapping, id, &to.0).context(|| self.lake.shown(ident))?;
                    set.insert(DEFAULT_SCHEMA_NAME_MAPPING.to_owned(), mapping);
                }
                Ok(Wanted { schema: Some(schema), set, ..Wanted::default() })
            }
        }
    }

    /// Gives a table another name. Its files stay where they are.
    ///
    /// # Errors
    /// Validation if the name is taken; External.
    pub(super) async fn rename_table(&self, from: &ObjectPath, to: &ObjectPath) -> Result<()> {
        let lake = &self.lake;
        let (old, new) = (table_ident(&from.database, &from.object)?, table_ident(&to.database, &to.object)?);
        let _turn = turn(lake, &old).await;
        let Some(table) = lake.find(&old).await? else { return Err(not_stored(lake, &old)) };
        let uuid = table.metadata().uuid();
        if lake.find(&new).await?.is_some() {
            return Err(taken("table", to));
        }
        let renamed = lake.client().rename_table(&old, &new).await;
        // Asked also after success and after any failure, as when a table is created.
        match (renamed, lake.find(&new).await) {
            (_, Ok(Some(stored))) if stored.metadata().uuid() == uuid => Ok(()),
            (_, Ok(Some(_))) => Err(taken("table", to)),
            (Ok(()), Ok(None)) => Err(Error::external(format!(
                "{}: the new name was not stored by the catalog",
                lake.shown(&old)
            ))),
            (Ok(()), Err(e)) => Err(e),
            (Err(e), _) => Err(lake.error(lake.shown(&old), &e)),
        }
    }
}

/// The error for a name that is read like a table and is none.
fn not_stored(lake: &Lake, ident: &TableIdent) -> Error {
    match MetadataTable::parse(ident.name()) {
        Some((of, _)) => Error::unsupported(format!(
            "{} shows the metadata of `{of}`, and cannot be altered",
            lake.shown(ident)
        )),
        None => Error::validation(format!("{} does not exist any more", lake.shown(ident))),
    }
}

/// That a property is the user's to change.
fn check_key(lake: &Lake, key: &str) -> Result<()> {
    if key.starts_with(OWN) {
        return Err(Error::validation(format!(
            "the property '{key}' is how a job knows what it has written, and is changed by jobs only"
        ))
        .hint("without it rows would be written twice, or not at all"));
    }
    if TableProperties::RESERVED_PROPERTIES.contains(&key) {
        return Err(Error::validation(format!("'{key}' is a fact of the table, and no property to be set")));
    }
    if is_connection_key(key) {
        return Err(Error::validation(format!(
            "the option '{key}' belongs to the catalog, not to a table in it"
        ))
        .hint(format!("ALTER CATALOG {} SET changes those", lake.config.name)));
    }
    Ok(())
}

fn set<'a>(
    lake: &Lake,
    metadata: &TableMetadata,
    options: impl Iterator<Item = (&'a String, &'a String)>,
) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    for (key, value) in options {
        if key == "format-version" {
            let version = super::catalog::format_version(value)?;
            if version < metadata.format_version() {
                return Err(Error::unsupported(format!(
                    "the table has the format version {}, and there is no way back to {}",
                    metadata.format_version() as u8,
                    version as u8
                )));
            }
            wanted.version = Some(version);
            continue;
        }
        if key == SORT_ORDER {
            return Err(Error::unsupported("the sort order of a table cannot be changed")
                .hint("create another table with it, and INSERT the rows"));
        }
        check_key(lake, key)?;
        if is_secret(key) {
            return Err(Error::validation(format!(
                "the option '{key}' looks like a secret, and table properties can be read by everybody"
            )));
        }
        wanted.set.insert(key.clone(), value.clone());
    }
    Ok(wanted)
}

/// The mapping of names for files without ids, with another name for a column.
fn mapped(mapping: &str, id: i32, name: &str) -> Result<String> {
    let damaged = |e| Error::data(format!("the property {DEFAULT_SCHEMA_NAME_MAPPING} is damaged: {e}"));
    let mut mapping: Value = serde_json::from_str(mapping).map_err(damaged)?;
    let fields = mapping.as_array_mut().into_iter().flatten();
    for field in fields.filter(|f| f.get("field-id").and_then(Value::as_i64) == Some(i64::from(id))) {
        if let Some(names) = field.get_mut("names").and_then(Value::as_array_mut) {
            names.push(Value::from(name));
        }
    }
    serde_json::to_string(&mapping).map_err(damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_renamed_column_is_found_in_files_without_ids() {
        let before = r#"[{"field-id":1,"names":["a"]},{"field-id":2,"names":["b","B"]}]"#;
        let after = r#"[{"field-id":1,"names":["a"]},{"field-id":2,"names":["b","B","c"]}]"#;
        assert_eq!(mapped(before, 2, "c").unwrap(), after);
        assert_eq!(mapped(before, 3, "c").unwrap(), before);
        assert!(mapped("{", 1, "c").is_err());
    }
}
