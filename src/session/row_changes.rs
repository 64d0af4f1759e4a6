//! UPDATE, DELETE and TRUNCATE: a query over a table that says where its rows are stored, into the sink that takes them there.
//!
//! ```text
//!  UPDATE t SET a = e WHERE c
//!    └► INSERT INTO RowChanges::sink SELECT place, e AS a, other columns FROM RowChanges::source AS t WHERE c
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::FieldRef;
use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, TableFactor};

use super::names::wait;
use super::{Prepared, Session, StatementResult};
use crate::catalog::{CatalogObject, ExternalTable, ResolvedTable, TableDef, unchangeable};
use crate::edges::{ConnectorEnv, RowChanges, Sink, Source, WriteMode};
use crate::error::{Error, Location, Result};
use crate::functions::user::UserFunction;
use crate::plan::insert::{InsertColumns, plan_insert};
use crate::plan::planner::{NameResolver, PlanEnv, Planner};
use crate::plan::planner_options::PlannerOptions;
use crate::session::config::RuntimeMode;
use crate::session::execution::PlannedInsert;
use crate::sql::ast::{ColumnDef, ColumnKind, Name, Query, ROW_CHANGE_TARGET, RowChange};
use crate::types::LogicalType;

impl Session {
    pub(super) async fn run_row_change(&self, change: &RowChange) -> Result<StatementResult> {
        if change.set.is_empty() && !change.has_condition {
            return self.take_all_rows(&change.table, "DELETE").await;
        }
        let (prepared, planned) = self.prepare_row_change(change)?;
        Ok(StatementResult::Insert(prepared.execution.run_inserts(vec![planned]).await?))
    }

    pub(super) async fn truncate(&self, table: &Name) -> Result<StatementResult> {
        self.take_all_rows(table, "TRUNCATE TABLE").await
    }

    async fn take_all_rows(&self, name: &Name, keyword: &str) -> Result<StatementResult> {
        let prepared = self.prepare_change(keyword)?;
        let (table, external) = target(&prepared.env, name)?;
        external.truncate(&table, &prepared.env.connectors).await.map_err(|e| e.at(name.location))?;
        Ok(StatementResult::Done { notice: None })
    }

    /// Rows change in batch mode only, as in Flink.
    fn prepare_change(&self, keyword: &str) -> Result<Prepared> {
        if self.config.runtime_mode()? == RuntimeMode::Streaming {
            return Err(Error::unsupported(format!("{keyword} is only allowed in batch mode"))
                .hint("SET 'execution.runtime-mode' = 'batch'"));
        }
        self.prepare(true)
    }

    pub(super) fn prepare_row_change(&self, change: &RowChange) -> Result<(Prepared, PlannedInsert)> {
        let prepared = self.prepare_change(change.keyword())?;
        let planned = plan(&prepared.env, change)?;
        Ok((prepared, planned))
    }
}

/// The table that is changed.
fn target(env: &PlanEnv, name: &Name) -> Result<(ResolvedTable, Arc<dyn ExternalTable>)> {
    let at = |e: Error| e.at(name.location);
    let def = match env.names.lookup(&name.parts, None).map_err(at)? {
        Some(CatalogObject::Table(def)) => def,
        Some(CatalogObject::View(view)) => {
            return Err(at(Error::validation(format!(
                "'{}' is a view, whose rows cannot be changed",
                view.path
            ))));
        }
        None => return Err(at(env.names.not_found(&name.parts, None))),
    };
    let external = def.external.clone().ok_or_else(|| at(unchangeable(&def.path)))?;
    let mut table = ResolvedTable::new(def, &BTreeMap::new())?;
    PlannerOptions::take(&mut table).map_err(at)?;
    Ok((table, external))
}

