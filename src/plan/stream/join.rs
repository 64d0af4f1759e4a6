//! Lowering of regular joins and interval joins.
//!
//! ```text
//!  left  ─► [calc: key expressions] ══ keys ══► ┐
//!                                               ├ Join: residual condition, columns that are read above
//!  right ─► [calc: key expressions] ══ keys ══► ┘
//! ```
//!
//! Equalities, and IS NOT DISTINCT FROM, between an expression of the left and one of the right are keys; what is left of
//! the condition is residual. Without a key everything meets in one subtask.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use datafusion::common::{Column, DFSchema, DFSchemaRef, NullEquality, ScalarValue, TableReference};
use datafusion::logical_expr::utils::{conjunction, split_conjunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Join, JoinType, LogicalPlan, Operator, Projection,
};

use crate::error::{Error, Result};
use crate::operators::interval_join::{IntervalJoinConfig, IntervalJoinOperator};
use crate::operators::join::{
    JoinColumn, JoinConfig, JoinFilter, JoinInput, JoinKind, JoinOperator, JoinSide, UniqueKey,
};
use crate::plan::stream::interval_join::{Interval, interval_of};
use crate::plan::stream::relation::AttachedWindow;
use crate::plan::stream::{ColumnRef, Relation, StreamPlanner, physical_expr};
use crate::runtime::exchange::Partitioning;
use crate::runtime::graph::{ChangelogMode, Edge, Node, NodeKind, OperatorFactory, UpdateBefore};

/// More unique keys than this are not worth remembering.
pub(super) const MOST_KEYS: usize = 8;

/// A pair of key expressions.
pub(super) struct KeyPair {
    pub(super) left: Expr,
    pub(super) right: Expr,
    pub(super) null_safe: bool,
}

/// A condition taken apart.
pub(super) struct Condition {
    pub(super) keys: Vec<KeyPair>,
    pub(super) residual: Option<Expr>,
}

/// For a projection over a join (with or without a filter between), the columns of the join that are read above it.
pub(super) fn columns_below(projection: &Projection, below: &LogicalPlan) -> Result<Option<Vec<usize>>> {
    let filter = match below {
        LogicalPlan::Join(_) => None,
        LogicalPlan::Filter(filter) if matches!(filter.input.as_ref(), LogicalPlan::Join(_)) => Some(filter),
        _ => return Ok(None),
    };
    let mut wanted = BTreeSet::new();
    let mut add = |expr: &Expr, schema: &DFSchema| -> Result<()> {
        for column in expr.column_refs() {
            wanted.insert(schema.index_of_column(column)?);
        }
        Ok(())
    };
    for expr in &projection.expr {
        add(expr, projection.input.schema())?;
    }
    if let Some(filter) = filter {
        add(&filter.predicate, filter.input.schema())?;
    }
    Ok(Some(wanted.into_iter().collect()))
}

/// The columns `chosen` of a schema.
pub(super) fn chosen_schema(schema: &DFSchema, chosen: &[usize]) -> Result<DFSchemaRef> {
    let fields = chosen
        .iter()
        .map(|i| {
            let (qualifier, field) = schema.qualified_field(*i);
            (qualifier.cloned(), field.clone())
        })
        .collect();
    Ok(Arc::new(DFSchema::new_with_metadata(fields, schema.metadata().clone())?))
}

