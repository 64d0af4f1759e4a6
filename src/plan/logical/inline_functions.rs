//! Functions in SQL in the places of their calls.
//!
//! ```text
//!  f(x + 1)   with f(a INT) RETURNS BIGINT AS $$ a * 2 $$   ─►   CAST(CAST(x + 1 AS INT) * 2 AS BIGINT)
//! ```
//!
//! The body is planned by itself, over its parameters as columns: what is beside the call has no meaning in it.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ExprSchema, Result as DfResult, ScalarValue, TableReference};
use datafusion::logical_expr::expr::{Case, Exists, InSubquery, ScalarFunction, SetComparison};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::{disjunction, merge_schema};
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Subquery};

use crate::error::{Error, Result};
use crate::functions::user::{Inlined, Signature};
use crate::plan::logical::subquery::has_subquery;
use crate::sql::ast::Returns;

/// Makes the expression of a call out of its function, arguments and the columns around it.
pub type Expand<'a> = dyn Fn(&Inlined, Vec<Expr>, &DFSchema) -> Result<Expr> + 'a;

/// Expressions in a body beyond which calls are refused: a parameter used twice doubles what is within it.
const MOST_NODES: usize = 50_000;

/// The parameters as columns.
///
/// # Errors
/// From DataFusion, for names that appear twice.
pub fn parameters(signature: &Signature) -> Result<DFSchema> {
    let relation = TableReference::bare(signature.name.clone());
    let fields =
        signature.parameters.iter().map(|p| (Some(relation.clone()), Arc::new(p.ty.to_field(&p.name))));
    Ok(DFSchema::new_with_metadata(fields.collect(), Default::default())?)
}

/// What arguments are, as far as it is known.
///
/// # Errors
/// Of expressions that make no sense.
pub fn fields(args: &[Expr], schema: &dyn ExprSchema) -> Result<Vec<FieldRef>> {
    args.iter()
        .map(|e| Ok(Arc::new(Field::new("", e.get_type(schema)?, e.nullable(schema)?)) as FieldRef))
        .collect()
}

/// Replaces calls by what `expand` makes of them, and leaves names of columns as they were.
///
/// # Errors
/// Those of `expand`.
pub fn inline_plan(plan: LogicalPlan, expand: &Expand<'_>) -> Result<LogicalPlan> {
    let inlined = plan.transform_up_with_subqueries(|node| {
        if !node.expressions().iter().any(has_call) {
            return Ok(Transformed::no(node));
        }
        let schema = merge_schema(&node.inputs());
        let names = NamePreserver::new(&node);
        let out = node.map_expressions(|e| {
            let name = names.save(&e);
            Ok(inline_expr(e, &schema, expand)?.update_data(|e| name.restore(e)))
        })?;
        match out.data {
            node @ LogicalPlan::Extension(_) => Ok(Transformed::yes(node)),
            node => Ok(Transformed::yes(node.recompute_schema()?)),
        }
    })?;
    Ok(inlined.data)
}

fn has_call(e: &Expr) -> bool {
    e.exists(|e| Ok(matches!(e, Expr::ScalarFunction(f) if Inlined::of(&f.func).is_some()))).unwrap_or(true)
}

/// As [`inline_plan`], of one expression.
///
/// # Errors
/// Those of `expand`.
pub fn inline_expr(e: Expr, schema: &DFSchema, expand: &Expand<'_>) -> DfResult<Transformed<Expr>> {
    if !has_call(&e) {
        return Ok(Transformed::no(e));
    }
    e.transform_up(|e| match e {
        Expr::ScalarFunction(ScalarFunction { func, args }) => match Inlined::of(&func) {
            Some(body) => Ok(Transformed::yes(expand(body, args, schema)?)),
            None => Ok(Transformed::no(Expr::ScalarFunction(ScalarFunction { func, args }))),
        },
        other => Ok(Transformed::no(other)),
    })
}

