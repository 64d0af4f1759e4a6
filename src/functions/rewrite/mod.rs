//! Flink's reading of the syntax, before DataFusion plans it.
//!
//! ```text
//!  sqlparser tree ─► literals typed (literal) ─► special forms to calls (calls) ─► LIKE patterns (patterns) ─► SqlToRel
//! ```
//!
//! Children are rewritten before their parents. A typed integer literal is `CAST(1 AS INT)`; parents that need the
//! bare number (LIMIT, ordinals of ORDER BY, subscripts, frames) take it out again.

mod calls;
mod interval;
mod literal;
mod patterns;

pub use literal::fraction_digits;

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, LimitClause, NamedWindowExpr, OrderByKind, Query, SetExpr, VisitMut, VisitorMut,
    WindowFrame, WindowFrameBound,
};

use crate::error::{Error, Result};

/// Rewrites a query in place.
///
/// # Errors
/// Literals out of range, malformed intervals, GROUP BY ordinals, LIKE patterns with a wrong escape.
pub fn rewrite_query_ast(query: &mut Query) -> Result<()> {
    run(|r| query.visit(r))
}

/// Rewrites a single expression in place: computed columns, watermarks, defaults.
///
/// # Errors
/// As [`rewrite_query_ast`].
pub fn rewrite_expr_ast(expr: &mut Expr) -> Result<()> {
    run(|r| expr.visit(r))
}

fn run(visit: impl FnOnce(&mut Rewriter) -> ControlFlow<Error>) -> Result<()> {
    match visit(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        spread_group_keys(&mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        literal::fold_sign(expr);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        flow(rewrite_node(expr))
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        flow(rewrite_query_clauses(query))
    }
}

fn flow(r: Result<()>) -> ControlFlow<Error> {
    match r {
        Ok(()) => ControlFlow::Continue(()),
        Err(e) => ControlFlow::Break(e),
    }
}

fn rewrite_node(expr: &mut Expr) -> Result<()> {
    match expr {
        Expr::Value(_) | Expr::TypedString(_) => literal::rewrite(expr),
        Expr::Interval(_) => interval::rewrite(expr),
        Expr::Like { .. } | Expr::SimilarTo { .. } => patterns::rewrite(expr),
        _ => {
            settle_filter(expr);
            calls::rewrite(expr)
        }
    }
}

/// `FILTER (WHERE c)` takes no row of which `c` is NULL; DataFusion's `COUNT(*)` looks at the bits under the NULLs.
fn settle_filter(expr: &mut Expr) {
    if let Expr::Function(call) = expr
        && let Some(filter) = call.filter.take()
    {
        call.filter = Some(match *filter {
            Expr::IsTrue(_) => filter,
            other => Box::new(Expr::IsTrue(Box::new(Expr::Nested(Box::new(other))))),
        });
    }
}

fn rewrite_query_clauses(query: &mut Query) -> Result<()> {
    rewrite_body(&mut query.body)?;
    if let Some(order_by) = &mut query.order_by
        && let OrderByKind::Expressions(exprs) = &mut order_by.kind
    {
        for e in exprs {
            literal::unwrap(&mut e.expr);
        }
    }
    match &mut query.limit_clause {
        Some(LimitClause::LimitOffset { limit, offset, .. }) => {
            limit.iter_mut().for_each(literal::unwrap);
            if let Some(o) = offset {
                literal::unwrap(&mut o.value);
            }
        }
        Some(LimitClause::OffsetCommaLimit { offset, limit }) => {
            literal::unwrap(offset);
            literal::unwrap(limit);
        }
        None => {}
    }
    if let Some(q) = query.fetch.as_mut().and_then(|f| f.quantity.as_mut()) {
        literal::unwrap(q);
    }
    Ok(())
}

fn rewrite_body(body: &mut SetExpr) -> Result<()> {
    match body {
        SetExpr::Select(select) => {
            if let GroupByExpr::Expressions(exprs, _) = &select.group_by {
                for e in exprs {
                    if let Some(n) = literal::typed_integer(e) {
                        return Err(Error::validation(format!(
                            "GROUP BY {n}: ordinals are not supported here"
                        ))
                        .hint("repeat the expression of the select list"));
                    }
                }
            }
            for w in &mut select.named_window {
                if let NamedWindowExpr::WindowSpec(spec) = &mut w.1
                    && let Some(frame) = &mut spec.window_frame
                {
                    unwrap_frame(frame);
                }
            }
            Ok(())
        }
        SetExpr::SetOperation { left, right, .. } => {
            rewrite_body(left)?;
            rewrite_body(right)
        }
        _ => Ok(()),
    }
}

/// `ROLLUP (a, (b, c))` and `CUBE (a, (b, c))` as the grouping sets that they mean: the planner takes single keys only.
fn spell_out(key: &mut Expr) {
    let composite = |parts: &[Vec<Expr>]| parts.iter().any(|p| p.len() > 1);
    let sets: Vec<Vec<Expr>> = match key {
        Expr::Rollup(parts) if composite(parts) => {
            (0..=parts.len()).rev().map(|n| parts.iter().take(n).flatten().cloned().collect()).collect()
        }
        // Larger ones than any planner takes are left to it.
        Expr::Cube(parts) if composite(parts) && parts.len() <= 16 => (0..1_u32 << parts.len())
            .map(|left_out| {
                let has = |i: usize| left_out >> (parts.len() - 1 - i) & 1 == 0;
                let kept = parts.iter().enumerate().filter(|(i, _)| has(*i));
                kept.flat_map(|(_, part)| part.iter().cloned()).collect()
            })
            .collect(),
        _ => return,
    };
    *key = Expr::GroupingSets(sets);
}

/// `GROUP BY (a, b)` means the keys a and b, `GROUP BY ()` one group of all rows. Seen before tuples become rows.
fn spread_group_keys(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => {
            let GroupByExpr::Expressions(keys, _) = &mut select.group_by else { return };
            keys.iter_mut().for_each(spell_out);
            if !keys.iter().any(|k| matches!(k, Expr::Tuple(_))) {
                return;
            }
            for key in std::mem::take(keys) {
                match key {
                    Expr::Tuple(parts) => keys.extend(parts),
                    other => keys.push(other),
                }
            }
            if keys.is_empty() {
                keys.push(Expr::GroupingSets(vec![Vec::new()]));
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            spread_group_keys(left);
            spread_group_keys(right);
        }
        _ => {}
    }
}

fn unwrap_frame(frame: &mut WindowFrame) {
    for bound in [Some(&mut frame.start_bound), frame.end_bound.as_mut()].into_iter().flatten() {
        if let WindowFrameBound::Preceding(Some(e)) | WindowFrameBound::Following(Some(e)) = bound {
            literal::unwrap(e);
        }
    }
}
