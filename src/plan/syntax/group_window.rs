//! Windows of GROUP BY: `TUMBLE`, `HOP` and `SESSION`, and the functions for their bounds.
//!
//! ```text
//!  SELECT k, TUMBLE_START(ts, i), COUNT(*) FROM t GROUP BY k, TUMBLE(ts, i)
//!     ─► SELECT k, __group_window_start(TUMBLE(ts, i)), COUNT(*) FROM t GROUP BY k, TUMBLE(ts, i)     on the tree
//!     ─► Projection[k, w$start, count] (Aggregate[k, w$start, w$end] (WindowTvf (t)))                `logical::group_window`
//! ```
//!
//! So a bound is an expression over a group key, as the planner wants it. The functions stand in for calls that the plan loses
//! again; none of them is ever evaluated.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr,
    Ident, ObjectName, OrderByKind, Query, Select, SelectItem, SetExpr, Spanned, VisitMut, VisitorMut,
};

use crate::error::{Error, Location, Result};
use crate::types::sql_name;

/// The windows, their parameters, and how many of these there are besides an alignment.
const WINDOWS: [(&str, &str, usize); 3] =
    [("TUMBLE", "ts, size", 2), ("HOP", "ts, slide, size", 3), ("SESSION", "ts, gap", 2)];

/// Prefix of the functions for bounds.
const BOUND: &str = "__group_window_";

/// Rewrites the bounds of windows in every SELECT of a query.
///
/// # Errors
/// Validation for bounds without a window, and for windows out of place.
pub fn rewrite_group_windows(query: &mut Query) -> Result<()> {
    match query.visit(&mut Queries) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

struct Queries;

impl VisitorMut for Queries {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        match rewrite_query(query) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }
}

fn rewrite_query(query: &mut Query) -> Result<()> {
    let mut windows = Vec::new();
    if let SetExpr::Select(select) = query.body.as_ref() {
        windows = group_windows(select)?;
    }
    rewrite_body(&mut query.body)?;
    if let Some(order_by) = &mut query.order_by
        && let OrderByKind::Expressions(exprs) = &mut order_by.kind
    {
        exprs.iter_mut().try_for_each(|e| rewrite_expr(&mut e.expr, &windows, true))?;
    }
    Ok(())
}

fn rewrite_body(body: &mut SetExpr) -> Result<()> {
    match body {
        SetExpr::Select(select) => {
            let windows = group_windows(select)?;
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(e) | SelectItem::ExprWithAlias { expr: e, .. } = item {
                    rewrite_expr(e, &windows, true)?;
                }
            }
            if let Some(e) = &mut select.selection {
                rewrite_expr(e, &windows, false)?;
            }
            for e in select.having.iter_mut().chain(&mut select.qualify) {
                rewrite_expr(e, &windows, true)?;
            }
            Ok(())
        }
        SetExpr::SetOperation { left, right, .. } => {
            rewrite_body(left)?;
            rewrite_body(right)
        }
        // Queries in parentheses are visited by themselves.
        _ => Ok(()),
    }
}

fn location_of(name: &ObjectName) -> Location {
    let start = name.span().start;
    Location { line: start.line, column: start.column }
}

/// The window that a call is of, `None` for other functions.
fn window_of(f: &Function) -> Option<(&'static str, &'static str, usize)> {
    let [name] = f.name.0.as_slice() else { return None };
    let name = &name.as_ident()?.value;
    WINDOWS.into_iter().find(|(window, ..)| window.eq_ignore_ascii_case(name))
}

/// The window and the bound that a call like `TUMBLE_START(…)` asks for.
fn bound_of(f: &Function) -> Option<((&'static str, &'static str, usize), &'static str)> {
    let [name] = f.name.0.as_slice() else { return None };
    let (window, bound) = name.as_ident()?.value.rsplit_once('_')?;
    let window = WINDOWS.into_iter().find(|(known, ..)| known.eq_ignore_ascii_case(window))?;
    let bound = ["start", "end", "rowtime", "proctime"]
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(bound))?;
    Some((window, bound))
}

fn args_of(f: &Function) -> Option<&[FunctionArg]> {
    match &f.args {
        FunctionArguments::List(list) => Some(&list.args),
        _ => None,
    }
}