impl StreamPlanner {
    /// A join; `wanted` are the columns that come out, all of them if `None`.
    pub(super) fn lower_join(&mut self, join: &Join, wanted: Option<&[usize]>) -> Result<Relation> {
        if let Some(relation) = self.lower_multi_join(join, wanted)? {
            return Ok(relation);
        }
        let left = self.lower_join_input(&join.left)?;
        let right = self.lower_join_input(&join.right)?;
        let ttl = [self.state_ttl(&join.left), self.state_ttl(&join.right)];
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => JoinKind::Right,
            JoinType::Full => JoinKind::Full,
            JoinType::LeftSemi | JoinType::RightSemi => JoinKind::LeftSemi,
            JoinType::LeftAnti | JoinType::RightAnti => JoinKind::LeftAnti,
            JoinType::LeftMark | JoinType::RightMark => JoinKind::LeftMark,
        };
        let swapped =
            matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark);
        let mut condition = condition_of(join)?;
        let (left, right, ttl) = if swapped {
            for pair in &mut condition.keys {
                std::mem::swap(&mut pair.left, &mut pair.right);
            }
            (right, left, [ttl[1], ttl[0]])
        } else {
            (left, right, ttl)
        };
        let mut kind = kind;
        if join.null_aware {
            if condition.keys.len() == 1 && condition.residual.is_none() && ttl == [None, None] {
                kind = JoinKind::NullAwareLeftAnti;
            } else {
                unknown_counts_as_match(&mut condition)?;
            }
        }
        self.build_join(join, kind, condition, left, right, ttl, wanted)
    }

    pub(super) fn lower_join_input(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        let mut relation = self.lower(plan)?;
        relation.schema = plan.schema().clone();
        self.materialize(relation)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one join, used once")]
    fn build_join(
        &mut self,
        join: &Join,
        kind: JoinKind,
        condition: Condition,
        left: Relation,
        right: Relation,
        ttl: [Option<i64>; 2],
        wanted: Option<&[usize]>,
    ) -> Result<Relation> {
        let (left_exprs, right_exprs): (Vec<Expr>, Vec<Expr>) =
            condition.keys.iter().map(|k| (k.left.clone(), k.right.clone())).unzip();
        let (left, left_keys) = self.with_key_columns(left, &left_exprs)?;
        let (right, right_keys) = self.with_key_columns(right, &right_exprs)?;
        let interval = interval_of(kind, &condition, &left, &right);
        let residual = interval.as_ref().map_or(condition.residual.as_ref(), |i| i.residual.as_ref());
        let filter = residual.map(|residual| self.join_filter(residual, &left, &right)).transpose()?;

        let mut output = Vec::new();
        let mut fields: Vec<FieldRef> = Vec::new();
        let all: Vec<usize> = (0..join.schema.fields().len()).collect();
        let chosen = wanted.unwrap_or(&all);
        let sides = if kind.is_left_only() {
            vec![(JoinSide::Left, &left)]
        } else {
            vec![(JoinSide::Left, &left), (JoinSide::Right, &right)]
        };
        let places: Vec<(JoinSide, usize)> = sides
            .iter()
            .flat_map(|(side, relation)| (0..relation.columns.len()).map(|i| (*side, i)))
            .collect();
        for i in chosen {
            fields.push(join.schema.field(*i).clone());
            output.push(match places.get(*i) {
                Some((side, column)) => {
                    let relation = if *side == JoinSide::Left { &left } else { &right };
                    JoinColumn::Input(*side, physical_column(relation, *column)?)
                }
                None if kind == JoinKind::LeftMark => JoinColumn::Mark,
                None => return Err(Error::internal("a join has more columns than its inputs")),
            });
        }
        let schema = chosen_schema(&join.schema, chosen)?;
        let physical: SchemaRef = Arc::new(Schema::new(fields));
        let changelog = match interval {
            Some(_) => ChangelogMode::APPEND_ONLY,
            None => changelog_of(kind, [(&left, &left_keys), (&right, &right_keys)], filter.is_some()),
        };
        let keys = keys_of(kind, [(&left, &left_keys), (&right, &right_keys)], &output);
        let input = |relation: &Relation, keys: &[usize], ttl_ms: Option<i64>| JoinInput {
            schema: relation.physical.clone(),
            keys: keys.to_vec(),
            unique: if relation.is_unique_by(keys) {
                UniqueKey::JoinKey
            } else {
                let shortest = relation.keys.iter().min_by_key(|k| k.len());
                shortest.map_or(UniqueKey::None, |k| UniqueKey::Columns(k.clone()))
            },
            retracts: !relation.changelog.is_append_only(),
            ttl_ms,
        };
        let config = JoinConfig {
            kind,
            left: input(&left, &left_keys, ttl[0]),
            right: input(&right, &right_keys, ttl[1]),
            null_safe: condition.keys.iter().map(|k| k.null_safe).collect(),
            filter,
            output,
            output_schema: physical.clone(),
            emit_update_before: true,
        };
        config.validate()?;
        let mut detail = describe(join, &condition, &schema, &config);
        let name = if let Some(Interval { window: Some(_), .. }) = &interval {
            "WindowJoin"
        } else if let Some(Interval { times, bounds, .. }) = &interval {
            detail.push_str(&format!(
                ", windowBounds=[isRowTime=true, leftLowerBound={}, leftUpperBound={}, leftTimeIndex={}, rightTimeIndex={}]",
                bounds.0, bounds.1, times[0], times[1]
            ));
            "IntervalJoin"
        } else {
            "Join"
        };
        let single = left_keys.is_empty() || kind == JoinKind::NullAwareLeftAnti;
        let edge = |relation: &Relation, port: usize, keys: Vec<usize>| Edge {
            from: relation.node,
            port,
            partitioning: if single { Partitioning::Single } else { Partitioning::Hash(keys) },
            update_before: UpdateBefore::Required,
        };
        let inputs = vec![edge(&left, 0, left_keys), edge(&right, 1, right_keys)];
        // How long state is kept may be changed without losing it.
        let uid = self.uid(name, &detail, &[left.node, right.node]);
        let ttls: String = [("left", ttl[0]), ("right", ttl[1])]
            .iter()
            .filter(|_| interval.is_none())
            .filter_map(|(side, ttl)| Some(format!(", {side}StateTtl=[{} ms]", (*ttl)?)))
            .collect();
        // Time attributes do not outlive a regular join: its rows come in any order of time.
        let mut rowtime = BTreeSet::new();
        let rowtimes = [&left.rowtime, &right.rowtime];
        // Rows come out when they come out: a processing time that is never NULL stays one.
        let place = |side, c| config.output.iter().position(|o| *o == JoinColumn::Input(side, c));
        let mut proctime = BTreeSet::new();
        for (side, other, relation) in
            [(JoinSide::Left, JoinSide::Right, &left), (JoinSide::Right, JoinSide::Left, &right)]
        {
            if !kind.pads(other) {
                proctime.extend(relation.mapped_proctime(|c| place(side, c)));
            }
        }
        // The windows of the left side, where it is never NULL.
        let windowed = interval.as_ref().and_then(|i| i.window).filter(|_| !kind.pads(JoinSide::Right));
        let attached = windowed.and(left.attached).and_then(|window| {
            let place =
                |c: usize| config.output.iter().position(|o| *o == JoinColumn::Input(JoinSide::Left, c));
            Some(AttachedWindow { start: place(window.start)?, end: place(window.end)?, ..window })
        });
        let factory: OperatorFactory = match interval {
            Some(Interval { times, bounds, window, .. }) => {
                let is_time = |column: &JoinColumn| match *column {
                    JoinColumn::Input(side, c) => {
                        // Of windows every row has a time, or the column is none: it is NULL beside no match.
                        let is_padded = window.is_some() && kind.pads(side.other());
                        rowtimes[side as usize].contains(&c) && times[side as usize] == c && !is_padded
                    }
                    JoinColumn::Mark => false,
                };
                rowtime.extend(config.output.iter().enumerate().filter(|(_, c)| is_time(c)).map(|(i, _)| i));
                let config = IntervalJoinConfig { join: config, times, bounds, window };
                Arc::new(move |_| Ok(Box::new(IntervalJoinOperator::new(config.clone())?)))
            }
            None => Arc::new(move |subtask| {
                let config = JoinConfig { emit_update_before: subtask.emit_update_before, ..config.clone() };
                Ok(Box::new(JoinOperator::new(config)?))
            }),
        };
        let node = self.graph.add(Node {
            uid,
            name,
            detail: detail + &ttls,
            parallelism: if single { 1 } else { self.options.parallelism },
            inputs,
            changelog,
            kind: NodeKind::Operator(factory),
        });
        let relation = Relation::plain(node, schema, physical, changelog, rowtime).with_keys(keys);
        Ok(Relation { attached, proctime, ..relation })
    }

    /// The residual condition over just the columns that it reads.
    pub(super) fn join_filter(
        &self,
        residual: &Expr,
        left: &Relation,
        right: &Relation,
    ) -> Result<JoinFilter> {
        let mut columns = Vec::new();
        let mut fields: Vec<(Option<TableReference>, FieldRef)> = Vec::new();
        let mut seen: BTreeSet<&Column> = BTreeSet::new();
        let mut used: Vec<&Column> = residual.column_refs().into_iter().collect();
        used.sort();
        for column in used {
            if !seen.insert(column) {
                continue;
            }
            let (side, relation, i) = match left.schema.maybe_index_of_column(column) {
                Some(i) => (JoinSide::Left, left, i),
                None => (JoinSide::Right, right, right.schema.index_of_column(column)?),
            };
            let (qualifier, field) = relation.schema.qualified_field(i);
            columns.push((side, physical_column(relation, i)?));
            fields.push((qualifier.cloned(), field.clone()));
        }
        let schema = DFSchema::new_with_metadata(fields, HashMap::new())?;
        let condition = physical_expr(residual, &schema, &self.options.props)?;
        Ok(JoinFilter { condition, columns, schema: Arc::new(schema.as_arrow().clone()) })
    }
}

