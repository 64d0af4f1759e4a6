//! Chains of inner joins on one key as one operator.
//!
//! ```text
//!  Inner Join: b.k = a.k                     MultiJoin: b.k = p.k = a.k
//!    Inner Join: b.k = p.k          ─►         b, p, a
//!      b, p
//!    a
//! ```
//!
//! Each join has to compare the whole key, and nothing but plain columns; the inputs' rows stay as they are and are kept for
//! ever. Then the chain gives the same rows, and does not keep those of its joins but the last.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan};

use super::join::{MOST_KEYS, chosen_schema, condition_of, physical_column};
use super::shared_scan::connector_table;
use super::{Relation, StreamPlanner};
use crate::edges::SourceChangelog;
use crate::error::{Error, Result};
use crate::operators::join::{MultiJoinConfig, MultiJoinInput, MultiJoinOperator};
use crate::plan::nodes::watermark::WatermarkNode;
use crate::plan::table::ConnectorTable;
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{ChangelogMode, Edge, Node, NodeKind, OperatorFactory, UpdateBefore};

/// Joins of inputs on one key.
struct Chain<'a> {
    inputs: Vec<&'a LogicalPlan>,
    /// For each column of the plan, the input and its column.
    columns: Vec<(usize, usize)>,
    /// For each input, its columns of the key, in one order; `None` of an input that is not joined yet.
    keys: Option<Vec<Vec<usize>>>,
}

impl<'a> Chain<'a> {
    fn input(plan: &'a LogicalPlan) -> Self {
        let columns = (0..plan.schema().fields().len()).map(|c| (0, c)).collect();
        Chain { inputs: vec![plan], columns, keys: None }
    }

    /// What a plan joins on one key; the plan itself as an input, if it is no such join.
    fn of(plan: &'a LogicalPlan) -> Result<Self> {
        let found = match plan {
            LogicalPlan::Join(join) => Self::of_join(join)?,
            LogicalPlan::SubqueryAlias(alias) => Some(Self::of(&alias.input)?),
            LogicalPlan::Projection(projection) => {
                let below = Self::of(&projection.input)?;
                let schema = projection.input.schema();
                let place = |expr: &Expr| match expr.clone().unalias() {
                    Expr::Column(column) => {
                        schema.maybe_index_of_column(&column).and_then(|i| below.columns.get(i).copied())
                    }
                    _ => None,
                };
                let columns: Option<Vec<_>> = projection.expr.iter().map(place).collect();
                columns.map(|columns| Chain { columns, ..below })
            }
            _ => None,
        };
        Ok(found.filter(|chain| chain.keys.is_some()).unwrap_or_else(|| Self::input(plan)))
    }

    fn of_join(join: &'a Join) -> Result<Option<Self>> {
        if join.join_type != JoinType::Inner || join.null_aware {
            return Ok(None);
        }
        let condition = condition_of(join)?;
        if condition.residual.is_some() || condition.keys.is_empty() {
            return Ok(None);
        }
        // Rows of equal times are joined as those of an interval.
        let column = |expr: &Expr, schema: &DFSchema| match expr {
            Expr::Column(column) => schema
                .maybe_index_of_column(column)
                .filter(|i| !matches!(schema.field(*i).data_type(), DataType::Timestamp(..))),
            _ => None,
        };
        let mut pairs = Vec::new();
        for pair in condition.keys.iter() {
            let (left, right) =
                (column(&pair.left, join.left.schema()), column(&pair.right, join.right.schema()));
            match (left, right) {
                (Some(left), Some(right)) if !pair.null_safe => pairs.push((left, right)),
                _ => return Ok(None),
            }
        }
        let (left, right): (Vec<usize>, Vec<usize>) = pairs.into_iter().unzip();
        let (left, left_keys) = Self::joined_by(&join.left, &left)?;
        let (right, right_keys) = Self::joined_by(&join.right, &right)?;
        let shift = left.inputs.len();
        let mut columns = left.columns;
        columns.extend(right.columns.into_iter().map(|(input, column)| (input + shift, column)));
        let mut inputs = left.inputs;
        inputs.extend(right.inputs);
        let mut keys = left_keys;
        keys.extend(right_keys);
        Ok(Some(Chain { inputs, columns, keys: Some(keys) }))
    }

