//! Lowering of GROUP BY: window aggregates over a pending or attached window, updating aggregates otherwise.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable};
use datafusion::physical_expr::aggregate::{LoweredAggregate, LoweredAggregateBuilder};

use crate::error::{Error, Result};
use crate::operators::calc::CalcConfig;
pub(super) use crate::operators::calc::column_exprs;
use crate::operators::group_aggregate::{
    AggregateCall, GroupAggregateConfig, GroupAggregateOperator, GroupOutput, LocalGroupAggregateOperator,
};
use crate::operators::late_rows::LateRule;
use crate::operators::session_window::SessionAggregateOperator;
use crate::operators::window_aggregate::{
    WindowAggregateConfig, WindowAggregateOperator, WindowKind, WindowOutput, WindowPhase, WindowSpec,
};
use crate::plan::stream::relation::AttachedWindow;
use crate::plan::stream::{AggPhase, ColumnRef, Relation, StreamPlanner, physical_expr};
use crate::runtime::graph::{ChangelogMode, OperatorFactory, UpdateBefore};

/// What a column of the result is, before it is known which aggregate computes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grouping {
    Key(usize),
    Start,
    End,
    Time,
}

impl StreamPlanner {
    pub(super) fn lower_aggregate(&mut self, aggregate: &Aggregate) -> Result<Relation> {
        if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
            return self.lower_grouping_sets(aggregate, sets);
        }
        let mut input = self.lower(&aggregate.input)?;
        input.schema = aggregate.input.schema().clone();
        let mut groups = groupings(&aggregate.group_expr, &input);
        let windowed = |g: &[(Grouping, Expr)]| {
            g.iter().any(|(g, _)| *g == Grouping::Start) && g.iter().any(|(g, _)| *g == Grouping::End)
        };
        let uses_window = aggregate
            .aggr_expr
            .iter()
            .chain(groups.iter().filter(|(g, _)| matches!(g, Grouping::Key(_))).map(|(_, e)| e))
            .map(|e| input.uses_window(e))
            .collect::<Result<Vec<bool>>>()?
            .contains(&true);
        if windowed(&groups)
            && !uses_window
            && let Some(emit) = self.emit_strategy(&input)?
        {
            return self.add_emitting_window(aggregate, input, &groups, emit);
        }
        if let Some(window) = &input.window
            && (!windowed(&groups)
                || uses_window
                || !window.spec.has_slices()
                || window.spec.is_session() && !self.is_by_session(aggregate, &groups, &input)?)
        {
            input = self.materialize(input)?;
            groups = groupings(&aggregate.group_expr, &input);
        }
        let windowed = windowed(&groups);
        let is_key = |g: &Grouping| !windowed || matches!(g, Grouping::Key(_));
        let keys: Vec<Expr> = groups.iter().filter(|(g, _)| is_key(g)).map(|(_, e)| e.clone()).collect();
        let (input, key_columns) = self.with_key_columns(input, &keys)?;
        if windowed {
            let groups: Vec<Grouping> = groups.into_iter().map(|(g, _)| g).collect();
            self.add_window_aggregate(aggregate, input, &groups, key_columns)
        } else {
            // Without both window columns it is an ordinary aggregate over them.
            self.add_group_aggregate(aggregate, input, key_columns)
        }
    }

    /// Whether the pending sessions of `input` are those of the groups, with aggregates that can be merged where sessions
    /// become one.
    fn is_by_session(
        &self,
        aggregate: &Aggregate,
        groups: &[(Grouping, Expr)],
        input: &Relation,
    ) -> Result<bool> {
        let Some(window) = &input.window else { return Ok(false) };
        let keys = groups.iter().filter(|(g, _)| matches!(g, Grouping::Key(_)));
        let columns = keys.map(|(_, e)| match input.columns.get(input.column_of(e)?)? {
            ColumnRef::Physical(p) => Some(*p),
            _ => None,
        });
        let Some(columns) = columns.collect::<Option<BTreeSet<usize>>>() else { return Ok(false) };
        if columns != window.partition.iter().copied().collect() {
            return Ok(false);
        }
        let calls = self.calls(&aggregate.aggr_expr, &input.physical_df_schema()?, &input.physical)?;
        SessionAggregateOperator::can_merge(&input.physical, &calls)
    }

    /// A group aggregate by physical columns.
    pub(super) fn add_group_aggregate(
        &mut self,
        aggregate: &Aggregate,
        input: Relation,
        key_columns: Vec<usize>,
    ) -> Result<Relation> {
        let schema = input.physical_df_schema()?;
        let output_schema: SchemaRef = Arc::new(aggregate.schema.as_arrow().clone());
        let config = GroupAggregateConfig {
            input_schema: input.physical.clone(),
            output_schema: output_schema.clone(),
            output: (0..key_columns.len())
                .map(GroupOutput::Key)
                .chain((0..aggregate.aggr_expr.len()).map(GroupOutput::Aggregate))
                .collect(),
            keys: column_exprs(&input.physical, &key_columns),
            aggregates: self.calls(&aggregate.aggr_expr, &schema, &input.physical)?,
            input_retracts: !input.changelog.is_append_only(),
            // Each subtask is told when the whole graph is known.
            emit_update_before: true,
            bundle_rows: self.options.bundle_rows,
            merges_partials: false,
            ttl_ms: self.state_ttl(&aggregate.input),
            emit_default_row_on_end: true,
        };
        config.validate()?;
        let detail = describe(&aggregate.group_expr, &aggregate.aggr_expr);
        // A group vanishes only with its last row.
        let changelog =
            if input.changelog.is_append_only() { ChangelogMode::UPDATES } else { ChangelogMode::ALL };
        let unique = (0..key_columns.len()).collect();
        let (name, input, exchange, config, uid) = match self.partial_schema(&config, &input, &key_columns)? {
            None => ("GroupAggregate", input, key_columns, config, None),
            Some(physical) => {
                // The state is the same in one phase and in two, so that a job may go on at another parallelism.
                let uid = self.uid("GroupAggregate", &detail, &[input.node]);
                let local = config.clone();
                let factory: OperatorFactory =
                    Arc::new(move |_| Ok(Box::new(LocalGroupAggregateOperator::new(&local)?)));
                let mode = ChangelogMode::APPEND_ONLY;
                let text = detail.clone();
                let node = self.add_operator("LocalGroupAggregate", text, &input, mode, None, factory);
                let edges = &mut self.graph.nodes[node].inputs;
                edges.iter_mut().for_each(|edge| edge.update_before = UpdateBefore::Required);
                let between = Relation { node, physical, changelog: mode, ..input };
                let config = GroupAggregateConfig { merges_partials: true, ..config };
                ("GlobalGroupAggregate", between, (0..key_columns.len()).collect(), config, Some(uid))
            }
        };
        let factory: OperatorFactory = Arc::new(move |subtask| {
            let config =
                GroupAggregateConfig { emit_update_before: subtask.emit_update_before, ..config.clone() };
            Ok(Box::new(GroupAggregateOperator::new(config, subtask.key_groups)?))
        });
        let node = self.add_operator(name, detail, &input, changelog, Some(exchange), factory);
        if let Some(uid) = uid {
            self.graph.nodes[node].uid = uid;
        }
        let relation =
            Relation::plain(node, aggregate.schema.clone(), output_schema, changelog, BTreeSet::new());
        Ok(relation.with_keys(vec![unique]))
    }

    /// Columns of the partial results where two phases are wanted and possible.
    fn partial_schema(
        &self,
        config: &GroupAggregateConfig,
        input: &Relation,
        key_columns: &[usize],
    ) -> Result<Option<SchemaRef>> {
        // With bundles of one row there is nothing to add up.
        let pays = match self.options.agg_phase {
            AggPhase::OnePhase => false,
            AggPhase::TwoPhase => true,
            AggPhase::Auto => {
                self.graph.nodes[input.node].parallelism > 1 && !input.is_unique_by(key_columns)
            }
        };
        if !pays || config.bundle_rows == Some(1) {
            return Ok(None);
        }
        LocalGroupAggregateOperator::schema(config)
    }

    /// A window aggregate whose result begins with `groups`, over `key_columns` for the keys among them.
    pub(super) fn add_window_aggregate(
        &mut self,
        aggregate: &Aggregate,
        mut input: Relation,
        groups: &[Grouping],
        mut key_columns: Vec<usize>,
    ) -> Result<Relation> {
        let mut groups = groups.to_vec();
        let by_proctime = match (&input.window, &input.attached) {
            (Some(w), _) => w.by_proctime,
            (None, attached) => attached.is_some_and(|a| a.by_proctime),
        };
        let is_session = match (&input.window, &input.attached) {
            (Some(w), _) => w.spec.is_session(),
            (None, attached) => attached.is_some_and(|a| a.is_session),
        };
        let mut start = WindowOutput::Start;
        if let (None, true, Some(attached)) = (&input.window, is_session, &input.attached) {
            // Several sessions may end together: their starts tell them apart.
            let key = key_columns.len();
            key_columns.push(attached.start);
            groups.iter_mut().filter(|g| **g == Grouping::Start).for_each(|g| *g = Grouping::Key(key));
            start = WindowOutput::Key(key);
        }
        let (window, time_column, text) = match (&input.window, &input.attached) {
            (Some(w), _) => (w.spec, w.time_column, w.text.clone()),
            (None, Some(a)) => (
                WindowSpec {
                    kind: WindowKind::Attached { start_column: a.start, end_column: a.end },
                    offset: 0,
                    zone: a.zone,
                },
                a.end,
                format!("win_start=[{}], win_end=[{}]", a.start, a.end),
            ),
            (None, None) => return Err(Error::internal("a window aggregate without window")),
        };
        if !by_proctime && !is_session {
            let rule = LateRule::WindowsOver { window, lateness: 0 };
            input = self.without_late_rows(input, &key_columns, time_column, rule, "WindowAggregate")?;
        }
        let schema = input.physical_df_schema()?;
        let output_schema: SchemaRef = Arc::new(aggregate.schema.as_arrow().clone());
        let output: Vec<WindowOutput> = groups
            .iter()
            .map(|g| match g {
                Grouping::Key(i) => WindowOutput::Key(*i),
                Grouping::Start => WindowOutput::Start,
                Grouping::End => WindowOutput::End,
                Grouping::Time => WindowOutput::Time,
            })
            .chain((0..aggregate.aggr_expr.len()).map(WindowOutput::Aggregate))
            .collect();
        let position = |wanted: WindowOutput| output.iter().position(|o| *o == wanted);
        let attached = match (position(start), position(WindowOutput::End)) {
            (Some(start), Some(end)) => {
                Some(AttachedWindow { start, end, zone: window.zone, is_session, by_proctime })
            }
            _ => None,
        };
        let time: BTreeSet<usize> = position(WindowOutput::Time).into_iter().collect();
        let (rowtime, proctime) = if by_proctime { (BTreeSet::new(), time) } else { (time, BTreeSet::new()) };
        let config = WindowAggregateConfig {
            input_schema: input.physical.clone(),
            output_schema: output_schema.clone(),
            output,
            window,
            time_column,
            keys: column_exprs(&input.physical, &key_columns),
            aggregates: self.calls(&aggregate.aggr_expr, &schema, &input.physical)?,
            phase: WindowPhase::Single,
            input_retracts: !input.changelog.is_append_only(),
            by_proctime,
        };
        config.validate()?;
        let detail = format!("{}, window=[{text}]", describe(&aggregate.group_expr, &aggregate.aggr_expr));
        let build = |config: WindowAggregateConfig| -> OperatorFactory {
            Arc::new(move |subtask| {
                Ok(Box::new(WindowAggregateOperator::new(config.clone(), subtask.key_groups)?))
            })
        };
        // Two phases pay where an exchange stands between: it then carries a row per key and slice instead of all.
        let two_phase = self.options.parallelism > 1
            && !config.keeps_groups()
            && !window.is_attached()
            && !window.is_session()
            && !by_proctime;
        let node = if window.is_session() {
            let factory: OperatorFactory =
                Arc::new(move |_| Ok(Box::new(SessionAggregateOperator::new(config.clone())?)));
            let mode = ChangelogMode::APPEND_ONLY;
            self.add_operator("SessionAggregate", detail, &input, mode, Some(key_columns), factory)
        } else if two_phase {
            // As for group aggregates: the state is the same in one phase and in two.
            let uid = self.uid("WindowAggregate", &detail, &[input.node]);
            let local = WindowAggregateConfig { phase: WindowPhase::Local, ..config.clone() };
            let partial = local.partial_schema()?;
            let node = self.add_operator(
                "LocalWindowAggregate",
                detail.clone(),
                &input,
                ChangelogMode::APPEND_ONLY,
                None,
                build(local),
            );
            let between = Relation { node, physical: partial, ..input.clone() };
            let global = WindowAggregateConfig { phase: WindowPhase::Global, ..config };
            let keys = (0..key_columns.len()).collect();
            let node = self.add_operator(
                "GlobalWindowAggregate",
                detail,
                &between,
                ChangelogMode::APPEND_ONLY,
                Some(keys),
                build(global),
            );
            self.graph.nodes[node].uid = uid;
            node
        } else {
            self.add_operator(
                "WindowAggregate",
                detail,
                &input,
                ChangelogMode::APPEND_ONLY,
                Some(key_columns),
                build(config),
            )
        };
        let plain = Relation::plain(
            node,
            aggregate.schema.clone(),
            output_schema,
            ChangelogMode::APPEND_ONLY,
            rowtime,
        );
        let key = (0..groups.len()).collect();
        Ok(Relation { attached, proctime, ..plain }.with_keys(vec![key]))
    }

    /// Physical columns that hold the keys; a calc computes those that are not columns already.
    pub(super) fn with_key_columns(
        &mut self,
        input: Relation,
        keys: &[Expr],
    ) -> Result<(Relation, Vec<usize>)> {
        let found: Vec<Option<usize>> = keys
            .iter()
            .map(|k| {
                input.column_of(k).and_then(|i| match input.columns[i] {
                    ColumnRef::Physical(p) => Some(p),
                    _ => None,
                })
            })
            .collect();
        if found.iter().all(Option::is_some) {
            return Ok((input, found.into_iter().flatten().collect()));
        }
        let schema = input.physical_df_schema()?;
        let mut fields: Vec<_> = input.physical.fields().iter().cloned().collect();
        let mut exprs = column_exprs(&input.physical, &(0..fields.len()).collect::<Vec<_>>());
        let mut columns = Vec::with_capacity(keys.len());
        let mut computed = Vec::new();
        for (key, found) in keys.iter().zip(found) {
            if let Some(p) = found {
                columns.push(p);
                continue;
            }
            columns.push(fields.len());
            let (_, field) = key.to_field(&schema)?;
            fields.push(Arc::new(field.as_ref().clone().with_name(format!("__key_{}", fields.len()))));
            exprs.push(physical_expr(&key.clone().unalias(), &schema, &self.options.props)?);
            computed.push(key.to_string());
        }
        let physical: SchemaRef = Arc::new(Schema::new(fields));
        let config = CalcConfig { condition: None, projection: Some(exprs), schema: physical.clone() };
        let node = self.add_calc(config, format!("keys=[{}]", computed.join(", ")), &input);
        Ok((Relation { node, physical, ..input }, columns))
    }

    pub(super) fn calls(
        &self,
        exprs: &[Expr],
        schema: &DFSchema,
        physical: &SchemaRef,
    ) -> Result<Vec<AggregateCall>> {
        exprs
            .iter()
            .map(|e| {
                let name = e.schema_name().to_string();
                let builder = LoweredAggregateBuilder::new(e, schema, physical, &self.options.props);
                let LoweredAggregate { aggregate, filter, order_bys } = builder.with_name(name).build()?;
                if !order_bys.is_empty() {
                    return Err(super::not_yet("ORDER BY inside an aggregate"));
                }
                Ok(AggregateCall::new(aggregate, filter))
            })
            .collect()
    }
}

