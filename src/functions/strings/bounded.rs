//! Casts to types with a length or a precision that Arrow's types do not have: cut, and for CHAR and BINARY padded.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type, Time32MillisecondType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Expr, ScalarUDF};

use crate::error::Result;
use crate::functions::room::{check_room, check_value};
use crate::functions::strings::ascii::{self, Text};
use crate::functions::udf::{Builtin, Call, Ret, build_bytes, build_strings};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Builtin::new("__char", "s l", Ret::Type(DataType::Utf8), |c| text(c, true)).build(),
        Builtin::new("__varchar", "s l", Ret::Type(DataType::Utf8), |c| text(c, false)).build(),
        Arc::clone(&PRECISION),
        Builtin::new("__binary", "x l", Ret::Type(DataType::Binary), |c| bytes(c, true)).build(),
        Builtin::new("__varbinary", "x l", Ret::Type(DataType::Binary), |c| bytes(c, false)).build(),
    ]
}

static PRECISION: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Builtin::new("__precision", "t l", Ret::Arg(0), precision).build());

/// A time cut to so many digits of a second.
pub fn with_precision(time: Expr, digits: u8) -> Expr {
    PRECISION.call(vec![time, Expr::Literal(ScalarValue::Int64(Some(digits.into())), None)])
}

fn text(c: &Call<'_>, pad: bool) -> Result<ArrayRef> {
    let (s, n) = (c.str(0)?, c.prim::<Int64Type>(1)?);
    let all_ascii = ascii::is_ascii(c, 0)?;
    build_strings(c.rows, |i, out| {
        let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(false) };
        let n = usize::try_from(n).unwrap_or(0);
        let text = Text::new(s, all_ascii);
        out.push_str(text.first(n));
        if pad {
            let missing = n.saturating_sub(text.length());
            check_room(out.len(), missing)?;
            out.extend(std::iter::repeat_n(' ', missing));
        }
        Ok(true)
    })
}

/// A time without the fraction digits beyond its precision, cut off toward the past.
fn precision(c: &Call<'_>) -> Result<ArrayRef> {
    let a = c.full(0)?;
    let unit = match a.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => 6,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 9,
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Time32(TimeUnit::Millisecond) => 3,
        _ => return Ok(a),
    };
    let digits = c.prim::<Int64Type>(1)?.get(0).and_then(|n| u32::try_from(n).ok()).unwrap_or(unit);
    let step = 10i64.pow(unit.saturating_sub(digits));
    if let DataType::Time32(_) = a.data_type() {
        let step = step as i32;
        let cut = |v: i32| v - v.rem_euclid(step);
        return Ok(Arc::new(
            a.as_primitive::<Time32MillisecondType>().unary::<_, Time32MillisecondType>(cut),
        ));
    }
    let values = arrow::compute::cast(&a, &DataType::Int64)?;
    let cut = |v: i64| v.saturating_sub(v.rem_euclid(step));
    let out: Int64Array = values.as_primitive::<Int64Type>().unary(cut);
    Ok(arrow::compute::cast(&out, a.data_type())?)
}

fn bytes(c: &Call<'_>, pad: bool) -> Result<ArrayRef> {
    let (s, n) = (c.bytes(0)?, c.prim::<Int64Type>(1)?);
    build_bytes(c.rows, |i, out| {
        let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(false) };
        let n = usize::try_from(n).unwrap_or(0);
        out.extend(s.iter().take(n));
        if pad {
            check_value(n)?;
            out.resize(n, 0);
        }
        Ok(true)
    })
}
