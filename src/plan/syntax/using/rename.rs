//! References to columns of one side of a USING join, by their hidden names.

use std::ops::ControlFlow;

use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, Select, SetExpr, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use super::{FromColumn, HIDDEN};

/// Replaces `t.k` by the hidden name of the column, also inside of sub-queries that know no `t` of their own; false if there
/// was none.
pub(super) fn rename(node: &mut impl VisitMut, columns: &[FromColumn]) -> bool {
    let mut renamer = Renamer { columns, inner: Vec::new(), changed: false };
    let _ = node.visit(&mut renamer);
    renamer.changed
}

/// The parts of a qualifier.
pub(super) fn qualifier_parts(qualifier: &TableReference) -> Vec<Ident> {
    let parts = [qualifier.catalog(), qualifier.schema(), Some(qualifier.table())];
    parts.into_iter().flatten().map(|part| Ident::with_quote('`', part)).collect()
}

/// Whether the last parts of a qualifier are `parts`.
pub(super) fn names(qualifier: &TableReference, parts: &[&str]) -> bool {
    let own = [Some(qualifier.table()), qualifier.schema(), qualifier.catalog()];
    !parts.is_empty()
        && parts.len() <= own.len()
        && parts.iter().rev().zip(own).all(|(part, own)| own == Some(*part))
}

struct Renamer<'a> {
    columns: &'a [FromColumn],
    /// Names of the tables of the sub-queries around.
    inner: Vec<Vec<String>>,
    changed: bool,
}

impl VisitorMut for Renamer<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut tables = Vec::new();
        tables_of(&query.body, &mut tables);
        self.inner.push(tables);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.inner.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(parts) = expr {
            let values: Vec<&str> = parts.iter().map(|p| p.value.as_str()).collect();
            // `t.k`, or a field of the row `t.k`.
            let at = (1..values.len()).find(|at| {
                let (qualifier, name) = values.split_at(*at);
                self.columns.iter().any(|c| {
                    c.name.strip_prefix(HIDDEN) == name.first().copied()
                        && c.qualifier.as_ref().is_some_and(|q| names(q, qualifier))
                })
            });
            let shadowed = |at: usize| {
                values.get(at - 1).is_some_and(|t| self.inner.iter().flatten().any(|inner| inner == t))
            };
            if let Some(at) = at.filter(|at| !shadowed(*at))
                && let Some(part) = parts.get_mut(at)
            {
                part.value = format!("{HIDDEN}{}", part.value);
                part.quote_style = Some('`');
                self.changed = true;
            }
        }
        ControlFlow::Continue(())
    }
}

/// The names by which a query knows its tables.
fn tables_of(body: &SetExpr, out: &mut Vec<String>) {
    match body {
        SetExpr::Select(select) => of_select(select, out),
        SetExpr::Query(query) => tables_of(&query.body, out),
        SetExpr::SetOperation { left, right, .. } => {
            tables_of(left, out);
            tables_of(right, out);
        }
        _ => {}
    }
}

fn of_select(select: &Select, out: &mut Vec<String>) {
    select.from.iter().for_each(|t| of_joins(t, out));
}

fn of_joins(t: &TableWithJoins, out: &mut Vec<String>) {
    for factor in std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)) {
        match factor {
            TableFactor::Table { name, alias: None, .. } => {
                out.extend(name.0.last().and_then(|p| p.as_ident()).map(|i| i.value.clone()));
            }
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::TableFunction { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. } => out.push(alias.name.value.clone()),
            TableFactor::NestedJoin { table_with_joins, alias } => {
                out.extend(alias.as_ref().map(|a| a.name.value.clone()));
                of_joins(table_with_joins, out);
            }
            _ => {}
        }
    }
}
