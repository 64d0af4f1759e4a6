//! Calls of functions of the user: table functions among the tables of FROM, and what SQL's own syntax around a call of
//! another kind would lose.
//!
//! ```text
//!  FROM t, LATERAL TABLE(f(t.a)) AS x(b)   f in SQL       ─► its query with t.a in place of the parameter, as LATERAL (…)
//!                                          f in a script  ─► UNNEST(f(t.a)): a script gives an array of rows
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::{DFSchema, Result as DfResult, TableReference};
use datafusion::logical_expr::planner::{
    PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning,
};
use datafusion::logical_expr::{Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    self, DuplicateTreatment, FunctionArg, FunctionArgExpr, FunctionArguments, ObjectName, Query, TableAlias,
    TableFactor, Visit, Visitor,
};

use crate::error::{Error, Location, Result};
use crate::functions;
use crate::functions::user::{Body, UserFunction};
use crate::plan::logical::inline_functions::{fields, substitute_query};
use crate::plan::nodes::unnest::UnnestNode;
use crate::plan::planner::{NameResolver, PlanEnv, Planner, location_of};
use crate::sql::{nearest_name, suggestion};

/// Plans the table functions of the user.
#[derive(Debug)]
pub struct UserTablePlanner {
    /// What their bodies are planned with.
    pub env: PlanEnv,
    /// Catalog and database of short names.
    pub within: Option<(String, String)>,
    /// Functions whose bodies the call stands in, outermost first.
    pub callers: Vec<String>,
}

/// A call among the tables.
struct Call {
    name: ObjectName,
    args: Vec<FunctionArg>,
    alias: Option<TableAlias>,
    lateral: bool,
}

impl Call {
    fn of(relation: &TableFactor) -> Option<Call> {
        let call = |f: &ast::Function, alias: &Option<TableAlias>, lateral| {
            let args = match &f.args {
                FunctionArguments::List(list) => list.args.clone(),
                FunctionArguments::None => Vec::new(),
                FunctionArguments::Subquery(_) => return None,
            };
            Some(Call { name: f.name.clone(), args, alias: alias.clone(), lateral })
        };
        match relation {
            TableFactor::TableFunction { expr: ast::Expr::Function(f), alias } => call(f, alias, false),
            TableFactor::Table { name, args: Some(args), alias, .. } => Some(Call {
                name: name.clone(),
                args: args.args.clone(),
                alias: alias.clone(),
                lateral: false,
            }),
            TableFactor::Function { name, args, alias, lateral, .. } => match args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Function(f)))]
                    if *lateral && name.to_string().eq_ignore_ascii_case("TABLE") =>
                {
                    call(f, alias, true)
                }
                _ => Some(Call {
                    name: name.clone(),
                    args: args.clone(),
                    alias: alias.clone(),
                    lateral: *lateral,
                }),
            },
            _ => None,
        }
    }
}

/// The parts of a name.
fn parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0.iter().map(|p| p.as_ident().map(|i| i.value.clone())).collect()
}

fn place(name: &ObjectName) -> Location {
    name.0.first().and_then(|p| p.as_ident()).map_or_else(Location::default, |i| location_of(i.span))
}

