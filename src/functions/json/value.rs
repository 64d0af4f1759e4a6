//! A JSON document that keeps the spelling of its numbers.

use crate::text::{Escapes, write_big_decimal, write_json_string};

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

/// How deep documents may nest.
const DEPTH: usize = 128;

impl Json {
    /// Reads a whole document.
    pub(super) fn parse(s: &str) -> Option<Json> {
        let mut p = Parser { rest: s };
        let value = p.value(0)?;
        p.blanks();
        p.rest.is_empty().then_some(value)
    }

    /// Compact, object keys in order.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Json::Null => out.push_str("null"),
            Json::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Json::Number(n) => write_number(n, out),
            Json::Text(s) => write_json_string(s, Escapes::JACKSON, out),
            Json::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
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
                    v.write(out);
                }
                out.push('}');
            }
        }
    }
}

/// As BigDecimal prints it: `1e2` is `1E+2`, everything without an exponent stays.
pub(super) fn write_number(n: &str, out: &mut String) {
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

struct Parser<'a> {
    rest: &'a str,
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
            // The last of equal keys wins.
            fields.retain(|(k, _)| *k != key);
            fields.push((key, value));
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
        ] {
            let mut out = String::new();
            write_number(n, &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn broken_documents_are_none() {
        for s in ["", "{", "{\"a\"}", "[1,]", "01x", "\"a", "{\"a\":1} x", "nul", "[1 2]"] {
            assert_eq!(Json::parse(s), None, "{s}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(Json::parse(&deep), None);
        assert_eq!(
            Json::parse(r#" {"a": [1, "\u00e9\"", null]} "#).map(|j| matches!(j, Json::Object(_))),
            Some(true)
        );
    }
}
