//! A JSON document that keeps the spelling of its numbers.

use std::collections::HashMap;

use crate::text::{Escapes, write_big_decimal, write_f64, write_json_string};

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bad {
    /// It is no JSON from about this byte on.
    Syntax(usize),
    /// An object has this key twice.
    Twice(String),
}

/// From so many fields on, keys are looked up in a table.
const MANY_FIELDS: usize = 16;

/// How deep documents may nest.
const DEPTH: usize = 128;

impl Json {
    /// Reads a document as Jackson does: the last of equal keys wins, and what stands behind it is not looked at.
    pub(super) fn parse(s: &str) -> Option<Json> {
        let mut p = Parser { rest: s, repeated: true, twice: None };
        let value = p.value(0)?;
        let next = p.rest.chars().next();
        let ends = match value {
            Json::Number(_) => next.is_none_or(|c| matches!(c, ' ' | '\t' | '\n' | '\r')),
            Json::Bool(_) | Json::Null => {
                next.is_none_or(|c| !(c.is_alphanumeric() || matches!(c, '_' | '$')))
            }
            _ => true,
        };
        ends.then_some(value)
    }

    /// Reads a whole document, and says what is wrong with it; `repeated` keys are the last of them, or refused.
    pub(super) fn read(s: &str, repeated: bool) -> Result<Json, Bad> {
        let mut p = Parser { rest: s, repeated, twice: None };
        let value = p.value(0);
        p.blanks();
        match (value, p.twice) {
            (_, Some(key)) => Err(Bad::Twice(key)),
            (Some(value), None) if p.rest.is_empty() => Ok(value),
            _ => Err(Bad::Syntax(s.len() - p.rest.len())),
        }
    }

    /// Whether it is neither array nor object.
    pub(super) fn is_scalar(&self) -> bool {
        !matches!(self, Json::Array(_) | Json::Object(_))
    }

    /// The text of a scalar, without quotes.
    pub(super) fn write_scalar(&self, out: &mut String) {
        match self {
            Json::Text(s) => out.push_str(s),
            other => other.write(out),
        }
    }

    /// With numbers as a VARIANT has them: whole numbers and decimals without zeros at the end, and doubles.
    pub(super) fn into_variant(self) -> Json {
        match self {
            Json::Number(n) => Json::Number(variant_number(&n)),
            Json::Array(items) => Json::Array(items.into_iter().map(Json::into_variant).collect()),
            Json::Object(fields) => {
                Json::Object(fields.into_iter().map(|(k, v)| (k, v.into_variant())).collect())
            }
            other => other,
        }
    }

    /// As the text of a VARIANT, whose numbers are as they shall be.
    pub(super) fn write_variant(&self, out: &mut String) {
        self.write_with(out, &|n, out| out.push_str(n));
    }

    /// Compact, object keys in order.
    pub(super) fn write(&self, out: &mut String) {
        self.write_with(out, &write_number);
    }

    fn write_with(&self, out: &mut String, number: &dyn Fn(&str, &mut String)) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Number(n) => number(n, out),
            Json::Text(s) => write_json_string(s, Escapes::JACKSON, out),
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write_with(out, number);
                }
                out.push(']');
            }
            Json::Object(fields) => {
                let mut fields: Vec<&(String, Json)> = fields.iter().collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                out.push('{');
                for (i, (k, v)) in fields.into_iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    write_json_string(k, Escapes::JACKSON, out);
                    out.push(':');
                    v.write_with(out, number);
                }
                out.push('}');
            }
        }
    }
}

/// As BigDecimal prints it: `1e2` is `1E+2`, everything without an exponent stays.
pub(super) fn write_number(n: &str, out: &mut String) {
    // It has no negative zero.
    let n = match n.strip_prefix('-') {
        Some(size) if size.starts_with('0') && !size.bytes().any(|b| matches!(b, b'1'..=b'9')) => size,
        _ => n,
    };
    let Some((mantissa, exponent)) = n.split_once(['e', 'E']) else { return out.push_str(n) };
    let Ok(exponent) = exponent.parse::<i64>() else { return out.push_str(n) };
    let fraction = mantissa.split_once('.').map_or(0, |(_, f)| f.len());
    let digits = mantissa.replace(['-', '.'], "");
    let digits = match digits.trim_start_matches('0') {
        "" => "0",
        d => d,
    };
    write_big_decimal(mantissa.starts_with('-'), digits, fraction as i64 - exponent, out);
}

/// Most digits of a decimal in a VARIANT.
const MOST_DIGITS: usize = 38;

fn variant_number(n: &str) -> String {
    let digits = n.bytes().filter(u8::is_ascii_digit).count();
    if n.contains(['e', 'E']) || digits > MOST_DIGITS {
        let mut out = String::new();
        write_f64(n.parse().unwrap_or(f64::NAN), &mut out);
        return out;
    }
    let trimmed = if n.contains('.') { n.trim_end_matches('0').trim_end_matches('.') } else { n };
    if trimmed == "-0" { "0".to_owned() } else { trimmed.to_owned() }
}

