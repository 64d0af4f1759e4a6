//! The columns of a flow: those of its table, and those that its records show beyond them.
//!
//! ```text
//!  table ─► columns, key ─┐
//!  records: a sample ─────┼─► Layout: what the next job reads and writes
//!  rows with a rest ──────┤
//!  schemas of a registry ─┘
//! ```

use std::sync::Arc;

use super::config::{KeyFormat, Layout, REST, RecordFormat, Route, RowMode, TOPIC, TableflowConfig};
use super::flow::{Flow, SAMPLE_BYTES, SAMPLE_RECORDS};
use super::infer::{Column, extend, infer, infer_images, infer_keys};
use super::registered::{Registered, registered, under_new_names};
use crate::catalog::{CatalogObject, ObjectPath, TableDef};
use crate::error::{Error, Result};
use crate::sql::quote_ident;
use crate::types::LogicalType;

/// What is found of the columns of values.
#[derive(Default)]
struct Found {
    columns: Vec<Column>,
    /// They are in an envelope with their schema.
    has_envelope: bool,
    /// What fields were called before.
    renamed: Vec<(String, String)>,
}

impl Found {
    fn of(columns: Vec<Column>) -> Self {
        Found { columns, ..Found::default() }
    }
}

impl Flow {
    /// The columns of the newest schema of a subject of the topic, and of those that were met in its records.
    async fn registered(&self, part: &str) -> Result<Registered> {
        let met = if part == "value" { self.lock_schemas().clone() } else { Vec::new() };
        registered(&self.common.config, &self.route.topic, part, &met).await
    }

    /// The columns of the table with those that its records show beyond them. Without a table those of a sample.
    pub async fn layout(&self) -> Result<Layout> {
        let config = &self.common.config;
        let (have, key) = match self.table().await? {
            Some(def) => (columns_of(&def, config)?, def.primary_key.as_ref().map(|k| k.columns.clone())),
            None => (Vec::new(), None),
        };
        let exists = !have.is_empty();
        let (have, key) = match (config.is_keyed(), key) {
            (false, _) => (have, Vec::new()),
            (true, Some(key)) => (have, key),
            (true, None) if exists => {
                return Err(Error::validation(
                    "the table has no PRIMARY KEY by which its rows could be replaced",
                )
                .hint("write to another one: --table-name"));
            }
            (true, None) => self.key().await?,
        };
        if config.is_keyed() && key.is_empty() {
            // There is no record yet.
            return Ok(Layout::default());
        }
        let Found { columns, has_envelope, renamed } = self.columns(have, exists, &key).await?;
        if columns.is_empty() {
            return Ok(Layout::default());
        }
        let columns =
            columns.into_iter().map(|c| if key.contains(&c.name) { required(c) } else { c }).collect();
        let layout = Layout { columns, key, has_envelope, renamed };
        let is_column = |k: &String| k == "_key" || layout.columns.iter().any(|c| c.name == *k);
        match layout.key.iter().find(|k| !is_column(k)) {
            Some(missing) => Err(Error::validation(format!("no record has a field `{missing}` for the key"))
                .hint("--primary-key names other fields")),
            None => Ok(layout),
        }
    }

    /// The columns of keys, as far as they are not those of values, and their names; none if there is no key to be seen yet.
    async fn key(&self) -> Result<(Vec<Column>, Vec<String>)> {
        let config = &self.common.config;
        if let Some(known) =
            config.known_key().filter(|_| !matches!(config.mode, RowMode::Upsert(KeyFormat::Json)))
        {
            return Ok((Vec::new(), known));
        }
        let columns = match config.mode {
            RowMode::Upsert(KeyFormat::Registered(_)) => self.registered("key").await?.columns,
            _ => {
                let keys = self.sample("k").await?;
                let columns = infer_keys(keys.iter().map(Vec::as_slice));
                if columns.is_empty() && !keys.is_empty() {
                    return Err(Error::validation("the keys of its records are no JSON objects").hint(
                        "--primary-key FIELD names fields of the rows; --mode upsert --key-format text takes keys as they are",
                    ));
                }
                columns
            }
        };
        let wanted = |c: &Column| config.primary_key.is_empty() || config.primary_key.contains(&c.name);
        let names: Vec<String> = columns.iter().filter(|c| wanted(c)).map(|c| c.name.clone()).collect();
        // A change holds its key itself.
        let columns = if matches!(config.mode, RowMode::Upsert(_)) { columns } else { Vec::new() };
        Ok((columns, names))
    }