pub(super) fn physical_column(relation: &Relation, column: usize) -> Result<usize> {
    match relation.columns.get(column) {
        Some(ColumnRef::Physical(p)) => Ok(*p),
        _ => Err(Error::internal("a join reads a column of a window that was not assigned")),
    }
}

/// Keys and residual condition of a join.
pub(super) fn condition_of(join: &Join) -> Result<Condition> {
    let all_null_safe = join.null_equality == NullEquality::NullEqualsNull;
    let mut keys: Vec<KeyPair> = join
        .on
        .iter()
        .map(|(left, right)| KeyPair { left: left.clone(), right: right.clone(), null_safe: all_null_safe })
        .collect();
    let mut residual = Vec::new();
    for part in join.filter.iter().flat_map(split_conjunction) {
        if matches!(part, Expr::Literal(ScalarValue::Boolean(Some(true)), _)) {
            continue;
        }
        match key_pair(part, join)? {
            // The first one of NOT IN has to stay what it is.
            Some(pair) if !join.null_aware || keys.is_empty() => keys.push(pair),
            _ => residual.push(part.clone()),
        }
    }
    for pair in &keys {
        let (left, right) =
            (pair.left.get_type(join.left.schema())?, pair.right.get_type(join.right.schema())?);
        if left != right {
            return Err(Error::unsupported(format!(
                "a join compares {} ({left}) with {} ({right})",
                pair.left, pair.right
            ))
            .hint("CAST one of them to the type of the other"));
        }
    }
    Ok(Condition { keys, residual: conjunction(residual) })
}

