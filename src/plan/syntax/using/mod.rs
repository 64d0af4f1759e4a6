//! `JOIN … USING` and `NATURAL JOIN`: each common column stands once, before all others.
//!
//! ```text
//!  SELECT *, r.k FROM l FULL JOIN r USING (k)
//!    ─► FROM (l FULL JOIN r USING (k)) AS __using_0                        [`mark`]: one relation, planned by `join`
//!    ─► Projection[COALESCE(l.k, r.k) AS k, l.k AS `__hidden k`, l.a, r.k AS `__hidden k`, r.b] over the join
//!    ─► SELECT k, l.a AS a, r.b AS b, r.`__hidden k` AS k0 FROM …          [`UsingJoins::expand`], planned again
//! ```
//!
//! The same is done where `*` stands beside other columns and a name comes twice, `SELECT *, a`: it becomes `a0`; and where
//! it stands for the fields of a row, `SELECT t.r.*`.
//!
//! What `*` means is known when FROM is planned, and DataFusion takes a select list as it is written: so a query with such
//! a FROM is planned once more, with the columns of `*` in place of it. A column of one side alone (`r.k`) is kept under
//! a hidden name, by which the references to it are replaced.

mod join;
mod rename;

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, TableReference};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use crate::plan::syntax::select_names::unused;
use crate::types::{is_bitmap, is_variant};
use rename::{qualifier_parts, rename};

pub use join::UsingPlanner;

/// Alias of a FROM clause that this module plans, before its number.
const MARK: &str = "__using_";

/// Before the name of a column of one side that stands in USING.
const HIDDEN: &str = "__hidden ";

/// The name of a column as the query knows it.
pub fn shown(name: &str) -> &str {
    name.strip_prefix(HIDDEN).unwrap_or(name)
}

/// A column of a FROM clause.
#[derive(Debug, Clone)]
struct FromColumn {
    qualifier: Option<TableReference>,
    /// In the plan.
    name: String,
    /// In the result of `*`.
    label: String,
    /// Its type.
    ty: DataType,
}

impl FromColumn {
    fn is_hidden(&self) -> bool {
        self.name.starts_with(HIDDEN)
    }

    fn expr(&self) -> Expr {
        let mut parts: Vec<Ident> = self.qualifier.as_ref().map(qualifier_parts).unwrap_or_default();
        parts.push(Ident::with_quote('`', &self.name));
        match parts.len() {
            1 => Expr::Identifier(parts.swap_remove(0)),
            _ => Expr::CompoundIdentifier(parts),
        }
    }

