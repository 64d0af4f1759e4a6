//! Lowering of lookup joins.
//!
//! ```text
//!  left ─► [calc: keys ══ keys ══►] LookupJoin: residual condition, columns of both
//!                                      ├ keys, constants among them ─► who is asked (`runtime::lookup`)
//!  right: scan, projections, filters ──┴ read into memory by key, or asked of the connector
//! ```
//!
//! Of an equality between the sides the right one has to be a column of the table where single keys are asked for; a table in
//! memory has any expression as its key. What cannot be a key is residual.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, JoinType};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, TableScan, binary_expr,
};
use datafusion::physical_plan::PhysicalExpr;

use super::join::{Condition, KeyPair, condition_of};
use super::no_matches::never_matches;
use super::shared_scan::{connector_table, substitute, unqualified};
use super::{ColumnRef, Relation, StreamPlanner};
use crate::edges::ScanRequest;
use crate::edges::lookup::{LookupCache, LookupRequest, LookupSource, LookupTable};
use crate::error::{Error, Result};
use crate::operators::join::{JoinColumn, JoinKind, JoinSide};
use crate::operators::lookup_join::{LookupJoinConfig, LookupJoinOperator};
use crate::plan::nodes::lookup_join::LookupJoinNode;
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::stream::relation::AttachedWindow;
use crate::plan::table::ConnectorTable;
use crate::runtime::graph::{ChangelogMode, OperatorFactory, UpdateBefore};
use crate::runtime::lookup::{FullCache, FullCacheConfig, MissRetry, PartialCache, Shape, Shaped};
use crate::sql::ast::LookupHint;
use crate::stream::BATCH_ROWS;

/// What the session says of lookups.
#[derive(Debug, Clone, Copy)]
pub struct LookupOptions {
    /// `table.exec.async-lookup.buffer-capacity`.
    pub capacity: usize,
    /// `table.exec.async-lookup.timeout`.
    pub timeout: Duration,
}

/// The right side as what is made of the scan of one table.
struct LookedUp<'a> {
    scan: &'a TableScan,
    /// Its columns, over those of the scan without qualifiers.
    columns: Vec<Expr>,
    /// Conditions, over the same.
    filters: Vec<Expr>,
}

/// A key of a lookup.
struct LookupKey {
    left: Expr,
    right: Expr,
    ty: DataType,
}

