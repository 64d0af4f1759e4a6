//! Quick ways for ASCII against the rules for any text, on arrays of both, with NULLs, as parts of larger ones and empty.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};

use super::functions;

const ASCII: [Option<&str>; 8] = [
    Some("hello World"),
    None,
    Some(""),
    Some("  aB-c9d  "),
    Some("x"),
    Some("The quick, brown FOX_jumps"),
    Some("aaaa"),
    Some("00_z"),
];

const OTHERS: [Option<&str>; 5] =
    [Some("Straße Ünïcode"), Some("日本語 text"), None, Some("éa"), Some("ﬁn ǆ İi 😀b")];

/// Arrays with the strings, and what they hold.
fn arrays() -> Vec<(&'static str, ArrayRef)> {
    let whole = |values: &[Option<&str>]| StringArray::from(values.to_vec());
    let mixed: Vec<Option<&str>> =
        ASCII.into_iter().zip(OTHERS.into_iter().cycle()).flat_map(|(a, b)| [a, b]).collect();
    vec![
        ("ascii", Arc::new(whole(&ASCII))),
        ("mixed", Arc::new(whole(&mixed))),
        (
            "ascii part of a mixed one",
            Arc::new(whole(&[&OTHERS[..2], &ASCII, &OTHERS[3..]].concat()).slice(2, 8)),
        ),
        ("part of an ascii one", Arc::new(whole(&ASCII).slice(2, 4))),
        ("part of a mixed one", Arc::new(whole(&mixed).slice(3, 9))),
        ("empty", Arc::new(whole(&[]))),
        ("empty part", Arc::new(whole(&ASCII).slice(3, 0))),
        ("nulls", Arc::new(whole(&[None, None]))),
    ]
}

fn call(name: &str, args: Vec<ColumnarValue>, rows: usize) -> ArrayRef {
    let f = functions().into_iter().find(|f| f.name() == name).unwrap();
    let fields: Vec<_> = args.iter().map(|a| Arc::new(Field::new("a", a.data_type(), true))).collect();
    let scalars: Vec<Option<&ScalarValue>> = args
        .iter()
        .map(|a| match a {
            ColumnarValue::Scalar(s) => Some(s),
            ColumnarValue::Array(_) => None,
        })
        .collect();
    let return_field = f
        .return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalars })
        .unwrap();
    let args = ScalarFunctionArgs {
        args,
        arg_fields: fields,
        number_rows: rows,
        return_field,
        config_options: Arc::new(ConfigOptions::default()),
    };
    f.invoke_with_args(args).unwrap().into_array(rows).unwrap()
}

fn text(s: &str) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Utf8(Some(s.to_owned())))
}

fn int(n: i32) -> ColumnarValue {
    ColumnarValue::Scalar(ScalarValue::Int32(Some(n)))
}

/// Calls a function with constants behind a column, and with columns of the same values.
fn both(name: &str, column: &ArrayRef, others: &[ColumnarValue]) -> [ArrayRef; 2] {
    let rows = column.len();
    let first = ColumnarValue::Array(Arc::clone(column));
    let constants = std::iter::once(first.clone()).chain(others.iter().cloned()).collect();
    let columns = others.iter().map(|o| ColumnarValue::Array(o.to_array(rows).unwrap()));
    [call(name, constants, rows), call(name, std::iter::once(first).chain(columns).collect(), rows)]
}

fn check_text(name: &str, others: &[ColumnarValue], expected: impl Fn(&[char]) -> String) {
    for (what, column) in arrays() {
        let wanted: StringArray = column
            .as_string::<i32>()
            .iter()
            .map(|s| s.map(|s| expected(&s.chars().collect::<Vec<_>>())))
            .collect();
        for got in both(name, &column, others) {
            assert_eq!(*got.as_string::<i32>(), wanted, "{name} {others:?}: {what}");
            assert_eq!(got.data_type(), &DataType::Utf8);
        }
    }
}

fn check_number(name: &str, others: &[ColumnarValue], expected: impl Fn(&[char]) -> i32) {
    for (what, column) in arrays() {
        let wanted: Int32Array = column
            .as_string::<i32>()
            .iter()
            .map(|s| s.map(|s| expected(&s.chars().collect::<Vec<_>>())))
            .collect();
        for got in both(name, &column, others) {
            assert_eq!(
                *got.as_primitive::<arrow::datatypes::Int32Type>(),
                wanted,
                "{name} {others:?}: {what}"
            );
        }
    }
}

fn collect(chars: impl IntoIterator<Item = char>) -> String {
    chars.into_iter().collect()
}

