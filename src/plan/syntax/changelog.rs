//! Plans `TO_CHANGELOG` and `FROM_CHANGELOG` among the table factors, with the arguments of Flink 2.3.
//!
//! ```text
//!  TO_CHANGELOG(input => TABLE t [, op => DESCRIPTOR(c)] [, op_mapping => MAP['INSERT, UPDATE_AFTER', 'u', …]])
//!  FROM_CHANGELOG(input => TABLE t [, op => DESCRIPTOR(c)] [, op_mapping => MAP['c, r', 'INSERT', …]])
//! ```

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{Column, Result as DfResult};
use datafusion::logical_expr::planner::RelationPlannerContext;
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, FunctionArguments, Value};

use crate::error::{Error, Result};
use crate::plan::nodes::changelog::{ChangelogFunction, ChangelogNode};
use crate::plan::syntax::window_tvf::table_argument;
use crate::sql::ast::MAP_CONSTRUCTOR;
use crate::stream::RowKind;
use crate::types::sql_name;

/// Names of the two functions.
pub(super) const FUNCTIONS: [&str; 2] = ["TO_CHANGELOG", "FROM_CHANGELOG"];

const PARAMETERS: [&str; 4] = ["input", "op", "op_mapping", "uid"];

const KINDS: [(&str, RowKind); 4] = [
    ("INSERT", RowKind::Insert),
    ("UPDATE_BEFORE", RowKind::UpdateBefore),
    ("UPDATE_AFTER", RowKind::UpdateAfter),
    ("DELETE", RowKind::Delete),
];

/// A call of one of [`FUNCTIONS`].
///
/// # Errors
/// Validation for arguments that make no sense, in Flink's words.
pub(super) fn plan_changelog(
    function: &str,
    args: Vec<FunctionArg>,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<LogicalPlan> {
    let [input, op, mapping] = arguments(function, args)?;
    let Some(input) = input else {
        return Err(Error::validation(format!("{function} lacks its argument input"))
            .hint(signature(function))
            .into());
    };
    let (table, _) = table_argument(input, function)?;
    let input = context.plan(table)?;
    let op = match op {
        None => "op".to_owned(),
        Some(e) => descriptor(e, function)?,
    };
    let mapping = mapping.map(|e| entries(e, function)).transpose()?;
    let function = match function {
        "TO_CHANGELOG" => to_changelog(op, mapping, &input)?,
        _ => from_changelog(&op, mapping, &input)?,
    };
    let node = ChangelogNode::try_new(input, function)?;
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

fn signature(function: &str) -> String {
    format!("write {function}(input => TABLE t, op => DESCRIPTOR(c), op_mapping => MAP['…', '…'])")
}

/// The arguments by their parameters; `uid` names state, of which there is none.
fn arguments(function: &str, args: Vec<FunctionArg>) -> Result<[Option<ast::Expr>; 3]> {
    let mut values: [Option<ast::Expr>; 4] = Default::default();
    for (i, arg) in args.into_iter().enumerate() {
        let (name, place, value) = match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => (format!("{}", i + 1), Some(i), e),
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => {
                let place = PARAMETERS.iter().position(|p| p.eq_ignore_ascii_case(&name.value));
                (name.value, place, e)
            }
            other => {
                return Err(
                    Error::validation(format!("unexpected argument {other}")).hint(signature(function))
                );
            }
        };
        match place.and_then(|p| values.get_mut(p)) {
            Some(place) if place.is_none() => *place = Some(value),
            _ => {
                return Err(Error::validation(format!(
                    "argument {name} of {function} is unknown or given twice"
                ))
                .hint(signature(function)));
            }
        }
    }
    let [input, op, mapping, _uid] = values;
    Ok([input, op, mapping])
}

/// `DESCRIPTOR(c)`
fn descriptor(e: ast::Expr, function: &str) -> Result<String> {
    if let ast::Expr::Function(f) = &e
        && f.name.to_string().eq_ignore_ascii_case("DESCRIPTOR")
        && let FunctionArguments::List(list) = &f.args
        && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Identifier(column)))] =
            list.args.as_slice()
    {
        return Ok(column.value.clone());
    }
    Err(Error::validation(format!("the argument op of {function} has to be a DESCRIPTOR with one column"))
        .hint(signature(function)))
}