    /// The columns of `have` with those of values.
    async fn columns(&self, have: Vec<Column>, exists: bool, key: &[String]) -> Result<Found> {
        let config = &self.common.config;
        if let Some(fixed) = config.fixed_columns() {
            return Ok(Found::of(extend(&have, &fixed)));
        }
        if let RecordFormat::Registered(_) = config.format {
            let Registered { columns, mut renamed } = self.registered("value").await?;
            // Rows find each other by the columns of the key.
            renamed.retain(|(from, to)| !key.contains(from) && !key.contains(to));
            let known = extend(&under_new_names(&have, &renamed), &columns);
            if !config.has_rest() || !exists {
                return Ok(Found { renamed, ..Found::of(known) });
            }
            let seen = self.rest().await?;
            let seen = infer(seen.iter().map(Vec::as_slice), &config.reserved());
            return Ok(Found { renamed, ..Found::of(extend(&known, &seen)) });
        }
        let rest = if exists { self.rest().await? } else { Vec::new() };
        let seen = infer(rest.iter().map(Vec::as_slice), &config.reserved());
        if let RecordFormat::Changes(changes) = config.format {
            let records = self.sample("v").await?;
            let records = records.iter().map(Vec::as_slice);
            let (sampled, has_envelope) = infer_images(records, changes.images(), &config.reserved());
            if !exists && sampled.is_empty() {
                return Ok(Found::default());
            }
            let seen = if exists { seen } else { sampled };
            return Ok(Found { has_envelope, ..Found::of(extend(&have, &seen)) });
        }
        if exists {
            return Ok(Found::of(extend(&have, &seen)));
        }
        let records = self.sample("v").await?;
        let seen = infer(records.iter().map(Vec::as_slice), &config.reserved());
        if seen.is_empty() && !records.is_empty() {
            return Err(Error::validation(format!(
                "none of the first {} records is a JSON object with a field that could be a column",
                records.len()
            ))
            .hint("--format raw or --format text takes the values as they are"));
        }
        // Keys alone are no rows yet.
        let all = if seen.is_empty() { Vec::new() } else { extend(&have, &seen) };
        Ok(Found::of(all))
    }

    /// The table, if there is one.
    pub(super) async fn table(&self) -> Result<Option<Arc<TableDef>>> {
        let Route { namespace, table, .. } = &self.route;
        let path = ObjectPath {
            catalog: "tableflow".to_owned(),
            database: namespace.clone(),
            object: table.clone(),
        };
        let catalogs = Arc::clone(self.common.session.lock().await.catalogs());
        let def = match catalogs.find(&path).await? {
            Some(CatalogObject::Table(def)) => def,
            _ => return Ok(None),
        };
        let is_ours = [TOPIC, "tidelake.pipeline"].iter().any(|key| def.options.contains_key(*key));
        if !is_ours && !self.common.config.adopt {
            return Err(Error::validation(format!(
                "the table {namespace}.{table} is not one that tableflow has made"
            ))
            .hint("--adopt appends to it all the same; --table-name chooses another name"));
        }
        Ok(Some(def))
    }

    /// Values (`v`) or keys (`k`) of the topic.
    async fn sample(&self, part: &str) -> Result<Vec<Vec<u8>>> {
        let name = self.common.name("sample");
        self.common.run(&self.common.config.sample_table(&name, &self.route.topic)).await?;
        let sql = format!(
            "SELECT {part} FROM {} WHERE {part} IS NOT NULL LIMIT {SAMPLE_RECORDS}",
            quote_ident(&name)
        );
        let sampled = self.common.values(&sql, SAMPLE_RECORDS, SAMPLE_BYTES).await;
        self.drop_table(&name).await;
        sampled
    }

    /// What the newest rows of the table have in the rest column.
    async fn rest(&self) -> Result<Vec<Vec<u8>>> {
        let Route { namespace, table, .. } = &self.route;
        let sql = format!(
            "SELECT {REST} FROM tableflow.{}.{} WHERE {REST} IS NOT NULL ORDER BY _timestamp DESC LIMIT {SAMPLE_RECORDS}",
            quote_ident(namespace),
            quote_ident(table)
        );
        self.common.values(&sql, SAMPLE_RECORDS, usize::MAX).await
    }
}

/// A column of a key.
fn required(column: Column) -> Column {
    Column { ty: LogicalType::not_null(column.ty.root), ..column }
}

/// The columns of a table that come from the values of records.
pub(super) fn columns_of(def: &TableDef, config: &TableflowConfig) -> Result<Vec<Column>> {
    let reserved = config.reserved();
    let own = def.columns.iter().filter(|c| !reserved.contains(&c.name));
    own.map(|c| {
        let ty = c.ty.clone().ok_or_else(|| Error::internal(format!("column `{}` has no type", c.name)))?;
        Ok(Column { name: c.name.clone(), ty })
    })
    .collect()
}
