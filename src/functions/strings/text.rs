//! Plain text functions. Positions are 1-based and count code points.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::logical_expr::ScalarUDF;

use crate::error::{Error, Result};
use crate::functions::udf::{Builtin, Call, Nulls, Ret, build_bools, build_prims, build_strings};

const TEXT: Ret = Ret::Type(DataType::Utf8);
const INT: Ret = Ret::Type(DataType::Int32);

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        one("upper", |s, out| out.extend(s.chars().flat_map(char::to_uppercase))),
        one("lower", |s, out| out.extend(s.chars().flat_map(char::to_lowercase))),
        one("reverse", |s, out| out.extend(s.chars().rev())),
        one("initcap", initcap),
        Builtin::new("char_length", "s", INT, |c| {
            let s = c.str(0)?;
            build_prims::<Int32Type>(c.rows, |i| Ok(s.get(i).map(|s| length(s) as i32)))
        }),
        Builtin::new("locate", "s s i?", INT, |c| {
            let (sub, s) = (c.str(0)?, c.str(1)?);
            let start = if c.has(2) { Some(c.prim::<Int32Type>(2)?) } else { None };
            build_prims::<Int32Type>(c.rows, |i| {
                let (Some(sub), Some(s)) = (sub.get(i), s.get(i)) else { return Ok(None) };
                let Some(from) = start.as_ref().map_or(Some(1), |p| p.get(i)) else { return Ok(None) };
                Ok(Some(find(s, sub, i64::from(from), 1) as i32))
            })
        }),
        Builtin::new("instr", "s s i? i?", INT, |c| {
            let (s, sub) = (c.str(0)?, c.str(1)?);
            let start = if c.has(2) { Some(c.prim::<Int32Type>(2)?) } else { None };
            let nth = if c.has(3) { Some(c.prim::<Int32Type>(3)?) } else { None };
            build_prims::<Int32Type>(c.rows, |i| {
                let (Some(sub), Some(s)) = (sub.get(i), s.get(i)) else { return Ok(None) };
                let start = start.as_ref().map_or(Some(1), |p| p.get(i));
                let nth = nth.as_ref().map_or(Some(1), |p| p.get(i));
                let (Some(start), Some(nth)) = (start, nth) else { return Ok(None) };
                if nth <= 0 {
                    return Err(Error::data(format!("INSTR: the occurrence must be positive, not {nth}")));
                }
                Ok(Some(find(s, sub, i64::from(start), nth as usize) as i32))
            })
        }),
        trim("ltrim", true, false),
        trim("rtrim", false, true),
        trim("btrim", true, true),
        Builtin::new("repeat", "s i", TEXT, |c| {
            let (s, n) = (c.str(0)?, c.prim::<Int32Type>(1)?);
            build_strings(c.rows, |i, out| {
                let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(false) };
                (0..n.max(0)).for_each(|_| out.push_str(s));
                Ok(true)
            })
        }),
        Builtin::new("overlay", "s s i i?", TEXT, overlay),
        Builtin::new("startswith", "s s|x x", Ret::Type(DataType::Boolean), |c| affix(c, true)),
        Builtin::new("endswith", "s s|x x", Ret::Type(DataType::Boolean), |c| affix(c, false)),
        Builtin::new("substring", "s i i?", TEXT, |c| {
            let (s, from) = (c.str(0)?, c.prim::<Int32Type>(1)?);
            let n = if c.has(2) { Some(c.prim::<Int32Type>(2)?) } else { None };
            build_strings(c.rows, |i, out| {
                let (Some(s), Some(from)) = (s.get(i), from.get(i)) else { return Ok(false) };
                let Some(n) = n.as_ref().map_or(Some(i32::MAX), |n| n.get(i)) else { return Ok(false) };
                if n < 0 {
                    return Ok(false);
                }
                out.push_str(substring(s, i64::from(from), n as usize));
                Ok(true)
            })
        })
        .nulls(Nulls::May),
        Builtin::new("left", "s i", TEXT, |c| side(c, true)),
        Builtin::new("right", "s i", TEXT, |c| side(c, false)),
        Builtin::new("replace", "s s s", TEXT, |c| {
            let (s, find, with) = (c.str(0)?, c.str(1)?, c.str(2)?);
            build_strings(c.rows, |i, out| {
                let (Some(s), Some(find), Some(with)) = (s.get(i), find.get(i), with.get(i)) else {
                    return Ok(false);
                };
                if find.is_empty() {
                    // As in Java, nothing is found before every character and at the end.
                    out.push_str(with);
                    for ch in s.chars() {
                        out.push(ch);
                        out.push_str(with);
                    }
                    return Ok(true);
                }
                for (k, part) in s.split(find).enumerate() {
                    if k > 0 {
                        out.push_str(with);
                    }
                    out.push_str(part);
                }
                Ok(true)
            })
        }),
        Builtin::new("translate", "s s s", TEXT, |c| {
            let (s, from, to) = (c.str(0)?, c.str(1)?, c.str(2)?);
            build_strings(c.rows, |i, out| {
                let (Some(s), Some(from)) = (s.get(i), from.get(i)) else { return Ok(false) };
                let to = to.get(i).unwrap_or("");
                for ch in s.chars() {
                    match from.chars().position(|f| f == ch) {
                        None => out.push(ch),
                        Some(k) => out.extend(to.chars().nth(k)),
                    }
                }
                Ok(true)
            })
        })
        .nulls(Nulls::May),
        Builtin::new("concat", "s s*", TEXT, |c| {
            let parts = (0..c.len()).map(|i| c.str(i)).collect::<Result<Vec<_>>>()?;
            build_strings(c.rows, |i, out| {
                for p in &parts {
                    match p.get(i) {
                        Some(s) => out.push_str(s),
                        None => return Ok(false),
                    }
                }
                Ok(true)
            })
        }),
        Builtin::new("concat_ws", "s s*", TEXT, |c| {
            let separator = c.str(0)?;
            let parts = (1..c.len()).map(|i| c.str(i)).collect::<Result<Vec<_>>>()?;
            build_strings(c.rows, |i, out| {
                let Some(separator) = separator.get(i) else { return Ok(false) };
                for (k, s) in parts.iter().filter_map(|p| p.get(i)).enumerate() {
                    if k > 0 {
                        out.push_str(separator);
                    }
                    out.push_str(s);
                }
                Ok(true)
            })
        })
        .nulls(Nulls::May),
        Builtin::new("lpad", "s i s", TEXT, |c| pad(c, true)).nulls(Nulls::May),
        Builtin::new("rpad", "s i s", TEXT, |c| pad(c, false)).nulls(Nulls::May),
        Builtin::new("split_index", "s s i|s i i", TEXT, split_index).nulls(Nulls::May),
        Builtin::new("elt", "i s s*", TEXT, |c| {
            let n = c.prim::<Int32Type>(0)?;
            let parts = (1..c.len()).map(|i| c.str(i)).collect::<Result<Vec<_>>>()?;
            build_strings(c.rows, |i, out| {
                let chosen = n.get(i).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
                let value = chosen.and_then(|n| parts.get(n - 1)).and_then(|p| p.get(i));
                Ok(value.map(|s| out.push_str(s)).is_some())
            })
        })
        .nulls(Nulls::May),
        test("is_alpha", |s| s.chars().all(char::is_alphabetic)),
        test("is_digit", |s| s.chars().all(|c| c.is_ascii_digit())),
        test("is_decimal", |s| {
            let body = s.trim().trim_start_matches(['+', '-']);
            body.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'.')
                && s.trim().parse::<f64>().is_ok()
        }),
    ]
    .into_iter()
    .map(Builtin::build)
    .collect()
}

