//! Lowering of windows of GROUP BY that show results before they end and after (`table.exec.emit.*`).

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Aggregate, Expr};

use crate::error::{Error, Result};
use crate::operators::late_rows::LateRule;
use crate::operators::window_aggregate::{WindowAggregateConfig, WindowOutput, WindowPhase};
use crate::operators::window_emit::{EmitStrategy, EmittingWindowConfig, EmittingWindowOperator};
use crate::plan::stream::aggregate::{Grouping, column_exprs, describe};
use crate::plan::stream::{Relation, StreamPlanner};
use crate::runtime::graph::{ChangelogMode, OperatorFactory};

/// `table.exec.emit.*`; times in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmitOptions {
    /// `early-fire.enabled`
    pub early: bool,
    /// `early-fire.delay`
    pub early_delay: Option<i64>,
    /// `late-fire.enabled`
    pub late: bool,
    /// `late-fire.delay`
    pub late_delay: Option<i64>,
    /// `allow-lateness`
    pub allow_lateness: Option<i64>,
}

fn without_delay(which: &str) -> Error {
    Error::validation(format!(
        "{which}-fire delay should not be null or negative value when enable {}-fire emit strategy",
        which.to_lowercase()
    ))
    .hint(format!("SET 'table.exec.emit.{}-fire.delay' = '1 min'", which.to_lowercase()))
}

impl StreamPlanner {
    /// When the windows that `input` is grouped by show results besides their end.
    pub(super) fn emit_strategy(&self, input: &Relation) -> Result<Option<EmitStrategy>> {
        let options = self.options.emit;
        if !options.early && !options.late {
            return Ok(None);
        }
        let Some(window) = input.window.as_ref().filter(|w| w.of_group) else {
            return Err(Error::unsupported(
                "Currently, window table function based aggregate doesn't support early-fire and late-fire configuration 'table.exec.emit.early-fire.enabled' and 'table.exec.emit.late-fire.enabled'",
            )
            .hint("write the window in GROUP BY: GROUP BY TUMBLE(ts, INTERVAL '1' MINUTE)"));
        };
        if window.spec.is_session() {
            return Err(Error::unsupported("Session window doesn't support EMIT strategy currently")
                .hint("RESET 'table.exec.emit.early-fire.enabled' and 'table.exec.emit.late-fire.enabled'"));
        }
        let early = match (options.early, options.early_delay) {
            (false, _) => None,
            (true, Some(delay)) => Some(delay),
            (true, None) => return Err(without_delay("Early")),
        };
        // By processing time nothing is late.
        if window.by_proctime {
            return Ok(early.map(|delay| EmitStrategy { early: Some(delay), late: None, lateness: 0 }));
        }
        let late = match (options.late, options.late_delay) {
            (false, _) => None,
            (true, Some(delay)) => Some(delay),
            (true, None) => return Err(without_delay("Late")),
        };
        let lateness = options.allow_lateness.or(self.options.state_ttl).unwrap_or(0);
        if late.is_some() && lateness == 0 {
            return Err(Error::validation("The 'AFTER WATERMARK' emit strategy requires set 'allow-lateness' or 'minIdleStateRetentionTime' in table config")
                .hint("SET 'table.exec.emit.allow-lateness' = '1 h', or 'table.exec.state.ttl'"));
        }
        Ok(Some(EmitStrategy { early, late, lateness }))
    }

    /// A window aggregate that begins with `groups` and shows results by `emit`.
    pub(super) fn add_emitting_window(
        &mut self,
        aggregate: &Aggregate,
        input: Relation,
        groups: &[(Grouping, Expr)],
        emit: EmitStrategy,
    ) -> Result<Relation> {
        let keys: Vec<Expr> =
            groups.iter().filter(|(g, _)| matches!(g, Grouping::Key(_))).map(|(_, e)| e.clone()).collect();
        let (input, key_columns) = self.with_key_columns(input, &keys)?;
        let Some(window) = input.window.clone() else {
            return Err(Error::internal("a window aggregate without window"));
        };
        let mut input = input;
        if !window.by_proctime {
            let rule = LateRule::WindowsOver { window: window.spec, lateness: emit.lateness };
            let name = "GroupWindowAggregate";
            input = self.without_late_rows(input, &key_columns, window.time_column, rule, name)?;
        }
        let output_schema: SchemaRef = Arc::new(aggregate.schema.as_arrow().clone());
        let output: Vec<WindowOutput> = groups
            .iter()
            .map(|(group, _)| match group {
                Grouping::Key(i) => WindowOutput::Key(*i),
                Grouping::Start => WindowOutput::Start,
                Grouping::End => WindowOutput::End,
                Grouping::Time => WindowOutput::Time,
            })
            .chain((0..aggregate.aggr_expr.len()).map(WindowOutput::Aggregate))
            .collect();
        let time: BTreeSet<usize> =
            output.iter().position(|o| *o == WindowOutput::Time).into_iter().collect();
        let schema = input.physical_df_schema()?;
        let retracts = !input.changelog.is_append_only();
        let config = EmittingWindowConfig {
            aggregate: WindowAggregateConfig {
                input_schema: input.physical.clone(),
                output_schema: output_schema.clone(),
                output,
                window: window.spec,
                time_column: window.time_column,
                keys: column_exprs(&input.physical, &key_columns),
                aggregates: self.calls(&aggregate.aggr_expr, &schema, &input.physical)?,
                phase: WindowPhase::Single,
                input_retracts: retracts,
                by_proctime: window.by_proctime,
            },
            emit,
            emit_update_before: true,
            bundle_rows: self.options.bundle_rows,
        };
        EmittingWindowOperator::new(config.clone())?;
        let ms = |delay: Option<i64>| delay.map_or("no".to_owned(), |d| format!("{d} ms"));
        let detail = format!(
            "{}, window=[{}], emit=[early delay {}, late delay {}, lateness {} ms]",
            describe(&aggregate.group_expr, &aggregate.aggr_expr),
            window.text,
            ms(emit.early),
            ms(emit.late),
            emit.lateness
        );
        let factory: OperatorFactory = Arc::new(move |subtask| {
            let config =
                EmittingWindowConfig { emit_update_before: subtask.emit_update_before, ..config.clone() };
            Ok(Box::new(EmittingWindowOperator::new(config)?))
        });
        let mode = if retracts { ChangelogMode::ALL } else { ChangelogMode::UPDATES };
        let node =
            self.add_operator("GroupWindowAggregate", detail, &input, mode, Some(key_columns), factory);
        let (rowtime, proctime) =
            if window.by_proctime { (BTreeSet::new(), time) } else { (time, BTreeSet::new()) };
        let plain = Relation::plain(node, aggregate.schema.clone(), output_schema, mode, rowtime);
        Ok(plain.with_proctime(proctime).with_keys(vec![(0..groups.len()).collect()]))
    }
}