/// The body of a function with arguments in place of its parameters, in the type that it returns.
///
/// # Errors
/// Unsupported for arguments that would be evaluated twice and may differ, and for results that grow too large.
pub fn substitute_expr(
    body: Expr,
    signature: &Signature,
    args: Vec<Expr>,
    schema: &DFSchema,
) -> Result<Expr> {
    let own = parameters(signature)?;
    let Returns::Value(ty, _) = &signature.returns else {
        return Err(Error::internal("a table among expressions"));
    };
    let body = cast(body, &ty.to_arrow(), &own);
    let args = cast_all(args, signature, schema);
    let index = |e: &Expr| match e {
        Expr::Column(c) => signature.parameters.iter().position(|p| p.name == c.name),
        _ => None,
    };
    let mut uses = vec![usize::from(signature.strict); args.len()];
    body.apply(|e| {
        if let Some(n) = index(e).and_then(|i| uses.get_mut(i)) {
            *n += 1;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let body = if has_subquery(&body) {
        let outside = args.iter().map(|a| from_within(a, schema)).collect::<Result<Vec<_>>>()?;
        in_subqueries(body, signature, &outside, &mut uses)?
    } else {
        body
    };
    refuse_twice(signature, &args, &uses)?;
    let nulls = args.iter().map(|a| a.clone().is_null());
    let strict = if signature.strict { disjunction(nulls) } else { None };
    let body = body.transform_up(|e| match index(&e).and_then(|i| args.get(i)) {
        Some(arg) => Ok(Transformed::yes(arg.clone())),
        None => Ok(Transformed::no(e)),
    })?;
    let mut nodes = 0;
    body.data.apply(|_| {
        nodes += 1;
        Ok(if nodes > MOST_NODES { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if nodes > MOST_NODES {
        return Err(Error::unsupported(format!(
            "the calls of {} within each other make too large an expression",
            signature.name
        ))
        .hint("compute what is within it in a sub-query"));
    }
    Ok(match strict {
        None => body.data,
        Some(null) => {
            let nothing = Expr::Literal(ScalarValue::try_from(&ty.to_arrow())?, None);
            Expr::Case(Case::new(None, vec![(Box::new(null), Box::new(nothing))], Some(Box::new(body.data))))
        }
    })
}

/// An argument whose value differs each time is evaluated once or not at all.
fn refuse_twice(signature: &Signature, args: &[Expr], uses: &[usize]) -> Result<()> {
    for ((arg, uses), parameter) in args.iter().zip(uses).zip(&signature.parameters) {
        if *uses > 1 && arg.is_volatile() {
            return Err(Error::unsupported(format!(
                "the argument {} of {} is not deterministic, and the function uses it more than once",
                parameter.name, signature.name
            ))
            .hint("compute it in a sub-query, and call the function with its column"));
        }
    }
    Ok(())
}

/// The query of a function with arguments in place of its parameters, with the columns that it returns.
///
/// # Errors
/// Validation for another number of columns; as [`substitute_expr`].
pub fn substitute_query(
    body: LogicalPlan,
    signature: &Signature,
    args: &[Expr],
    schema: &DFSchema,
    names: &[String],
) -> Result<LogicalPlan> {
    let Returns::Table(columns) = &signature.returns else {
        return Err(Error::internal("a query that is no table"));
    };
    let got = body.schema().fields().len();
    if got != columns.len() {
        return Err(Error::validation(format!(
            "the query of {} yields {got} columns, it returns {}",
            signature.name,
            columns.len()
        )));
    }
    if !names.is_empty() && names.len() != columns.len() {
        return Err(Error::validation(format!(
            "the alias names {} columns, the table has {}",
            names.len(),
            columns.len()
        ))
        .hint("name all of them, or none"));
    }
    let args = cast_all(args.to_vec(), signature, schema);
    let mut uses = vec![0; args.len()];
    let plan = fill(body, signature, &args, &mut uses)?;
    refuse_twice(signature, &args, &uses)?;
    let exprs: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .zip(columns)
        .enumerate()
        .map(|(i, (column, declared))| {
            let name = names.get(i).unwrap_or(&declared.name);
            cast(Expr::Column(column), &declared.ty.to_arrow(), plan.schema()).alias(name)
        })
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
}

/// References of an expression to the parameters, as of a query around it, as columns beside it. Those of sub-queries stay.
///
/// # Errors
/// None of its own.
pub fn at_hand(e: Expr, parameters: &DFSchema) -> DfResult<Expr> {
    let changed = e.transform_up(|e| match e {
        Expr::OuterReferenceColumn(_, c) if parameters.has_column(&c) => {
            Ok(Transformed::yes(Expr::Column(c)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(changed.data)
}

/// An argument as it reads in a sub-query: its columns are those of the query around. `None` where it has a sub-query itself.
fn from_within(arg: &Expr, schema: &dyn ExprSchema) -> Result<Option<Expr>> {
    if has_subquery(arg) {
        return Ok(None);
    }
    let changed = arg.clone().transform_up(|e| match e {
        Expr::Column(c) => {
            let field = Arc::clone(schema.field_from_column(&c)?);
            Ok(Transformed::yes(Expr::OuterReferenceColumn(field, c)))
        }
        other => Ok(Transformed::no(other)),
    })?;
    Ok(Some(changed.data))
}

/// The sub-queries of a body with arguments in place of the parameters.
fn in_subqueries(
    body: Expr,
    signature: &Signature,
    args: &[Option<Expr>],
    uses: &mut [usize],
) -> Result<Expr> {
    // Those without are refused if they are read.
    let nothing = Expr::Literal(ScalarValue::Null, None);
    let given: Vec<Expr> = args.iter().map(|a| a.as_ref().unwrap_or(&nothing).clone()).collect();
    let mut within = vec![0; args.len()];
    let filled = body.transform_up(|e| {
        let mut fill_in = |s: Subquery| -> Result<Subquery> {
            let plan = fill(Arc::unwrap_or_clone(s.subquery), signature, &given, &mut within)?;
            Ok(referring(Subquery { subquery: Arc::new(plan), ..s }))
        };
        Ok(match e {
            Expr::ScalarSubquery(s) => Transformed::yes(Expr::ScalarSubquery(fill_in(s)?)),
            Expr::Exists(e) => Transformed::yes(Expr::Exists(Exists { subquery: fill_in(e.subquery)?, ..e })),
            Expr::InSubquery(e) => {
                Transformed::yes(Expr::InSubquery(InSubquery { subquery: fill_in(e.subquery)?, ..e }))
            }
            Expr::SetComparison(e) => {
                Transformed::yes(Expr::SetComparison(SetComparison { subquery: fill_in(e.subquery)?, ..e }))
            }
            other => Transformed::no(other),
        })
    })?;
    for (i, (within, uses)) in within.into_iter().zip(uses).enumerate() {
        if within > 0 && matches!(args.get(i), Some(None)) {
            let parameter = signature.parameters.get(i).map_or("", |p| p.name.as_str());
            return Err(Error::unsupported(format!(
                "the argument {parameter} of {} has a sub-query, and the function reads it in one of its own",
                signature.name
            ))
            .hint("compute it in a sub-query of FROM, and call the function with its column"));
        }
        // A sub-query reads it for each of its rows.
        *uses += 2 * within;
    }
    Ok(filled.data)
}

/// A query with arguments in place of the parameters that it refers to; counts how often.
fn fill(plan: LogicalPlan, signature: &Signature, args: &[Expr], uses: &mut [usize]) -> Result<LogicalPlan> {
    let index = |e: &Expr| match e {
        Expr::OuterReferenceColumn(_, c)
            if c.relation.as_ref().is_some_and(|r| r.table() == signature.name) =>
        {
            signature.parameters.iter().position(|p| p.name == c.name)
        }
        _ => None,
    };
    let mut read = HashSet::new();
    for arg in args {
        arg.apply(|e| {
            if let Expr::OuterReferenceColumn(_, c) = e {
                read.insert(c.clone());
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    let replaced = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        let out = node.map_expressions(|e| {
            let name = names.save(&e);
            let e = e.transform_up(|e| {
                let Some(i) = index(&e) else { return refer(e) };
                if let Some(n) = uses.get_mut(i) {
                    *n += 1;
                }
                Ok(args.get(i).map_or_else(|| Transformed::no(e), |arg| Transformed::yes(arg.clone())))
            })?;
            Ok(e.update_data(|e| name.restore(e)))
        })?;
        refuse_captured(&out.data, &read, signature)?;
        if !out.transformed && !matches!(out.data, LogicalPlan::Subquery(_)) {
            return Ok(out);
        }
        match out.data {
            LogicalPlan::Subquery(s) => {
                let s = referring(s);
                // What read a parameter alone stands by itself now.
                Ok(Transformed::yes(match s.outer_ref_columns.is_empty() {
                    true => Arc::unwrap_or_clone(s.subquery),
                    false => LogicalPlan::Subquery(s),
                }))
            }
            node @ LogicalPlan::Extension(_) => Ok(Transformed::yes(node)),
            node => Ok(Transformed::yes(node.recompute_schema()?)),
        }
    })?;
    Ok(replaced.data)
}

/// A column of the call that a sub-query within the body's own sub-query reads must not be one of the latter's, too: it would
/// be taken for that.
fn refuse_captured(node: &LogicalPlan, read: &HashSet<Column>, signature: &Signature) -> Result<()> {
    let mut taken: Vec<Column> = Vec::new();
    let mut look = |s: &Subquery, around: &DFSchema| {
        let columns = s.outer_ref_columns.iter().filter_map(|e| match e {
            Expr::OuterReferenceColumn(_, c) => Some(c),
            _ => None,
        });
        taken.extend(columns.filter(|c| read.contains(c) && around.has_column(c)).cloned());
    };
    let around = merge_schema(&node.inputs());
    for e in node.expressions() {
        e.apply(|e| {
            match e {
                Expr::ScalarSubquery(s) => look(s, &around),
                Expr::Exists(e) => look(&e.subquery, &around),
                Expr::InSubquery(e) => look(&e.subquery, &around),
                Expr::SetComparison(e) => look(&e.subquery, &around),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
    }
    match taken.first() {
        None => Ok(()),
        Some(c) => Err(Error::unsupported(format!(
            "{} is a column of the call of {} and of a query within the function",
            c.flat_name(),
            signature.name
        ))
        .hint("give the table of the call another name: FROM t AS caller")),
    }
}

/// A sub-query knows which columns around it it reads.
fn referring(mut s: Subquery) -> Subquery {
    s.outer_ref_columns = s.subquery.all_out_ref_exprs();
    s
}

fn refer(e: Expr) -> DfResult<Transformed<Expr>> {
    Ok(match e {
        Expr::ScalarSubquery(s) => Transformed::yes(Expr::ScalarSubquery(referring(s))),
        Expr::Exists(e) => Transformed::yes(Expr::Exists(Exists { subquery: referring(e.subquery), ..e })),
        Expr::InSubquery(e) => {
            Transformed::yes(Expr::InSubquery(InSubquery { subquery: referring(e.subquery), ..e }))
        }
        Expr::SetComparison(e) => {
            Transformed::yes(Expr::SetComparison(SetComparison { subquery: referring(e.subquery), ..e }))
        }
        other => Transformed::no(other),
    })
}

fn cast_all(args: Vec<Expr>, signature: &Signature, schema: &dyn ExprSchema) -> Vec<Expr> {
    args.into_iter().zip(&signature.parameters).map(|(arg, p)| cast(arg, &p.ty.to_arrow(), schema)).collect()
}

fn cast(e: Expr, to: &DataType, schema: &dyn ExprSchema) -> Expr {
    match e.get_type(schema) {
        Ok(from) if from == *to => e,
        _ => Expr::Cast(Cast::new(Box::new(e), to.clone())),
    }
}
