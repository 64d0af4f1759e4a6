//! What depends on SQL types that Arrow does not know, while a plan still has them: `TYPEOF(x)`, and the texts of times,
//! which have as many digits as their type.
//!
//! ```text
//!  TYPEOF(x)                                     ─► its type as a text
//!  CAST(t AS STRING) of TIMESTAMP(1), TIME(p)…   ─► CAST(text(t) AS STRING), where text knows the type
//! ```

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Fields};
use chrono_tz::Tz;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion::logical_expr::{Expr, ExprSchemable, ScalarUDF};

use super::infer::Scope;
use crate::error::Result;
use crate::functions::cast::{CAST_TAG, text_of};
use crate::functions::udf::{Builtin, Call, Nulls, Ret};
use crate::types::{LogicalType, TypeRoot};

/// The function as users call it.
const TYPE_OF: &str = "typeof";

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    // Calls that nobody has seen know the type only.
    fn of_array(c: &Call<'_>) -> Result<ArrayRef> {
        let name = LogicalType::from_arrow(c.ty(0), true)?.to_string();
        Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(name, c.rows))))
    }
    vec![
        Builtin::new(TYPE_OF, "a b?", Ret::Type(DataType::Utf8), of_array).nulls(Nulls::Never).build(),
        Arc::clone(&SETTLED),
    ]
}

/// The text of a type. Its own type is that of TYPEOF, as that of a literal is not.
static SETTLED: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    Builtin::new("__typeof", "s", Ret::Type(DataType::Utf8), |c| c.full(0)).nulls(Nulls::May).build()
});

/// Whether an expression may be for [`settle_types`], by what can be told without types.
pub fn may_read_types(e: &Expr) -> bool {
    e.exists(|e| {
        Ok(match e {
            Expr::ScalarFunction(f) => f.name() == TYPE_OF,
            Expr::Cast(Cast { field, .. }) | Expr::TryCast(TryCast { field, .. }) => {
                *field.data_type() == DataType::Utf8
            }
            _ => false,
        })
    })
    .unwrap_or(false)
}

/// Whether an expression over the columns of a schema is for [`settle_types`].
pub fn reads_types(e: &Expr, schema: &dyn ExprSchema) -> bool {
    e.exists(|e| {
        Ok(match e {
            Expr::ScalarFunction(f) => f.name() == TYPE_OF,
            Expr::Cast(Cast { expr, field }) | Expr::TryCast(TryCast { expr, field }) => {
                *field.data_type() == DataType::Utf8
                    && tagged(expr).get_type(schema).is_ok_and(|t| has_time(&t))
            }
            _ => false,
        })
    })
    .unwrap_or(false)
}

/// Whether one of the columns has times of day in it, whose digits Arrow does not know.
pub fn has_times(columns: &Fields) -> bool {
    columns.iter().any(|f| has_time(f.data_type()))
}

fn has_time(t: &DataType) -> bool {
    match t {
        DataType::Timestamp(..) | DataType::Time32(_) => true,
        DataType::List(f) | DataType::Map(f, _) => has_time(f.data_type()),
        DataType::Struct(fields) => has_times(fields),
        _ => false,
    }
}

/// Whether Arrow's type would print other digits.
fn has_own_digits(t: &LogicalType) -> bool {
    match &t.root {
        TypeRoot::Time(_) => true,
        TypeRoot::Timestamp(p) | TypeRoot::TimestampLtz(p) => !matches!(p, 3 | 6 | 9),
        TypeRoot::Array(e) | TypeRoot::Multiset(e) => has_own_digits(e),
        TypeRoot::Map(k, v) => has_own_digits(k) || has_own_digits(v),
        TypeRoot::Row(fields) => fields.iter().any(|f| has_own_digits(&f.ty)),
        _ => false,
    }
}

/// What a cast is of, below the mark of casts.
fn tagged(e: &Expr) -> &Expr {
    match e {
        Expr::ScalarFunction(f) if f.name() == CAST_TAG => f.args.first().unwrap_or(e),
        other => other,
    }
}

/// An expression whose calls of TYPEOF are texts, and whose texts of times have the digits of their types.
///
/// # Errors
/// For expressions that have no type.
pub fn settle_types(e: Expr, scope: &Scope<'_>, zone: Tz) -> DfResult<Transformed<Expr>> {
    e.transform_up(|e| match &e {
        Expr::ScalarFunction(f) if f.name() == TYPE_OF => {
            let Some(value) = f.args.first() else { return Ok(Transformed::no(e)) };
            let ty = scope.type_of(value)?;
            let long = matches!(f.args.get(1), Some(Expr::Literal(ScalarValue::Boolean(Some(true)), _)));
            let text = if long { format!("{ty:#}") } else { ty.to_string() };
            Ok(Transformed::yes(SETTLED.call(vec![Expr::Literal(ScalarValue::Utf8(Some(text)), None)])))
        }
        Expr::Cast(Cast { expr, field }) if *field.data_type() == DataType::Utf8 => {
            match text_with_digits(expr, scope, zone)? {
                Some(expr) => Ok(Transformed::yes(Expr::Cast(Cast::new_from_field(expr, Arc::clone(field))))),
                None => Ok(Transformed::no(e)),
            }
        }
        Expr::TryCast(TryCast { expr, field }) if *field.data_type() == DataType::Utf8 => {
            match text_with_digits(expr, scope, zone)? {
                Some(expr) => {
                    Ok(Transformed::yes(Expr::TryCast(TryCast::new_from_field(expr, Arc::clone(field)))))
                }
                None => Ok(Transformed::no(e)),
            }
        }
        _ => Ok(Transformed::no(e)),
    })
}

/// The text of what is cast, under the mark of casts that it had; `None` where Arrow's type has the same digits.
fn text_with_digits(e: &Expr, scope: &Scope<'_>, zone: Tz) -> Result<Option<Box<Expr>>> {
    let value = tagged(e);
    let ty = scope.type_of(value)?;
    if !has_own_digits(&ty) {
        return Ok(None);
    }
    let text = text_of(value.clone(), ty, zone);
    Ok(Some(Box::new(match e {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == CAST_TAG => {
            let mut args = args.clone();
            if let Some(first) = args.first_mut() {
                *first = text;
            }
            Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(func), args))
        }
        _ => text,
    })))
}

/// As [`settle_types`], over columns of which no more is known than their Arrow types.
///
/// # Errors
/// For expressions that have no type.
pub(super) fn settle_by_arrow(e: Expr, schema: &DFSchema, zone: Tz) -> DfResult<Transformed<Expr>> {
    if !may_read_types(&e) || !reads_types(&e, schema) {
        return Ok(Transformed::no(e));
    }
    let types = schema.fields().iter().map(LogicalType::from_field).collect::<Result<Vec<_>>>()?;
    settle_types(e, &Scope::new(schema, &types)?, zone)
}