/// `MAP['k', 'v', …]`
fn entries(e: ast::Expr, function: &str) -> Result<Vec<(String, String)>> {
    let wrong = || {
        Error::validation(format!(
            "the argument op_mapping of {function} has to be a map of constant strings"
        ))
        .hint(signature(function))
    };
    let ast::Expr::Function(f) = e else { return Err(wrong()) };
    let FunctionArguments::List(list) = f.args else { return Err(wrong()) };
    if !f.name.to_string().eq_ignore_ascii_case(MAP_CONSTRUCTOR) {
        return Err(wrong());
    }
    let texts = list.args.iter().map(|arg| match arg {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(ast::Expr::Value(v))) => match &v.value {
            Value::SingleQuotedString(text) => Ok(text.clone()),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    });
    let texts = texts.collect::<Result<Vec<String>>>()?;
    let pairs = texts.chunks_exact(2).map(|pair| match pair {
        [k, v] => Ok((k.clone(), v.clone())),
        _ => Err(wrong()),
    });
    let pairs = pairs.collect::<Result<Vec<_>>>()?;
    if pairs.is_empty() { Err(wrong()) } else { Ok(pairs) }
}

fn kind_of(name: &str) -> Result<RowKind> {
    KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).ok_or_else(|| {
        Error::validation(format!(
            "Invalid target mapping for argument 'op_mapping'. Unknown change operation: '{name}'"
        ))
        .hint("the operations are INSERT, UPDATE_BEFORE, UPDATE_AFTER and DELETE")
    })
}

fn duplicate(name: &str) -> Error {
    Error::validation(format!(
        "Invalid target mapping for argument 'op_mapping'. Duplicate change operation: '{name}'"
    ))
}

fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

fn to_changelog(
    op: String,
    mapping: Option<Vec<(String, String)>>,
    input: &LogicalPlan,
) -> Result<ChangelogFunction> {
    if input.schema().fields().iter().any(|f| *f.name() == op) {
        return Err(Error::validation(format!("Field names must be unique. Found duplicates: [{op}]"))
            .hint("name the column of the operations by op => DESCRIPTOR(…)"));
    }
    let mut codes: [Option<String>; 4] = Default::default();
    match mapping {
        None => codes = KINDS.map(|(name, _)| Some(name.to_owned())),
        Some(mapping) => {
            for (kinds, code) in mapping {
                for name in names(&kinds) {
                    let kind = kind_of(name)?;
                    if let Some(place) = codes.get_mut(kind as usize)
                        && place.replace(code.clone()).is_some()
                    {
                        return Err(duplicate(name));
                    }
                }
            }
        }
    }
    Ok(ChangelogFunction::To { op, codes })
}

fn from_changelog(
    op: &str,
    mapping: Option<Vec<(String, String)>>,
    input: &LogicalPlan,
) -> Result<ChangelogFunction> {
    let (qualifier, field) = input.schema().iter().find(|(_, f)| f.name() == op).ok_or_else(|| {
        let columns: Vec<&str> = input.schema().fields().iter().map(|f| f.name().as_str()).collect();
        Error::validation(format!("The op column '{op}' does not exist in the input schema"))
            .hint(format!("name it by op => DESCRIPTOR(…); the columns are {}", columns.join(", ")))
    })?;
    if *field.data_type() != DataType::Utf8 {
        let ty = sql_name(field.data_type());
        return Err(Error::validation(format!(
            "The op column '{op}' must be of STRING type, but was '{ty}'"
        )));
    }
    if input.schema().fields().len() == 1 {
        return Err(Error::validation("FROM_CHANGELOG needs a column besides that of the operations"));
    }
    let mut codes: Vec<(String, RowKind)> = Vec::new();
    match mapping {
        None => codes.extend(KINDS.map(|(name, kind)| (name.to_owned(), kind))),
        Some(mapping) => {
            for (list, name) in &mapping {
                let kind = kind_of(name.trim())?;
                if codes.iter().any(|(_, known)| *known == kind) {
                    return Err(duplicate(name)
                        .hint("several codes of one operation stand in one key: MAP['c, r', 'INSERT']"));
                }
                for code in names(list) {
                    if codes.iter().any(|(known, _)| known == code) {
                        return Err(Error::validation(format!(
                            "Invalid target mapping for argument 'op_mapping'. Duplicate code: '{code}'"
                        )));
                    }
                    codes.push((code.to_owned(), kind));
                }
            }
            let has = |wanted: RowKind| codes.iter().any(|(_, kind)| *kind == wanted);
            if has(RowKind::UpdateAfter) && !has(RowKind::UpdateBefore) {
                return Err(Error::validation("The 'op_mapping' must include UPDATE_BEFORE for retract mode. Upsert mode (without UPDATE_BEFORE) is not supported")
                    .hint("map the codes of updates to INSERT and take the latest row of a key with ROW_NUMBER()"));
            }
        }
    }
    Ok(ChangelogFunction::From { op: Column::from((qualifier, field.as_ref())), codes })
}