#[test]
fn case_order_and_length() {
    check_text("upper", &[], |s| collect(s.iter().flat_map(|c| c.to_uppercase())));
    check_text("lower", &[], |s| collect(s.iter().flat_map(|c| c.to_lowercase())));
    check_text("reverse", &[], |s| collect(s.iter().rev().copied()));
    // Letters of ASCII alone: others have no cases and end words.
    check_text("initcap", &[], |s| {
        let mut inside = false;
        collect(s.iter().map(|c| {
            let cased = if inside { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() };
            inside = c.is_ascii_alphanumeric();
            cased
        }))
    });
    check_number("char_length", &[], |s| s.len() as i32);
}

#[test]
fn parts() {
    for n in [-1, 0, 1, 3, 100] {
        let k = n.max(0) as usize;
        check_text("left", &[int(n)], |s| collect(s.iter().take(k).copied()));
        check_text("right", &[int(n)], |s| collect(s.iter().skip(s.len().saturating_sub(k)).copied()));
    }
    for from in [-100_i32, -2, 0, 1, 2, 7, 100] {
        let start = |s: &[char]| match from {
            0 => Some(0),
            f if f > 0 => Some(f as usize - 1),
            f => s.len().checked_sub(f.unsigned_abs() as usize),
        };
        let part = |s: &[char], n: usize| match start(s) {
            Some(start) => collect(s.iter().skip(start).take(n).copied()),
            None => String::new(),
        };
        check_text("substring", &[int(from)], |s| part(s, usize::MAX));
        for n in [0, 1, 4, 100] {
            check_text("substring", &[int(from), int(n)], |s| part(s, n as usize));
        }
    }
}

#[test]
fn places() {
    let at = |s: &[char], sub: &str, from: usize| {
        let sub: Vec<char> = sub.chars().collect();
        (from..=s.len()).find(|i| s[*i..].starts_with(&sub)).map_or(0, |i| i as i32 + 1)
    };
    for sub in ["a", "o", "text", "é", "", "aa", "日"] {
        check_number("instr", &[text(sub)], |s| at(s, sub, 0));
        for from in [1, 2, 5, 50] {
            let skip = from as usize - 1;
            check_number("instr", &[text(sub), int(from)], |s| match sub {
                "" => 1,
                _ if skip > s.len() => 0,
                _ => at(s, sub, skip),
            });
        }
        check_number("instr", &[text(sub), int(-1)], |s| {
            if sub.is_empty() {
                return s.len() as i32 + 1;
            }
            let sub: Vec<char> = sub.chars().collect();
            (0..s.len()).rev().find(|i| s[*i..].starts_with(&sub)).map_or(0, |i| i as i32 + 1)
        });
    }
}

#[test]
fn ends_and_letters() {
    for set in [" ", "a", "hdT a", "é日a", ""] {
        let within = |c: &&char| set.contains(**c);
        let begin = |s: &[char]| s.iter().take_while(within).count();
        let end = |s: &[char]| s.iter().rev().take_while(within).count();
        check_text("ltrim", &[text(set)], |s| collect(s[begin(s)..].iter().copied()));
        check_text("rtrim", &[text(set)], |s| collect(s[..s.len() - end(s)].iter().copied()));
        check_text("btrim", &[text(set)], |s| {
            let rest = &s[begin(s)..];
            collect(rest[..rest.len() - end(rest)].iter().copied())
        });
    }
    check_text("btrim", &[], |s| collect(s.iter().copied()).trim_matches(' ').to_owned());
    for (from, to) in [("aeo", "12"), ("", "x"), ("aa", "xy"), ("éa", "e"), ("lo", "日本")] {
        check_text("translate", &[text(from), text(to)], |s| {
            let mut out = String::new();
            for c in s {
                match from.chars().position(|f| f == *c) {
                    None => out.push(*c),
                    Some(k) => out.extend(to.chars().nth(k)),
                }
            }
            out
        });
    }
}

#[test]
fn widths() {
    for fill in ["*", "ab", "日", "xé"] {
        for n in [0, 1, 9, 30] {
            let padding =
                |s: &[char]| collect(fill.chars().cycle().take((n as usize).saturating_sub(s.len())));
            let kept = |s: &[char]| collect(s.iter().take(n as usize).copied());
            check_text("lpad", &[int(n), text(fill)], |s| padding(s) + &kept(s));
            check_text("rpad", &[int(n), text(fill)], |s| kept(s) + &padding(s));
        }
    }
    for (from, n) in [(1, 1), (2, 0), (3, 100), (2, -1), (0, 1), (50, 1)] {
        check_text("overlay", &[text("XÿZ"), int(from), int(n)], |s| {
            if from <= 0 || from as usize > s.len() {
                return collect(s.iter().copied());
            }
            let start = from as usize - 1;
            let end = if n < 0 { s.len() } else { (start + n as usize).min(s.len()) };
            collect(s[..start].iter().copied()) + "XÿZ" + &collect(s[end..].iter().copied())
        });
    }
}