    /// A side of a join that compares its columns `by`: with the columns of each of its inputs that stand for them, in that
    /// order. It is one input if it is joined by others.
    fn joined_by(plan: &'a LogicalPlan, by: &[usize]) -> Result<(Self, Vec<Vec<usize>>)> {
        let chain = Self::of(plan)?;
        if let Some(keys) = &chain.keys {
            // Which part of the key each column is.
            let part = |column: &usize| {
                let (input, column) = *chain.columns.get(*column)?;
                keys.get(input)?.iter().position(|k| *k == column)
            };
            let parts: Option<Vec<usize>> = by.iter().map(part).collect();
            if let Some(parts) = parts
                && let distinct = parts.iter().collect::<BTreeSet<_>>().len()
                && distinct == parts.len()
                && keys.first().is_some_and(|k| k.len() == parts.len())
            {
                let ordered = keys.iter().map(|k| parts.iter().map(|p| k[*p]).collect()).collect();
                return Ok((chain, ordered));
            }
        }
        Ok((Self::input(plan), vec![by.to_vec()]))
    }
}

/// Whether the rows of a plan stay as they are, as far as can be seen: it chooses from tables and computes.
fn only_appends(plan: &LogicalPlan) -> Result<bool> {
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source)?;
            let appends =
                |t: &ConnectorTable| t.source.changelog() == SourceChangelog::AppendOnly && !t.duplicates;
            connector_table(&provider).is_ok_and(appends)
        }
        LogicalPlan::Values(_) | LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Extension(e) if !e.node.as_any().is::<WatermarkNode>() => false,
        LogicalPlan::Extension(_)
        | LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Union(_) => {
            for input in plan.inputs() {
                if !only_appends(input)? {
                    return Ok(false);
                }
            }
            true
        }
        _ => false,
    })
}