impl StreamPlanner {
    /// A lookup join.
    pub(super) fn lower_lookup_join(&mut self, node: &LookupJoinNode) -> Result<Relation> {
        if never_matches(&node.right, &node.condition) {
            let schema = node.as_join()?.schema;
            return self.lower_without_matches([&node.left, &node.right], node.kind, schema);
        }
        let looked_up = looked_up(&node.right)?;
        let provider = source_as_provider(&looked_up.scan.source)?;
        let table = connector_table(&provider)?;
        let ability = table
            .source
            .lookup()
            .ok_or_else(|| Error::internal(format!("table {} cannot be looked up", table.name)))?;
        let hint = self.options.state_ttls.lookup(&node.right).unwrap_or_default();
        let is_full = matches!(ability.cache, LookupCache::Full(_)) || ability.points.is_none();
        let left = self.lower_join_input(&node.left)?;
        check_hint(&hint, table, is_full, left.changelog)?;
        let join = node.as_join()?;
        let (keys, residual) = keys_of(condition_of(&join)?, &join, &looked_up, &ability, table)?;

        let all: Vec<usize> = (0..node.right.schema().fields().len()).collect();
        let right_schema: SchemaRef = Arc::new(node.right.schema().as_arrow().project(&all)?);
        let right = Relation::plain(
            0,
            node.right.schema().clone(),
            right_schema.clone(),
            ChangelogMode::APPEND_ONLY,
            BTreeSet::new(),
        );
        let filter = residual.as_ref().map(|r| self.join_filter(r, &left, &right)).transpose()?;
        let lookup = self.lookup_source(table, &looked_up, &ability, &keys, &right_schema, &right, &hint)?;
        let left_exprs: Vec<Expr> = keys.iter().map(|k| k.left.clone()).collect();
        let (left, exchange) = if hint.shuffle {
            let (left, keys) = self.with_key_columns(left, &left_exprs)?;
            (left, Some(keys))
        } else {
            (left, None)
        };
        let key_exprs = left_exprs.iter().map(|k| self.physical(k, &left)).collect::<Result<Vec<_>>>()?;

        let mut output = Vec::new();
        for (side, relation) in [(JoinSide::Left, &left), (JoinSide::Right, &right)] {
            for column in &relation.columns {
                output.push(match column {
                    ColumnRef::Physical(p) => JoinColumn::Input(side, *p),
                    _ => {
                        return Err(Error::internal(
                            "a join reads a column of a window that was not assigned",
                        ));
                    }
                });
            }
        }
        let physical: SchemaRef = Arc::new(Schema::new(join.schema.fields().clone()));
        let place = |c: usize| output.iter().position(|o| *o == JoinColumn::Input(JoinSide::Left, c));
        let changelog =
            if left.changelog.is_append_only() { ChangelogMode::APPEND_ONLY } else { ChangelogMode::ALL };
        let finds_one = finds_one(table, &looked_up, node.right.schema(), &keys)?;
        let upsert_keys = upsert_keys(&left, table, &looked_up, finds_one, &output);
        let rowtime = left.rowtime.iter().filter_map(|c| place(*c)).collect();
        let proctime = left.mapped_proctime(place);
        let attached = left.attached.and_then(|window| {
            Some(AttachedWindow { start: place(window.start)?, end: place(window.end)?, ..window })
        });
        let kind = if node.kind == JoinType::Left { JoinKind::Left } else { JoinKind::Inner };
        let detail = describe(table, &ability, kind, &keys, residual.as_ref(), &hint);
        let capacity = match hint.is_async {
            Some(false) => 1,
            _ => hint.capacity.unwrap_or(self.options.lookups.capacity),
        };
        let config = LookupJoinConfig {
            table: table.name.clone(),
            outer: kind == JoinKind::Left,
            keys: key_exprs,
            key_types: keys.iter().map(|k| k.ty.clone()).collect(),
            lookup,
            right: right_schema,
            filter,
            output,
            output_schema: physical.clone(),
            keeps_updates: finds_one,
            capacity,
            // A table may take its time to be read.
            timeout: (!is_full).then(|| hint.timeout.unwrap_or(self.options.lookups.timeout)),
        };
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(LookupJoinOperator::new(config.clone())?)));
        let id = self.add_operator("LookupJoin", detail, &left, changelog, exchange, factory);
        // What a retraction takes back has to be looked up, too.
        self.graph.nodes[id].inputs.iter_mut().for_each(|e| e.update_before = UpdateBefore::Required);
        let relation = Relation::plain(id, join.schema.clone(), physical, changelog, rowtime);
        Ok(Relation { attached, ..relation.with_keys(upsert_keys).with_proctime(proctime) })
    }

    /// Who is asked for the rows of keys.
    #[expect(clippy::too_many_arguments, reason = "the parts of one join, used once")]
    fn lookup_source(
        &self,
        table: &ConnectorTable,
        looked_up: &LookedUp<'_>,
        ability: &LookupTable,
        keys: &[LookupKey],
        schema: &SchemaRef,
        right: &Relation,
        hint: &LookupHint,
    ) -> Result<Arc<dyn LookupSource>> {
        let source_schema = table.source.schema();
        let mut read: Vec<usize> = Vec::new();
        for column in looked_up.columns.iter().chain(&looked_up.filters).flat_map(Expr::column_refs) {
            read.push(source_schema.index_of(&column.name)?);
        }
        read.sort_unstable();
        read.dedup();
        let scanned = DFSchema::try_from(source_schema.project(&read)?)?;
        let compile = |expr: &Expr| super::physical_expr(expr, &scanned, &self.options.props);
        let condition = conjunction(looked_up.filters.iter().cloned());
        let shape = Shape {
            condition: condition.as_ref().map(compile).transpose()?,
            columns: looked_up.columns.iter().map(compile).collect::<Result<_>>()?,
            schema: schema.clone(),
        };
        let key_types: Vec<DataType> = keys.iter().map(|k| k.ty.clone()).collect();
        let points = match (&ability.cache, &ability.points) {
            (LookupCache::None | LookupCache::Partial(_), Some(points)) => points,
            (cache, _) => {
                let options = match cache {
                    LookupCache::Full(options) => *options,
                    _ => Default::default(),
                };
                let right_keys: Vec<Arc<dyn PhysicalExpr>> =
                    keys.iter().map(|k| self.physical(&k.right, right)).collect::<Result<_>>()?;
                return Ok(Arc::new(FullCache::new(FullCacheConfig {
                    table: table.name.clone(),
                    source: table.source.clone(),
                    scan: ScanRequest {
                        projection: Some(read),
                        filters: looked_up.filters.clone(),
                        batch_rows: BATCH_ROWS,
                        metrics: table.metrics.add_source(),
                        ..ScanRequest::default()
                    },
                    shape,
                    keys: right_keys,
                    key_types,
                    options,
                    notices: table.metrics.notices.clone(),
                })));
            }
        };
        let mut columns = Vec::new();
        for key in keys {
            let column = looked_up.column_of(&key.right, right.schema.as_ref())?;
            let column = column.ok_or_else(|| Error::internal("a lookup by something that is no column"))?;
            columns.push(source_schema.index_of(&column.name)?);
        }
        let mut source = points.open(LookupRequest { keys: columns, projection: read })?;
        if let Some((delay, attempts)) = hint.retry {
            source = Arc::new(MissRetry::new(source, delay, attempts));
        }
        if let LookupCache::Partial(options) = &ability.cache {
            source = Arc::new(PartialCache::new(source, &key_types, options.clone())?);
        }
        Ok(Arc::new(Shaped::new(source, shape)))
    }
}

