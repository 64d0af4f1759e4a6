//! JSON in strings and VARIANTs.
//!
//! ```text
//!  text ─► value (numbers keep their spelling) ─► path ─► found ─► query      JSON_VALUE, JSON_QUERY, JSON_EXISTS, IS JSON
//!                                      └─────────────────────────► variant    PARSE_JSON, subscripts, casts
//!  any value ─► json_printer ────────────────────────────────────► construct  JSON_STRING, JSON_OBJECT, JSON_ARRAY
//! ```

mod construct;
mod path;
mod query;
mod value;
pub(crate) mod variant;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use chrono_tz::Tz;
use datafusion::logical_expr::ScalarUDF;

use crate::error::{Error, Result};
use crate::functions::cast::text::printer;
use crate::functions::udf::Call;
use crate::text::{Escapes, write_base64, write_json_string};
use crate::types::{is_bitmap, is_variant};
use path::Path;
use value::write_number;

/// All of them.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let mut out = query::functions();
    out.extend(construct::functions());
    out.extend(variant::functions());
    out
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
                Error::validation(format!("invalid JSON path '{text}'")).hint(
                    "supported are $, .name, ['name'], [index], [from:to], .*, [*], ..name and [?(@.name > 1)]",
                )
            })?;
            self.known = Some((text.to_owned(), path));
        }
        Ok(self.known.as_ref().map(|(_, p)| p))
    }
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
        D::Float32 | D::Float64 => {
            let print = printer(a, Tz::UTC)?;
            Box::new(move |i, out| {
                let mut text = String::new();
                print(i, &mut text);
                write_number(&text, out);
            })
        }
        t if t.is_numeric() => printer(a, Tz::UTC)?,
        D::Timestamp(_, zone) => {
            let (print, zoned) = (printer(a, Tz::UTC)?, zone.is_some());
            Box::new(move |i, out| {
                out.push('"');
                let mut text = String::new();
                print(i, &mut text);
                // ISO 8601 as Java writes it: no zeros at the end of a fraction.
                let text =
                    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
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
        t if is_variant(t) => {
            let texts = variant::texts(a).clone();
            Box::new(move |i, out| out.push_str(texts.value(i)))
        }
        D::Struct(fields) if !is_bitmap(a.data_type()) => {
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

/// Reads a document and a path, for fuzzing: what was read and is written is read as the same.
#[cfg(test)]
pub(crate) fn fuzz_target(document: &str, path: &str) {
    let parsed = value::Json::parse(document);
    if let Some(j) = &parsed {
        let mut text = String::new();
        j.write(&mut text);
        let mut again = String::new();
        value::Json::read(&text, false).unwrap().write(&mut again);
        assert_eq!(text, again);
    }
    if let Some(path) = Path::parse(path) {
        let _ = path.look(parsed.as_ref());
    }
}
