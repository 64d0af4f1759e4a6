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

/// As many expressions are tried one after the other; of more, halves are.
const FEW: usize = 8;

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
        let parts = nodes.of(culprit);
        // Whether the cause is in one of some parts; `None` if it has been asked too often.
        let mut within = |parts: &[usize]| {
            left = left.checked_sub(1)?;
            let mut changed = query.clone();
            let _ = changed.visit(&mut Replacer { parts, nodes: &nodes, at: 0 });
            Some(attempt(changed).is_none_or(|other| other != message))
        };
        let mut parts = parts.as_slice();
        while parts.len() > FEW {
            let (first, second) = parts.split_at(parts.len() / 2);
            parts = if within(first)? { first } else { second };
        }
        let mut inside = None;
        for part in parts {
            if within(std::slice::from_ref(part))? {
                inside = Some(*part);
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
    nodes: Vec<Node>,
    open: Vec<usize>,
}

struct Node {
    place: Location,
    parent: Option<usize>,
    /// The number of the first expression that is not inside.
    end: usize,
}

impl Collector {
    /// The expressions right inside of one, or of the query.
    fn of(&self, parent: Option<usize>) -> Vec<usize> {
        (0..self.nodes.len()).filter(|i| self.nodes.get(*i).is_some_and(|n| n.parent == parent)).collect()
    }

    fn place(&self, index: usize) -> Option<Location> {
        self.nodes.get(index).map(|n| n.place)
    }
}

impl VisitorMut for Collector {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let parent = self.open.last().copied();
        self.open.push(self.nodes.len());
        self.nodes.push(Node { place: location_of(expr.span()), parent, end: 0 });
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, _: &mut Expr) -> ControlFlow<()> {
        let end = self.nodes.len();
        if let Some(node) = self.open.pop().and_then(|i| self.nodes.get_mut(i)) {
            node.end = end;
        }
        ControlFlow::Continue(())
    }
}

/// Makes NULLs of some expressions, none of them inside of another.
struct Replacer<'a> {
    /// In the order of their visit.
    parts: &'a [usize],
    nodes: &'a Collector,
    at: usize,
}

impl VisitorMut for Replacer<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Some((part, others)) = self.parts.split_first() else { return ControlFlow::Break(()) };
        if self.at == *part {
            *expr = Expr::Value(Value::Null.into());
            self.at = self.nodes.nodes.get(*part).map_or(self.at, |n| n.end);
            self.parts = others;
        } else {
            self.at += 1;
        }
        ControlFlow::Continue(())
    }
}
