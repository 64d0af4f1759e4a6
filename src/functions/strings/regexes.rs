//! Regular expressions, see [`super::java_regex`]. A constant pattern that does not compile is refused when it is first
//! evaluated, one from data gives NULL.

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion::logical_expr::ScalarUDF;
use regex::Regex;

use super::concat::push;
use super::java_regex::compile;
use crate::error::{Error, Result};
use crate::functions::room::check_room;
use crate::functions::udf::{Builtin, Call, Col, Nulls, Ret, build_bools, build_prims, build_strings};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let text = || Ret::Type(DataType::Utf8);
    let int = || Ret::Type(DataType::Int32);
    let list = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    vec![
        Builtin::new("regexp", "s s", Ret::Type(DataType::Boolean), |c| {
            let (s, mut regexes) = (c.str(0)?, Regexes::new(c, 1, false)?);
            build_bools(c.rows, |i| {
                let Some(s) = s.get(i) else { return Ok(None) };
                match regexes.text(i) {
                    None => Ok(None),
                    Some("") => Ok(Some(false)),
                    Some(_) => Ok(Some(regexes.get(i)?.is_some_and(|r| r.is_match(s)))),
                }
            })
        }),
        Builtin::new("regexp_replace", "s s s", text(), |c| {
            let (s, mut regexes, with) = (c.str(0)?, Regexes::new(c, 1, true)?, c.str(2)?);
            build_strings(c.rows, |i, out| {
                let (Some(s), Some(with)) = (s.get(i), with.get(i)) else { return Ok(false) };
                let Some(r) = regexes.get(i)? else { return Ok(false) };
                let (value, mut from) = (out.len(), 0);
                for found in r.find_iter(s) {
                    push(out, value, s.get(from..found.start()).unwrap_or(""))?;
                    push(out, value, with)?;
                    from = found.end();
                }
                push(out, value, s.get(from..).unwrap_or(""))?;
                Ok(true)
            })
        }),
        Builtin::new("regexp_extract", "s s i?", text(), |c| {
            let (s, mut regexes) = (c.str(0)?, Regexes::new(c, 1, true)?);
            let group = if c.has(2) { Some(c.prim::<Int32Type>(2)?) } else { None };
            build_strings(c.rows, |i, out| {
                let Some(s) = s.get(i) else { return Ok(false) };
                let Some(g) = group.as_ref().map_or(Some(0), |g| g.get(i)) else { return Ok(false) };
                let (Some(r), Ok(g)) = (regexes.get(i)?, usize::try_from(g)) else { return Ok(false) };
                let found = r.captures(s).and_then(|c| c.get(g));
                Ok(found.map(|m| out.push_str(m.as_str())).is_some())
            })
        }),
        Builtin::new("regexp_extract_all", "s s i?", Ret::Type(list), extract_all),
        Builtin::new("regexp_count", "s s", int(), |c| {
            let (s, mut regexes) = (c.str(0)?, Regexes::new(c, 1, false)?);
            build_prims::<Int32Type>(c.rows, |i| {
                let Some(s) = s.get(i) else { return Ok(None) };
                Ok(regexes.get(i)?.map(|r| r.find_iter(s).count() as i32))
            })
        }),
        Builtin::new("regexp_instr", "s s", int(), |c| {
            let (s, mut regexes) = (c.str(0)?, Regexes::new(c, 1, false)?);
            build_prims::<Int32Type>(c.rows, |i| {
                let Some(s) = s.get(i) else { return Ok(None) };
                let Some(r) = regexes.get(i)? else { return Ok(None) };
                let at = r.find(s).map(|m| s.get(..m.start()).map_or(0, |p| p.chars().count()) as i32 + 1);
                Ok(Some(at.unwrap_or(0)))
            })
        }),
        Builtin::new("regexp_substr", "s s", text(), |c| {
            let (s, mut regexes) = (c.str(0)?, Regexes::new(c, 1, false)?);
            build_strings(c.rows, |i, out| {
                let Some(s) = s.get(i) else { return Ok(false) };
                let Some(r) = regexes.get(i)? else { return Ok(false) };
                Ok(r.find(s).map(|m| out.push_str(m.as_str())).is_some())
            })
        }),
    ]
    .into_iter()
    .map(|b| b.nulls(Nulls::May).build())
    .collect()
}

/// The pattern of each row, compiled when it changes.
pub(super) struct Regexes<'a> {
    texts: Col<'a, StringArray>,
    known: Option<(String, Option<Regex>)>,
    /// Whether an invalid pattern is an error.
    strict: bool,
}

impl<'a> Regexes<'a> {
    pub(super) fn new(c: &'a Call<'_>, i: usize, strict: bool) -> Result<Self> {
        Ok(Regexes { texts: c.str(i)?, known: None, strict: strict && c.is_constant(i) })
    }

    fn text(&self, row: usize) -> Option<&'a str> {
        self.texts.get(row)
    }

    /// `None` for a NULL or invalid pattern.
    pub(super) fn get(&mut self, row: usize) -> Result<Option<&Regex>> {
        let Some(text) = self.texts.get(row) else { return Ok(None) };
        if self.known.as_ref().is_none_or(|(k, _)| k != text) {
            let compiled = match compile(text) {
                Ok(r) => Some(r),
                Err((reason, known)) if self.strict || known => {
                    return Err(Error::validation(format!("invalid regular expression '{text}': {reason}"))
                        .hint("look-around and back references are not supported"));
                }
                Err(_) => None,
            };
            self.known = Some((text.to_owned(), compiled));
        }
        Ok(self.known.as_ref().and_then(|(_, r)| r.as_ref()))
    }
}

fn extract_all(c: &Call<'_>) -> Result<ArrayRef> {
    let (s, mut regexes) = (c.str(0)?, Regexes::new(c, 1, false)?);
    let group = if c.has(2) { Some(c.prim::<Int32Type>(2)?) } else { None };
    let mut out = ListBuilder::new(StringBuilder::new());
    for i in 0..c.rows {
        let g = group.as_ref().map_or(Some(1), |g| g.get(i)).and_then(|g| usize::try_from(g).ok());
        let (Some(s), Some(g), Some(r)) = (s.get(i), g, regexes.get(i)?) else {
            out.append(false);
            continue;
        };
        if g >= r.captures_len() {
            out.append(false);
            continue;
        }
        for m in r.captures_iter(s) {
            let found = m.get(g).map(|m| m.as_str());
            check_room(out.values().values_slice().len(), found.map_or(0, str::len))?;
            out.values().append_option(found);
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}
