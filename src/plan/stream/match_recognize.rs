//! Lowering of MATCH_RECOGNIZE.
//!
//! ```text
//!  rows ══ partition ══► Match: by row time, then by further columns
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::{Expr, UserDefinedLogicalNodeCore};

use super::{Relation, StreamPlanner};
use crate::error::{Error, Result};
use crate::operators::late_rows::LateRule;
use crate::operators::match_recognize::MatchRecognizeOperator;
use crate::operators::top_n::SortColumn;
use crate::plan::match_recognize::{MatchColumns, match_config, row_times};
use crate::plan::nodes::match_recognize::{MatchRecognizeNode, Navigation, Reference};
use crate::plan::time_attribute::is_proctime_call;
use crate::runtime::graph::{ChangelogMode, OperatorFactory};

impl StreamPlanner {
    /// MATCH_RECOGNIZE.
    pub(super) fn lower_match_recognize(&mut self, node: &MatchRecognizeNode) -> Result<Relation> {
        let mut input = self.lower(&node.input)?;
        input.schema = node.input.schema().clone();
        let input = self.materialize(input)?;
        if !input.changelog.is_append_only() {
            return Err(Error::validation(format!(
                "Match Recognize doesn't support consuming update and delete changes, which {} produces",
                self.graph.nodes[input.node].name
            ))
            .hint("match the rows before they are aggregated, joined or ranked, or aggregate in windows"));
        }
        let mut keys: Vec<Expr> = node.partition.clone();
        keys.extend(node.order.iter().map(|o| o.expr.clone()));
        let (input, columns) = self.with_key_columns(input, &keys)?;
        let (partition, order) = columns.split_at(node.partition.len());
        let (Some((time, then)), Some((first, others))) = (order.split_first(), node.order.split_first())
        else {
            return Err(Error::internal("MATCH_RECOGNIZE without an order"));
        };
        let by_proctime = input.proctime.contains(time);
        if by_proctime && !then.is_empty() {
            return Err(Error::unsupported(
                "MATCH_RECOGNIZE with an order behind the processing time is not supported",
            )
            .hint("rows are matched as they come: leave the other columns out"));
        }
        if by_proctime && uses_row_time(node) {
            return Err(Error::validation("MATCH_ROWTIME() needs rows that are ordered by a row time")
                .hint("MATCH_PROCTIME() is the time of the match here"));
        }
        if !by_proctime && !input.rowtime.contains(time) {
            return Err(Error::validation(format!(
                "You must specify either rowtime or proctime for order by as the first one, and {} is no row time here",
                first.expr
            ))
            .hint("declare WATERMARK FOR it in CREATE TABLE, and do not compute with it before"));
        }
        let input = if by_proctime {
            input
        } else {
            self.without_late_rows(input, partition, *time, LateRule::Passed, "Match")?
        };
        let then = then.iter().zip(others).map(|(column, sort)| SortColumn {
            column: *column,
            options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
        });
        let columns = MatchColumns {
            input: input.physical.clone(),
            partition: partition.to_vec(),
            time: *time,
            then: then.collect(),
            by_proctime,
        };
        let config = match_config(node, &input.physical_df_schema()?, columns, &self.options.props)?;
        // Fails here what would fail when the job starts.
        MatchRecognizeOperator::new(config.clone())?;
        let physical: SchemaRef = Arc::clone(&config.output.schema);
        let times: BTreeSet<usize> =
            row_times(node).iter().enumerate().filter(|(_, is)| **is).map(|(i, _)| i).collect();
        let (rowtime, mut proctime) =
            if by_proctime { (BTreeSet::new(), times) } else { (times, BTreeSet::new()) };
        let of_match = node.output().into_iter().enumerate().filter(|(_, (_, e))| is_proctime_call(e));
        proctime.extend(of_match.map(|(i, _)| i));
        let partition = partition.to_vec();
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(MatchRecognizeOperator::new(config.clone())?)));
        let changelog = ChangelogMode::APPEND_ONLY;
        let added = self.add_operator("Match", node.describe(), &input, changelog, Some(partition), factory);
        let relation = Relation::plain(added, node.schema().clone(), physical, changelog, rowtime);
        Ok(relation.with_proctime(proctime))
    }
}

/// Whether a measure is `MATCH_ROWTIME()`, or computes with it.
fn uses_row_time(node: &MatchRecognizeNode) -> bool {
    let is_row_time = |e: &Expr| {
        Ok(matches!(Reference::of(e), Some((r, _)) if matches!(r.navigation, Navigation::RowTime { .. })))
    };
    node.measures.iter().any(|(_, e)| e.exists(is_row_time).unwrap_or(false))
}
