//! Expressions of MEASURES and DEFINE.
//!
//! ```text
//!  LAST(a.x + 1, 2) > SUM(a.y)   tree of the syntax
//!   └ __p0 ┘          └ __p1 ┘   values of rows are planned over the input, the rest over columns that stand for them
//!  LAST a: (x + 1) > SUM(EACH a: y)
//! ```

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::Field;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, Result as DfResult};
use datafusion::logical_expr::planner::{ContextProvider, RelationPlannerContext};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{
    self, Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident,
    Spanned, VisitMut, VisitorMut,
};

use crate::error::{Error, Location, Result};
use crate::plan::nodes::match_recognize::{Navigation, Reference};
use crate::plan::planner::location_of;
use crate::sql::suggestion;

use super::arguments::{arguments, integer, plain};

/// Begins the names of the columns that stand for values of rows.
const PLACE: &str = "__row_value_";

/// Where an expression stands.
#[derive(Debug, Clone)]
pub(super) enum Clause {
    /// In MEASURES; the time that rows are ordered by.
    Measures { time: Option<Expr> },
    /// In the definition of a variable.
    Define { variable: u8 },
}

/// Plans one expression.
pub(super) struct References<'a> {
    clause: Clause,
    names: &'a [String],
    input: &'a DFSchema,
    context: &'a mut dyn RelationPlannerContext,
    /// What the placeholders stand for.
    values: Vec<Expr>,
}

impl<'a> References<'a> {
    /// The expression over `input`, with references to rows of the variables `names`.
    ///
    /// # Errors
    /// Validation for what Flink refuses.
    pub(super) fn plan(
        mut expr: SqlExpr,
        clause: Clause,
        names: &'a [String],
        input: &'a DFSchema,
        context: &'a mut dyn RelationPlannerContext,
    ) -> Result<Expr> {
        let place = location_of(expr.span());
        let mut references = References { clause, names, input, context, values: Vec::new() };
        if let ControlFlow::Break(e) = expr.visit(&mut references) {
            return Err(e);
        }
        let fields = references.values.iter().enumerate().map(|(i, value)| {
            let (_, field) = value.to_field(references.input)?;
            let field = Field::new(format!("{PLACE}{i}"), field.data_type().clone(), field.is_nullable());
            Ok((None, Arc::new(field)))
        });
        let fields = fields.collect::<DfResult<Vec<_>>>()?;
        let schema = DFSchema::new_with_metadata(fields, Default::default())?;
        let outer = references.context.sql_to_expr(expr, &schema);
        let outer = outer.map_err(|e| crate::plan::errors::explain(e).at(place))?;
        let values = &references.values;
        let planned = outer.transform_up(|e| {
            Ok(match &e {
                Expr::Column(Column { relation: None, name, .. }) => match number_of(name) {
                    Some(value) => match values.get(value) {
                        Some(value) => Transformed::yes(value.clone()),
                        None => Transformed::no(e),
                    },
                    None => Transformed::no(e),
                },
                _ => Transformed::no(e),
            })
        })?;
        Ok(planned.data)
    }

    /// A column that stands for a value.
    fn placeholder(&mut self, value: Expr) -> SqlExpr {
        self.values.push(value);
        SqlExpr::Identifier(Ident::with_quote('`', format!("{PLACE}{}", self.values.len() - 1)))
    }

    fn variable(&self, number: Option<u8>) -> Option<(u8, &'a str)> {
        let names = self.names;
        number.and_then(|n| Some((n, names.get(usize::from(n))?.as_str())))
    }

    /// A value of rows: the plain column where the row is the one that is tested.
    fn reference(&self, navigation: Navigation, variable: Option<u8>, value: Expr) -> Expr {
        let is_current = match &self.clause {
            Clause::Define { variable: own } => {
                navigation == Navigation::Last(0) && variable.is_none_or(|v| v == *own)
            }
            Clause::Measures { .. } => false,
        };
        if is_current { value } else { Reference::call(navigation, self.variable(variable), Some(value)) }
    }

