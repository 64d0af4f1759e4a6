//! What joins texts, or bytes.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::DataType;
use datafusion::logical_expr::ScalarUDF;

use crate::error::Result;
use crate::functions::room::{check_room, check_value};
use crate::functions::udf::{Builtin, Nulls, Ret, build_bytes, build_strings};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let with_separator = Builtin::new("concat_ws", "s s*", Ret::Type(DataType::Utf8), |c| {
        let separator = c.str(0)?;
        let parts = (1..c.len()).map(|i| c.str(i)).collect::<Result<Vec<_>>>()?;
        build_strings(c.rows, |i, out| {
            let Some(separator) = separator.get(i) else { return Ok(false) };
            let from = out.len();
            for (k, s) in parts.iter().filter_map(|p| p.get(i)).enumerate() {
                if k > 0 {
                    push(out, from, separator)?;
                }
                push(out, from, s)?;
            }
            Ok(true)
        })
    });
    vec![
        texts("concat"),
        Arc::clone(&CONCAT),
        Arc::clone(&CONCAT_BYTES),
        with_separator.nulls(Nulls::May).build(),
    ]
}

/// What `||` is for two types: a function, unless DataFusion's operator is as good.
pub(crate) fn concatenation(left: &DataType, right: &DataType) -> Option<Arc<ScalarUDF>> {
    let both = |t: DataType| [left, right].iter().all(|x| **x == t || **x == DataType::Null);
    match (left, right) {
        (DataType::Null, DataType::Null) => None,
        _ if both(DataType::Utf8) => Some(Arc::clone(&CONCAT)),
        _ if both(DataType::Binary) => Some(Arc::clone(&CONCAT_BYTES)),
        _ => None,
    }
}

/// `||` of texts.
static CONCAT: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| texts("__concat"));

/// CONCAT, and `||`, whose result has another length.
fn texts(name: &'static str) -> Arc<ScalarUDF> {
    let concat = Builtin::new(name, "s s*", Ret::Type(DataType::Utf8), |c| {
        let parts = (0..c.len()).map(|i| c.str(i)).collect::<Result<Vec<_>>>()?;
        build_strings(c.rows, |i, out| {
            let from = out.len();
            for p in &parts {
                match p.get(i) {
                    Some(s) => push(out, from, s)?,
                    None => return Ok(false),
                }
            }
            Ok(true)
        })
    });
    concat.build()
}

/// `||` of bytes.
static CONCAT_BYTES: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| {
    let concat = Builtin::new("__concat_bytes", "x x*", Ret::Type(DataType::Binary), |c| {
        let parts = (0..c.len()).map(|i| c.bytes(i)).collect::<Result<Vec<_>>>()?;
        build_bytes(c.rows, |i, out| {
            for p in &parts {
                let Some(bytes) = p.get(i) else { return Ok(false) };
                check_value(out.len() + bytes.len())?;
                out.extend_from_slice(bytes);
            }
            Ok(true)
        })
    });
    concat.build()
});

/// Appends to the value of a column's text that begins at `from`, while there is room.
#[inline]
pub(crate) fn push(out: &mut String, from: usize, s: &str) -> Result<()> {
    check_room(from, out.len() - from + s.len())?;
    out.push_str(s);
    Ok(())
}