struct Parser<'a> {
    rest: &'a str,
    /// Whether keys may come again.
    repeated: bool,
    /// The first key that came again and may not.
    twice: Option<String>,
}

impl Parser<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn value(&mut self, depth: usize) -> Option<Json> {
        if depth > DEPTH {
            return None;
        }
        self.blanks();
        match self.rest.as_bytes().first()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(Json::Text),
            b't' => self.eat("true").then_some(Json::Bool(true)),
            b'f' => self.eat("false").then_some(Json::Bool(false)),
            b'n' => self.eat("null").then_some(Json::Null),
            _ => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<Json> {
        self.eat("{");
        let mut fields: Vec<(String, Json)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        self.blanks();
        if self.eat("}") {
            return Some(Json::Object(fields));
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.blanks();
            if !self.eat(":") {
                return None;
            }
            let value = self.value(depth + 1)?;
            let known = if fields.len() < MANY_FIELDS {
                fields.iter().position(|(k, _)| *k == key)
            } else {
                if places.is_empty() {
                    places.extend(fields.iter().enumerate().map(|(at, (k, _))| (k.clone(), at)));
                }
                places.get(&key).copied()
            };
            match known.and_then(|at| fields.get_mut(at)) {
                Some(_) if !self.repeated => {
                    self.twice = Some(key);
                    return None;
                }
                // The last of equal keys wins.
                Some(field) => field.1 = value,
                None => {
                    if !places.is_empty() {
                        places.insert(key.clone(), fields.len());
                    }
                    fields.push((key, value));
                }
            }
            self.blanks();
            if self.eat("}") {
                return Some(Json::Object(fields));
            }
            if !self.eat(",") {
                return None;
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<Json> {
        self.eat("[");
        let mut items = Vec::new();
        self.blanks();
        if self.eat("]") {
            return Some(Json::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blanks();
            if self.eat("]") {
                return Some(Json::Array(items));
            }
            if !self.eat(",") {
                return None;
            }
        }
    }

    fn string(&mut self) -> Option<String> {
        let body = self.rest.strip_prefix('"')?;
        let mut escaped = false;
        let end = body.bytes().position(|b| {
            let end = b == b'"' && !escaped;
            escaped = b == b'\\' && !escaped;
            end
        })?;
        let raw = body.get(..end)?;
        self.rest = body.get(end + 1..)?;
        if !raw.contains('\\') && !raw.bytes().any(|b| b < 0x20) {
            return Some(raw.to_owned());
        }
        serde_json::from_str::<String>(&format!("\"{raw}\"")).ok()
    }

    fn number(&mut self) -> Option<Json> {
        let end = self
            .rest
            .bytes()
            .position(|b| !(b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E')))
            .unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        serde_json::from_str::<serde_json::Number>(text).ok()?;
        self.rest = rest;
        Some(Json::Number(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_big_decimals() {
        for (n, text) in [
            ("1.50", "1.50"),
            ("1e2", "1E+2"),
            ("1.5e1", "15"),
            ("15e-1", "1.5"),
            ("-1e-9", "-1E-9"),
            ("0", "0"),
            ("-0.0", "0.0"),
            ("-Infinity", "-Infinity"),
        ] {
            let mut out = String::new();
            write_number(n, &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn numbers_of_variants() {
        for (n, text) in [
            ("1.50", "1.5"),
            ("1.0", "1"),
            ("100", "100"),
            ("1e2", "100.0"),
            ("1e-7", "1.0E-7"),
            ("-0.0", "0"),
            ("123456789012345678901234567890123456789012345", "1.2345678901234567E44"),
        ] {
            assert_eq!(variant_number(n), text);
        }
    }

    #[test]
    fn broken_documents_are_none() {
        for s in ["", " ", "{", "{\"a\"}", "[1,]", "01x", "1x", "truex", "\"a", "nul", "[1 2]"] {
            assert_eq!(Json::parse(s), None, "{s}");
        }
        for (s, text) in [("1 2", "1"), ("{\"a\":1} x", "{\"a\":1}"), ("true,", "true"), ("[]]", "[]")] {
            let mut out = String::new();
            Json::parse(s).unwrap().write(&mut out);
            assert_eq!(out, text);
            assert!(Json::read(s, true).is_err());
        }
        assert_eq!(Json::read("{\"a\":1,\"a\":2}", false), Err(Bad::Twice("a".into())));
        let fields: Vec<String> = (0..40).map(|i| format!("\"k{}\":{i}", i % 20)).collect();
        let many = format!("{{{}}}", fields.join(","));
        let Some(Json::Object(known)) = Json::parse(&many) else { panic!("an object") };
        assert_eq!((known.len(), &known[3]), (20, &("k3".to_owned(), Json::Number("23".into()))));
        let deep = "[".repeat(100_000);
        assert_eq!(Json::parse(&deep), None);
        assert_eq!(
            Json::parse(r#" {"a": [1, "\u00e9\"", null]} "#).map(|j| matches!(j, Json::Object(_))),
            Some(true)
        );
    }
}
