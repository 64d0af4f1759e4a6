//! Lowering of MATCH_RECOGNIZE.
//!
//! ```text
//!  rows ══ partition ══► Match: by row time, then by further columns
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::{Expr, UserDefinedLogicalNodeCore};

use super::{Relation, StreamPlanner};
use crate::error::{Error, Result};
use crate::operators::match_recognize::MatchRecognizeOperator;
use crate::operators::top_n::SortColumn;
use crate::plan::match_recognize::{MatchColumns, match_config, row_times};
use crate::plan::nodes::match_recognize::MatchRecognizeNode;
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
        if !input.rowtime.contains(time) {
            return Err(Error::validation(format!(
                "You must specify either rowtime or proctime for order by as the first one, and {} is no row time here",
                first.expr
            ))
            .hint("declare WATERMARK FOR it in CREATE TABLE, and do not compute with it before"));
        }
        let then = then.iter().zip(others).map(|(column, sort)| SortColumn {
            column: *column,
            options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
        });
        let columns = MatchColumns {
            input: input.physical.clone(),
            partition: partition.to_vec(),
            time: *time,
            then: then.collect(),
        };
        let config = match_config(node, &input.physical_df_schema()?, columns, &self.options.props)?;
        // Fails here what would fail when the job starts.
        MatchRecognizeOperator::new(config.clone())?;
        let physical: SchemaRef = Arc::clone(&config.output.schema);
        let rowtime: BTreeSet<usize> =
            row_times(node).iter().enumerate().filter(|(_, is)| **is).map(|(i, _)| i).collect();
        let partition = partition.to_vec();
        let factory: OperatorFactory =
            Arc::new(move |_| Ok(Box::new(MatchRecognizeOperator::new(config.clone())?)));
        let changelog = ChangelogMode::APPEND_ONLY;
        let added = self.add_operator("Match", node.describe(), &input, changelog, Some(partition), factory);
        Ok(Relation::plain(added, node.schema().clone(), physical, changelog, rowtime))
    }
}