impl LookedUp<'_> {
    /// The column of the table that an expression over the right side is.
    fn column_of(&self, expr: &Expr, schema: &DFSchema) -> Result<Option<Column>> {
        Ok(match substitute(expr, schema, &self.columns)? {
            Expr::Column(column) => Some(column),
            _ => None,
        })
    }
}

/// Refuses what a hint says and nothing would come of.
fn check_hint(hint: &LookupHint, table: &ConnectorTable, is_full: bool, left: ChangelogMode) -> Result<()> {
    let refused = |what: &str, why: &str| {
        Err(Error::validation(format!(
            "the option {what} of the hint LOOKUP has no effect on table {}: {why}",
            table.name
        ))
        .hint("leave it out"))
    };
    let in_memory = "it is read into memory, and nothing is asked for";
    if is_full && hint.retry.is_some() {
        return refused("'retry-predicate'", in_memory);
    }
    if is_full && hint.timeout.is_some() {
        return refused("'timeout'", in_memory);
    }
    if hint.shuffle && !left.is_append_only() {
        return refused("'shuffle'", "the left side changes, and changes of a row have to stay in order");
    }
    Ok(())
}

/// Takes the right side apart.
fn looked_up(plan: &LogicalPlan) -> Result<LookedUp<'_>> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let columns = scan.projected_schema.fields().iter();
            let columns = columns.map(|f| Expr::Column(Column::new_unqualified(f.name()))).collect();
            // The scan may use them; the filters above it decide.
            let filters = scan.filters.iter().map(unqualified).collect::<Result<_>>()?;
            Ok(LookedUp { scan, columns, filters })
        }
        LogicalPlan::SubqueryAlias(alias) => looked_up(&alias.input),
        LogicalPlan::Projection(projection) => {
            let below = looked_up(&projection.input)?;
            let schema = projection.input.schema();
            let columns = projection.expr.iter().map(|e| substitute(e, schema, &below.columns));
            Ok(LookedUp { columns: columns.collect::<Result<_>>()?, ..below })
        }
        LogicalPlan::Filter(filter) => {
            let mut below = looked_up(&filter.input)?;
            let condition = substitute(&filter.predicate, filter.input.schema(), &below.columns)?;
            if !below.filters.contains(&condition) {
                below.filters.push(condition);
            }
            Ok(below)
        }
        LogicalPlan::Extension(e) if e.node.as_any().is::<WatermarkNode>() => {
            match e.node.inputs().as_slice() {
                [input] => looked_up(input),
                _ => Err(Error::internal("a watermark over nothing")),
            }
        }
        other => Err(Error::internal(format!("a lookup join with {}", other.display()))),
    }
}

/// The keys of a condition and the rest of it.
fn keys_of(
    condition: Condition,
    join: &datafusion::logical_expr::Join,
    looked_up: &LookedUp<'_>,
    ability: &LookupTable,
    table: &ConnectorTable,
) -> Result<(Vec<LookupKey>, Option<Expr>)> {
    let is_full = matches!(ability.cache, LookupCache::Full(_)) || ability.points.is_none();
    let right = join.right.schema();
    let mut residual = Vec::new();
    let mut keys: Vec<LookupKey> = Vec::new();
    let mut add = |left: Expr, side: Expr, ty: DataType, whole: Expr| -> Result<()> {
        let can_be = is_full || looked_up.column_of(&side, right)?.is_some();
        // One comparison for each column; others of the same one are conditions.
        if can_be && keys.iter().all(|k| k.right != side) {
            keys.push(LookupKey { left, right: side, ty });
        } else {
            residual.push(whole);
        }
        Ok(())
    };
    let mut rest = Vec::new();
    for KeyPair { left, right: side, null_safe } in condition.keys {
        let op = if null_safe { Operator::IsNotDistinctFrom } else { Operator::Eq };
        let whole = binary_expr(left.clone(), op, side.clone());
        if null_safe {
            rest.push(whole);
        } else {
            let ty = side.get_type(right)?;
            add(left, side, ty, whole)?;
        }
    }
    for part in condition.residual.iter().flat_map(split_conjunction) {
        match constant_key(part, right)? {
            Some((constant, side, ty)) => add(constant, side, ty, part.clone())?,
            None => rest.push(part.clone()),
        }
    }
    residual.extend(rest);
    if keys.is_empty() {
        return Err(Error::validation(format!(
            "table {} is looked up by its columns, and the condition compares none of them with = as it is",
            table.name
        ))
        .hint("compare a column of the table with a value of its own type: CAST the other side; or set 'lookup.cache' = 'FULL'"));
    }
    Ok((keys, conjunction(residual)))
}