fn plan(env: &PlanEnv, change: &RowChange) -> Result<PlannedInsert> {
    let at = |e: Error| e.at(change.table.location);
    let (table, external) = target(env, &change.table)?;
    let updates = !change.set.is_empty();
    let changes = wait(external.row_changes(&table, &env.connectors, updates)).map_err(at)?;
    let RowChanges { source, places, sink } = changes;
    let mut columns: Vec<(String, Location)> =
        places.iter().map(|p| (p.name().clone(), Location::default())).collect();
    columns.extend(change.set.iter().cloned());
    let mut query = change.query.clone();
    let kept: Vec<String> = if updates {
        let all = table.sink_schema();
        let is_set = |name: &String| change.set.iter().any(|(set, _)| set == name);
        all.fields().iter().map(|f| f.name().clone()).filter(|name| !is_set(name)).collect()
    } else {
        Vec::new()
    };
    columns.extend(kept.iter().map(|name| (name.clone(), Location::default())));
    select(&mut query, &places, updates, &kept)?;
    let placed = placed_table(&table, &places, source)?;
    let names = Arc::new(TargetNames { names: Arc::clone(&env.names), target: Arc::new(placed) });
    let rows = Planner::plan_query(&PlanEnv { names, ..env.clone() }, &query)?;
    let name = change.table.parts.join(".");
    let columns = InsertColumns { columns, location: change.table.location, ..InsertColumns::default() };
    let plan = plan_insert(rows, &name, &sink.schema(), &columns)?;
    let keyword = if updates { "UPDATE" } else { "DELETE FROM" };
    Ok(PlannedInsert {
        plan,
        sink,
        mode: WriteMode::Append,
        keyword,
        table: name,
        on_conflict: None,
        parallelism: None,
    })
}

/// What is selected: places, new values, values that stay.
fn select(query: &mut Query, places: &[FieldRef], updates: bool, kept: &[String]) -> Result<()> {
    let SetExpr::Select(select) = query.query.body.as_mut() else {
        return Err(Error::internal("a change of rows without a SELECT"));
    };
    let alias = select.from.first().and_then(|from| match &from.relation {
        TableFactor::Table { alias, .. } => alias.as_ref().map(|a| a.name.clone()),
        _ => None,
    });
    let alias = alias.ok_or_else(|| Error::internal("a change of rows without its table"))?;
    let column = |name: &str| {
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(vec![alias.clone(), Ident::with_quote('`', name)]))
    };
    let values = if updates { std::mem::take(&mut select.projection) } else { Vec::new() };
    // Values may have the names of columns that stay.
    let values = values.into_iter().enumerate().map(|(i, item)| match item {
        SelectItem::UnnamedExpr(expr) => {
            SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('`', format!("$value{i}")) }
        }
        other => other,
    });
    let places = places.iter().map(|p| column(p.name()));
    select.projection = places.chain(values).chain(kept.iter().map(|name| column(name))).collect();
    Ok(())
}

/// The table with the columns that say where rows are stored.
fn placed_table(table: &ResolvedTable, places: &[FieldRef], source: Arc<dyn Source>) -> Result<TableDef> {
    let mut def = (*table.def).clone();
    for place in places {
        def.columns.push(ColumnDef {
            name: place.name().clone(),
            ty: Some(LogicalType::from_field(place)?),
            kind: ColumnKind::Physical,
            comment: None,
        });
    }
    def.path.object = ROW_CHANGE_TARGET.to_owned();
    def.external = Some(Arc::new(OnlySource(source)));
    Ok(def)
}

/// A table that is read through one source.
#[derive(Debug)]
struct OnlySource(Arc<dyn Source>);

#[async_trait::async_trait]
impl ExternalTable for OnlySource {
    fn source(&self, _table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        Ok(Arc::clone(&self.0))
    }

    fn sink(&self, table: &ResolvedTable, _env: &ConnectorEnv) -> Result<Arc<dyn Sink>> {
        Err(unchangeable(&table.def.path))
    }
}

/// The names of the session, and that of the table that is changed.
#[derive(Debug)]
struct TargetNames {
    names: Arc<dyn NameResolver>,
    target: Arc<TableDef>,
}

impl NameResolver for TargetNames {
    fn lookup(&self, parts: &[String], within: Option<&(String, String)>) -> Result<Option<CatalogObject>> {
        match parts {
            [name] if name == ROW_CHANGE_TARGET => Ok(Some(CatalogObject::Table(Arc::clone(&self.target)))),
            _ => self.names.lookup(parts, within),
        }
    }

    fn not_found(&self, parts: &[String], within: Option<&(String, String)>) -> Error {
        self.names.not_found(parts, within)
    }

    fn function(&self, parts: &[String], within: Option<&(String, String)>) -> Option<Arc<UserFunction>> {
        self.names.function(parts, within)
    }

    fn function_names(&self) -> Vec<String> {
        self.names.function_names()
    }

    fn source(&self, table: &ResolvedTable, env: &ConnectorEnv) -> Result<Arc<dyn Source>> {
        self.names.source(table, env)
    }
}
