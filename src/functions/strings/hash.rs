//! Hashes: lower-case hexadecimal text of the digest of a string's UTF-8 bytes, or of bytes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF};
use sha1::{Digest, Sha1};

use crate::error::{Error, Result};
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_strings};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let text = || Ret::Type(DataType::Utf8);
    let mut out = vec![
        Builtin::new("sha1", "s|x", text(), |c| {
            super::codec::either(c, |b, out| {
                Sha1::digest(b).iter().for_each(|b| push_hex(*b, out));
                true
            })
        })
        .build(),
        Builtin::new("sha2", "s i|x i", text(), sha2).nulls(Nulls::May).build(),
        Builtin::new("md5", "s|x", text(), |c| digest("md5", c)).build(),
    ];
    for name in ["sha224", "sha256", "sha384", "sha512"] {
        out.push(Builtin::new(name, "s|x", text(), move |c| digest(name, c)).build());
    }
    out
}

fn push_hex(b: u8, out: &mut String) {
    for nibble in [b >> 4, b & 15] {
        out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
    }
}

/// DataFusion's digest of the first argument, as hexadecimal text.
fn digest(name: &str, c: &Call<'_>) -> Result<ArrayRef> {
    use datafusion::functions::crypto;
    let udf = match name {
        "md5" => crypto::md5(),
        "sha224" => crypto::sha224(),
        "sha256" => crypto::sha256(),
        "sha384" => crypto::sha384(),
        _ => crypto::sha512(),
    };
    let input = c.full(0)?;
    let field = Arc::new(Field::new("x", input.data_type().clone(), true));
    let out_type = udf.return_type(&[input.data_type().clone()])?;
    let args = ScalarFunctionArgs {
        args: vec![ColumnarValue::Array(Arc::clone(&input))],
        arg_fields: vec![field],
        number_rows: input.len(),
        return_field: Arc::new(Field::new("h", out_type, true)),
        config_options: Arc::new(ConfigOptions::default()),
    };
    let bytes = udf.invoke_with_args(args)?.into_array(input.len())?;
    match bytes.data_type() {
        DataType::Binary => {
            let b = bytes.as_binary::<i32>();
            build_strings(b.len(), |i, out| {
                if b.is_null(i) {
                    return Ok(false);
                }
                b.value(i).iter().for_each(|b| push_hex(*b, out));
                Ok(true)
            })
        }
        _ => Ok(arrow::compute::cast(&bytes, &DataType::Utf8)?),
    }
}

fn sha2(c: &Call<'_>) -> Result<ArrayRef> {
    let bits = c.prim::<Int32Type>(1)?;
    if !c.is_constant(1) {
        return Err(
            Error::validation("SHA2: the number of bits must be a literal").hint("224, 256, 384 or 512")
        );
    }
    match bits.get(0) {
        None => build_strings(c.rows, |_, _| Ok(false)),
        Some(224) => digest("sha224", c),
        Some(256) => digest("sha256", c),
        Some(384) => digest("sha384", c),
        Some(512) => digest("sha512", c),
        Some(n) => {
            Err(Error::validation(format!("SHA2: unknown number of bits {n}")).hint("224, 256, 384 or 512"))
        }
    }
}
