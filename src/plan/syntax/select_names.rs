//! Names of result columns, as Flink gives them: `EXPR$0`, `EXPR$1`, … for what has no name, `a`, `a0`, `a1`, … for
//! repeated ones. Done on the tree, since DataFusion refuses repeated names.
//!
//! DataFusion calls the columns of VALUES `column1`, …, and takes a sub-query that is nothing but VALUES wrongly. So
//!
//! ```text
//!  VALUES … UNION …, WITH t AS (VALUES …), x IN (VALUES …)  ─►  SELECT * FROM (VALUES …) AS t(`EXPR$0`, …)
//!  VALUES … as the whole query                              as it is: the planner names them
//! ```

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Query, SelectItem, SetExpr, TableAlias, TableAliasColumnDef, TableFactor, TableWithJoins,
    Values, VisitMut, VisitorMut, WildcardAdditionalOptions,
};

use super::set_operation::query_of;
use crate::sql::select_from;

/// Names the columns of every SELECT in `query`.
pub fn name_columns(query: &mut Query) {
    let plain = query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none();
    let _ = query.visit(&mut Namer { values: 0, named: plain });
}

struct Namer {
    /// Tables of VALUES that have no name so far.
    values: usize,
    /// Whether something else names the columns of the next query, if that is VALUES.
    named: bool,
}

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let named = std::mem::take(&mut self.named);
        self.name_set(&mut query.body, !named);
        ControlFlow::Continue(())
    }

    /// `(VALUES …)` and `(VALUES …) AS t` get names for their columns.
    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { subquery, alias, .. } = factor
            && let SetExpr::Values(values) = subquery.body.as_ref()
            && subquery.order_by.is_none()
            && let Some(row) = values.rows.first()
        {
            self.named = true;
            let alias = alias.get_or_insert_with(|| self.table());
            if alias.columns.is_empty() {
                alias.columns = columns(row.len());
            }
        }
        ControlFlow::Continue(())
    }
}

impl Namer {
    /// A name that no other table has.
    fn table(&mut self) -> TableAlias {
        self.values += 1;
        let name = Ident::with_quote('`', format!("__values_{}", self.values));
        TableAlias { explicit: true, name, columns: Vec::new(), at: None }
    }

    /// `values`: whether VALUES gets names, too.
    fn name_set(&mut self, body: &mut SetExpr, values: bool) {
        match body {
            SetExpr::Select(select) => name_items(&mut select.projection),
            SetExpr::SetOperation { left, right, .. } => {
                self.name_set(left, true);
                self.name_set(right, true);
            }
            SetExpr::Values(rows) if values && !rows.rows.is_empty() => {
                let width = rows.rows.first().map_or(0, |row| row.len());
                let nothing = Values { explicit_row: false, value_keyword: false, rows: Vec::new() };
                let rows = SetExpr::Values(std::mem::replace(rows, nothing));
                let alias = Some(TableAlias { columns: columns(width), ..self.table() });
                let subquery = Box::new(query_of(rows));
                let relation = TableFactor::Derived { lateral: false, subquery, alias, sample: None };
                *body = SetExpr::Select(Box::new(select_from(
                    vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())],
                    TableWithJoins { relation, joins: Vec::new() },
                )));
            }
            // Queries in parentheses are visited by themselves; the rest has no select list.
            _ => {}
        }
    }
}

/// `EXPR$0`, `EXPR$1`, …
fn columns(width: usize) -> Vec<TableAliasColumnDef> {
    (0..width)
        .map(|i| TableAliasColumnDef { name: Ident::with_quote('`', format!("EXPR${i}")), data_type: None })
        .collect()
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