/// A part of the condition that is a key: an equality between the sides.
fn key_pair(part: &Expr, join: &Join) -> Result<Option<KeyPair>> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else { return Ok(None) };
    let null_safe = match op {
        Operator::Eq => false,
        Operator::IsNotDistinctFrom => true,
        _ => return Ok(None),
    };
    let reads_only = |expr: &Expr, schema: &DFSchema| {
        let columns = expr.column_refs();
        !columns.is_empty() && columns.iter().all(|c| schema.maybe_index_of_column(c).is_some())
    };
    let (l, r) = (join.left.schema(), join.right.schema());
    let (left, right) = if reads_only(left, l) && reads_only(right, r) {
        (left, right)
    } else if reads_only(right, l) && reads_only(left, r) {
        (right, left)
    } else {
        return Ok(None);
    };
    if left.is_volatile() || right.is_volatile() || left.get_type(l)? != right.get_type(r)? {
        return Ok(None);
    }
    Ok(Some(KeyPair { left: left.as_ref().clone(), right: right.as_ref().clone(), null_safe }))
}

/// NOT IN that is correlated, or that forgets rows: the comparison becomes residual and counts as a match where it is
/// unknown.
fn unknown_counts_as_match(condition: &mut Condition) -> Result<()> {
    if condition.keys.is_empty() {
        let residual = condition.residual.take();
        condition.residual = residual.map(|r| Expr::IsNotFalse(Box::new(r)));
        return Ok(());
    }
    let pair = condition.keys.remove(0);
    let unknown = pair.left.eq(pair.right).is_not_false();
    condition.residual = Some(match condition.residual.take() {
        Some(residual) => unknown.and(residual),
        None => unknown,
    });
    Ok(())
}

type Input<'a> = (&'a Relation, &'a Vec<usize>);

