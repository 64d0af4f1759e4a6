//! LIKE and SIMILAR TO: Flink knows no escape character unless `ESCAPE` names one, DataFusion's is always `\`.

use datafusion::sql::sqlparser::ast::{Expr, UnaryOperator, Value, ValueWithSpan};

use super::calls::call;
use super::literal::{string_of, text};
use crate::error::{Error, Result};
use crate::functions::strings::like;

pub(super) fn rewrite(expr: &mut Expr) -> Result<()> {
    match expr {
        Expr::Like { any: true, .. } => {
            Err(Error::unsupported("LIKE ANY is not supported")
                .hint("write one LIKE for each pattern, with OR"))
        }
        Expr::Like { pattern, escape_char, .. } => {
            let escape = escape(escape_char.take())?;
            match string_of(pattern) {
                Some(p) => **pattern = text(&like::to_backslash(p, escape)?),
                None => {
                    let escape = escape.map(String::from).unwrap_or_default();
                    let taken = std::mem::replace(&mut **pattern, Expr::Value(Value::Null.into()));
                    **pattern = call("__like_pattern", vec![taken, text(&escape)]);
                }
            }
            Ok(())
        }
        Expr::SimilarTo { negated, expr: value, pattern, escape_char } => {
            let escape = escape(escape_char.take())?.map(String::from).unwrap_or_default();
            let null = || Expr::Value(Value::Null.into());
            let value = std::mem::replace(&mut **value, null());
            let pattern = std::mem::replace(&mut **pattern, null());
            let test = call("__similar_to", vec![value, pattern, text(&escape)]);
            *expr =
                if *negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(test) } } else { test };
            Ok(())
        }
        _ => Ok(()),
    }
}

fn escape(value: Option<ValueWithSpan>) -> Result<Option<char>> {
    let Some(value) = value else { return Ok(None) };
    if let Value::SingleQuotedString(s) = &value.value {
        let mut chars = s.chars();
        if let (Some(c), None) = (chars.next(), chars.next()) {
            return Ok(Some(c));
        }
    }
    Err(Error::validation(format!("invalid escape character {value}")).hint("ESCAPE takes one character"))
}
