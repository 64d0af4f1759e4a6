//! STATE_TTL hints: how long the state of a table's rows is kept.
//!
//! A hint names a table, view or alias. The planner of streams asks for the name of what an operator reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;

use crate::error::{Error, Result};
use crate::sql::ast::HintedTable;

/// Times by table name; shared between the planning of a statement and of its streams.
#[derive(Debug, Clone, Default)]
pub struct StateTtls(Arc<Mutex<BTreeMap<String, i64>>>);

impl StateTtls {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, i64>> {
        // A map is never left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the hints of a query, of which the last one for a table wins.
    ///
    /// # Errors
    /// Validation for a name that is no table of the query.
    pub fn add(&self, hinted: &[HintedTable], plan: &LogicalPlan) -> Result<()> {
        if hinted.is_empty() {
            return Ok(());
        }
        let mut names = BTreeSet::new();
        plan.apply_with_subqueries(|node| {
            names.extend(name_of(node).map(str::to_owned));
            Ok(TreeNodeRecursion::Continue)
        })?;
        for hint in hinted {
            if !names.contains(&hint.table) {
                return Err(Error::validation(format!(
                    "The options of following hints cannot match the name of input tables or views: `{}` in `{}`",
                    hint.table, hint.hint
                ))
                .at(hint.location)
                .hint("name a table by its alias if it has one"));
            }
            if let Some(millis) = hint.state_ttl_ms {
                self.lock().insert(hint.table.clone(), millis);
            }
        }
        Ok(())
    }

    /// The hint for what `plan` reads: `None` without one, `Some(None)` to keep state for ever.
    pub fn of(&self, plan: &LogicalPlan) -> Option<Option<i64>> {
        let known = self.lock();
        if known.is_empty() {
            return None;
        }
        let mut plan = plan;
        loop {
            if let Some(millis) = name_of(plan).and_then(|name| known.get(name)) {
                return Some(Some(*millis).filter(|m| *m > 0));
            }
            // Beyond anything else it is another relation.
            plan = match plan {
                LogicalPlan::SubqueryAlias(alias) => &alias.input,
                LogicalPlan::Projection(projection) => &projection.input,
                LogicalPlan::Filter(filter) => &filter.input,
                LogicalPlan::Extension(node) => match node.node.inputs().as_slice() {
                    [input] => *input,
                    _ => return None,
                },
                _ => return None,
            };
        }
    }
}

fn name_of(plan: &LogicalPlan) -> Option<&str> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => Some(alias.alias.table()),
        LogicalPlan::TableScan(scan) => Some(scan.table_name.table()),
        _ => None,
    }
}
