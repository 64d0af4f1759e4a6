//! `TYPEOF(x)`: the type of an expression as text.
//!
//! ```text
//!  TYPEOF(x) ─► rewrite of calls   the declared type, where Arrow's types know less (lengths, precisions)
//!            ─► analyzer           a literal, from the type and the nullability of x
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::expr::Alias;
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, ScalarUDF};

use crate::error::Result;
use crate::functions::chain::is_chain;
use crate::functions::udf::{Builtin, Call, Nulls, Ret};
use crate::types::LogicalType;

/// The function as users call it.
const TYPE_OF: &str = "typeof";

/// With the declared type as its second argument.
pub(super) const TYPE_OF_DECLARED: &str = "__typeof";

/// Functions that are null exactly when an argument is by Flink's rules, though their results can be null here.
const STRICT: &[&str] = &["CAST", "__add", "__subtract", "__multiply", "__divide", "__mod"];

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    // Calls that the analyzer has not seen know the type only.
    fn of_array(c: &Call<'_>) -> Result<ArrayRef> {
        let name = LogicalType::from_arrow(c.ty(0), true)?.to_string();
        Ok(Arc::new(StringArray::from_iter_values(std::iter::repeat_n(name, c.rows))))
    }
    vec![
        Builtin::new(TYPE_OF, "a b?", Ret::Type(DataType::Utf8), of_array).nulls(Nulls::Never).build(),
        Builtin::new(TYPE_OF_DECLARED, "a s", Ret::Type(DataType::Utf8), |c| c.full(1))
            .nulls(Nulls::Never)
            .build(),
    ]
}

/// Whether an expression contains a call.
pub(super) fn occurs(e: &Expr) -> bool {
    e.exists(|e| Ok(is_call(e))).unwrap_or(false)
}

fn is_call(e: &Expr) -> bool {
    matches!(e, Expr::ScalarFunction(f) if f.name() == TYPE_OF || f.name() == TYPE_OF_DECLARED)
}

/// Puts literals in the place of the calls; `schema` is that of the columns, see [`exact_schema`].
pub(super) fn settle(e: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    e.transform_up(|e| {
        let Expr::ScalarFunction(f) = &e else { return Ok(Transformed::no(e)) };
        let Some(value) = f.args.first().filter(|_| is_call(&e)) else { return Ok(Transformed::no(e)) };
        let not_null = !nullable(value, schema)?;
        let text = match f.args.get(1) {
            Some(Expr::Literal(ScalarValue::Utf8(Some(declared)), _)) if f.name() == TYPE_OF_DECLARED => {
                format!("{declared}{}", if not_null { " NOT NULL" } else { "" })
            }
            _ => LogicalType::from_arrow(&value.get_type(schema)?, !not_null)?.to_string(),
        };
        Ok(Transformed::yes(Expr::Literal(ScalarValue::Utf8(Some(text)), None)))
    })
}

fn nullable(e: &Expr, schema: &DFSchema) -> DfResult<bool> {
    let any = |args: &[Expr]| -> DfResult<bool> {
        for a in args {
            if nullable(a, schema)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    match e {
        Expr::Alias(Alias { expr, .. }) => nullable(expr, schema),
        Expr::BinaryExpr(BinaryExpr { left, right, .. }) => {
            Ok(nullable(left, schema)? || nullable(right, schema)?)
        }
        Expr::ScalarFunction(f) if STRICT.contains(&f.name()) || is_chain(f.name()) => any(&f.args),
        other => other.nullable(schema),
    }
}

/// The columns of the inputs; those of VALUES are null only where a row has NULL.
pub(super) fn exact_schema(inputs: &[&LogicalPlan]) -> DfResult<DFSchema> {
    let mut fields = Vec::new();
    for input in inputs {
        for (i, (qualifier, field)) in input.schema().iter().enumerate() {
            let nullable = field.is_nullable() && column_nullable(input, i)?;
            let field: Field = field.as_ref().clone().with_nullable(nullable);
            fields.push((qualifier.cloned(), Arc::new(field)));
        }
    }
    DFSchema::new_with_metadata(fields, HashMap::new())
}

fn column_nullable(plan: &LogicalPlan, i: usize) -> DfResult<bool> {
    match plan {
        LogicalPlan::Values(v) => {
            let none = DFSchema::empty();
            for e in v.values.iter().filter_map(|row| row.get(i)) {
                if nullable(e, &none)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        LogicalPlan::Projection(p) => match p.expr.get(i) {
            Some(e) => nullable(e, &exact_schema(&[&p.input])?),
            None => Ok(true),
        },
        LogicalPlan::SubqueryAlias(a) => column_nullable(&a.input, i),
        LogicalPlan::Filter(f) => column_nullable(&f.input, i),
        LogicalPlan::Sort(s) => column_nullable(&s.input, i),
        LogicalPlan::Limit(l) => column_nullable(&l.input, i),
        other => Ok(other.schema().fields().get(i).is_none_or(|f| f.is_nullable())),
    }
}
