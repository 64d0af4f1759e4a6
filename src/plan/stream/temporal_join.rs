//! Lowering of event-time temporal joins.
//!
//! ```text
//!  left  ══ keys ══► ┐
//!                    ├ TemporalJoin: residual condition, columns of both
//!  right ══ keys ══► ┘  a primary key within the keys, and a row time
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::NullEquality;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, Join, JoinConstraint, JoinType, LogicalPlan, Operator, binary_expr};

use super::join::{Condition, KeyPair, condition_of};
use super::no_matches::never_matches;
use super::top_n::top_n;
use super::{ColumnRef, Relation, StreamPlanner};
use crate::error::{Error, Result};
use crate::operators::join::{JoinColumn, JoinConfig, JoinInput, JoinKind, JoinSide, UniqueKey};
use crate::operators::temporal_join::{TemporalJoinConfig, TemporalJoinOperator};
use crate::plan::nodes::temporal_join::TemporalJoinNode;
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{ChangelogMode, Edge, Node, NodeKind, OperatorFactory, UpdateBefore};

impl StreamPlanner {
    /// A temporal join.
    pub(super) fn lower_temporal_join(&mut self, node: &TemporalJoinNode) -> Result<Relation> {
        let join = Join::try_new(
            Arc::new(node.left.clone()),
            Arc::new(node.right.clone()),
            Vec::new(),
            Some(node.condition.clone()),
            node.kind,
            JoinConstraint::On,
            NullEquality::NullEqualsNothing,
            false,
        )?;
        if never_matches(&node.right, &node.condition) {
            return self.lower_without_matches([&node.left, &node.right], node.kind, join.schema);
        }
        let mut condition = condition_of(&join)?;
        let history = std::mem::take(&mut self.takes_history);
        let left = self.lower_join_input(&node.left)?;
        let right = self.lower_versions(&node.right)?;
        self.takes_history = history;
        keep_key(&mut condition, &right)?;
        let (left_exprs, right_exprs): (Vec<_>, Vec<_>) =
            condition.keys.iter().map(|k| (k.left.clone(), k.right.clone())).unzip();
        let (left, left_key) = self.with_key_columns(left, &left_exprs)?;
        let (right, right_keys) = self.with_key_columns(right, &right_exprs)?;
        let times = times(node, &left, &right)?;
        let filter = condition
            .residual
            .as_ref()
            .map(|residual| self.join_filter(residual, &left, &right))
            .transpose()?;
        let kind = if node.kind == JoinType::Left { JoinKind::Left } else { JoinKind::Inner };
        let physical_of = |side: JoinSide, relation: &Relation| -> Result<Vec<JoinColumn>> {
            let physical = |column: &ColumnRef| match column {
                ColumnRef::Physical(p) => Ok(JoinColumn::Input(side, *p)),
                _ => Err(Error::internal("a join reads a column of a window that was not assigned")),
            };
            relation.columns.iter().map(physical).collect()
        };
        let mut output = physical_of(JoinSide::Left, &left)?;
        output.extend(physical_of(JoinSide::Right, &right)?);
        let physical = Arc::new(Schema::new(join.schema.fields().clone()));
        let input = |relation: &Relation, keys: &[usize]| JoinInput {
            schema: relation.physical.clone(),
            keys: keys.to_vec(),
            unique: UniqueKey::None,
            retracts: !relation.changelog.is_append_only(),
            ttl_ms: None,
        };
        let config = JoinConfig {
            kind,
            left: input(&left, &left_key),
            right: input(&right, &right_keys),
            null_safe: condition.keys.iter().map(|k| k.null_safe).collect(),
            filter,
            output,
            output_schema: physical.clone(),
            emit_update_before: true,
        };
        config.validate()?;
        let place =
            |c: &usize| config.output.iter().position(|o| *o == JoinColumn::Input(JoinSide::Left, *c));
        // Rows wait for this one; others may be behind the watermark when they come out.
        let rowtime: BTreeSet<usize> = place(&times[0]).into_iter().collect();
        let proctime = left.mapped_proctime(|c| place(&c));
        // The halves of an update that moves a row to another key, or to another time, come out in any order.
        let stays = |key: &&Vec<usize>| {
            left.changelog.is_append_only() || left_key.iter().chain([&times[0]]).all(|c| key.contains(c))
        };
        let keys = left.keys.iter().filter(stays).filter_map(|key| key.iter().map(place).collect()).collect();
        let changelog =
            if left.changelog.is_append_only() { ChangelogMode::APPEND_ONLY } else { ChangelogMode::ALL };
        let detail = format!(
            "joinType=[{}], where=[{}], asOf=[{}], rightTime=[{}]",
            kind.name(),
            node.condition,
            node.time,
            right.physical.field(times[1]).name(),
        );
        let single = left_key.is_empty();
        let edge = |relation: &Relation, port: usize, keys: Vec<usize>, update_before| Edge {
            from: relation.node,
            port,
            partitioning: if single { Partitioning::Single } else { Partitioning::Hash(keys) },
            update_before,
        };
        let inputs = vec![
            edge(&left, 0, left_key, UpdateBefore::Required),
            edge(&right, 1, right_keys, UpdateBefore::NotNeeded),
        ];
        let uid = self.uid("TemporalJoin", &detail, &[left.node, right.node]);
        let config = TemporalJoinConfig { join: config, times };
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(TemporalJoinOperator::new(config.clone())?)));
        let node = self.graph.add(Node {
            uid,
            name: "TemporalJoin",
            detail,
            parallelism: if single { 1 } else { self.options.parallelism },
            inputs,
            changelog,
            kind: NodeKind::Operator(factory),
        });
        let relation = Relation::plain(node, join.schema.clone(), physical, changelog, rowtime);
        Ok(relation.with_keys(keys).with_proctime(proctime))
    }
}