    /// The fields of a row that `parts` name, if they begin with this column.
    fn fields(&self, parts: &[&str]) -> Option<Vec<String>> {
        let at = parts.iter().position(|part| *part == self.name)?;
        let (of, path) = (parts.get(..at)?, parts.get(at + 1..)?);
        if !of.is_empty() && !self.qualifier.as_ref().is_some_and(|q| rename::names(q, of)) {
            return None;
        }
        let mut ty = &self.ty;
        for field in path {
            let DataType::Struct(fields) = ty else { return None };
            ty = fields.iter().find(|f| f.name() == field)?.data_type();
        }
        match ty {
            DataType::Struct(fields) if !is_variant(ty) && !is_bitmap(ty) => {
                Some(fields.iter().map(|f| f.name().clone()).collect())
            }
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Known {
    marks: usize,
    /// Columns of the clauses planned so far, by their number.
    columns: HashMap<usize, Vec<FromColumn>>,
    /// Clauses whose SELECT has been rewritten.
    expanded: HashSet<usize>,
    /// Plans that stand in for relations.
    plans: Vec<LogicalPlan>,
}

/// The FROM clauses with USING or NATURAL of one statement.
#[derive(Debug, Clone, Default)]
pub struct UsingJoins(Arc<Mutex<Known>>);

impl UsingJoins {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn learn(&self, number: usize, schema: &DFSchema) {
        self.known().columns.insert(number, columns(schema));
    }

    /// Makes one relation of every FROM with USING or NATURAL, and with `stars` of every one of which `*` and other columns,
    /// or `t.*`, are selected; false if there is none.
    pub fn mark(&self, query: &mut Query, stars: bool) -> bool {
        let before = self.known().marks;
        let _ = query.visit(&mut Marker { joins: self, stars });
        self.known().marks > before
    }

    /// Replaces `*` and references to hidden columns in queries whose FROM has been planned since; false if nothing changed.
    pub fn expand(&self, query: &mut Query) -> bool {
        let mut expander = Expander { joins: self, changed: false };
        let _ = query.visit(&mut expander);
        expander.changed
    }
}

/// The columns of a schema with the names that `*` gives them: those of all tables, repeated ones numbered.
fn columns(schema: &DFSchema) -> Vec<FromColumn> {
    let mut taken = HashSet::new();
    let mut out = Vec::with_capacity(schema.fields().len());
    for (qualifier, field) in schema.iter() {
        let shown = shown(field.name());
        let common = qualifier.is_some_and(|q| q.table().starts_with(MARK));
        let label = if common || taken.insert(shown.to_owned()) {
            shown.to_owned()
        } else {
            unused(shown, &mut taken)
        };
        let ty = field.data_type().clone();
        out.push(FromColumn { qualifier: qualifier.cloned(), name: field.name().clone(), label, ty });
    }
    out
}

/// Whether one of the joins merges columns.
fn merges(t: &TableWithJoins) -> bool {
    let nested = |factor: &TableFactor| matches!(factor, TableFactor::NestedJoin { table_with_joins, .. } if merges(table_with_joins));
    nested(&t.relation) || t.joins.iter().any(|j| is_merging(j) || nested(&j.relation))
}

fn is_merging(join: &Join) -> bool {
    matches!(constraint(&join.join_operator), Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(c)
        | JoinOperator::Inner(c)
        | JoinOperator::Left(c)
        | JoinOperator::LeftOuter(c)
        | JoinOperator::Right(c)
        | JoinOperator::RightOuter(c)
        | JoinOperator::FullOuter(c) => Some(c),
        _ => None,
    }
}

struct Marker<'a> {
    joins: &'a UsingJoins,
    stars: bool,
}

impl VisitorMut for Marker<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.body(&mut query.body);
        ControlFlow::Continue(())
    }
}

impl Marker<'_> {
    fn body(&mut self, body: &mut SetExpr) {
        match body {
            SetExpr::Select(select) => self.select(select),
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left);
                self.body(right);
            }
            _ => {}
        }
    }

    fn select(&mut self, select: &mut Select) {
        let several = select.projection.len() > 1;
        let star = self.stars
            && select.projection.iter().any(|item| match item {
                SelectItem::QualifiedWildcard(..) => true,
                item => several && is_star(item),
            });
        if !star && !select.from.iter().any(merges) {
            return;
        }
        let mut items = std::mem::take(&mut select.from).into_iter();
        let Some(mut all) = items.next() else { return };
        for item in items {
            let lateral = matches!(
                item.relation,
                TableFactor::Derived { lateral: true, .. }
                    | TableFactor::Function { lateral: true, .. }
                    | TableFactor::UNNEST { .. }
            );
            // USING looks at the tables of its own item only.
            let (relation, joins) = if item.joins.is_empty() || lateral {
                (item.relation, item.joins)
            } else {
                (TableFactor::NestedJoin { table_with_joins: Box::new(item), alias: None }, Vec::new())
            };
            let join_operator = JoinOperator::CrossJoin(JoinConstraint::None);
            all.joins.push(Join { relation, global: false, join_operator });
            all.joins.extend(joins);
        }
        let number = {
            let mut known = self.joins.known();
            known.marks += 1;
            known.marks - 1
        };
        let name = Ident::with_quote('`', format!("{MARK}{number}"));
        let alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        let relation = TableFactor::NestedJoin { table_with_joins: Box::new(all), alias };
        select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    }
}

/// The number of a FROM clause that [`Marker`] made.
fn number(factor: &TableFactor) -> Option<usize> {
    match factor {
        TableFactor::NestedJoin { alias: Some(alias), .. } => {
            alias.name.value.strip_prefix(MARK)?.parse().ok()
        }
        _ => None,
    }
}

struct Expander<'a> {
    joins: &'a UsingJoins,
    changed: bool,
}

