//! Names of result columns, as Flink gives them: `EXPR$0`, `EXPR$1`, … for what has no name, `a`, `a0`, `a1`, … for
//! repeated ones. Done on the tree, since DataFusion refuses repeated names.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, VisitMut,
    VisitorMut,
};

/// Names the columns of every SELECT in `query`.
pub fn name_columns(query: &mut Query) {
    let _ = query.visit(&mut Namer::default());
}

#[derive(Default)]
struct Namer {
    /// Tables of VALUES that have no name so far.
    values: usize,
}

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        name_set(&mut query.body);
        ControlFlow::Continue(())
    }

    /// `(VALUES …)` and `(VALUES …) AS t` get names for their columns.
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { subquery, alias, .. } = factor
            && let SetExpr::Values(values) = subquery.body.as_ref()
            && subquery.order_by.is_none()
            && let Some(row) = values.rows.first()
        {
            let alias = alias.get_or_insert_with(|| {
                self.values += 1;
                let name = Ident::with_quote('`', format!("__values_{}", self.values));
                TableAlias { explicit: true, name, columns: Vec::new(), at: None }
            });
            if alias.columns.is_empty() {
                alias.columns = (0..row.len())
                    .map(|i| TableAliasColumnDef {
                        name: Ident::with_quote('`', format!("EXPR${i}")),
                        data_type: None,
                    })
                    .collect();
            }
        }
        ControlFlow::Continue(())
    }
}

fn name_set(body: &mut SetExpr) {
    match body {
        SetExpr::Select(select) => name_items(&mut select.projection),
        SetExpr::SetOperation { left, right, .. } => {
            name_set(left);
            name_set(right);
        }
        // Queries in parentheses are visited by themselves; the rest has no select list.
        _ => {}
    }
}

fn name_items(items: &mut [SelectItem]) {
    let mut taken: HashSet<String> = items
        .iter()
        .filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
            _ => None,
        })
        .collect();
    for (i, item) in items.iter_mut().enumerate() {
        let SelectItem::UnnamedExpr(expr) = item else { continue };
        let alias = match expr {
            Expr::Identifier(column) => {
                (!taken.insert(column.value.clone())).then(|| unused(&column.value, &mut taken))
            }
            // `t.a` and, of a row, `bid.auction` are both named by their last part.
            Expr::CompoundIdentifier(parts) => parts.last().map(|last| {
                if taken.insert(last.value.clone()) {
                    last.value.clone()
                } else {
                    unused(&last.value, &mut taken)
                }
            }),
            _ => Some(format!("EXPR${i}")),
        };
        if let Some(alias) = alias {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('`', alias) };
        }
    }
}

/// A name with a number behind it that is free.
pub(super) fn unused(name: &str, taken: &mut HashSet<String>) -> String {
    let mut n = 0;
    loop {
        let candidate = format!("{name}{n}");
        if taken.insert(candidate.clone()) {
            return candidate;
        }
        n += 1;
    }
}