/// A function of one string.
fn one(name: &'static str, f: fn(&str, &mut String)) -> Builtin {
    Builtin::new(name, "s", TEXT, move |c| {
        let s = c.str(0)?;
        build_strings(c.rows, |i, out| Ok(s.get(i).map(|s| f(s, out)).is_some()))
    })
}

/// A test that is FALSE for NULL and for the empty string.
fn test(name: &'static str, f: fn(&str) -> bool) -> Builtin {
    Builtin::new(name, "s", Ret::Type(DataType::Boolean), move |c| {
        let s = c.str(0)?;
        build_bools(c.rows, |i| Ok(Some(s.get(i).is_some_and(|s| !s.is_empty() && f(s)))))
    })
    .nulls(Nulls::Never)
}

fn length(s: &str) -> usize {
    if s.is_ascii() { s.len() } else { s.chars().count() }
}

/// Byte offset of the n-th code point, or the end.
fn offset(s: &str, n: usize) -> usize {
    if s.is_ascii() {
        return n.min(s.len());
    }
    s.char_indices().nth(n).map_or(s.len(), |(i, _)| i)
}

/// 1-based position of the n-th occurrence, 0 if there is none; a negative start searches backwards.
fn find(s: &str, sub: &str, start: i64, nth: usize) -> usize {
    let total = length(s);
    let point = |byte: usize| s.get(..byte).map_or(0, length) + 1;
    if start == 0 {
        return 0;
    }
    if start > 0 {
        let skip = (start - 1) as usize;
        if skip > total {
            return 0;
        }
        let mut from = offset(s, skip);
        for k in 0..nth {
            match s.get(from..).and_then(|rest| rest.find(sub)) {
                Some(at) if k + 1 == nth => return point(from + at),
                // Occurrences may overlap: go on one code point further.
                Some(at) => {
                    from += at + s.get(from + at..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8)
                }
                None => return 0,
            }
        }
        return 0;
    }
    let back = start.unsigned_abs() as usize;
    if back > total {
        return 0;
    }
    let mut at = total - back;
    let mut seen = 0;
    loop {
        if s.get(offset(s, at)..).is_some_and(|rest| rest.starts_with(sub)) {
            seen += 1;
            if seen == nth {
                return at + 1;
            }
        }
        if at == 0 {
            return 0;
        }
        at -= 1;
    }
}

