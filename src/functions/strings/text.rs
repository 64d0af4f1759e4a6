//! Plain text functions. Positions are 1-based and count code points.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::logical_expr::ScalarUDF;

use crate::error::{Error, Result};
use crate::functions::room::check_room;
use crate::functions::strings::ascii::{self, CharSet, Text};
use crate::functions::udf::{
    Builtin, Call, Nulls, Ret, build_bools, build_bytes, build_prims, build_strings,
};

const TEXT: Ret = Ret::Type(DataType::Utf8);
const INT: Ret = Ret::Type(DataType::Int32);

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        one(
            "upper",
            |s, out| out.extend(s.chars().flat_map(char::to_uppercase)),
            <[u8]>::make_ascii_uppercase,
        ),
        one(
            "lower",
            |s, out| out.extend(s.chars().flat_map(char::to_lowercase)),
            <[u8]>::make_ascii_lowercase,
        ),
        one("reverse", |s, out| out.extend(s.chars().rev()), <[u8]>::reverse),
        Builtin::new("initcap", "s", TEXT, |c| {
            let s = c.str(0)?;
            ascii::build(c.rows, ascii::size(c, 0)?, |i, out| {
                let Some(s) = s.get(i) else { return Ok(false) };
                let from = out.len();
                out.extend_from_slice(s.as_bytes());
                initcap(out.get_mut(from..).unwrap_or_default());
                Ok(true)
            })
        }),
        Builtin::new("char_length", "s", INT, |c| {
            if let Some(column) = ascii::column(c, 0)? {
                return ascii::lengths(column);
            }
            let s = c.str(0)?;
            build_prims::<Int32Type>(c.rows, |i| Ok(s.get(i).map(|s| Text::new(s, false).length() as i32)))
        }),
        Builtin::new("locate", "s s i?", INT, |c| {
            let (sub, s) = (c.str(0)?, c.str(1)?);
            let start = if c.has(2) { Some(c.prim::<Int32Type>(2)?) } else { None };
            let all_ascii = ascii::is_ascii(c, 1)?;
            build_prims::<Int32Type>(c.rows, |i| {
                let (Some(sub), Some(s)) = (sub.get(i), s.get(i)) else { return Ok(None) };
                let Some(from) = start.as_ref().map_or(Some(1), |p| p.get(i)) else { return Ok(None) };
                Ok(Some(find(Text::new(s, all_ascii), sub, i64::from(from), 1) as i32))
            })
        }),
        Builtin::new("instr", "s s i? i?", INT, |c| {
            let (s, sub) = (c.str(0)?, c.str(1)?);
            let start = if c.has(2) { Some(c.prim::<Int32Type>(2)?) } else { None };
            let nth = if c.has(3) { Some(c.prim::<Int32Type>(3)?) } else { None };
            let all_ascii = ascii::is_ascii(c, 0)?;
            build_prims::<Int32Type>(c.rows, |i| {
                let (Some(sub), Some(s)) = (sub.get(i), s.get(i)) else { return Ok(None) };
                let start = start.as_ref().map_or(Some(1), |p| p.get(i));
                let nth = nth.as_ref().map_or(Some(1), |p| p.get(i));
                let (Some(start), Some(nth)) = (start, nth) else { return Ok(None) };
                if nth <= 0 {
                    return Err(Error::data(format!("INSTR: the occurrence must be positive, not {nth}")));
                }
                Ok(Some(find(Text::new(s, all_ascii), sub, i64::from(start), nth as usize) as i32))
            })
        }),
        // The function that Nexmark's q14 brings along as a class.
        Builtin::new("count_char", "s s", Ret::Type(DataType::Int64), |c| {
            let (s, chars) = (c.str(0)?, c.str(1)?);
            build_prims::<Int64Type>(c.rows, |i| {
                let (Some(s), Some(wanted)) = (s.get(i), chars.get(i)) else { return Ok(Some(0)) };
                let Some(wanted) = wanted.bytes().next() else { return Ok(Some(0)) };
                Ok(Some(s.bytes().filter(|b| *b == wanted).count() as i64))
            })
        })
        .nulls(Nulls::Never),
        trim("ltrim", true, false),
        trim("rtrim", false, true),
        trim("btrim", true, true),
        // TRIM is BTRIM but for the length of its type.
        trim("__trim", true, true),
        Builtin::new("repeat", "s i", TEXT, |c| {
            let (s, n) = (c.str(0)?, c.prim::<Int32Type>(1)?);
            build_strings(c.rows, |i, out| {
                let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(false) };
                let n = n.max(0) as usize;
                check_room(out.len(), s.len() * n)?;
                (0..n).for_each(|_| out.push_str(s));
                Ok(true)
            })
        }),
        Builtin::new("overlay", "s s i i?", TEXT, overlay),
        Builtin::new("startswith", "s s|x x", Ret::Type(DataType::Boolean), |c| affix(c, true)),
        Builtin::new("endswith", "s s|x x", Ret::Type(DataType::Boolean), |c| affix(c, false)),
        Builtin::new("substring", "s i i?", TEXT, |c| {
            let (s, from) = (c.str(0)?, c.prim::<Int32Type>(1)?);
            let n = if c.has(2) { Some(c.prim::<Int32Type>(2)?) } else { None };
            let all_ascii = ascii::is_ascii(c, 0)?;
            build_strings(c.rows, |i, out| {
                let (Some(s), Some(from)) = (s.get(i), from.get(i)) else { return Ok(false) };
                let Some(n) = n.as_ref().map_or(Some(i32::MAX), |n| n.get(i)) else { return Ok(false) };
                if n < 0 {
                    return Ok(false);
                }
                out.push_str(substring(Text::new(s, all_ascii), i64::from(from), n as usize));
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
                check_replaced(out.len(), s, find, with)?;
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
        Builtin::new("translate", "s s s", TEXT, translate).nulls(Nulls::May),
        Builtin::new("lpad", "s i s", TEXT, |c| pad(c, true)).nulls(Nulls::May),
        Builtin::new("rpad", "s i s", TEXT, |c| pad(c, false)).nulls(Nulls::May),
        Builtin::new("split_index", "s s i|s i i", TEXT, super::split_index::split_index).nulls(Nulls::May),
        Builtin::new("elt", "i s s*|i x x*", Ret::Arg(1), |c| {
            let n = c.prim::<Int32Type>(0)?;
            if *c.return_type == DataType::Binary {
                let parts = (1..c.len()).map(|i| c.bytes(i)).collect::<Result<Vec<_>>>()?;
                return build_bytes(c.rows, |i, out| {
                    let chosen = n.get(i).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
                    let value = chosen.and_then(|n| parts.get(n - 1)).and_then(|p| p.get(i));
                    Ok(value.map(|b| out.extend_from_slice(b)).is_some())
                });
            }
            let parts = (1..c.len()).map(|i| c.str(i)).collect::<Result<Vec<_>>>()?;
            build_strings(c.rows, |i, out| {
                let chosen = n.get(i).and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
                let value = chosen.and_then(|n| parts.get(n - 1)).and_then(|p| p.get(i));
                Ok(value.map(|s| out.push_str(s)).is_some())
            })
        })
        .nulls(Nulls::May),
        test("is_alpha", |_| false, |s| s.chars().all(char::is_alphabetic)),
        test("is_digit", DataType::is_integer, |s| s.bytes().all(|b| b.is_ascii_digit())),
        test(
            "is_decimal",
            |t| t.is_integer() || t.is_floating(),
            |s| {
                let body = s.trim().trim_start_matches(['+', '-']);
                body.bytes().next().is_some_and(|b| b.is_ascii_digit() || b == b'.')
                    && s.trim().parse::<f64>().is_ok()
            },
        ),
    ]
    .into_iter()
    .map(Builtin::build)
    .collect()
}

/// A function of one string; `of_ascii` changes the bytes of one that is ASCII.
fn one(name: &'static str, f: fn(&str, &mut String), of_ascii: fn(&mut [u8])) -> Builtin {
    // Changing case looks at no neighbours: all values at once.
    let at_once = matches!(name, "upper" | "lower");
    Builtin::new(name, "s", TEXT, move |c| {
        if let Some(column) = ascii::column(c, 0)? {
            return if at_once {
                ascii::map(column, |bytes, _| of_ascii(bytes))
            } else {
                ascii::map_values(column, of_ascii)
            };
        }
        let s = c.str(0)?;
        let mut text = String::new();
        ascii::build(c.rows, ascii::size(c, 0)?, |i, out| {
            let Some(s) = s.get(i) else { return Ok(false) };
            if s.is_ascii() {
                let from = out.len();
                out.extend_from_slice(s.as_bytes());
                of_ascii(&mut out[from..]);
            } else {
                text.clear();
                f(s, &mut text);
                out.extend_from_slice(text.as_bytes());
            }
            Ok(true)
        })
    })
}

/// A test that is FALSE for NULL and for the empty string. Of numbers it looks at the type alone.
fn test(name: &'static str, of_numbers: fn(&DataType) -> bool, f: fn(&str) -> bool) -> Builtin {
    Builtin::new(name, "s|n", Ret::Type(DataType::Boolean), move |c| {
        if c.ty(0).is_numeric() {
            let numbers = c.full(0)?;
            let valid = match numbers.nulls().filter(|_| of_numbers(c.ty(0))) {
                Some(nulls) => nulls.inner().clone(),
                None if of_numbers(c.ty(0)) => BooleanBuffer::new_set(c.rows),
                None => BooleanBuffer::new_unset(c.rows),
            };
            return Ok(Arc::new(BooleanArray::new(valid, None)));
        }
        let s = c.str(0)?;
        build_bools(c.rows, |i| Ok(Some(s.get(i).is_some_and(|s| !s.is_empty() && f(s)))))
    })
    .nulls(Nulls::Never)
}

/// Checks whether there is room for the result of REPLACE behind the texts of other rows.
fn check_replaced(from: usize, s: &str, find: &str, with: &str) -> Result<()> {
    let places = |width: usize| (s.len() / width + 1).saturating_mul(with.len());
    // Most results are far from it whatever is found.
    if check_room(from, s.len().saturating_add(places(find.len().max(1)))).is_ok() {
        return Ok(());
    }
    let found = if find.is_empty() { s.chars().count() + 1 } else { s.matches(find).count() };
    check_room(from, (s.len() - found * find.len()).saturating_add(found.saturating_mul(with.len())))
}

/// 1-based position of the n-th occurrence, 0 if there is none; a negative start searches backwards.
fn find(text: Text<'_>, sub: &str, start: i64, nth: usize) -> usize {
    let s = text.as_str();
    if start == 0 {
        return 0;
    }
    // As Flink finds nothing: at the first place it looks at, however often.
    if sub.is_empty() {
        return if start > 0 { 1 } else { text.length() + 1 };
    }
    if start > 0 {
        let skip = (start - 1) as usize;
        if skip > 0 && skip > text.length() {
            return 0;
        }
        let mut from = text.offset(skip);
        for k in 0..nth {
            match s.get(from..).and_then(|rest| rest.find(sub)) {
                Some(at) if k + 1 == nth => return text.count_before(from + at) + 1,
                // Occurrences may overlap: go on one code point further.
                Some(at) => {
                    from += at + s.get(from + at..).and_then(|r| r.chars().next()).map_or(1, char::len_utf8)
                }
                None => return 0,
            }
        }
        return 0;
    }
    let total = text.length();
    let back = start.unsigned_abs() as usize;
    if back > total {
        return 0;
    }
    let mut at = total - back;
    let mut seen = 0;
    loop {
        if text.after(at).as_str().starts_with(sub) {
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

fn substring(text: Text<'_>, from: i64, n: usize) -> &str {
    let start = match from {
        0 => 0,
        f if f > 0 => f - 1,
        f => text.length() as i64 + f,
    };
    if start < 0 { "" } else { text.after(start as usize).first(n) }
}

fn side(c: &Call<'_>, left: bool) -> Result<ArrayRef> {
    let (s, n) = (c.str(0)?, c.prim::<Int32Type>(1)?);
    let all_ascii = ascii::is_ascii(c, 0)?;
    build_strings(c.rows, |i, out| {
        let (Some(s), Some(n)) = (s.get(i), n.get(i)) else { return Ok(false) };
        let (text, n) = (Text::new(s, all_ascii), n.max(0) as usize);
        out.push_str(if left { text.first(n) } else { text.after(text.length().saturating_sub(n)).as_str() });
        Ok(true)
    })
}

/// As in Flink, only letters of ASCII have cases, and everything that is no letter or digit of ASCII ends a word.
fn initcap(bytes: &mut [u8]) {
    let mut inside = false;
    for b in bytes {
        if inside {
            b.make_ascii_lowercase();
        } else {
            b.make_ascii_uppercase();
        }
        inside = b.is_ascii_alphanumeric();
    }
}

fn trim(name: &'static str, start: bool, end: bool) -> Builtin {
    Builtin::new(name, "s s?", TEXT, move |c| {
        let s = c.str(0)?;
        let set = if c.has(1) { Some(c.str(1)?) } else { None };
        let constant = match &set {
            None => Some(CharSet::new(" ")),
            Some(set) if c.is_constant(1) => set.get(0).map(CharSet::new),
            Some(_) => None,
        };
        build_strings(c.rows, |i, out| {
            let Some(s) = s.get(i) else { return Ok(false) };
            let Some(given) = set.as_ref().map_or(Some(" "), |x| x.get(i)) else { return Ok(false) };
            out.push_str(match &constant {
                Some(set) => set.trim(s, start, end),
                None => CharSet::new(given).trim(s, start, end),
            });
            Ok(true)
        })
    })
}

/// The first of several letters counts; letters without one in `to` are left out.
fn translate(c: &Call<'_>) -> Result<ArrayRef> {
    let (s, from, to) = (c.str(0)?, c.str(1)?, c.str(2)?);
    if c.is_constant(1)
        && c.is_constant(2)
        && let (from, to) = (from.get(0).unwrap_or(""), to.get(0).unwrap_or(""))
        && from.is_ascii()
        && to.is_ascii()
    {
        // Bytes of other characters are none of those that change.
        let mut table: [Option<u8>; 256] = std::array::from_fn(|b| Some(b as u8));
        for (k, b) in from.bytes().enumerate().rev() {
            table[usize::from(b)] = to.as_bytes().get(k).copied();
        }
        return ascii::build(c.rows, ascii::size(c, 0)?, |i, out| {
            let Some(s) = s.get(i) else { return Ok(false) };
            out.extend(s.bytes().filter_map(|b| table[usize::from(b)]));
            Ok(true)
        });
    }
    build_strings(c.rows, |i, out| {
        let Some(s) = s.get(i) else { return Ok(false) };
        let (from, to) = (from.get(i).unwrap_or(""), to.get(i).unwrap_or(""));
        for ch in s.chars() {
            match from.chars().position(|f| f == ch) {
                None => out.push(ch),
                Some(k) => out.extend(to.chars().nth(k)),
            }
        }
        Ok(true)
    })
}

fn overlay(c: &Call<'_>) -> Result<ArrayRef> {
    let (s, with, from) = (c.str(0)?, c.str(1)?, c.prim::<Int32Type>(2)?);
    let n = if c.has(3) { Some(c.prim::<Int32Type>(3)?) } else { None };
    let all_ascii = ascii::is_ascii(c, 0)?;
    build_strings(c.rows, |i, out| {
        let (Some(s), Some(with), Some(from)) = (s.get(i), with.get(i), from.get(i)) else {
            return Ok(false);
        };
        let n = match &n {
            None => Text::new(with, false).length() as i32,
            Some(n) => match n.get(i) {
                Some(n) => n,
                None => return Ok(false),
            },
        };
        let text = Text::new(s, all_ascii);
        let total = text.length();
        if from <= 0 || from as usize > total {
            out.push_str(s);
            return Ok(true);
        }
        let start = from as usize - 1;
        let end = if n < 0 { total } else { (start + n as usize).min(total) };
        check_room(out.len(), s.len() + with.len())?;
        out.push_str(text.first(start));
        out.push_str(with);
        out.push_str(text.after(end).as_str());
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
    let all_ascii = ascii::is_ascii(c, 0)?;
    build_strings(c.rows, |i, out| {
        let (Some(s), Some(n), Some(fill)) = (s.get(i), n.get(i), fill.get(i)) else { return Ok(false) };
        if n < 0 || fill.is_empty() {
            return Ok(false);
        }
        let (n, text, fill) = (n as usize, Text::new(s, all_ascii), Text::new(fill, false));
        let (kept, missing, length) = (text.first(n), n.saturating_sub(text.length()), fill.length());
        let rest = fill.first(missing % length);
        let bytes = kept.len() + missing / length * fill.as_str().len() + rest.len();
        check_room(out.len(), bytes)?;
        if !left {
            out.push_str(kept);
        }
        (0..missing / length).for_each(|_| out.push_str(fill.as_str()));
        out.push_str(rest);
        if left {
            out.push_str(kept);
        }
        Ok(true)
    })
}
