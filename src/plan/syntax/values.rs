//! Timestamps of `VALUES` with as many digits as the finest of their column: the planner would take the coarsest.
//!
//! ```text
//!  VALUES (TIMESTAMP '….123456'), (TIMESTAMP '…')  ─►  VALUES (TIMESTAMP '….123456'), (CAST(TIMESTAMP '…' AS TIMESTAMP(6)))
//! ```
//!
//! It looks at literals and casts.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Ident, ObjectName, Query, SetExpr, TypedString, Value, VisitMut, VisitorMut,
};

use crate::functions::fraction_digits;
use crate::sql::cast_type;
use crate::types::{LogicalType, TypeRoot};

/// Most digits that the planner's three units of time hold.
const UNITS: [u8; 3] = [3, 6, 9];

/// Casts the timestamps of all VALUES of a query whose columns mix them.
pub fn settle_values(query: &mut Query) {
    let _ = query.visit(&mut Settler);
}

struct Settler;

impl VisitorMut for Settler {
    type Break = ();

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        settle(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn settle(body: &mut SetExpr) {
    match body {
        SetExpr::Values(values) => {
            let columns = values.rows.first().map_or(0, |row| row.len());
            for column in 0..columns {
                let mut entries = Vec::with_capacity(values.rows.len());
                for row in &mut values.rows {
                    entries.extend(row.get_mut(column));
                }
                settle_column(entries);
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            settle(left);
            settle(right);
        }
        _ => {}
    }
}

fn settle_column(entries: Vec<&mut Expr>) {
    let most = entries.iter().filter_map(|e| timestamp(e)).map(|(digits, _)| digits).max().unwrap_or(0);
    for entry in entries {
        if let Some((digits, zoned)) = timestamp(entry)
            && unit(digits) < unit(most)
        {
            let name = if zoned { TypeRoot::TimestampLtz(most) } else { TypeRoot::Timestamp(most) };
            let ident = Ident::with_quote('`', LogicalType::nullable(name).to_string());
            let data_type = DataType::Custom(ObjectName::from(vec![ident]), Vec::new());
            let expr = Box::new(std::mem::replace(entry, Expr::value(Value::Null)));
            *entry = Expr::Cast { kind: CastKind::Cast, expr, data_type, array: false, format: None };
        }
    }
}

/// Digits of a literal or a cast that is a timestamp, and whether it has a zone.
fn timestamp(e: &Expr) -> Option<(u8, bool)> {
    match e {
        Expr::TypedString(TypedString { data_type: DataType::Timestamp(None, _), value, .. }) => {
            let Value::SingleQuotedString(text) = &value.value else { return None };
            Some((u8::try_from(fraction_digits(text).ok()?).ok()?, false))
        }
        Expr::Cast { data_type, .. } => match cast_type(data_type)?.ok()?.root {
            TypeRoot::Timestamp(digits) => Some((digits, false)),
            TypeRoot::TimestampLtz(digits) => Some((digits, true)),
            _ => None,
        },
        Expr::Nested(inner) => timestamp(inner),
        _ => None,
    }
}

fn unit(digits: u8) -> usize {
    UNITS.iter().position(|most| digits <= *most).unwrap_or(UNITS.len())
}