fn substring(s: &str, from: i64, n: usize) -> &str {
    let total = length(s) as i64;
    let start = match from {
        0 => 0,
        f if f > 0 => f - 1,
        f => total + f,
    };
    if start < 0 || start >= total {
        return "";
    }
    let a = offset(s, start as usize);
    let tail = s.get(a..).unwrap_or("");
    tail.get(..offset(tail, n)).unwrap_or("")
}

fn side(c: &Call<'_>, left: bool) -> Result<ArrayRef> {
    let (s, n) = (c.str(0)?, c.prim::<Int32Type>(1)?);
    build_strings(c.rows, |i, out| {
        let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(false) };
        let n = n.max(0) as usize;
        let part = if left { s.get(..offset(s, n)) } else { s.get(offset(s, length(s).saturating_sub(n))..) };
        out.push_str(part.unwrap_or(""));
        Ok(true)
    })
}

fn initcap(s: &str, out: &mut String) {
    let mut inside = false;
    for c in s.chars() {
        if c.is_alphanumeric() {
            if inside {
                out.extend(c.to_lowercase())
            } else {
                out.extend(c.to_uppercase())
            }
            inside = true;
        } else {
            out.push(c);
            inside = false;
        }
    }
}

fn trim(name: &'static str, start: bool, end: bool) -> Builtin {
    Builtin::new(name, "s s?", TEXT, move |c| {
        let s = c.str(0)?;
        let set = if c.has(1) { Some(c.str(1)?) } else { None };
        build_strings(c.rows, |i, out| {
            let Some(mut s) = s.get(i) else { return Ok(false) };
            let Some(set) = set.as_ref().map_or(Some(" "), |x| x.get(i)) else { return Ok(false) };
            if start {
                s = s.trim_start_matches(|c| set.contains(c));
            }
            if end {
                s = s.trim_end_matches(|c| set.contains(c));
            }
            out.push_str(s);
            Ok(true)
        })
    })
}

