//! Literals with Flink's types: `1` INT, `3000000000` BIGINT, `1.50` DECIMAL(3, 2), `1e0` DOUBLE,
//! `TIMESTAMP '…'` with as many fraction digits as written.

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, TimezoneInfo, TypedString, UnaryOperator, Value, ValueWithSpan,
};

use crate::error::{Error, Location, Result};

/// `-5` as one literal, so that `-2147483648` is an INT.
pub(super) fn fold_sign(expr: &mut Expr) {
    let Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } = expr else { return };
    if let Expr::Value(ValueWithSpan { value: Value::Number(n, _), span }) = &**inner
        && !n.starts_with('-')
    {
        let value = Value::Number(format!("-{n}"), false);
        *expr = Expr::Value(ValueWithSpan { value, span: *span });
    }
}

pub(super) fn rewrite(expr: &mut Expr) -> Result<()> {
    match expr {
        Expr::Value(v) => match &v.value {
            Value::Number(n, _) => {
                let at = Location { line: v.span.start.line, column: v.span.start.column };
                if let Some(t) = number_type(n).map_err(|e| e.at(at))? {
                    let inner = match t {
                        // A string keeps the digits: DataFusion would read the number as a DOUBLE, or as a DECIMAL of
                        // negative scale where it has an exponent.
                        DataType::Decimal(_) | DataType::Double(_) => text(n),
                        _ => Expr::Value(v.clone()),
                    };
                    *expr = cast(inner, t);
                }
            }
            Value::UnicodeStringLiteral(s) | Value::NationalStringLiteral(s) => *expr = text(s),
            _ => {}
        },
        Expr::TypedString(TypedString { data_type, value, .. }) => {
            let Value::SingleQuotedString(s) = &value.value else { return Ok(()) };
            let t = match data_type {
                DataType::Timestamp(None, TimezoneInfo::None) => {
                    DataType::Timestamp(Some(fraction_digits(s)?), TimezoneInfo::None)
                }
                DataType::Date | DataType::Time(None, TimezoneInfo::None) => data_type.clone(),
                other => {
                    return Err(Error::unsupported(format!("there is no literal {other} '{s}'"))
                        .hint(format!("write CAST('{s}' AS {other})")));
                }
            };
            *expr = cast(text(s), t);
        }
        _ => {}
    }
    Ok(())
}

/// Digits behind the point of a timestamp's text.
///
/// # Errors
/// Validation for more than 9.
pub fn fraction_digits(text: &str) -> Result<u64> {
    let digits = text.rsplit_once('.').map_or(0, |(_, f)| f.trim_end().len());
    if digits > 9 {
        return Err(Error::validation(format!("TIMESTAMP '{text}' has more than 9 fraction digits")));
    }
    Ok(digits as u64)
}

/// The type to cast a number to; `None` where DataFusion's own reading is Flink's.
fn number_type(n: &str) -> Result<Option<DataType>> {
    if n.contains(['e', 'E']) {
        if n.parse::<f64>().is_ok_and(f64::is_infinite) {
            return Err(Error::validation(format!("numeric literal '{n}' out of range"))
                .hint("a DOUBLE is at most 1.7976931348623157E308; CAST('Infinity' AS DOUBLE) is beyond"));
        }
        return Ok(Some(DataType::Double(ExactNumberInfo::None)));
    }
    if let Some((whole, fraction)) = n.trim_start_matches('-').split_once('.') {
        let scale = fraction.len() as u64;
        let precision = (whole.len() as u64 + scale).max(1);
        if precision > 38 {
            return Err(Error::validation(format!("numeric literal '{n}' out of range"))
                .hint("a DECIMAL has at most 38 digits; write it as DOUBLE, e.g. 1.5e0"));
        }
        return Ok(Some(DataType::Decimal(ExactNumberInfo::PrecisionAndScale(precision, scale as i64))));
    }
    if n.parse::<i32>().is_ok() {
        Ok(Some(DataType::Int(None)))
    } else if n.parse::<i64>().is_ok() {
        Ok(None)
    } else {
        Err(Error::validation(format!("numeric literal '{n}' out of range"))
            .hint(format!("integers are at most 64 bits; write CAST('{n}' AS DECIMAL(38, 0))")))
    }
}

/// The number of a typed integer literal.
pub(super) fn typed_integer(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Cast {
            kind: CastKind::Cast,
            expr,
            data_type: DataType::Int(None),
            array: false,
            format: None,
        } => match &**expr {
            Expr::Value(ValueWithSpan { value: Value::Number(n, _), .. }) => Some(n),
            _ => None,
        },
        Expr::Value(ValueWithSpan { value: Value::Number(n, _), .. }) => Some(n),
        _ => None,
    }
}

/// Back from the typed integer literal to the bare number.
pub(super) fn unwrap(expr: &mut Expr) {
    if typed_integer(expr).is_some()
        && let Expr::Cast { expr: inner, .. } = expr
    {
        *expr = std::mem::replace(inner, Expr::Value(Value::Null.into()));
    }
}

pub(super) fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

pub(super) fn text(s: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(s.to_owned()).into())
}

pub(super) fn number(n: i64) -> Expr {
    Expr::Value(Value::Number(n.to_string(), false).into())
}

/// The text of a string literal.
pub(super) fn string_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(s), .. }) => Some(s),
        _ => None,
    }
}
