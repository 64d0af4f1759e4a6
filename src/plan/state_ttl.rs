//! Hints after SELECT that name tables: STATE_TTL, how long the state of a table's rows is kept; LOOKUP, how it is looked up.
//!
//! A hint names a table, view or alias. The planner of streams asks for the name of what an operator reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::LogicalPlan;

use crate::error::{Error, Result};
use crate::plan::nodes::lookup_join::lookup_join_node;
use crate::sql::ast::{HintedTable, LookupHint};

/// Times by table name; shared between the planning of a statement and of its streams.
#[derive(Debug, Clone, Default)]
pub struct StateTtls(Arc<Mutex<Hints>>);

#[derive(Debug, Default)]
struct Hints {
    /// Milliseconds.
    ttls: BTreeMap<String, i64>,
    lookups: BTreeMap<String, LookupHint>,
}

impl StateTtls {
    fn lock(&self) -> MutexGuard<'_, Hints> {
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
        let (mut names, mut looked_up) = (BTreeSet::new(), BTreeSet::new());
        plan.apply_with_subqueries(|node| {
            names.extend(name_of(node).map(str::to_owned));
            if let Some(join) = lookup_join_node(node) {
                join.right.apply(|node| {
                    looked_up.extend(name_of(node).map(str::to_owned));
                    Ok(TreeNodeRecursion::Continue)
                })?;
            }
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
                self.lock().ttls.insert(hint.table.clone(), millis);
            }
            if let Some(lookup) = &hint.lookup {
                if !looked_up.contains(&hint.table) {
                    return Err(Error::validation(format!(
                        "the hint LOOKUP names `{}`, which is not looked up",
                        hint.table
                    ))
                    .at(hint.location)
                    .hint("name the right side of a join FOR SYSTEM_TIME AS OF a processing time"));
                }
                self.lock().lookups.insert(hint.table.clone(), lookup.clone());
            }
        }
        Ok(())
    }

    /// The hint for what `plan` reads: `None` without one, `Some(None)` to keep state for ever.
    pub fn of(&self, plan: &LogicalPlan) -> Option<Option<i64>> {
        let known = self.lock();
        Self::find(plan, &known.ttls).map(|millis| Some(*millis).filter(|m| *m > 0))
    }

    /// The LOOKUP hint for the right side of a lookup join.
    pub fn lookup(&self, plan: &LogicalPlan) -> Option<LookupHint> {
        Self::find(plan, &self.lock().lookups).cloned()
    }

    /// The hint for what `plan` reads.
    fn find<'a, T>(plan: &LogicalPlan, known: &'a BTreeMap<String, T>) -> Option<&'a T> {
        if known.is_empty() {
            return None;
        }
        let mut plan = plan;
        loop {
            if let Some(hint) = name_of(plan).and_then(|name| known.get(name)) {
                return Some(hint);
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