fn overlay(c: &Call<'_>) -> Result<ArrayRef> {
    let (s, with, from) = (c.str(0)?, c.str(1)?, c.prim::<Int32Type>(2)?);
    let n = if c.has(3) { Some(c.prim::<Int32Type>(3)?) } else { None };
    build_strings(c.rows, |i, out| {
        let (Some(s), Some(with), Some(from)) = (s.get(i), with.get(i), from.get(i)) else {
            return Ok(false);
        };
        let Some(n) = n.as_ref().map_or(Some(length(with) as i32), |n| n.get(i)) else { return Ok(false) };
        let total = length(s);
        if from <= 0 || from as usize > total {
            out.push_str(s);
            return Ok(true);
        }
        let start = from as usize - 1;
        let end = if n < 0 { total } else { (start + n as usize).min(total) };
        out.push_str(s.get(..offset(s, start)).unwrap_or(""));
        out.push_str(with);
        out.push_str(s.get(offset(s, end)..).unwrap_or(""));
        Ok(true)
    })
}

fn affix(c: &Call<'_>, start: bool) -> Result<ArrayRef> {
    let fits = |s: &[u8], p: &[u8]| if start { s.starts_with(p) } else { s.ends_with(p) };
    if *c.ty(0) == DataType::Utf8 {
        let (s, p) = (c.str(0)?, c.str(1)?);
        return build_bools(c.rows, |i| {
            Ok(s.get(i).zip(p.get(i)).map(|(s, p)| fits(s.as_bytes(), p.as_bytes())))
        });
    }
    let (s, p) = (c.bytes(0)?, c.bytes(1)?);
    build_bools(c.rows, |i| Ok(s.get(i).zip(p.get(i)).map(|(s, p)| fits(s, p))))
}

fn pad(c: &Call<'_>, left: bool) -> Result<ArrayRef> {
    let (s, n, fill) = (c.str(0)?, c.prim::<Int32Type>(1)?, c.str(2)?);
    build_strings(c.rows, |i, out| {
        let (Some(s), Some(n), Some(fill)) = (s.get(i), n.get(i), fill.get(i)) else { return Ok(false) };
        if n < 0 || fill.is_empty() {
            return Ok(false);
        }
        let (n, have) = (n as usize, length(s));
        let kept = s.get(..offset(s, n)).unwrap_or("");
        if !left {
            out.push_str(kept);
        }
        out.extend(fill.chars().cycle().take(n.saturating_sub(have)));
        if left {
            out.push_str(kept);
        }
        Ok(true)
    })
}

fn split_index(c: &Call<'_>) -> Result<ArrayRef> {
    let (s, n) = (c.str(0)?, c.prim::<Int32Type>(2)?);
    let separators: StringArray = if *c.ty(1) == DataType::Utf8 {
        c.raw(1)?.as_string::<i32>().clone()
    } else {
        // A character code.
        let codes = c.raw(1)?.as_primitive::<Int32Type>();
        codes
            .iter()
            .map(|n| {
                n.and_then(|n| u8::try_from(n).ok()).filter(|n| *n > 0).map(|n| char::from(n).to_string())
            })
            .collect()
    };
    let constant = c.is_constant(1);
    build_strings(c.rows, |i, out| {
        let at = if constant { 0 } else { i };
        if separators.is_null(at) {
            return Ok(false);
        }
        let separator = separators.value(at);
        let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(false) };
        let Ok(n) = usize::try_from(n) else { return Ok(false) };
        let part = if separator.is_empty() {
            // Java's splitByWholeSeparator with no separator splits at white space.
            s.split_whitespace().nth(n)
        } else {
            s.split(separator).nth(n)
        };
        Ok(part.map(|p| out.push_str(p)).is_some())
    })
}
