//! What cannot stand in some clauses, though it is an expression.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, UnaryOperator, Value, Visit, Visitor};

use crate::error::{Error, Location, Result};
use crate::sql::query::location_of;

/// Refuses window functions; sub-queries may have theirs.
pub(super) fn no_window(e: &Expr, clause: &str) -> Result<()> {
    match e.visit(&mut Windows { depth: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(at) => {
            Err(Error::validation(format!("a window function cannot stand in {clause}"))
                .hint("compute it in a sub-query and use its column, or write QUALIFY")
                .at(at))
        }
    }
}

struct Windows {
    depth: usize,
}

impl Visitor for Windows {
    type Break = Location;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Location> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Location> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, e: &Expr) -> ControlFlow<Location> {
        match e {
            Expr::Function(f) if self.depth == 0 && f.over.is_some() => {
                ControlFlow::Break(location_of(&f.name))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// LIMIT and OFFSET take a number of rows.
pub(super) fn row_count(e: &Expr, clause: &str) -> Result<()> {
    let number = |e: &Expr| matches!(e, Expr::Value(v) if matches!(&v.value, Value::Number(n, _) if n.parse::<u64>().is_ok()));
    if number(e) {
        return Ok(());
    }
    let (what, inner) = match e {
        Expr::UnaryOp { op: UnaryOperator::Minus, expr } if number(expr) => ("a negative number", &**expr),
        other => ("this", other),
    };
    Err(Error::syntax(format!("{clause} takes a whole number of rows, not {what}")).at(location_of(inner)))
}
