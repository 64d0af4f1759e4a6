//! Functions of the user in the planner: what their names mean, and the bodies of those in SQL.
//!
//! ```text
//!  body ─► a planner of its own, over the parameters ─► inlined where it is called (logical::inline_functions)
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, Result as DfResult, ScalarValue};
use datafusion::logical_expr::{EmptyRelation, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{self, visit_expressions};

use crate::error::{Error, Result};
use crate::functions::user::{Body, Inlined, Signature, UserFunction};
use crate::functions::{self, Scope};
use crate::plan::errors::explain;
use crate::plan::logical::group_window::refuse_group_functions;
use crate::plan::logical::inline_functions::{
    at_hand, inline_expr, inline_plan, parameters, substitute_expr, substitute_query,
};
use crate::plan::passes::settle_relations;
use crate::plan::planner::{PlanEnv, Planner};
use crate::sql::ast::Query;
use crate::sql::{parse_name, parse_query, with_room};
use crate::types::LogicalType;

/// How many functions may be called within each other's bodies.
const MOST_CALLERS: usize = 32;

/// The error of a function whose body calls it.
pub(super) fn calls_itself(name: &str) -> Error {
    Error::unsupported(format!("the function {name} calls itself"))
        .hint("functions in SQL stand in the places of their calls, which would never end; JAVASCRIPT and PYTHON can recurse")
}

/// The error of a table function that is called as if it gave a value.
pub(super) fn table_among_expressions(f: &UserFunction) -> Error {
    let name = &f.signature.name;
    Error::validation(format!("{name} is a table function and has no value"))
        .hint(format!("it stands in FROM: CROSS JOIN LATERAL TABLE({name}(…)) AS t"))
}

impl Planner {
    /// The function of the user that a name means, as it comes from DataFusion's planner.
    pub(super) fn user_function(&self, name: &str) -> Option<Arc<UserFunction>> {
        let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
        let parts = if plain { vec![name.to_owned()] } else { parse_name(name).ok()? };
        self.env.names.function(&parts, self.within.as_ref())
    }

    /// A planner for the body of a function.
    ///
    /// # Errors
    /// Unsupported for a function that its own body calls.
    pub(super) fn for_body(
        env: &PlanEnv,
        function: &UserFunction,
        callers: &[String],
        hints: Vec<BTreeMap<String, String>>,
    ) -> Result<Planner> {
        Self::within_body(env, &function.signature, &function.resolve_in, callers, hints)
    }

    fn within_body(
        env: &PlanEnv,
        signature: &Signature,
        resolve_in: &(String, String),
        callers: &[String],
        hints: Vec<BTreeMap<String, String>>,
    ) -> Result<Planner> {
        let mut callers = callers.to_vec();
        if callers.iter().any(|c| c.eq_ignore_ascii_case(&signature.name)) {
            return Err(calls_itself(&signature.name));
        }
        if callers.len() >= MOST_CALLERS {
            return Err(Error::unsupported(format!("more than {MOST_CALLERS} functions call each other")));
        }
        callers.push(signature.name.clone());
        Ok(Planner::new(env.clone(), hints).in_place(Some(resolve_in.clone()), callers))
    }

    /// The query of a function, with references to the parameters as to a query around it.
    ///
    /// # Errors
    /// As [`Planner::plan_query`], with the function.
    pub(super) fn plan_body(&self, query: &Query, signature: &Signature) -> Result<LogicalPlan> {
        let schema = parameters(signature)?;
        let planned =
            with_room(|| self.plan_over(&query.query, Some(&schema)).and_then(|plan| self.inline(plan)));
        planned.map_err(|e| e.context(format!("function {}", signature.name)))
    }

    /// Calls of functions in SQL replaced by their expressions.
    pub(super) fn inline(&self, plan: LogicalPlan) -> Result<LogicalPlan> {
        inline_plan(plan, &|body, args, schema| self.expand(body, args, schema))
    }

    /// As [`Planner::inline`], of an expression.
    pub(super) fn inline_expr(&self, e: Expr, schema: &DFSchema) -> DfResult<Expr> {
        Ok(inline_expr(e, schema, &|body, args, schema| self.expand(body, args, schema))?.data)
    }

    fn expand(&self, body: &Inlined, args: Vec<Expr>, schema: &DFSchema) -> Result<Expr> {
        let expr = self.expression(body)?;
        substitute_expr(expr, &body.signature, args, schema)
    }

    /// The expression of a function over its parameters.
    fn expression(&self, body: &Inlined) -> Result<Expr> {
        let signature = &body.signature;
        let inner = Self::within_body(&self.env, signature, &body.resolve_in, &self.callers, Vec::new())?;
        let schema = parameters(signature)?;
        let planned = inner.body_over(body, &schema).and_then(|e| {
            // Calls are not understood before their types are asked for.
            e.get_type(&schema).map_err(|e| explain(e).at(body.expr.location))?;
            Ok(e)
        });
        let expr = planned.map_err(|e| e.context(format!("function {}", signature.name)))?;
        let what = |e: &Expr| match e {
            Expr::AggregateFunction(_) => Some("an aggregate"),
            Expr::WindowFunction(_) => Some("a window function"),
            _ => None,
        };
        let mut found = None;
        expr.exists(|e| {
            found = found.or(what(e));
            Ok(found.is_some())
        })?;
        if let Some(found) = found {
            return Err(Error::unsupported(format!(
                "function {}: {found} in its expression is not supported",
                signature.name
            ))
            .at(body.expr.location)
            .hint("it can stand in a sub-query: (SELECT MAX(x) FROM t)"));
        }
        let types: Vec<LogicalType> = signature.parameters.iter().map(|p| p.ty.clone()).collect();
        let scope = Scope::new(&schema, &types)?;
        Ok(functions::settle_types(expr, &scope, self.env.connectors.time_zone)?.data)
    }

    /// The expression of a body over the parameters as columns. One with sub-queries is planned as a query around them, whose
    /// parameters they refer to.
    fn body_over(&self, body: &Inlined, schema: &DFSchema) -> Result<Expr> {
        let mut queries = false;
        let _ = visit_expressions(&body.expr.expr, |e| {
            queries |=
                matches!(e, ast::Expr::Subquery(_) | ast::Expr::InSubquery { .. } | ast::Expr::Exists { .. });
            ControlFlow::<()>::Continue(())
        });
        if !queries {
            return self.plan_part(&body.expr, schema);
        }
        let at = |e: Error| e.at(body.expr.location);
        let mut query = parse_query("SELECT 1")?;
        if let ast::SetExpr::Select(select) = query.query.body.as_mut() {
            select.projection = vec![ast::SelectItem::UnnamedExpr(body.expr.expr.clone())];
        }
        let planned = with_room(|| self.plan_over(&query.query, Some(schema)).and_then(|p| self.inline(p)));
        let expr = match planned.map_err(at)? {
            LogicalPlan::Projection(p) if matches!(p.input.as_ref(), LogicalPlan::EmptyRelation(_)) => {
                p.expr.into_iter().next()
            }
            _ => None,
        };
        let expr = expr.ok_or_else(|| {
            at(Error::unsupported("an aggregate or a window function beside a sub-query is not supported")
                .hint("it can stand in the sub-query"))
        })?;
        refuse_group_functions(&expr)?;
        Ok(at_hand(expr.unalias(), schema)?)
    }

    /// Plans the body of a function in SQL, to find what is wrong with it.
    ///
    /// # Errors
    /// Validation and Unsupported, with the place in the body.
    pub fn check_function(env: &PlanEnv, function: &UserFunction) -> Result<()> {
        let signature = &function.signature;
        let at = |e: Error| match &function.body {
            Body::Expression(f) => match Inlined::of(f) {
                Some(body) => e.at(body.expr.location),
                None => e,
            },
            Body::Query(query) => e.at(query.location),
            _ => e,
        };
        let planner = Planner::new(env.clone(), Vec::new());
        let plan = match &function.body {
            Body::Expression(f) => {
                let Some(body) = Inlined::of(f) else { return Ok(()) };
                let schema = parameters(signature)?;
                let args: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
                let expr = planner.expand(body, args, &schema).map_err(at)?;
                let schema = Arc::new(schema);
                let rows = LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema });
                let plan = LogicalPlanBuilder::from(rows).project([expr.alias("result")])?.build()?;
                settle_relations(plan).map_err(at)?
            }
            Body::Query(query) => {
                let inner = Self::for_body(env, function, &[], query.table_hints.clone())?;
                let body = inner.plan_body(query, signature).map_err(at)?;
                let null = |p: &crate::sql::ast::Parameter| {
                    Ok(Expr::Literal(ScalarValue::try_from(&p.ty.to_arrow())?, None))
                };
                let args = signature.parameters.iter().map(null).collect::<Result<Vec<_>>>()?;
                settle_relations(
                    substitute_query(body, signature, &args, &DFSchema::empty(), &[]).map_err(at)?,
                )
                .map_err(at)?
            }
            _ => return Ok(()),
        };
        let checked = with_room(|| env.functions.check_types(plan, &env.config));
        checked.map_err(|e| at(e.context(format!("function {}", signature.name))))
    }
}
