//! JSON in strings: `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS` with a path, `JSON_STRING` of any value.
//!
//! ```text
//!  text ─► value (document: numbers keep their spelling) ─► path ─► matches ─► scalar text, or JSON with sorted keys
//! ```
//!
//! What goes wrong in a document or on the way is NULL (FALSE for JSON_EXISTS), Flink's default of `ON ERROR`.

mod path;
mod value;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use chrono_tz::Tz;
use datafusion::logical_expr::ScalarUDF;

use crate::error::{Error, Result};
use crate::functions::cast::text::printer;
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_bools, build_strings};
use crate::text::{Escapes, write_base64, write_json_string};
use path::Path;
use value::Json;

/// All of them.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let text = || Ret::Type(DataType::Utf8);
    vec![
        Builtin::new("json_value", "s s", text(), |c| {
            matches(c, |path, document, out| {
                let found = path.find(document);
                let [one] = found.as_slice() else { return false };
                match one {
                    Json::Text(s) => out.push_str(s),
                    Json::Number(n) => value::write_number(n, out),
                    Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
                    _ => return false,
                }
                !path.is_indefinite()
            })
        }),
        Builtin::new("json_query", "s s", text(), |c| {
            matches(c, |path, document, out| {
                let found = path.find(document);
                if path.is_indefinite() {
                    out.push('[');
                    for (i, j) in found.iter().enumerate() {
                        if i > 0 {
                            out.push(',');
                        }
                        j.write(out);
                    }
                    out.push(']');
                    return true;
                }
                match found.as_slice() {
                    [one @ (Json::Array(_) | Json::Object(_))] => {
                        one.write(out);
                        true
                    }
                    _ => false,
                }
            })
        }),
        Builtin::new("json_exists", "s s", Ret::Type(DataType::Boolean), |c| {
            let (s, mut paths) = (c.str(0)?, Paths::new(c));
            build_bools(c.rows, |i| {
                let Some(s) = s.get(i) else { return Ok(None) };
                let Some(path) = paths.get(i)? else { return Ok(None) };
                Ok(Some(Json::parse(s).is_some_and(|j| !path.find(&j).is_empty())))
            })
        }),
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
    ]
    .into_iter()
    .map(|b| b.nulls(Nulls::May).build())
    .collect()
}

/// The path of each row, compiled when it changes.
struct Paths<'a> {
    call: &'a Call<'a>,
    known: Option<(String, Path)>,
}

impl<'a> Paths<'a> {
    fn new(call: &'a Call<'a>) -> Self {
        Paths { call, known: None }
    }

    fn get(&mut self, row: usize) -> Result<Option<&Path>> {
        let Some(text) = self.call.str(1)?.get(row) else { return Ok(None) };
        if self.known.as_ref().is_none_or(|(k, _)| k != text) {
            let path = Path::parse(text).ok_or_else(|| {
                Error::validation(format!("invalid JSON path '{text}'"))
                    .hint("supported are $, .name, ['name'], [index], .*, [*] and ..name")
            })?;
            self.known = Some((text.to_owned(), path));
        }
        Ok(self.known.as_ref().map(|(_, p)| p))
    }
}

fn matches(c: &Call<'_>, f: impl Fn(&Path, &Json, &mut String) -> bool) -> Result<ArrayRef> {
    let (s, mut paths) = (c.str(0)?, Paths::new(c));
    build_strings(c.rows, |i, out| {
        let Some(s) = s.get(i) else { return Ok(false) };
        let Some(path) = paths.get(i)? else { return Ok(false) };
        Ok(Json::parse(s).is_some_and(|j| f(path, &j, out)))
    })
}

/// Writes one value of an array as JSON; the row is not null.
type Print = Box<dyn Fn(usize, &mut String)>;

fn json_printer(a: &ArrayRef) -> Result<Print> {
    use DataType as D;
    Ok(match a.data_type() {
        D::Boolean => {
            let a = a.as_boolean().clone();
            Box::new(move |i, out| out.push_str(if a.value(i) { "true" } else { "false" }))
        }
        D::Utf8 => {
            let a = a.as_string::<i32>().clone();
            Box::new(move |i, out| write_json_string(a.value(i), Escapes::JACKSON, out))
        }
        D::Binary => {
            let a = a.as_binary::<i32>().clone();
            Box::new(move |i, out| {
                out.push('"');
                write_base64(a.value(i), out);
                out.push('"');
            })
        }
        t if t.is_numeric() => printer(a, Tz::UTC)?,
        D::Timestamp(_, zone) => {
            let (print, zoned) = (printer(a, Tz::UTC)?, zone.is_some());
            Box::new(move |i, out| {
                out.push('"');
                let mut text = String::new();
                print(i, &mut text);
                out.push_str(&text.replacen(' ', "T", 1));
                out.push_str(if zoned { "Z\"" } else { "\"" });
            })
        }
        D::List(_) => {
            let l = a.as_list::<i32>().clone();
            let item = json_printer(l.values())?;
            Box::new(move |i, out| {
                let o = l.value_offsets();
                let (from, to) = (o.get(i).copied().unwrap_or(0), o.get(i + 1).copied().unwrap_or(0));
                out.push('[');
                for k in from as usize..to as usize {
                    if k > from as usize {
                        out.push(',');
                    }
                    or_null(l.values(), k, &item, out);
                }
                out.push(']');
            })
        }
        D::Map(_, _) if *a.as_map().keys().data_type() == D::Utf8 => {
            let m = a.as_map().clone();
            let (key, item) = (json_printer(m.keys())?, json_printer(m.values())?);
            Box::new(move |i, out| {
                let o = m.value_offsets();
                let (from, to) = (o.get(i).copied().unwrap_or(0), o.get(i + 1).copied().unwrap_or(0));
                out.push('{');
                for k in from as usize..to as usize {
                    if k > from as usize {
                        out.push(',');
                    }
                    key(k, out);
                    out.push(':');
                    or_null(m.values(), k, &item, out);
                }
                out.push('}');
            })
        }
        D::Struct(fields) => {
            let s = a.as_struct().clone();
            let names: Vec<String> = fields.iter().map(|f| f.name().clone()).collect();
            let items = s.columns().iter().map(json_printer).collect::<Result<Vec<_>>>()?;
            Box::new(move |i, out| {
                out.push('{');
                for (n, ((name, column), item)) in names.iter().zip(s.columns()).zip(&items).enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    write_json_string(name, Escapes::JACKSON, out);
                    out.push(':');
                    or_null(column, i, item, out);
                }
                out.push('}');
            })
        }
        D::Null => Box::new(|_, out| out.push_str("null")),
        other => {
            return Err(Error::validation(format!(
                "JSON_STRING does not take {}",
                crate::types::sql_name(other)
            ))
            .hint("CAST it to STRING"));
        }
    })
}

fn or_null(a: &ArrayRef, i: usize, print: &Print, out: &mut String) {
    if a.is_null(i) { out.push_str("null") } else { print(i, out) }
}