/// `column = constant`, of the right side.
fn constant_key(part: &Expr, right: &DFSchemaRef) -> Result<Option<(Expr, Expr, DataType)>> {
    let Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Eq, right: b }) = part else { return Ok(None) };
    for (constant, side) in [(a, b), (b, a)] {
        let refs = side.column_refs();
        let of_right = !refs.is_empty() && refs.iter().all(|c| right.maybe_index_of_column(c).is_some());
        if !of_right || !matches!(constant.as_ref(), Expr::Literal(..)) || side.is_volatile() {
            continue;
        }
        let ty = side.get_type(right)?;
        if constant.get_type(right)? == ty {
            return Ok(Some((constant.as_ref().clone(), side.as_ref().clone(), ty)));
        }
    }
    Ok(None)
}

/// Whether a row has at most one of the table: its primary key is compared.
fn finds_one(
    table: &ConnectorTable,
    looked_up: &LookedUp<'_>,
    right: &DFSchema,
    keys: &[LookupKey],
) -> Result<bool> {
    let mut compared = BTreeSet::new();
    for key in keys {
        compared.extend(looked_up.column_of(&key.right, right)?.map(|c| c.name));
    }
    Ok(!table.primary_key.is_empty() && table.primary_key.iter().all(|name| compared.contains(name)))
}

/// Unique keys of the result: those of the left side where at most one row is found for each, and those with the primary
/// key of the table.
fn upsert_keys(
    left: &Relation,
    table: &ConnectorTable,
    looked_up: &LookedUp<'_>,
    finds_one: bool,
    output: &[JoinColumn],
) -> Vec<Vec<usize>> {
    let place = |c: &usize| output.iter().position(|o| *o == JoinColumn::Input(JoinSide::Left, *c));
    let lefts = left.keys.iter().filter_map(|key| key.iter().map(place).collect::<Option<Vec<usize>>>());
    if table.primary_key.is_empty() {
        return Vec::new();
    }
    let is_column = |expr: &Expr, name: &String| matches!(expr, Expr::Column(c) if c.name == *name);
    let right_columns: Vec<usize> = output
        .iter()
        .enumerate()
        .filter(|(_, o)| matches!(o, JoinColumn::Input(JoinSide::Right, _)))
        .map(|(i, _)| i)
        .collect();
    // The column of the right side that is a column of the table.
    let of_table = |name: &String| looked_up.columns.iter().position(|e| is_column(e, name));
    if finds_one {
        return lefts.collect();
    }
    let own: Option<Vec<usize>> =
        table.primary_key.iter().map(|name| right_columns.get(of_table(name)?).copied()).collect();
    match own {
        Some(own) => lefts.map(|key| key.into_iter().chain(own.iter().copied()).collect()).collect(),
        None => Vec::new(),
    }
}

fn describe(
    table: &ConnectorTable,
    ability: &LookupTable,
    kind: JoinKind,
    keys: &[LookupKey],
    residual: Option<&Expr>,
    hint: &LookupHint,
) -> String {
    let keys: Vec<String> = keys.iter().map(|k| format!("{}={}", k.right, k.left)).collect();
    let mut detail =
        format!("table=[{}], joinType=[{}], lookup=[{}]", table.name, kind.name(), keys.join(", "));
    if let Some(residual) = residual {
        detail.push_str(&format!(", where=[{residual}]"));
    }
    detail.push_str(match (&ability.cache, &ability.points) {
        (LookupCache::None, Some(_)) => ", cache=[NONE]",
        (LookupCache::Partial(_), Some(_)) => ", cache=[PARTIAL]",
        _ => ", cache=[FULL]",
    });
    if let Some((delay, attempts)) = hint.retry {
        detail.push_str(&format!(", retry=[lookup_miss, {} ms, {attempts}]", delay.as_millis()));
    }
    detail
}