/// Kinds of changes that a join sends.
fn changelog_of(kind: JoinKind, inputs: [Input<'_>; 2], residual: bool) -> ChangelogMode {
    let [left, right] = inputs;
    match kind {
        JoinKind::Left | JoinKind::Right | JoinKind::Full => ChangelogMode::ALL,
        JoinKind::LeftAnti | JoinKind::NullAwareLeftAnti | JoinKind::LeftMark => ChangelogMode::ALL,
        JoinKind::Inner | JoinKind::LeftSemi => {
            let mut mode = left.0.changelog.union(right.0.changelog);
            // An update that changes the key, or what the condition says, is torn apart.
            for (relation, keys) in inputs {
                let stays = relation.keys.iter().any(|k| keys.iter().all(|c| k.contains(c)));
                mode.delete |= relation.changelog.update_after && (residual || !stays);
            }
            mode.delete |= kind == JoinKind::LeftSemi && !right.0.changelog.is_append_only();
            mode
        }
    }
}

/// Unique keys of the result, as positions in its output.
///
/// A key of an input stays one if at most one row of the other side matches each of its rows. It has to hold at any time:
/// where a row of an updating input can move to another join key, and so to another subtask, its new version can overtake
/// the old one, unless the key holds the join key.
fn keys_of(kind: JoinKind, inputs: [Input<'_>; 2], output: &[JoinColumn]) -> Vec<Vec<usize>> {
    let [(left, left_keys), (right, right_keys)] = inputs;
    let stays = |(relation, keys): Input<'_>, key: &[usize]| {
        relation.changelog.is_append_only() || keys.iter().all(|c| key.contains(c))
    };
    let place = |side: JoinSide, c: usize| output.iter().position(|o| *o == JoinColumn::Input(side, c));
    let mapped = |side: JoinSide, key: &[usize]| -> Option<Vec<usize>> {
        key.iter().map(|c| place(side, *c)).collect()
    };
    let mut found: Vec<Vec<usize>> = Vec::new();
    let mut add = |key: Option<Vec<usize>>| {
        if let Some(mut key) = key {
            key.sort_unstable();
            key.dedup();
            if found.len() < MOST_KEYS && !found.contains(&key) {
                found.push(key);
            }
        }
    };
    if kind.is_left_only() {
        for key in left.keys.iter().filter(|k| stays(inputs[0], k)) {
            add(mapped(JoinSide::Left, key));
        }
        return found;
    }
    let pads_left = kind.pads(JoinSide::Left);
    let pads_right = kind.pads(JoinSide::Right);
    if right.is_unique_by(right_keys) && !pads_right {
        for key in left.keys.iter().filter(|k| stays(inputs[0], k)) {
            add(mapped(JoinSide::Left, key));
        }
    }
    if left.is_unique_by(left_keys) && !pads_left {
        for key in right.keys.iter().filter(|k| stays(inputs[1], k)) {
            add(mapped(JoinSide::Right, key));
        }
    }
    for l in &left.keys {
        for r in &right.keys {
            let (l_stays, r_stays) = (stays(inputs[0], l), stays(inputs[1], r));
            let holds = match (pads_left, pads_right) {
                (false, false) => l_stays || r_stays,
                (true, false) => l_stays,
                (false, true) => r_stays,
                (true, true) => l_stays && r_stays,
            };
            if holds {
                let (l, r) = (mapped(JoinSide::Left, l), mapped(JoinSide::Right, r));
                add(l.zip(r).map(|(l, r)| l.into_iter().chain(r).collect()));
            }
        }
    }
    found
}

fn describe(join: &Join, condition: &Condition, schema: &DFSchema, config: &JoinConfig) -> String {
    let mut parts: Vec<String> = condition
        .keys
        .iter()
        .map(|k| {
            let op = if k.null_safe { "IS NOT DISTINCT FROM" } else { "=" };
            format!("{} {op} {}", k.left, k.right)
        })
        .collect();
    parts.extend(condition.residual.iter().map(ToString::to_string));
    let on = if parts.is_empty() { "true".to_owned() } else { parts.join(" AND ") };
    let names: Vec<String> = schema.columns().iter().map(Column::flat_name).collect();
    let spec = |unique: &UniqueKey| match unique {
        UniqueKey::JoinKey => "JoinKeyContainsUniqueKey",
        UniqueKey::Columns(_) => "HasUniqueKey",
        UniqueKey::None => "NoUniqueKey",
    };
    let kind = if config.kind == JoinKind::NullAwareLeftAnti { "null-aware LeftAnti" } else { "" };
    let kind = if kind.is_empty() { join.join_type.to_string() } else { kind.to_owned() };
    format!(
        "joinType=[{kind}Join], where=[{on}], select=[{}], leftInputSpec=[{}], rightInputSpec=[{}]",
        names.join(", "),
        spec(&config.left.unique),
        spec(&config.right.unique),
    )
}