/// The windows in a GROUP BY.
fn group_windows(select: &Select) -> Result<Vec<Function>> {
    let GroupByExpr::Expressions(keys, _) = &select.group_by else { return Ok(Vec::new()) };
    let mut found: Vec<Function> = Vec::new();
    for key in keys {
        match key {
            Expr::Function(f) => {
                if let Some((window, parameters, count)) = window_of(f) {
                    check_count(f, window, parameters, count)?;
                    if !found.is_empty() {
                        return Err(Error::unsupported(
                            "Only a single window group function may be used in GROUP BY",
                        )
                        .at(location_of(&f.name)));
                    }
                    found.push(f.clone());
                }
            }
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                for e in sets.iter().flatten() {
                    if let Expr::Function(f) = e
                        && let Some((window, ..)) = window_of(f)
                    {
                        return Err(Error::unsupported(format!(
                            "{window} inside GROUPING SETS, CUBE or ROLLUP is not supported"
                        ))
                        .hint(format!(
                            "use the window function: FROM TABLE({window}(TABLE t, DESCRIPTOR(ts), …)) GROUP BY window_start, window_end, CUBE (…)"
                        ))
                        .at(location_of(&f.name)));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn check_count(f: &Function, name: &str, parameters: &str, count: usize) -> Result<()> {
    let given = args_of(f).map_or(0, <[_]>::len);
    if given == count {
        return Ok(());
    }
    let e = if given == count + 1 {
        Error::unsupported(format!("{name} window with alignment is not supported yet")).hint(
            "the table functions TUMBLE and HOP take an offset: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), size, offset))",
        )
    } else {
        Error::validation(format!(
            "Invalid number of arguments to function '{name}'. Was expecting {count} arguments"
        ))
        .hint(format!("write {name}({parameters})"))
    };
    Err(e.at(location_of(&f.name)))
}

/// Rewrites the bounds in an expression. Sub-queries in it have windows of their own.
fn rewrite_expr(expr: &mut Expr, windows: &[Function], is_grouped: bool) -> Result<()> {
    match expr.visit(&mut Bounds { windows, is_grouped, depth: 0 }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

struct Bounds<'a> {
    windows: &'a [Function],
    is_grouped: bool,
    depth: usize,
}

impl VisitorMut for Bounds<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    // Behind its children, so that the window in the new call is not taken for one out of place.
    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        match self.bound(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }
}

impl Bounds<'_> {
    fn bound(&self, expr: &mut Expr) -> Result<()> {
        let Expr::Function(f) = &*expr else { return Ok(()) };
        let at = location_of(&f.name);
        if let Some((window, ..)) = window_of(f) {
            return Err(Error::validation(format!(
                "Group function '{window}' can only appear in GROUP BY clause"
            ))
            .hint(format!("{window}_START and {window}_END are the bounds of a window in GROUP BY"))
            .at(at));
        }
        let Some(((window, parameters, count), bound)) = bound_of(f) else { return Ok(()) };
        let name = format!("{window}_{}", bound.to_uppercase());
        check_count(f, &name, parameters, count)?;
        let text = |f: &Function| args_of(f).map(|args| args.iter().map(plain_text).collect::<Vec<_>>());
        let is_same = |w: &&Function| window_of(w).is_some_and(|(w, ..)| w == window) && text(w) == text(f);
        let found = self.windows.iter().find(is_same).filter(|_| self.is_grouped);
        let Some(found) = found else {
            return Err(Error::validation(format!(
                "Call to auxiliary group function '{name}' must have matching call to group function '{window}' in GROUP BY clause"
            ))
            .hint(if self.is_grouped {
                format!("write GROUP BY {window}({parameters}) with the same arguments")
            } else {
                "conditions on windows stand in HAVING".to_owned()
            })
            .at(at));
        };
        *expr = match bound {
            "proctime" => call("PROCTIME", Vec::new()),
            _ => call(&format!("{BOUND}{bound}"), vec![Expr::Function(found.clone())]),
        };
        Ok(())
    }
}

/// An argument as text, columns without their tables.
fn plain_text(arg: &FunctionArg) -> String {
    match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts))) => {
            parts.last().map(|i| i.value.clone()).unwrap_or_default()
        }
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(i))) => i.value.clone(),
        other => other.to_string(),
    }
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

/// The function that stands in for a window or a bound.
pub fn function(name: &str) -> Option<Arc<ScalarUDF>> {
    let kind = match name.strip_prefix(BOUND) {
        Some("start") => GroupFunction::Start,
        Some("end") => GroupFunction::End,
        Some("rowtime") => GroupFunction::RowTime,
        Some(_) => return None,
        None => {
            let window = WINDOWS.into_iter().find(|(window, ..)| window.eq_ignore_ascii_case(name))?.0;
            GroupFunction::Window(window)
        }
    };
    let signature = Signature::variadic_any(Volatility::Immutable);
    Some(Arc::new(ScalarUDF::new_from_impl(GroupWindow { kind, name: name.to_owned(), signature })))
}

/// What a call in a plan stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GroupFunction {
    /// A window, by its name in capitals.
    Window(&'static str),
    /// Its start.
    Start,
    /// Its end.
    End,
    /// Its row time.
    RowTime,
}

/// Stands in for a window or a bound in a plan, until `logical::group_window` settles it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct GroupWindow {
    /// What it is.
    pub kind: GroupFunction,
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for GroupWindow {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> DfResult<DataType> {
        let time = match arg_types.first() {
            Some(DataType::Timestamp(_, zone)) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
            _ => {
                let types: Vec<String> = arg_types.iter().map(|t| format!("<{}>", sql_name(t))).collect();
                let name = self.name.to_uppercase();
                return Err(Error::validation(format!(
                    "Cannot apply '{name}' to arguments of type '{name}({})'",
                    types.join(", ")
                ))
                .hint(format!(
                    "{name} takes a time attribute of type TIMESTAMP or TIMESTAMP_LTZ, and intervals"
                ))
                .into());
            }
        };
        Ok(match self.kind {
            GroupFunction::Start | GroupFunction::End => DataType::Timestamp(TimeUnit::Millisecond, None),
            GroupFunction::Window(_) | GroupFunction::RowTime => time,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|f| f.data_type().clone()).collect();
        Ok(Arc::new(Field::new(&self.name, self.return_type(&types)?, false)))
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        datafusion::common::internal_err!("a window of GROUP BY was not settled")
    }
}
