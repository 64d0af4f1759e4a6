//! Casts to types with a length, which Arrow's types do not have: cut, and for CHAR and BINARY padded.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::ScalarUDF;

use crate::error::Result;
use crate::functions::udf::{Builtin, Call, Ret, build_bytes, build_strings};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Builtin::new("__char", "s l", Ret::Type(DataType::Utf8), |c| text(c, true)).build(),
        Builtin::new("__varchar", "s l", Ret::Type(DataType::Utf8), |c| text(c, false)).build(),
        Builtin::new("__binary", "x l", Ret::Type(DataType::Binary), |c| bytes(c, true)).build(),
        Builtin::new("__varbinary", "x l", Ret::Type(DataType::Binary), |c| bytes(c, false)).build(),
    ]
}

fn text(c: &Call<'_>, pad: bool) -> Result<ArrayRef> {
    let (s, n) = (c.str(0)?, c.prim::<Int64Type>(1)?);
    build_strings(c.rows, |i, out| {
        let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(false) };
        let n = usize::try_from(n).unwrap_or(0);
        let mut length = 0;
        for ch in s.chars().take(n) {
            out.push(ch);
            length += 1;
        }
        if pad {
            out.extend(std::iter::repeat_n(' ', n - length));
        }
        Ok(true)
    })
}

fn bytes(c: &Call<'_>, pad: bool) -> Result<ArrayRef> {
    let (s, n) = (c.bytes(0)?, c.prim::<Int64Type>(1)?);
    build_bytes(c.rows, |i, out| {
        let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(false) };
        let n = usize::try_from(n).unwrap_or(0);
        out.extend(s.iter().take(n));
        if pad {
            out.resize(n, 0);
        }
        Ok(true)
    })
}
