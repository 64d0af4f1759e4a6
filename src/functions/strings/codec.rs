//! Encodings: Base64, character sets, URLs, internet addresses, JSON quoting, character codes.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::logical_expr::ScalarUDF;

use crate::error::{Error, Result};
use crate::functions::udf::{
    Builtin, Call, Nulls, Ret, build_bools, build_bytes, build_prims, build_strings,
};
use crate::text::{Escapes, read_base64_leniently, write_base64, write_json_string};

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    let text = || Ret::Type(DataType::Utf8);
    vec![
        Builtin::new("to_base64", "s|x", text(), |c| {
            either(c, |b, out| {
                write_base64(b, out);
                true
            })
        }),
        Builtin::new("from_base64", "s|x", text(), |c| {
            either(c, |b, out| match read_base64_leniently(b) {
                Some(bytes) => {
                    out.push_str(&String::from_utf8_lossy(&bytes));
                    true
                }
                None => false,
            })
        })
        .nulls(Nulls::May),
        Builtin::new("ascii", "s", Ret::Type(DataType::Int32), |c| {
            let s = c.str(0)?;
            build_prims::<Int32Type>(c.rows, |i| {
                // The first byte, which is a signed one in Java.
                Ok(s.get(i).map(|s| s.bytes().next().map_or(0, |b| i32::from(b as i8))))
            })
        }),
        Builtin::new("chr", "l", text(), |c| {
            let n = c.prim::<Int64Type>(0)?;
            build_strings(c.rows, |i, out| {
                let Some(n) = n.get(i) else { return Ok(false) };
                if n >= 0 {
                    out.push(char::from(n as u8));
                }
                Ok(true)
            })
        }),
        Builtin::new("encode", "s s", Ret::Type(DataType::Binary), |c| {
            let (s, set) = (c.str(0)?, c.str(1)?);
            build_bytes(c.rows, |i, out| {
                let (Some(s), Some(set)) = (s.get(i), set.get(i)) else { return Ok(false) };
                encode(s, set, out)?;
                Ok(true)
            })
        }),
        Builtin::new("decode", "x s", text(), |c| {
            let (b, set) = (c.bytes(0)?, c.str(1)?);
            build_strings(c.rows, |i, out| {
                let (Some(b), Some(set)) = (b.get(i), set.get(i)) else { return Ok(false) };
                out.push_str(&decode(b, set)?);
                Ok(true)
            })
        }),
        Builtin::new("url_encode", "s", text(), |c| {
            either(c, |b, out| {
                out.extend(form_urlencoded::byte_serialize(b));
                true
            })
        }),
        Builtin::new("url_decode", "s", text(), |c| {
            either(c, |b, out| url_decode(b).map(|s| out.push_str(&s)).is_some())
        })
        .nulls(Nulls::May),
        Builtin::new("parse_url", "s s s?", text(), |c| {
            let (url, part) = (c.str(0)?, c.str(1)?);
            let key = if c.has(2) { Some(c.str(2)?) } else { None };
            build_strings(c.rows, |i, out| {
                let (Some(url), Some(part)) = (url.get(i), part.get(i)) else { return Ok(false) };
                let found = match &key {
                    None => url_part(url, part),
                    Some(k) => match k.get(i) {
                        Some(k) if part == "QUERY" => url_part(url, part).and_then(|q| query_value(&q, k)),
                        _ => None,
                    },
                };
                Ok(found.map(|s| out.push_str(&s)).is_some())
            })
        })
        .nulls(Nulls::May),
        Builtin::new("inet_aton", "s", Ret::Type(DataType::Int64), |c| {
            let s = c.str(0)?;
            build_prims::<Int64Type>(c.rows, |i| Ok(s.get(i).and_then(inet_aton)))
        })
        .nulls(Nulls::May),
        Builtin::new("inet_ntoa", "l", text(), |c| {
            let n = c.prim::<Int64Type>(0)?;
            build_strings(c.rows, |i, out| {
                let Some(n) = n.get(i).and_then(|n| u32::try_from(n).ok()) else { return Ok(false) };
                out.push_str(&std::net::Ipv4Addr::from(n).to_string());
                Ok(true)
            })
        })
        .nulls(Nulls::May),
        Builtin::new("json_quote", "s", text(), |c| {
            either(c, |b, out| {
                let text = String::from_utf8_lossy(b);
                let from = out.len();
                write_json_string(&text, Escapes::JSON_QUOTE, out);
                if !text.is_ascii() {
                    let quoted = out.split_off(from);
                    escape_unicode(&quoted, out);
                }
                true
            })
        }),
        Builtin::new("json_unquote", "s", text(), |c| {
            let s = c.str(0)?;
            build_strings(c.rows, |i, out| {
                let Some(s) = s.get(i) else { return Ok(false) };
                match serde_json::from_str::<serde_json::Value>(s) {
                    Ok(serde_json::Value::String(inner)) if s.starts_with('"') => out.push_str(&inner),
                    _ => out.push_str(s),
                }
                Ok(true)
            })
        }),
        Builtin::new("is_valid_utf8", "x", Ret::Type(DataType::Boolean), |c| {
            let b = c.bytes(0)?;
            build_bools(c.rows, |i| Ok(b.get(i).map(|b| std::str::from_utf8(b).is_ok())))
        }),
        Builtin::new("make_valid_utf8", "x", text(), |c| {
            let b = c.bytes(0)?;
            build_strings(c.rows, |i, out| {
                Ok(b.get(i).map(|b| out.push_str(&String::from_utf8_lossy(b))).is_some())
            })
        }),
    ]
    .into_iter()
    .map(Builtin::build)
    .collect()
}

