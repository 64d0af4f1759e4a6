//! Values to JSON: `JSON_STRING`, `JSON_OBJECT`, `JSON_ARRAY`.
//!
//! The rewrite of calls turns the values of the two constructors into JSON first: `JSON_ARRAY(1, JSON_ARRAY(2))` arrives as
//! `json_array(json_string(1), json_array(json_string(2)))`. A NULL is a value that is missing.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::ScalarUDF;

use super::json_printer;
use super::value::Json;
use crate::error::{Error, Result};
use crate::functions::room::check_value;
use crate::functions::udf::{Builtin, Call, Col, Nulls, Ret, build_strings};
use crate::text::{Escapes, write_json_string};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let text = || Ret::Type(DataType::Utf8);
    vec![
        Builtin::new("json_string", "a", text(), |c| {
            let a = c.full(0)?;
            let print = json_printer(&a)?;
            build_strings(c.rows, |i, out| {
                if a.is_null(i) {
                    return Ok(false);
                }
                print(i, out);
                Ok(true)
            })
        }),
        Builtin::new("__json_raw", "s", text(), |c| {
            let s = c.str(0)?;
            build_strings(c.rows, |i, out| match s.get(i) {
                None | Some("") => Ok(false),
                Some(s) => match Json::read(s, true) {
                    Ok(j) => {
                        j.write(out);
                        Ok(true)
                    }
                    Err(_) => {
                        let shown: String = s.chars().take(100).collect();
                        Err(Error::data(format!("JSON(…): '{shown}' is no JSON"))
                            .hint("without JSON(…) it becomes a JSON string"))
                    }
                },
            })
        })
        .nulls(Nulls::May),
        Builtin::new("json_object", "s*", text(), |c| object(c, true)).nulls(Nulls::Never),
        Builtin::new("__json_object_absent", "s*", text(), |c| object(c, false)).nulls(Nulls::Never),
        Builtin::new("json_array", "s*", text(), |c| array(c, false)).nulls(Nulls::Never),
        Builtin::new("__json_array_null", "s*", text(), |c| array(c, true)).nulls(Nulls::Never),
    ]
    .into_iter()
    .map(Builtin::build)
    .collect()
}

/// All arguments.
fn texts<'a>(c: &'a Call<'_>) -> Result<Vec<Col<'a, StringArray>>> {
    (0..c.len()).map(|i| c.str(i)).collect()
}

/// Keys and values in turns, in the order of the keys, the last of equal ones.
fn object(c: &Call<'_>, nulls: bool) -> Result<ArrayRef> {
    let all = texts(c)?;
    let mut fields = Vec::with_capacity(all.len() / 2);
    for (n, pair) in all.chunks_exact(2).enumerate() {
        let [key, value] = pair else { continue };
        if !c.is_constant(2 * n) {
            return Err(Error::validation("a key of JSON_OBJECT has to be a literal"));
        }
        let Some(key) = key.get(0) else {
            return Err(Error::validation("a key of JSON_OBJECT is NULL"));
        };
        let mut name = String::new();
        write_json_string(key, Escapes::JACKSON, &mut name);
        fields.push((key.to_owned(), name, value));
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    build_strings(c.rows, |i, out| {
        let (from, mut first) = (out.len(), true);
        out.push('{');
        for (n, (key, name, value)) in fields.iter().enumerate() {
            if fields.get(n + 1).is_some_and(|(next, ..)| next == key) {
                continue;
            }
            let value = match value.get(i) {
                Some(value) => value,
                None if nulls => "null",
                None => continue,
            };
            if !first {
                out.push(',');
            }
            first = false;
            check_value(out.len() - from + name.len() + value.len() + 2)?;
            out.push_str(name);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        Ok(true)
    })
}

fn array(c: &Call<'_>, nulls: bool) -> Result<ArrayRef> {
    let all = texts(c)?;
    build_strings(c.rows, |i, out| {
        let (from, mut first) = (out.len(), true);
        out.push('[');
        for value in &all {
            let value = match value.get(i) {
                Some(value) => value,
                None if nulls => "null",
                None => continue,
            };
            if !first {
                out.push(',');
            }
            first = false;
            check_value(out.len() - from + value.len() + 2)?;
            out.push_str(value);
        }
        out.push(']');
        Ok(true)
    })
}