impl VisitorMut for Expander<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = query.body.as_mut()
            && let Some(columns) = self.columns(select)
        {
            self.changed |= expand(select, &columns);
            self.changed |= rename(&mut query.order_by, &columns);
        }
        self.sides(&mut query.body);
        ControlFlow::Continue(())
    }
}

impl Expander<'_> {
    /// The SELECTs of a set operation.
    fn sides(&mut self, body: &mut SetExpr) {
        let SetExpr::SetOperation { left, right, .. } = body else { return };
        for side in [left, right] {
            if let SetExpr::Select(select) = side.as_mut()
                && let Some(columns) = self.columns(select)
            {
                self.changed |= expand(select, &columns);
            }
            self.sides(side);
        }
    }

    /// The columns of a SELECT that is to be rewritten now.
    fn columns(&self, select: &Select) -> Option<Vec<FromColumn>> {
        let [from] = select.from.as_slice() else { return None };
        let number = number(&from.relation)?;
        let mut known = self.joins.known();
        let columns = known.columns.get(&number).cloned()?;
        known.expanded.insert(number).then_some(columns)
    }
}

fn is_star(item: &SelectItem) -> bool {
    matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
}

fn expand(select: &mut Select, columns: &[FromColumn]) -> bool {
    let mut changed = select.projection.iter().any(is_star);
    let hides = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(e @ Expr::CompoundIdentifier(_)) if rename(&mut e.clone(), columns));
    if changed || select.projection.iter().any(hides) {
        changed = true;
        let mut taken: HashSet<String> = HashSet::new();
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                taken.insert(alias.value.clone());
            }
        }
        let mut items = Vec::with_capacity(select.projection.len() + columns.len());
        let mut add = |items: &mut Vec<SelectItem>, expr: Expr, label: &str, name: &str| {
            let label =
                if taken.insert(label.to_owned()) { label.to_owned() } else { unused(name, &mut taken) };
            items.push(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('`', label) });
        };
        for item in std::mem::take(&mut select.projection) {
            match item {
                SelectItem::Wildcard(_) => {
                    for c in columns.iter().filter(|c| !c.is_hidden()) {
                        add(&mut items, c.expr(), &c.label, &c.name);
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(of), options) => {
                    let parts: Vec<&str> =
                        of.0.iter().filter_map(|p| p.as_ident()).map(|i| i.value.as_str()).collect();
                    let of_table = columns
                        .iter()
                        .filter(|c| c.qualifier.as_ref().is_some_and(|q| rename::names(q, &parts)));
                    let before = items.len();
                    for c in of_table {
                        let name = shown(&c.name);
                        add(&mut items, c.expr(), name, name);
                    }
                    if items.len() == before
                        && let Some(fields) = columns.iter().find_map(|c| c.fields(&parts))
                    {
                        let row: Vec<Ident> = of.0.iter().filter_map(|p| p.as_ident().cloned()).collect();
                        for field in fields {
                            let mut path = row.clone();
                            path.push(Ident::with_quote('`', &field));
                            add(&mut items, Expr::CompoundIdentifier(path), &field, &field);
                        }
                    }
                    if items.len() == before {
                        let kind = SelectItemQualifiedWildcardKind::ObjectName(of);
                        items.push(SelectItem::QualifiedWildcard(kind, options));
                    }
                }
                SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) => {
                    let name = match &expr {
                        Expr::Identifier(ident) => ident.value.clone(),
                        Expr::CompoundIdentifier(parts) => {
                            parts.last().map(|p| p.value.clone()).unwrap_or_default()
                        }
                        _ => String::new(),
                    };
                    add(&mut items, expr, &name, &name);
                }
                other => items.push(other),
            }
        }
        select.projection = items;
    }
    // Conditions in FROM are replaced join by join, as they are planned.
    let Select { projection, selection, group_by, having, named_window, qualify, .. } = select;
    for renamed in [
        rename(projection, columns),
        rename(selection, columns),
        rename(group_by, columns),
        rename(having, columns),
        rename(named_window, columns),
        rename(qualify, columns),
    ] {
        changed |= renamed;
    }
    changed
}
