//! Columns that go along through projections: those that conditions further up read.

use datafusion::common::Column;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::logical_expr::{Expr, LogicalPlan};

use crate::plan::logical::subquery::SubqueryJoiner;
use crate::plan::logical::subquery::pull::{Key, Pulled};

/// Keys and conditions of a sub-query that is pulled apart, over the columns of a plan above it.
pub(super) struct Carried {
    pub(super) keys: Vec<Key>,
    pub(super) residual: Vec<Expr>,
}

impl SubqueryJoiner {
    /// Adds to `exprs`, which are about to be projected from `pulled`, what its keys and conditions need.
    ///
    /// `outputs` are the columns that `exprs` make.
    pub(super) fn carry(
        &mut self,
        pulled: &Pulled,
        exprs: &mut Vec<Expr>,
        outputs: &[Column],
    ) -> DfResult<Carried> {
        let mut moved: Vec<(Column, Column)> = Vec::new();
        let passed: Vec<(Column, Column)> = exprs
            .iter()
            .zip(outputs)
            .filter_map(|(e, to)| Some((column_of(e)?.clone(), to.clone())))
            .collect();
        let mut place = |joiner: &mut Self, column: &Column| -> Column {
            if let Some((_, to)) = moved.iter().chain(&passed).find(|(from, _)| from == column) {
                return to.clone();
            }
            let to = Column::from_name(joiner.name("carried"));
            exprs.push(Expr::Column(column.clone()).alias(&to.name));
            moved.push((column.clone(), to.clone()));
            to
        };
        let keys = pulled
            .keys
            .iter()
            .map(|key| Key { outer: key.outer.clone(), inner: place(self, &key.inner) })
            .collect();
        let mut residual = Vec::new();
        for condition in &pulled.residual {
            let condition = condition.clone().transform(|e| {
                Ok(match e {
                    Expr::Column(c) => Transformed::yes(Expr::Column(place(self, &c))),
                    other => Transformed::no(other),
                })
            })?;
            residual.push(condition.data);
        }
        Ok(Carried { keys, residual })
    }
}

/// The column that an expression passes on, under its own or another name.
fn column_of(expr: &Expr) -> Option<&Column> {
    match expr {
        Expr::Column(column) => Some(column),
        Expr::Alias(alias) => column_of(&alias.expr),
        _ => None,
    }
}

/// The columns of a plan.
pub(in crate::plan) fn columns(plan: &LogicalPlan) -> Vec<Column> {
    plan.schema().columns()
}
