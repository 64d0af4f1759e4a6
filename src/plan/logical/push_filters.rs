//! DataFusion's `push_down_filter`, without the conditions that it pushes too far.
//!
//! ```text
//!  Filter: RAND() < 0.5 AND c > 1 AND g = 2          Filter: RAND() < 0.5 AND c > 1
//!    Aggregate: GROUP BY g, COUNT(*) AS c      ─►      Aggregate: GROUP BY g, COUNT(*) AS c
//!      t                                                 Filter: g = 2
//!                                                          t
//! ```
//!
//! The rule looks whether a node can do without the columns of a condition, and a condition without columns has none: it goes
//! through every node. Below an aggregate over all rows it would take the rows and leave the count of none, where there is to
//! be no row; below the watermark of a table it would come between a source and its time. And what is not the same at each
//! call is asked once for each row that the condition stands over, not for the rows that these are made of.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::utils::{conjunction, split_conjunction, split_conjunction_owned};
use datafusion::logical_expr::{Expr, Filter, LogicalPlan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

/// `push_down_filter` as given, for conditions on columns.
#[derive(Debug)]
pub struct PushFilters(pub Arc<dyn OptimizerRule + Send + Sync>);

impl OptimizerRule for PushFilters {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.0.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let LogicalPlan::Filter(filter) = &plan else { return self.0.rewrite(plan, config) };
        if let LogicalPlan::Filter(below) = filter.input.as_ref() {
            // The rule would make one of both and go on by itself, past what is looked at here.
            let both = split_conjunction_owned(filter.predicate.clone())
                .into_iter()
                .chain(split_conjunction_owned(below.predicate.clone()));
            let Some(both) = conjunction(both) else { return Ok(Transformed::no(plan)) };
            let one = LogicalPlan::Filter(Filter::try_new(both, Arc::clone(&below.input))?);
            return Ok(Transformed::yes(self.rewrite(one, config)?.data));
        }
        if !makes_rows(&filter.input) || !split_conjunction(&filter.predicate).into_iter().any(stays) {
            return self.0.rewrite(plan, config);
        }
        let (stay, go): (Vec<_>, Vec<_>) =
            split_conjunction_owned(filter.predicate.clone()).into_iter().partition(stays);
        let (Some(stay), Some(go)) = (conjunction(stay), conjunction(go)) else {
            return Ok(Transformed::no(plan));
        };
        let below = LogicalPlan::Filter(Filter::try_new(go, filter.input.clone())?);
        self.0
            .rewrite(below, config)?
            .map_data(|below| Ok(LogicalPlan::Filter(Filter::try_new(stay, Arc::new(below))?)))
    }
}

/// Nodes whose rows are others than those of their inputs.
fn makes_rows(plan: &LogicalPlan) -> bool {
    matches!(
        plan,
        LogicalPlan::Aggregate(_)
            | LogicalPlan::Window(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Unnest(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Extension(_)
    )
}

fn stays(condition: &Expr) -> bool {
    condition.is_volatile() || condition.column_refs().is_empty()
}