    /// An expression over one row, of which variable it is, and whether it reads a column at all.
    fn value(&mut self, mut expr: SqlExpr, whole: &str, place: Location) -> Result<(Expr, Option<u8>, bool)> {
        let mut columns = Columns {
            names: self.names,
            input: self.input,
            provider: self.context.context_provider(),
            whole,
            place,
            seen: BTreeSet::new(),
            reads: false,
        };
        if let ControlFlow::Break(e) = expr.visit(&mut columns) {
            return Err(e);
        }
        let (seen, reads) = (columns.seen, columns.reads);
        if seen.len() > 1 {
            return Err(Error::validation(format!("Multiple pattern variables in '{whole}'"))
                .hint("compute with rows of one variable here, and put the results together outside")
                .at(place));
        }
        let planned = self.context.sql_to_expr(expr, self.input);
        let planned = planned.map_err(|e| crate::plan::errors::explain(e).at(place))?;
        Ok((planned, seen.into_iter().next().flatten(), reads))
    }

    /// Puts a placeholder where a value of rows stands.
    fn replace(&mut self, expr: &mut SqlExpr) -> Result<()> {
        let place = location_of(expr.span());
        match expr {
            SqlExpr::Identifier(name) if number_of(&name.value).is_some() => Ok(()),
            SqlExpr::CompoundFieldAccess { .. } => Err(field_access(expr)),
            SqlExpr::Identifier(_) | SqlExpr::CompoundIdentifier(_) => {
                let whole = expr.to_string();
                let (value, variable, _) = self.value(expr.clone(), &whole, place)?;
                let value = self.reference(Navigation::Last(0), variable, value);
                *expr = self.placeholder(value);
                Ok(())
            }
            SqlExpr::Function(f) => {
                let name = f.name.to_string();
                let place = location_of(f.name.span());
                match name.to_ascii_uppercase().as_str() {
                    upper @ ("FIRST" | "LAST") => {
                        let value = self.navigation(upper == "FIRST", f, place)?;
                        *expr = self.placeholder(value);
                        Ok(())
                    }
                    "MATCH_ROWTIME" => {
                        let value = self.row_time(f, place)?;
                        *expr = self.placeholder(value);
                        Ok(())
                    }
                    "CLASSIFIER" => {
                        self.only_in_measures("CLASSIFIER()", place)?;
                        plain(f)?;
                        if !arguments(f)?.is_empty() {
                            return Err(Error::validation("CLASSIFIER takes no argument").at(place));
                        }
                        let value = Reference::call(Navigation::Classifier, None, None);
                        *expr = self.placeholder(value);
                        Ok(())
                    }
                    "MATCH_PROCTIME" => {
                        self.only_in_measures("MATCH_PROCTIME()", place)?;
                        plain(f)?;
                        if !arguments(f)?.is_empty() {
                            return Err(Error::validation("MATCH_PROCTIME takes no argument").at(place));
                        }
                        // The clock when the match comes out.
                        f.name = ast::ObjectName::from(vec![Ident::new("PROCTIME")]);
                        Ok(())
                    }
                    upper @ ("MATCH_NUMBER" | "PREV" | "NEXT") => {
                        let e = Error::unsupported(format!("{upper} is not supported")).at(place);
                        Err(match upper {
                            "PREV" => e.hint("LAST(x, 1) is the row before in the match, LAST(a.x, 1) the one before of a variable"),
                            _ => e,
                        })
                    }
                    _ if self.is_aggregate(&name) => self.aggregate(f, place),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn is_aggregate(&self, name: &str) -> bool {
        self.context.context_provider().get_aggregate_meta(&name.to_ascii_lowercase()).is_some()
    }

    fn only_in_measures(&self, what: &str, place: Location) -> Result<()> {
        match self.clause {
            Clause::Measures { .. } => Ok(()),
            Clause::Define { .. } => {
                Err(Error::validation(format!("{what} can be used in MEASURES only")).at(place))
            }
        }
    }

    /// `FIRST(a.x, n)`, `LAST(a.x, n)`.
    fn navigation(&mut self, first: bool, f: &ast::Function, place: Location) -> Result<Expr> {
        let name = if first { "FIRST" } else { "LAST" };
        let usage = || {
            Error::validation(format!("{name} takes a value, and the number of a row that is not negative"))
                .hint(format!("write {name}(a.x), or {name}(a.x, 2)"))
                .at(place)
        };
        plain(f)?;
        let args = arguments(f)?;
        let (value, n) = match args.as_slice() {
            [value] => (value, 0),
            [value, n] => (value, integer(n).ok_or_else(usage)?),
            _ => return Err(usage()),
        };
        let (value, variable, _) = self.value(value.clone(), &f.to_string(), place)?;
        let navigation = if first { Navigation::First(n) } else { Navigation::Last(n) };
        Ok(self.reference(navigation, variable, value))
    }

    /// `MATCH_ROWTIME()`, `MATCH_ROWTIME(ts)`.
    fn row_time(&mut self, f: &ast::Function, place: Location) -> Result<Expr> {
        self.only_in_measures("MATCH_ROWTIME()", place)?;
        let Clause::Measures { time: Some(time) } = self.clause.clone() else {
            return Err(Error::internal("MATCH_ROWTIME without a time"));
        };
        plain(f)?;
        let args = arguments(f)?;
        let wrong = || {
            Error::validation("MATCH_ROWTIME takes the row time that the rows are ordered by")
                .hint("write MATCH_ROWTIME(), or MATCH_ROWTIME(ts) with ORDER BY ts")
                .at(place)
        };
        match args.as_slice() {
            [] => {}
            [arg] => {
                let (value, variable, _) = self.value(arg.clone(), &f.to_string(), place)?;
                if value != time || variable.is_some() {
                    return Err(wrong());
                }
            }
            _ => return Err(wrong()),
        }
        Ok(Reference::call(Navigation::RowTime { not_null: args.is_empty() }, None, Some(time)))
    }

    /// The arguments of an aggregate become those of its rows.
    fn aggregate(&mut self, f: &mut ast::Function, place: Location) -> Result<()> {
        let whole = f.to_string();
        let refuse = |what: &str| {
            Error::unsupported(format!("{what} in an aggregate of MATCH_RECOGNIZE is not supported: {whole}"))
                .at(place)
        };
        if f.filter.is_some() {
            return Err(refuse("FILTER").hint("let the definition of the variable decide"));
        }
        if f.over.is_some() || !f.within_group.is_empty() {
            return Err(refuse("OVER or WITHIN GROUP"));
        }
        let FunctionArguments::List(list) = &mut f.args else { return Err(refuse("a query")) };
        if list.duplicate_treatment.is_some() {
            return Err(
                Error::validation(format!("DISTINCT/ALL not allowed with {whole} function")).at(place)
            );
        }
        for clause in &list.clauses {
            match clause {
                FunctionArgumentClause::IgnoreOrRespectNulls(_) => {}
                FunctionArgumentClause::OrderBy(_) => {
                    return Err(refuse("ORDER BY").hint("rows are aggregated in the order of the match"));
                }
                other => return Err(refuse(&other.to_string())),
            }
        }
        if f.parameters != FunctionArguments::None {
            return Err(refuse("a second list of arguments"));
        }
        let mut args = Vec::new();
        for arg in &list.args {
            args.push(match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e.clone()),
                FunctionArg::Unnamed(FunctionArgExpr::Wildcard) => None,
                FunctionArg::Unnamed(FunctionArgExpr::QualifiedWildcard(name)) => {
                    let symbol = match name.0.as_slice() {
                        [part] => part.as_ident().cloned(),
                        _ => None,
                    };
                    let symbol = symbol.ok_or_else(|| refuse("such a `.*`"))?;
                    let known = self.names.iter().position(|n| *n == symbol.value);
                    let variable = known.ok_or_else(|| super::unknown_variable(&symbol, self.names))? as u8;
                    // `COUNT(a.*)` counts rows.
                    let one = datafusion::logical_expr::lit(1i64);
                    let value = Reference::call(Navigation::Each, self.variable(Some(variable)), Some(one));
                    Some(self.placeholder(value))
                }
                _ => return Err(refuse("such an argument")),
            });
        }
        // Constants beside columns stay what they are: separators, fractions.
        let mut variables = BTreeSet::new();
        let mut planned = Vec::new();
        for arg in args {
            let Some(arg) = arg else {
                planned.push((None, true));
                continue;
            };
            if matches!(&arg, SqlExpr::Identifier(i) if number_of(&i.value).is_some()) {
                planned.push((Some(arg), false));
                continue;
            }
            let (value, variable, reads) = self.value(arg.clone(), &whole, place)?;
            if reads {
                variables.insert(variable);
                let value = Reference::call(Navigation::Each, self.variable(variable), Some(value));
                planned.push((Some(self.placeholder(value)), false));
            } else {
                planned.push((Some(arg), true));
            }
        }
        if variables.len() > 1 {
            return Err(Error::validation(format!("Multiple pattern variables in '{whole}'"))
                .hint("aggregate the rows of one variable, or of all: SUM(x)")
                .at(place));
        }
        let reads = planned.iter().any(|(_, constant)| !constant);
        let mut made = Vec::new();
        for (i, (arg, _)) in planned.into_iter().enumerate() {
            made.push(match arg {
                // `COUNT(*)`, `COUNT(1)`: of all rows.
                None => {
                    let one = datafusion::logical_expr::lit(1i64);
                    self.placeholder(Reference::call(Navigation::Each, None, Some(one)))
                }
                Some(arg) if i == 0 && !reads => {
                    let (value, _, _) = self.value(arg, &whole, place)?;
                    self.placeholder(Reference::call(Navigation::Each, None, Some(value)))
                }
                Some(arg) => arg,
            });
        }
        list.args = made.into_iter().map(|e| FunctionArg::Unnamed(FunctionArgExpr::Expr(e))).collect();
        Ok(())
    }
}

impl VisitorMut for References<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<Error> {
        match self.replace(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }
}

/// A field of an element of a collection: its names are no columns.
fn field_access(e: &SqlExpr) -> Error {
    Error::unsupported(format!("{e} in MATCH_RECOGNIZE is not supported"))
        .hint("give it a name below: FROM (SELECT *, … AS x FROM t) MATCH_RECOGNIZE (…)")
        .at(location_of(e.span()))
}

fn number_of(name: &str) -> Option<usize> {
    name.strip_prefix(PLACE)?.parse().ok()
}

/// Takes the variables off the columns of an expression over one row.
struct Columns<'a> {
    names: &'a [String],
    input: &'a DFSchema,
    provider: &'a dyn ContextProvider,
    whole: &'a str,
    place: Location,
    seen: BTreeSet<Option<u8>>,
    reads: bool,
}

impl Columns<'_> {
    fn column(&mut self, parts: &mut Vec<Ident>) -> Result<()> {
        let Some(first) = parts.first() else { return Ok(()) };
        let variable = self.names.iter().position(|n| *n == first.value).filter(|_| parts.len() > 1);
        match variable {
            Some(number) => {
                self.seen.insert(Some(number as u8));
                parts.remove(0);
            }
            None => {
                if !self.input.fields().iter().any(|f| *f.name() == first.value) {
                    return Err(self.unknown(first, parts.len() > 1));
                }
                self.seen.insert(None);
            }
        }
        self.reads = true;
        let Some(column) = parts.first() else { return Ok(()) };
        if self.input.fields().iter().any(|f| *f.name() == column.value) {
            return Ok(());
        }
        Err(self.unknown(column, false))
    }