impl StreamPlanner {
    /// The right side: every version of a row is told, however many come together. The latest row of each key by its row
    /// time is the history of that key: all its rows, whatever their order.
    fn lower_versions(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        let bundle = self.options.bundle_rows.replace(1);
        self.takes_history = is_latest_of_each_key(plan)?;
        let lowered = self.lower_join_input(plan);
        self.options.bundle_rows = bundle;
        self.takes_history = false;
        lowered
    }
}

/// Physical row time columns of both sides.
fn times(node: &TemporalJoinNode, left: &Relation, right: &Relation) -> Result<[usize; 2]> {
    let what = "an event-time temporal join";
    let row_time = |relation: &Relation, time: &Expr| match relation.columns[relation.column_of(time)?] {
        ColumnRef::Physical(p) => relation.rowtime.contains(&p).then_some(p),
        _ => None,
    };
    let Some(left_time) = row_time(left, &node.time) else {
        return Err(Error::validation(format!(
            "{what} takes the row time of its left side, and {} is none",
            node.time
        ))
        .hint("declare WATERMARK FOR it in CREATE TABLE, and do not compute with it before the join"));
    };
    let Some(right_time) = row_time(right, &node.valid_from) else {
        return Err(Error::validation(format!(
            "{what} needs a row time of the versioned table, and {} is none any more",
            node.valid_from
        ))
        .hint("join a table with WATERMARK and PRIMARY KEY, or a view of the latest row per key by its row time"));
    };
    let types = [left.physical.field(left_time), right.physical.field(right_time)].map(|f| f.data_type());
    if types[0] != types[1] {
        return Err(Error::validation(format!(
            "{what} compares {} with {}, which has another type",
            node.time,
            right.physical.field(right_time).name()
        ))
        .hint("use TIMESTAMP for both row times, or TIMESTAMP_LTZ"));
    }
    Ok([left_time, right_time])
}

/// Leaves as keys the comparisons of one unique key of the versioned table. A row that changes in anything else is the next
/// version of the same key, so that the other comparisons are conditions on versions.
fn keep_key(condition: &mut Condition, right: &Relation) -> Result<()> {
    let column_of = |pair: &KeyPair| match right.columns[right.column_of(&pair.right)?] {
        ColumnRef::Physical(p) => Some(p),
        _ => None,
    };
    let compared: Vec<Option<usize>> = condition.keys.iter().map(column_of).collect();
    let is_compared = |key: &&Vec<usize>| key.iter().all(|c| compared.contains(&Some(*c)));
    if let Some(key) = right.keys.iter().filter(is_compared).min_by_key(|key| key.len()) {
        let (mut kept, mut residual) =
            (Vec::new(), condition.residual.take().into_iter().collect::<Vec<_>>());
        let mut found: Vec<usize> = Vec::new();
        for (pair, column) in std::mem::take(&mut condition.keys).into_iter().zip(compared) {
            match column.filter(|c| key.contains(c) && !found.contains(c)) {
                Some(column) => {
                    found.push(column);
                    kept.push(pair);
                }
                None => {
                    let op = if pair.null_safe { Operator::IsNotDistinctFrom } else { Operator::Eq };
                    residual.push(binary_expr(pair.left, op, pair.right));
                }
            }
        }
        condition.keys = kept;
        condition.residual = conjunction(residual);
        return Ok(());
    }
    Err(Error::validation(
        "a temporal join has to compare the primary key of the versioned table, and finds none among the columns that it reads",
    )
    .hint(
        "declare PRIMARY KEY (…) NOT ENFORCED in CREATE TABLE, or join a view of the latest row per key; and compare every \
         column of the key with =",
    ))
}

/// Whether a plan is the latest row of each key by a deduplication, at most projected.
fn is_latest_of_each_key(plan: &LogicalPlan) -> Result<bool> {
    Ok(match plan {
        LogicalPlan::SubqueryAlias(alias) => is_latest_of_each_key(&alias.input)?,
        LogicalPlan::Projection(projection) => is_latest_of_each_key(&projection.input)?,
        LogicalPlan::Filter(filter) => top_n(filter)?.is_some_and(|top_n| top_n.rest.is_none()),
        _ => false,
    })
}