/// What each group expression is.
pub(super) fn groupings(exprs: &[Expr], input: &Relation) -> Vec<(Grouping, Expr)> {
    let mut keys = 0;
    exprs
        .iter()
        .map(|e| {
            let place = input.column_of(e).map(|i| input.columns[i]);
            let grouping = match (place, input.attached) {
                (Some(ColumnRef::Start), _) => Grouping::Start,
                (Some(ColumnRef::End), _) => Grouping::End,
                (Some(ColumnRef::Time), _) => Grouping::Time,
                (Some(ColumnRef::Physical(p)), Some(a)) if a.start == p => Grouping::Start,
                (Some(ColumnRef::Physical(p)), Some(a)) if a.end == p => Grouping::End,
                (Some(ColumnRef::Physical(p)), Some(a))
                    if input.rowtime.contains(&p) || a.by_proctime && input.proctime.contains(&p) =>
                {
                    Grouping::Time
                }
                _ => {
                    keys += 1;
                    Grouping::Key(keys - 1)
                }
            };
            (grouping, e.clone())
        })
        .collect()
}

pub(super) fn describe(groups: &[Expr], aggregates: &[Expr]) -> String {
    let list = |exprs: &[Expr]| exprs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if groups.is_empty() {
        format!("select=[{}]", list(aggregates))
    } else {
        format!("groupBy=[{}], select=[{}]", list(groups), list(aggregates))
    }
}