    fn unknown(&self, name: &Ident, qualifies: bool) -> Error {
        let at = location_of(name.span);
        let columns: Vec<&str> = self.input.fields().iter().map(|f| f.name().as_str()).collect();
        if qualifies {
            let variables: Vec<&str> = self.names.iter().map(String::as_str).collect();
            let hint = suggestion(&name.value, &variables, "the variables of PATTERN are");
            return Error::validation(format!("'{}' is neither a pattern variable nor a column", name.value))
                .hint(hint)
                .at(at);
        }
        Error::validation(format!("Column '{}' not found in the rows that are matched", name.value))
            .hint(suggestion(&name.value, &columns, "its columns are"))
            .at(at)
    }
}

impl VisitorMut for Columns<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut SqlExpr) -> ControlFlow<Error> {
        let checked = match expr {
            SqlExpr::Identifier(name) if number_of(&name.value).is_some() => Ok(()),
            SqlExpr::Identifier(name) => {
                let mut parts = vec![name.clone()];
                self.column(&mut parts)
            }
            SqlExpr::CompoundIdentifier(parts) => {
                let checked = self.column(parts);
                if let [one] = parts.as_slice() {
                    *expr = SqlExpr::Identifier(one.clone());
                }
                checked
            }
            SqlExpr::CompoundFieldAccess { .. } => Err(field_access(expr)),
            SqlExpr::Function(f) => {
                let name = f.name.to_string().to_ascii_uppercase();
                let nests =
                    ["FIRST", "LAST", "MATCH_ROWTIME", "MATCH_PROCTIME", "CLASSIFIER", "PREV", "NEXT"];
                let lower = name.to_ascii_lowercase();
                if nests.contains(&name.as_str()) || self.provider.get_aggregate_meta(&lower).is_some() {
                    Err(Error::validation(format!("Cannot nest {name} in '{}'", self.whole)).at(self.place))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        };
        match checked {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => ControlFlow::Break(e),
        }
    }
}