/// A function of one string or byte sequence, by its bytes.
pub(super) fn either(c: &Call<'_>, f: impl Fn(&[u8], &mut String) -> bool) -> Result<ArrayRef> {
    if *c.ty(0) == DataType::Utf8 {
        let s = c.str(0)?;
        return build_strings(c.rows, |i, out| Ok(s.get(i).is_some_and(|s| f(s.as_bytes(), out))));
    }
    let b = c.bytes(0)?;
    build_strings(c.rows, |i, out| Ok(b.get(i).is_some_and(|b| f(b, out))))
}

/// Everything that is not ASCII as `\u` and its UTF-16.
fn escape_unicode(text: &str, out: &mut String) {
    let mut units = [0; 2];
    for c in text.chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            out.push_str("\\u");
            for shift in [12, 8, 4, 0] {
                let digit = char::from_digit(u32::from(*unit >> shift) & 15, 16);
                out.extend(digit);
            }
        }
    }
}

fn unknown_charset(set: &str) -> Error {
    Error::data(format!("unknown character set '{set}'"))
        .hint("one of US-ASCII, ISO-8859-1, UTF-8, UTF-16, UTF-16BE, UTF-16LE")
}

fn encode(s: &str, set: &str, out: &mut Vec<u8>) -> Result<()> {
    let single = |limit: u32, c: char| if (c as u32) < limit { c as u32 as u8 } else { b'?' };
    match set.to_ascii_uppercase().as_str() {
        "UTF-8" => out.extend(s.bytes()),
        "US-ASCII" => out.extend(s.chars().map(|c| single(128, c))),
        "ISO-8859-1" => out.extend(s.chars().map(|c| single(256, c))),
        "UTF-16BE" => out.extend(s.encode_utf16().flat_map(u16::to_be_bytes)),
        "UTF-16LE" => out.extend(s.encode_utf16().flat_map(u16::to_le_bytes)),
        "UTF-16" => {
            out.extend([0xFE, 0xFF]);
            out.extend(s.encode_utf16().flat_map(u16::to_be_bytes));
        }
        _ => return Err(unknown_charset(set)),
    }
    Ok(())
}

fn decode(b: &[u8], set: &str) -> Result<String> {
    let wide = |b: &[u8], big: bool| {
        let units: Vec<u16> = b
            .chunks(2)
            .map(|p| {
                let pair = [p.first().copied().unwrap_or(0), p.get(1).copied().unwrap_or(0)];
                if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
            })
            .collect();
        String::from_utf16_lossy(&units)
    };
    Ok(match set.to_ascii_uppercase().as_str() {
        "UTF-8" => String::from_utf8_lossy(b).into_owned(),
        "US-ASCII" => b.iter().map(|b| if *b < 128 { char::from(*b) } else { '\u{FFFD}' }).collect(),
        "ISO-8859-1" => b.iter().map(|b| char::from(*b)).collect(),
        "UTF-16BE" => wide(b, true),
        "UTF-16LE" => wide(b, false),
        "UTF-16" => match b {
            [0xFF, 0xFE, rest @ ..] => wide(rest, false),
            [0xFE, 0xFF, rest @ ..] => wide(rest, true),
            all => wide(all, true),
        },
        _ => return Err(unknown_charset(set)),
    })
}

/// As Java does it, NULL for a broken `%` sequence: `form_urlencoded` would leave it as it stands.
fn url_decode(b: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(b.len());
    let mut rest = b;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
                out.push(u8::from_str_radix(hex, 16).ok()?);
                rest = rest.get(2..)?;
            }
            other => out.push(*other),
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

fn url_part(url: &str, part: &str) -> Option<String> {
    let (protocol, rest) = url.split_once(':')?;
    if protocol.is_empty() || !protocol.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
        return None;
    }
    let (rest, reference) = match rest.split_once('#') {
        Some((r, f)) => (r, Some(f)),
        None => (rest, None),
    };
    let (rest, query) = match rest.split_once('?') {
        Some((r, q)) => (r, Some(q)),
        None => (rest, None),
    };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(r) => match r.find('/') {
            Some(i) => (Some(r.get(..i)?), r.get(i..)?),
            None => (Some(r), ""),
        },
        None => (None, rest),
    };
    let (user, host) = match authority.map(|a| a.rsplit_once('@').unwrap_or(("", a))) {
        Some((u, h)) => (Some(u), Some(h)),
        None => (None, None),
    };
    let found = match part {
        "PROTOCOL" => protocol.to_owned(),
        "HOST" => host?.rsplit_once(':').map_or(host?, |(h, _)| h).to_owned(),
        "PATH" => path.to_owned(),
        "QUERY" => query?.to_owned(),
        "REF" => reference?.to_owned(),
        "AUTHORITY" => authority?.to_owned(),
        "USERINFO" => user.filter(|u| !u.is_empty())?.to_owned(),
        "FILE" => match query {
            Some(q) => format!("{path}?{q}"),
            None => path.to_owned(),
        },
        _ => return None,
    };
    Some(found)
}

fn query_value(query: &str, key: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (k, v) = pair.split_once('=')?;
        (k == key).then(|| v.to_owned())
    })
}

fn inet_aton(s: &str) -> Option<i64> {
    let parts: Vec<u64> = s
        .split('.')
        .map(|p| if p.bytes().all(|b| b.is_ascii_digit()) { p.parse().ok() } else { None })
        .collect::<Option<_>>()?;
    let (last, head) = parts.split_last()?;
    if head.len() > 3 || head.iter().any(|p| *p > 255) {
        return None;
    }
    let free = 32 - 8 * head.len() as u32;
    if *last >= 1u64 << free {
        return None;
    }
    let mut out = *last;
    for (k, p) in head.iter().enumerate() {
        out |= p << (24 - 8 * k);
    }
    i64::try_from(out).ok()
}
