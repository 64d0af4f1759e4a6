//! The rows of an INSERT brought to the columns of its sink: by position, with loss-free casts only.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};

use crate::error::{Error, Location, Result};
use crate::functions::{has_times, with_precision};
use crate::plan::output_types::output_types;
use crate::sql::ast::SqlExpr;
use crate::types::{LogicalType, TypeRoot};

/// How an INSERT names its columns.
#[derive(Debug, Default)]
pub struct InsertColumns {
    /// The column list; empty for all.
    pub columns: Vec<(String, Location)>,
    /// `PARTITION (p = value)`, planned.
    pub partition: Vec<(String, Expr)>,
    /// Where the statement stands.
    pub location: Location,
    /// The declared types of the sink's columns by name, as far as they are known.
    pub types: Vec<(String, LogicalType)>,
}

/// Projects `query` to the columns of `sink`.
///
/// # Errors
/// Validation in Flink's words when number or types do not match.
pub fn plan_insert(
    query: LogicalPlan,
    table: &str,
    sink: &SchemaRef,
    columns: &InsertColumns,
) -> Result<LogicalPlan> {
    let names: Vec<&str> = sink.fields().iter().map(|f| f.name().as_str()).collect();
    let unknown = |name: &str, location: Location| {
        Error::validation(format!("Column '{name}' not found in table '{table}'"))
            .hint(format!("its columns are {}", names.join(", ")))
            .at(location)
    };
    for (name, location) in &columns.columns {
        if !names.contains(&name.as_str()) {
            return Err(unknown(name, *location));
        }
        if columns.columns.iter().filter(|(n, _)| n == name).count() > 1 {
            return Err(
                Error::validation(format!("Column '{name}' is specified more than once")).at(*location)
            );
        }
    }
    for (name, _) in &columns.partition {
        if !names.contains(&name.as_str()) {
            return Err(unknown(name, columns.location));
        }
    }
    let is_static = |name: &str| columns.partition.iter().find(|(n, _)| n == name).map(|(_, e)| e);
    // Sink columns that the query fills, in the query's order.
    let targets: Vec<&str> = if columns.columns.is_empty() {
        names.iter().copied().filter(|n| is_static(n).is_none()).collect()
    } else {
        columns.columns.iter().map(|(n, _)| n.as_str()).collect()
    };
    let mismatch = |cause: String| {
        Error::validation(format!(
            "Column types of query result and sink for '{table}' do not match. Cause: {cause}"
        ))
        .hint(format!(
            "Query schema: [{}], Sink schema: [{}]",
            describe(query.schema().as_arrow()),
            describe(sink)
        ))
        .at(columns.location)
    };
    if targets.len() != query.schema().fields().len() {
        return Err(mismatch("Different number of columns.".to_owned()));
    }
    let given = if has_times(sink.fields()) { output_types(&query)? } else { Vec::new() };
    let mut exprs = Vec::with_capacity(names.len());
    for (i, field) in sink.fields().iter().enumerate() {
        let name = field.name().as_str();
        let expr = if let Some(position) = targets.iter().position(|t| *t == name) {
            let (qualifier, from) = query.schema().qualified_field(position);
            let column = Expr::Column(datafusion::common::Column::from((qualifier, from.as_ref())));
            let value = coerce(column, from.data_type(), field).ok_or_else(|| {
                mismatch(format!("Incompatible types for sink column '{name}' at position {i}."))
            })?;
            match columns.types.iter().find(|(n, _)| n == name) {
                Some((_, declared)) => cut(value, given.get(position), declared),
                None => value,
            }
        } else if let Some(value) = is_static(name) {
            cast(value.clone(), field.data_type().clone())
        } else if field.is_nullable() {
            Expr::Literal(ScalarValue::try_new_null(field.data_type())?, None)
        } else {
            return Err(Error::validation(format!(
                "Column '{name}' has no default value and does not allow NULLs"
            ))
            .at(columns.location));
        };
        exprs.push(expr.alias(name));
    }
    Ok(LogicalPlanBuilder::from(query).project(exprs)?.build()?)
}

/// A time without the digits of a second that the column has not, where Arrow's type would keep them.
fn cut(value: Expr, from: Option<&LogicalType>, to: &LogicalType) -> Expr {
    let digits = |t: &LogicalType| match t.root {
        TypeRoot::Timestamp(p) | TypeRoot::TimestampLtz(p) | TypeRoot::Time(p) => Some(p),
        _ => None,
    };
    match digits(to) {
        Some(to) if !matches!(to, 3 | 6 | 9) && from.and_then(digits).is_none_or(|from| from > to) => {
            with_precision(value, to)
        }
        _ => value,
    }
}

fn coerce(expr: Expr, from: &DataType, to: &Field) -> Option<Expr> {
    let target = to.data_type();
    if from == target {
        Some(expr)
    } else if implicitly_castable(from, target) {
        Some(cast(expr, target.clone()))
    } else {
        None
    }
}

/// Whether Flink casts `from` to `to` in an INSERT without being asked.
pub fn implicitly_castable(from: &DataType, to: &DataType) -> bool {
    use DataType as D;
    let rank = |t: &DataType| match t {
        D::Int8 => Some(0),
        D::Int16 => Some(1),
        D::Int32 => Some(2),
        D::Int64 => Some(3),
        _ => None,
    };
    match (from, to) {
        (D::Null, _) => true,
        (a, b) if a == b => true,
        (D::Utf8 | D::LargeUtf8 | D::Utf8View, D::Utf8) => true,
        (D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_), D::Binary) => true,
        (a, b) if rank(a).is_some() && rank(b).is_some() => rank(a) <= rank(b),
        // A value too large for the sink's precision becomes NULL, as in Flink.
        (a, D::Decimal128(..)) if rank(a).is_some() => true,
        (a, D::Float32 | D::Float64) if rank(a).is_some() => true,
        (D::Decimal128(..) | D::Float32, D::Float64) | (D::Decimal128(..), D::Float32) => true,
        (D::Decimal128(..), D::Decimal128(..)) => true,
        (D::Timestamp(_, None), D::Timestamp(_, None)) => true,
        (D::Timestamp(_, Some(_)), D::Timestamp(_, Some(_))) => true,
        (D::Timestamp(_, _), D::Date32 | D::Time32(_)) => true,
        (D::List(a), D::List(b)) => implicitly_castable(a.data_type(), b.data_type()),
        (D::Map(a, _), D::Map(b, _)) => implicitly_castable(a.data_type(), b.data_type()),
        (D::Struct(a), D::Struct(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(a, b)| implicitly_castable(a.data_type(), b.data_type()))
        }
        _ => false,
    }
}

fn describe(schema: &Schema) -> String {
    schema
        .fields()
        .iter()
        .map(|f| match LogicalType::from_field(f) {
            Ok(t) => format!("{}: {t}", f.name()),
            Err(_) => format!("{}: {}", f.name(), f.data_type()),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

/// Plans the values of `PARTITION (p = value)`.
///
/// # Errors
/// Of planning the values.
pub fn plan_partition(
    planner: &crate::plan::planner::Planner,
    partition: &[(String, SqlExpr)],
) -> Result<Vec<(String, Expr)>> {
    let empty = Arc::new(datafusion::common::DFSchema::empty());
    partition.iter().map(|(name, value)| Ok((name.clone(), planner.plan_expr(value, &empty)?))).collect()
}
