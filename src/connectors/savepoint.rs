//! `'connector' = 'savepoint'`: the state of one operator in a savepoint, or in a checkpoint, as rows.
//!
//! ```text
//!  path, operator, table ─► state files of the operator ─► what counts of them ─► declared columns
//! ```
//!
//! The operator is named by its uid, or by its name if the plan has one of that name; the table may be left out if the
//! operator has one only. `tidelake savepoint inspect` shows them. A declared column takes the state's column of its
//! name; if none has such a name (state columns mostly are called `c0`, `c1`, …) they are taken in their order.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;

use crate::catalog::ResolvedTable;
use crate::checkpoint::savepoint::{Opener, Savepoint};
use crate::connectors::conform::conform_batch;
use crate::connectors::synthetic::refuse_metadata;
use crate::connectors::values::ValuesSource;
use crate::connectors::{ConnectorFactory, not_a};
use crate::edges::{ConnectorEnv, ScanRequest, Sink, Source, SourceReader, SplitState};
use crate::error::{Error, Result, ResultExt};
use crate::options::Options;
use crate::stream::snapshot::PartKind;
use crate::types::sql_name;

/// Makes `savepoint` sources.
#[derive(Debug, Default)]
pub struct SavepointFactory;

impl ConnectorFactory for SavepointFactory {
    fn identifier(&self) -> &'static str {
        "savepoint"
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        refuse_metadata(table, "savepoint")?;
        let options = Options::new(&table.def.path, "savepoint", &table.options);
        let (path, operator) = (options.require("path")?, options.require("operator")?);
        let state = options.take("table");
        options.finish()?;
        let opener = Opener::new(env.config.as_ref().clone(), env.base_dir.clone());
        Ok(Arc::new(SavepointSource { schema: table.scan_schema(), path, operator, table: state, opener }))
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(not_a("sink", table, "savepoint"))
    }
}

#[derive(Debug)]
struct SavepointSource {
    schema: SchemaRef,
    path: String,
    operator: String,
    table: Option<String>,
    opener: Opener,
}

#[async_trait]
impl Source for SavepointSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        true
    }

    async fn readers(
        &self,
        scan: ScanRequest,
        parallelism: usize,
        restored: Option<Vec<SplitState>>,
    ) -> Result<Vec<Box<dyn SourceReader>>> {
        let savepoint = Savepoint::open(self.opener.open(&self.path)?).await?;
        let batches = self.read(&savepoint).await.context(|| savepoint.to_string())?;
        ValuesSource::new(self.schema.clone(), batches).readers(scan, parallelism, restored).await
    }
}

/// One of `known`, for a hint.
fn there_are(known: impl Iterator<Item = String>) -> String {
    let known: Vec<String> = known.collect();
    if known.is_empty() { "there are none".to_owned() } else { format!("there are: {}", known.join(", ")) }
}

impl SavepointSource {
    fn uid<'a>(&self, savepoint: &'a Savepoint) -> Result<&'a str> {
        let manifest = &savepoint.manifest;
        let holds = || manifest.plan.iter().filter(|node| manifest.operators.contains_key(&node.uid));
        let is_it = |known: &str| known.eq_ignore_ascii_case(&self.operator);
        let mut found = holds().filter(|node| is_it(&node.uid) || is_it(&node.name));
        match (found.next(), found.next()) {
            (Some(node), None) => Ok(&node.uid),
            (found, _) => Err(Error::validation(format!(
                "{} operator with state is called '{}'",
                if found.is_some() { "more than one" } else { "no" },
                self.operator
            ))
            .hint(there_are(holds().map(|node| format!("{} {}", node.name, node.uid))))),
        }
    }

    async fn read(&self, savepoint: &Savepoint) -> Result<Vec<RecordBatch>> {
        let mut tables = savepoint.load_operator(self.uid(savepoint)?).await?;
        for parts in tables.values_mut() {
            parts.retain(|part| !matches!(part.kind, PartKind::Void(_)));
        }
        tables.retain(|_, parts| !parts.is_empty());
        let known = || there_are(tables.keys().cloned());
        let table = match &self.table {
            Some(name) => name.clone(),
            None if tables.len() == 1 => tables.keys().next().cloned().unwrap_or_default(),
            None => {
                return Err(Error::validation("the operator has not exactly one table")
                    .hint(format!("name one in the option 'table'; {}", known())));
            }
        };
        let Some(parts) = tables.get(&table) else {
            return Err(Error::validation(format!("the operator has no table '{table}'")).hint(known()));
        };
        let rows = parts.iter().map(|part| self.declared(&part.rows));
        rows.collect::<Result<_>>().context(|| format!("table '{table}'"))
    }

    /// The declared columns of state.
    fn declared(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let state = rows.schema();
        let places: Vec<Option<usize>> =
            self.schema.fields().iter().map(|f| state.index_of(f.name()).ok()).collect();
        let by_order = places.iter().all(Option::is_none);
        let columns = self.schema.fields().iter().zip(places).enumerate().map(|(i, (field, place))| {
            let place = if by_order { Some(i) } else { place };
            let column: Option<&ArrayRef> = place.and_then(|at| rows.columns().get(at));
            column.cloned().ok_or_else(|| {
                Error::validation(format!("the state has no column `{}`", field.name()))
                    .hint(format!("it has: {}", shown(&state)))
            })
        });
        conform_batch(&columns.collect::<Result<Vec<_>>>()?, rows.num_rows(), &self.schema)
    }
}

fn shown(schema: &Schema) -> String {
    let columns = schema.fields().iter().map(|f| format!("{} {}", f.name(), sql_name(f.data_type())));
    columns.collect::<Vec<_>>().join(", ")
}
