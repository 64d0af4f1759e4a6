//! `PARTITIONED BY` and Iceberg partition specs.
//!
//! ```text
//!  city · years(ts) months(ts) days(ts) hours(ts) · bucket(16, id) · truncate(4, name)
//!                                ⇅
//!  UnboundPartitionSpec: source id, transform, field name (as the Java library names it)
//! ```

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::MySqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use iceberg::spec::{PartitionSpec, Schema, Transform, UnboundPartitionSpec};

use crate::error::{Error, Location, Result};
use crate::sql::ast::SqlExpr;

const SUPPORTED: &str = "supported: a column, years(ts), months(ts), days(ts), hours(ts), bucket(n, column), truncate(width, column)";

/// The partition spec that a `PARTITIONED BY` clause means.
///
/// # Errors
/// Validation or Unsupported at the expression.
pub(super) fn to_spec(exprs: &[SqlExpr], schema: &Schema) -> Result<Option<UnboundPartitionSpec>> {
    if exprs.is_empty() {
        return Ok(None);
    }
    let mut builder = PartitionSpec::builder(schema.clone());
    for e in exprs {
        let (column, transform) = parse(&e.expr).map_err(|err| err.at(e.location))?;
        let field = schema.field_by_name(&column).ok_or_else(|| {
            Error::validation(format!("PARTITIONED BY: the table has no column `{column}`")).at(e.location)
        })?;
        transform.result_type(&field.field_type).map_err(|_| {
            Error::validation(format!(
                "PARTITIONED BY {}: column `{column}` has the type {}, which this transform does not take",
                e.text, field.field_type
            ))
            .at(e.location)
        })?;
        builder = builder.add_partition_field(&column, field_name(&column, transform), transform).map_err(
            |err| Error::validation(format!("PARTITIONED BY {}: {}", e.text, err.message())).at(e.location),
        )?;
    }
    let spec = builder.build().map_err(|e| Error::validation(e.message()))?;
    Ok(Some(spec.into_unbound()))
}

/// Names of partition fields as Iceberg's Java library gives them, which users see in folder names.
fn field_name(column: &str, transform: Transform) -> String {
    let suffix = match transform {
        Transform::Year => "_year",
        Transform::Month => "_month",
        Transform::Day => "_day",
        Transform::Hour => "_hour",
        Transform::Bucket(_) => "_bucket",
        Transform::Truncate(_) => "_trunc",
        Transform::Void => "_null",
        Transform::Identity | Transform::Unknown => "",
    };
    format!("{column}{suffix}")
}

fn parse(expr: &ast::Expr) -> Result<(String, Transform)> {
    match expr {
        ast::Expr::Identifier(_) | ast::Expr::CompoundIdentifier(_) => {
            Ok((column_name(expr)?, Transform::Identity))
        }
        ast::Expr::Nested(inner) => parse(inner),
        ast::Expr::Function(f) => {
            let name = f.name.to_string().to_ascii_lowercase();
            let args = arguments(f)?;
            match (name.as_str(), args.as_slice()) {
                ("identity", [c]) => Ok((column_name(c)?, Transform::Identity)),
                ("year" | "years", [c]) => Ok((column_name(c)?, Transform::Year)),
                ("month" | "months", [c]) => Ok((column_name(c)?, Transform::Month)),
                ("day" | "days" | "date", [c]) => Ok((column_name(c)?, Transform::Day)),
                ("hour" | "hours" | "date_hour", [c]) => Ok((column_name(c)?, Transform::Hour)),
                ("bucket", [a, b]) => {
                    let (n, c) = number_and_column(a, b)?;
                    Ok((c, Transform::Bucket(n)))
                }
                ("truncate" | "trunc", [a, b]) => {
                    let (n, c) = number_and_column(a, b)?;
                    Ok((c, Transform::Truncate(n)))
                }
                _ => Err(Error::unsupported(format!("PARTITIONED BY {expr}: not a partition transform"))
                    .hint(SUPPORTED)),
            }
        }
        _ => Err(Error::unsupported(format!("PARTITIONED BY {expr}: not a column or a partition transform"))
            .hint(SUPPORTED)),
    }
}

fn arguments(f: &ast::Function) -> Result<Vec<&ast::Expr>> {
    let refused = || Error::unsupported(format!("PARTITIONED BY {f}")).hint(SUPPORTED);
    let ast::Function {
        name: _,
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group,
    } = f
    else {
        return Err(refused());
    };
    let ast::FunctionArgumentList { duplicate_treatment: None, args, clauses } = list else {
        return Err(refused());
    };
    if !clauses.is_empty() || !within_group.is_empty() {
        return Err(refused());
    }
    args.iter()
        .map(|a| match a {
            ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(e)) => Ok(e),
            _ => Err(refused()),
        })
        .collect()
}

fn column_name(expr: &ast::Expr) -> Result<String> {
    match expr {
        ast::Expr::Identifier(i) => Ok(i.value.clone()),
        // A field of a ROW.
        ast::Expr::CompoundIdentifier(parts) => {
            Ok(parts.iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join("."))
        }
        _ => Err(Error::validation(format!("PARTITIONED BY: {expr} is not a column")).hint(SUPPORTED)),
    }
}

/// `bucket(16, id)`, and `bucket(id, 16)` as some write it.
fn number_and_column(a: &ast::Expr, b: &ast::Expr) -> Result<(u32, String)> {
    let number = |e: &ast::Expr| match e {
        ast::Expr::Value(v) => match &v.value {
            ast::Value::Number(n, _) => {
                n.to_string().parse::<u32>().ok().filter(|n| *n > 0 && *n <= i32::MAX as u32)
            }
            _ => None,
        },
        _ => None,
    };
    match (number(a), number(b)) {
        (Some(n), None) => Ok((n, column_name(b)?)),
        (None, Some(n)) => Ok((n, column_name(a)?)),
        _ => Err(Error::validation(format!(
            "PARTITIONED BY: ({a}, {b}) is not a positive number and a column"
        ))
        .hint(SUPPORTED)),
    }
}

/// The `PARTITIONED BY` clause of an existing table. Void fields (dropped partitions) are left out.
///
/// # Errors
/// Unsupported for a spec whose source column is gone.
pub(super) fn to_exprs(spec: &PartitionSpec, schema: &Schema) -> Result<Vec<SqlExpr>> {
    let mut exprs = Vec::new();
    for field in spec.fields() {
        let Some(column) = schema.name_by_field_id(field.source_id) else { continue };
        let column = quote(column);
        let text = match field.transform {
            Transform::Identity => column,
            Transform::Year => format!("years({column})"),
            Transform::Month => format!("months({column})"),
            Transform::Day => format!("days({column})"),
            Transform::Hour => format!("hours({column})"),
            Transform::Bucket(n) => format!("bucket({n}, {column})"),
            Transform::Truncate(n) => format!("truncate({n}, {column})"),
            Transform::Void | Transform::Unknown => continue,
        };
        let expr = Parser::new(&MySqlDialect {})
            .try_with_sql(&text)
            .and_then(|mut p| p.parse_expr())
            .map_err(|e| Error::internal(format!("partition field `{}`: {e}", field.name)))?;
        exprs.push(SqlExpr { expr, text, location: Location::default() });
    }
    Ok(exprs)
}

fn quote(name: &str) -> String {
    name.split('.').map(|part| format!("`{}`", part.replace('`', "``"))).collect::<Vec<_>>().join(".")
}
