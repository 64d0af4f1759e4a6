//! Arguments of FIRST, LAST, MATCH_ROWTIME and CLASSIFIER.

use datafusion::sql::sqlparser::ast::{
    self, Expr as SqlExpr, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Spanned,
    Value,
};

use crate::error::{Error, Result};
use crate::plan::planner::location_of;

/// Refuses all that can stand at a function but its arguments.
pub(super) fn plain(f: &ast::Function) -> Result<()> {
    let ast::Function {
        name,
        uses_odbc_syntax,
        parameters,
        args,
        filter,
        null_treatment,
        over,
        within_group,
    } = f;
    let of_arguments = match args {
        FunctionArguments::List(ast::FunctionArgumentList { duplicate_treatment, args: _, clauses }) => {
            let clause = clauses.first().map(|clause| match clause {
                FunctionArgumentClause::OrderBy(_) => "ORDER BY".to_owned(),
                other => other.to_string(),
            });
            duplicate_treatment.as_ref().map(ToString::to_string).or(clause)
        }
        FunctionArguments::Subquery(_) => Some("a query".to_owned()),
        FunctionArguments::None => None,
    };
    let others = [
        (*uses_odbc_syntax, "{fn }"),
        (*parameters != FunctionArguments::None, "a second list of arguments"),
        (filter.is_some(), "FILTER"),
        (over.is_some(), "OVER"),
        (!within_group.is_empty(), "WITHIN GROUP"),
    ];
    let other = others.into_iter().find(|(is, _)| *is).map(|(_, what)| what.to_owned());
    let what = of_arguments.or_else(|| null_treatment.as_ref().map(ToString::to_string)).or(other);
    match what {
        None => Ok(()),
        Some(what) => {
            let function = name.to_string().to_uppercase();
            Err(Error::unsupported(format!("{what} in {function} of MATCH_RECOGNIZE is not supported"))
                .hint(format!("write {function} with its arguments alone"))
                .at(location_of(name.span())))
        }
    }
}

/// Its arguments, none of them by name.
pub(super) fn arguments(f: &ast::Function) -> Result<Vec<SqlExpr>> {
    let FunctionArguments::List(list) = &f.args else { return Ok(Vec::new()) };
    let args = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Ok(e.clone()),
        other => Err(Error::validation(format!("{}: {other} is no argument of it", f.name))
            .at(location_of(f.name.span()))),
    });
    args.collect()
}

/// A literal number of rows, as it is typed by the reading of literals.
pub(super) fn integer(e: &SqlExpr) -> Option<u32> {
    match e {
        SqlExpr::Cast { expr, .. } => integer(expr),
        SqlExpr::Nested(e) => integer(e),
        SqlExpr::Value(v) => match &v.value {
            Value::Number(n, _) => n.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}
