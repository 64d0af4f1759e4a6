//! Lowering of TO_CHANGELOG and FROM_CHANGELOG: chained behind their input.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::logical_expr::UserDefinedLogicalNodeCore;

use crate::error::{Error, Result};
use crate::operators::changelog_functions::{FromChangelogOperator, ToChangelogOperator};
use crate::plan::nodes::changelog::{ChangelogFunction, ChangelogNode};
use crate::plan::stream::{Relation, StreamPlanner};
use crate::runtime::graph::{ChangelogMode, OperatorFactory, UpdateBefore};
use crate::stream::RowKind;

impl StreamPlanner {
    pub(super) fn lower_changelog(&mut self, node: &ChangelogNode) -> Result<Relation> {
        let mut input = self.lower(&node.input)?;
        input.schema = node.input.schema().clone();
        let input = self.materialize(input)?;
        let input = self.trim(input)?;
        let schema: SchemaRef = Arc::new(node.schema().as_arrow().clone());
        let physical = schema.clone();
        let place = |c: usize| match node.op_column() {
            None => Some(c + 1),
            Some(op) if c == op => None,
            Some(op) => Some(c - usize::from(c > op)),
        };
        let rowtime: BTreeSet<usize> = input.rowtime.iter().filter_map(|c| place(*c)).collect();
        let proctime = input.mapped_proctime(place);
        let (name, factory, changelog): (_, OperatorFactory, _) = match &node.function {
            ChangelogFunction::To { codes, .. } => {
                let codes = codes.clone();
                let factory: OperatorFactory =
                    Arc::new(move |_| Ok(Box::new(ToChangelogOperator::new(codes.clone(), schema.clone()))));
                ("ToChangelog", factory, ChangelogMode::APPEND_ONLY)
            }
            ChangelogFunction::From { codes, .. } => {
                if !input.changelog.is_append_only() {
                    return Err(Error::validation(format!(
                        "FROM_CHANGELOG doesn't support consuming update and delete changes which is produced by node {}",
                        self.graph.nodes[input.node].name
                    ))
                    .hint("it reads rows that are only added; TO_CHANGELOG makes such rows of changes"));
                }
                let op = node.op_column().ok_or_else(|| Error::internal("FROM_CHANGELOG lost its column"))?;
                let has = |wanted: RowKind| codes.iter().any(|(_, kind)| *kind == wanted);
                // Halves of updates that came apart become inserts and deletes.
                let updates = has(RowKind::UpdateAfter) || has(RowKind::UpdateBefore);
                let changelog = if updates {
                    ChangelogMode::ALL
                } else if has(RowKind::Delete) {
                    ChangelogMode::DELETES
                } else {
                    ChangelogMode::APPEND_ONLY
                };
                let codes = codes.clone();
                let factory: OperatorFactory = Arc::new(move |_| {
                    Ok(Box::new(FromChangelogOperator::new(op, codes.clone(), schema.clone())))
                });
                ("FromChangelog", factory, changelog)
            }
        };
        let added = self.add_operator(name, node.describe(), &input, changelog, None, factory);
        // What an update replaces is a row of its own.
        self.graph.nodes[added].inputs.iter_mut().for_each(|e| e.update_before = UpdateBefore::Required);
        let relation = Relation::plain(added, node.schema().clone(), physical, changelog, rowtime);
        Ok(relation.with_proctime(proctime))
    }
}