impl RelationPlanner for UserTablePlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let Some(call) = Call::of(&relation) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let at = place(&call.name);
        let found = parts(&call.name).and_then(|p| self.env.names.function(&p, self.within.as_ref()));
        let Some(function) = found else {
            let name = call.name.to_string();
            let near =
                || nearest_name(&name, self.env.names.function_names().iter().map(String::as_str)).is_some();
            if call.lateral || !functions::is_builtin(&name) && near() {
                return Err(self.unknown(&call).at(at).into());
            }
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let plan = self.plan_call(&function, call, context).map_err(|e| e.at(at))?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

impl UserTablePlanner {
    fn unknown(&self, call: &Call) -> Error {
        let names = self.env.names.function_names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let e = Error::unsupported(format!("the table function {} is not known", call.name));
        if names.is_empty() {
            return e.hint("LATERAL takes a sub-query or a table function of yours; collections are joined by CROSS JOIN UNNEST(a) AS u(x)");
        }
        e.hint(suggestion(&call.name.to_string(), &names, "functions of yours are"))
    }

    fn plan_call(
        &self,
        function: &Arc<UserFunction>,
        call: Call,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<LogicalPlan> {
        let signature = &function.signature;
        if function.kind() != "TABLE" {
            return Err(Error::validation(format!("{} is no table function", signature.name))
                .hint(format!("it stands among expressions: SELECT {}(…)", signature.name)));
        }
        let nothing = DFSchema::empty();
        let mut args: Vec<Option<Expr>> = vec![None; signature.parameters.len()];
        for (i, arg) in call.args.into_iter().enumerate() {
            let (slot, value) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => (Some(i), e),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => {
                    (signature.parameters.iter().position(|p| p.name.eq_ignore_ascii_case(&name.value)), e)
                }
                other => {
                    return Err(Error::validation(format!(
                        "unexpected argument {other} of {}",
                        signature.name
                    )));
                }
            };
            match slot.and_then(|slot| args.get_mut(slot)) {
                Some(free @ None) => *free = Some(context.sql_to_expr(value, &nothing)?),
                _ => {
                    return Err(Error::validation(format!(
                        "argument {} of {} is unknown or given twice",
                        i + 1,
                        signature.name
                    ))
                    .hint(format!("it is called as {}", signature.call())));
                }
            }
        }
        let args: Option<Vec<Expr>> = args.into_iter().collect();
        let Some(args) = args else {
            return Err(Error::validation(format!("{} lacks an argument", signature.name))
                .hint(format!("it is called as {}", signature.call())));
        };
        let (qualifier, names) = match call.alias {
            Some(alias) => (
                context.normalize_ident(alias.name.clone()),
                alias.columns.iter().map(|c| context.normalize_ident(c.name.clone())).collect(),
            ),
            None => (signature.name.clone(), Vec::new()),
        };
        match &function.body {
            Body::Table(f) => {
                let one_row = LogicalPlanBuilder::empty(true).build()?;
                let rows = f.call(args);
                let qualifier = TableReference::bare(qualifier);
                // Only here does it read its arguments' types.
                rows.get_type(&nothing)?;
                let node = UnnestNode::try_new(one_row, rows, (false, false), None, qualifier, names)?;
                Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
            }
            Body::Query(query) => {
                signature.accept(&fields(&args, &nothing)?)?;
                let planner =
                    Planner::for_body(&self.env, function, &self.callers, query.table_hints.clone())?;
                let body = planner.plan_body(query, signature)?;
                let plan = substitute_query(body, signature, &args, &nothing, &names)?;
                Ok(LogicalPlanBuilder::from(plan).alias(TableReference::bare(qualifier))?.build()?)
            }
            _ => Err(Error::internal(format!("{} has no table", signature.name))),
        }
    }
}

/// Refuses what stands around calls of scalar functions of the user and would be passed over.
///
/// # Errors
/// Validation, with the place of the call.
pub fn check_calls(query: &Query, names: &dyn NameResolver, within: Option<&(String, String)>) -> Result<()> {
    match query.visit(&mut Checker { names, within }) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Checker<'a> {
    names: &'a dyn NameResolver,
    within: Option<&'a (String, String)>,
}

impl Visitor for Checker<'_> {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
        let ast::Expr::Function(f) = expr else { return ControlFlow::Continue(()) };
        let Some(function) = parts(&f.name).and_then(|p| self.names.function(&p, self.within)) else {
            return ControlFlow::Continue(());
        };
        let distinct = matches!(&f.args, FunctionArguments::List(l) if l.duplicate_treatment == Some(DuplicateTreatment::Distinct));
        let named = matches!(&f.args, FunctionArguments::List(l) if l.args.iter().any(|a| !matches!(a, FunctionArg::Unnamed(_))));
        let aggregate = function.aggregate().is_some();
        let clause = match () {
            () if f.over.is_some() && !aggregate => Some("OVER"),
            () if f.filter.is_some() && !aggregate => Some("FILTER"),
            () if distinct && !aggregate => Some("DISTINCT"),
            () if f.null_treatment.is_some() => Some("IGNORE or RESPECT NULLS"),
            () if !f.within_group.is_empty() => Some("WITHIN GROUP"),
            // Those of table functions have names.
            () if named && function.kind() != "TABLE" => Some("named arguments"),
            () => None,
        };
        match clause {
            None => ControlFlow::Continue(()),
            Some(clause) => {
                let kind = if aggregate { "an aggregate" } else { "neither an aggregate nor a window" };
                let e = Error::validation(format!(
                    "{} is {kind} function and takes no {clause}",
                    function.signature.name
                ));
                ControlFlow::Break(e.hint(format!("leave {clause} out")).at(place(&f.name)))
            }
        }
    }
}