impl StreamPlanner {
    /// A join that is one of three or more inputs on one key; `None` if it is not. `wanted` are the columns that come out.
    ///
    /// # Errors
    /// What lowering the inputs says.
    pub(super) fn lower_multi_join(
        &mut self,
        join: &Join,
        wanted: Option<&[usize]>,
    ) -> Result<Option<Relation>> {
        let Some(Chain { inputs, columns, keys: Some(keys) }) = Chain::of_join(join)? else {
            return Ok(None);
        };
        if !self.options.multi_join || inputs.len() < 3 {
            return Ok(None);
        }
        for input in &inputs {
            if self.state_ttl(input).is_some() || !only_appends(input)? {
                return Ok(None);
            }
        }
        let relations = inputs.iter().map(|i| self.lower_join_input(i)).collect::<Result<Vec<_>>>()?;
        if relations.iter().any(|r| !r.changelog.is_append_only()) {
            return Err(Error::internal("an input of a join was taken for one whose rows stay"));
        }
        let physical_keys = relations
            .iter()
            .zip(&keys)
            .map(|(relation, keys)| keys.iter().map(|k| physical_column(relation, *k)).collect())
            .collect::<Result<Vec<Vec<usize>>>>()?;
        let all: Vec<usize> = (0..columns.len()).collect();
        let chosen = wanted.unwrap_or(&all);
        let mut output = Vec::with_capacity(chosen.len());
        let mut fields: Vec<FieldRef> = Vec::with_capacity(chosen.len());
        for i in chosen {
            let (input, column) = columns[*i];
            output.push((input, physical_column(&relations[input], column)?));
            fields.push(join.schema.field(*i).clone());
        }
        let schema = chosen_schema(&join.schema, chosen)?;
        let physical: SchemaRef = Arc::new(Schema::new(fields));
        let input = |(relation, keys): (&Relation, &Vec<usize>)| MultiJoinInput {
            schema: relation.physical.clone(),
            keys: keys.clone(),
        };
        let config = MultiJoinConfig {
            inputs: relations.iter().zip(&physical_keys).map(input).collect(),
            output,
            output_schema: physical.clone(),
        };
        config.validate()?;
        let detail = describe(&relations, &keys, &schema);
        let edge = |(port, (relation, keys)): (usize, (&Relation, &Vec<usize>))| Edge {
            from: relation.node,
            port,
            partitioning: Partitioning::Hash(keys.clone()),
            update_before: UpdateBefore::Required,
        };
        let edges = relations.iter().zip(&physical_keys).enumerate().map(edge).collect();
        let from: Vec<_> = relations.iter().map(|r| r.node).collect();
        let uid = self.uid("MultiJoin", &detail, &from);
        let unique = unique_keys(&relations, &physical_keys, &config.output);
        // Rows come out when they come out, in any order of row time; a processing time stays one.
        let mut proctime = BTreeSet::new();
        for (i, relation) in relations.iter().enumerate() {
            let place = |c| config.output.iter().position(|o| *o == (i, c));
            proctime.extend(relation.mapped_proctime(place));
        }
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(MultiJoinOperator::new(config.clone())?)));
        let node = self.graph.add(Node {
            uid,
            name: "MultiJoin",
            detail,
            parallelism: self.options.parallelism,
            inputs: edges,
            changelog: ChangelogMode::APPEND_ONLY,
            kind: NodeKind::Operator(factory),
        });
        let relation = Relation::plain(node, schema, physical, ChangelogMode::APPEND_ONLY, BTreeSet::new());
        Ok(Some(Relation { proctime, ..relation.with_keys(unique) }))
    }
}

/// Unique keys of the result: of each input one, but of those with a row per join key none.
fn unique_keys(
    relations: &[Relation],
    join_keys: &[Vec<usize>],
    output: &[(usize, usize)],
) -> Vec<Vec<usize>> {
    let place = |input: usize, column: usize| output.iter().position(|o| *o == (input, column));
    let mut found: Vec<Vec<usize>> = vec![Vec::new()];
    let mut is_by_join_key = true;
    for (i, (relation, join_key)) in relations.iter().zip(join_keys).enumerate() {
        if relation.is_unique_by(join_key) {
            continue;
        }
        is_by_join_key = false;
        let mapped = relation
            .keys
            .iter()
            .filter_map(|key| key.iter().map(|c| place(i, *c)).collect::<Option<Vec<_>>>())
            .collect::<Vec<_>>();
        found = found
            .iter()
            .flat_map(|before| mapped.iter().map(|key| before.iter().chain(key).copied().collect()))
            .take(MOST_KEYS)
            .collect();
    }
    if is_by_join_key {
        let of =
            |(i, key): (usize, &Vec<usize>)| key.iter().map(|c| place(i, *c)).collect::<Option<Vec<_>>>();
        found = join_keys.iter().enumerate().filter_map(of).take(MOST_KEYS).collect();
    }
    for key in &mut found {
        key.sort_unstable();
        key.dedup();
    }
    found
}

fn describe(relations: &[Relation], keys: &[Vec<usize>], schema: &DFSchema) -> String {
    let parts = keys.first().map_or(0, Vec::len);
    let equal = |part: usize| -> String {
        let name = |(relation, keys): (&Relation, &Vec<usize>)| {
            keys.get(part).map(|k| Column::from(relation.schema.qualified_field(*k)).flat_name())
        };
        relations.iter().zip(keys).filter_map(name).collect::<Vec<_>>().join(" = ")
    };
    let names: Vec<String> = schema.columns().iter().map(Column::flat_name).collect();
    let on = (0..parts).map(equal).collect::<Vec<_>>().join(" AND ");
    format!("where=[{on}], select=[{}]", names.join(", "))
}
