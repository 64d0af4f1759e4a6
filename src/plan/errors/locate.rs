//! The place of an error that has none: the smallest expression without which it is not there.
//!
//! Expressions of the query are replaced by NULL, one at a time from the outside in, and planned again. Where that changes
//! what is wrong, the cause is inside. Done for queries that fail alone.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Spanned, Value, VisitMut, VisitorMut};

use crate::error::Location;
use crate::plan::planner::location_of;

/// How often a query is planned again.
const ATTEMPTS: usize = 200;

/// The place of what `attempt` fails with; it gives the message for a query, `None` if there is nothing wrong with it.
pub fn locate(
    query: &Query,
    message: &str,
    mut attempt: impl FnMut(Query) -> Option<String>,
) -> Option<Location> {
    let mut nodes = Collector::default();
    let _ = query.clone().visit(&mut nodes);
    let mut left = ATTEMPTS;
    let mut culprit: Option<usize> = None;
    loop {
        let mut inside = None;
        for index in nodes.of(culprit) {
            left = left.checked_sub(1)?;
            let mut changed = query.clone();
            let _ = changed.visit(&mut Replacer { index, at: 0 });
            if attempt(changed).is_none_or(|other| other != message) {
                inside = Some(index);
                break;
            }
        }
        match inside {
            Some(index) => culprit = Some(index),
            None => break,
        }
    }
    culprit.and_then(|index| nodes.place(index)).filter(|at| at.line > 0)
}

/// The expressions of a query in the order of their visit.
#[derive(Default)]
struct Collector {
    /// Place and parent of each.
    nodes: Vec<(Location, Option<usize>)>,
    open: Vec<usize>,
}

impl Collector {
    /// The expressions right inside of one, or of the query.
    fn of(&self, parent: Option<usize>) -> Vec<usize> {
        (0..self.nodes.len()).filter(|i| self.nodes.get(*i).is_some_and(|(_, p)| *p == parent)).collect()
    }

    fn place(&self, index: usize) -> Option<Location> {
        self.nodes.get(index).map(|(at, _)| *at)
    }
}

impl VisitorMut for Collector {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let parent = self.open.last().copied();
        self.open.push(self.nodes.len());
        self.nodes.push((location_of(expr.span()), parent));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<()> {
        self.open.pop();
        ControlFlow::Continue(())
    }
}

/// Makes a NULL of one expression.
struct Replacer {
    index: usize,
    at: usize,
}

impl VisitorMut for Replacer {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        self.at += 1;
        if self.at - 1 == self.index {
            *expr = Expr::Value(Value::Null.into());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
