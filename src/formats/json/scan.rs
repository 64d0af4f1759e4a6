//! A scanner over one JSON text: finds the ends of values and checks their grammar, allocates nothing.
//!
//! The grammar is RFC 8259 as Jackson reads it for Flink: raw control characters inside strings are accepted, leading
//! zeros and trailing commas are not, nesting ends at [`MAX_DEPTH`].

use std::borrow::Cow;

use crate::formats::bytes::find2;

/// Deepest nesting of objects and arrays (Jackson's limit).
pub(crate) const MAX_DEPTH: usize = 1000;

/// Why a text is no JSON: what was found wrong; the scanner stands at the place.
pub(crate) type Syntax = &'static str;

/// A position in a JSON text.
pub(crate) struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// Next byte.
    pub(crate) pos: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Scanner { text, bytes: text.as_bytes(), pos: 0 }
    }

    /// The byte at the position; 0 at the end (a NUL is as wrong as the end everywhere it could matter).
    #[inline]
    pub(crate) fn peek(&self) -> u8 {
        self.bytes.get(self.pos).copied().unwrap_or(0)
    }

    pub(crate) fn at_end(&self) -> bool {
        self.pos >= self.bytes.len()
    }

    #[inline]
    pub(crate) fn skip_blanks(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.pos += 1;
        }
    }

    /// Text between two positions, both at ASCII characters.
    pub(crate) fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// Takes `"name"` if exactly that stands here.
    #[inline]
    pub(crate) fn take_name(&mut self, name: &str) -> bool {
        let (start, end) = (self.pos + 1, self.pos + 1 + name.len());
        let found = self.peek() == b'"'
            && self.bytes.get(start..end).is_some_and(|here| same(here, name.as_bytes()))
            && self.bytes.get(end) == Some(&b'"');
        if found {
            self.pos = end + 1;
        }
        found
    }

    /// Takes `token` if exactly that stands here.
    #[inline]
    pub(crate) fn take(&mut self, token: &[u8]) -> bool {
        let end = self.pos + token.len();
        let found = self.bytes.get(self.pos..end).is_some_and(|here| same(here, token));
        if found {
            self.pos = end;
        }
        found
    }

    /// Takes a whole number of up to 18 digits, which cannot overflow; takes nothing if anything else stands here.
    #[inline]
    pub(crate) fn take_whole(&mut self) -> Option<i64> {
        let negative = self.peek() == b'-';
        let start = self.pos + usize::from(negative);
        let (mut pos, mut value) = (start, 0i64);
        let mut next = self.bytes.get(pos).copied()?;
        let zero = next == b'0';
        while next.is_ascii_digit() {
            // What wraps has too many digits and is not taken.
            value = value.wrapping_mul(10).wrapping_add(i64::from(next - b'0'));
            pos += 1;
            next = self.bytes.get(pos).copied()?;
        }
        let digits = pos - start;
        let ends = matches!(next, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        if !ends || !(1..=18).contains(&digits) || (zero && digits > 1) {
            return None;
        }
        self.pos = pos;
        Some(if negative { -value } else { value })
    }

    #[inline]
    pub(crate) fn expect(&mut self, byte: u8, wrong: Syntax) -> Result<(), Syntax> {
        if self.peek() == byte && !self.at_end() {
            self.pos += 1;
            Ok(())
        } else if self.at_end() {
            Err("the text ends in the middle of a value")
        } else {
            Err(wrong)
        }
    }

    /// Takes a string; gives it raw, and whether it has escapes. The position is at its opening quote.
    #[inline]
    pub(crate) fn raw_string(&mut self) -> Result<(&'a str, bool), Syntax> {
        let start = self.pos + 1;
        let mut end = find2(self.bytes, start, b'"', b'\\');
        let mut escaped = false;
        loop {
            match self.bytes.get(end) {
                Some(b'"') => break,
                Some(_) => {
                    escaped = true;
                    end = find2(self.bytes, end + 2, b'"', b'\\');
                }
                None => return Err("a string has no end"),
            }
        }
        self.pos = end + 1;
        Ok((self.text.get(start..end).unwrap_or_default(), escaped))
    }

    /// Takes a string and resolves its escapes.
    pub(crate) fn string(&mut self) -> Result<Cow<'a, str>, Syntax> {
        let (raw, escaped) = self.raw_string()?;
        if !escaped {
            return Ok(Cow::Borrowed(raw));
        }
        let mut out = Vec::with_capacity(raw.len());
        unescape(raw, &mut out)?;
        String::from_utf8(out).map(Cow::Owned).map_err(|_| "a string is not UTF-8")
    }

    /// Takes a number; gives its text and whether it is whole (no point, no exponent).
    #[inline]
    pub(crate) fn number(&mut self) -> Result<(&'a str, bool), Syntax> {
        let start = self.pos;
        if self.peek() == b'-' {
            self.pos += 1;
        }
        match self.peek() {
            b'0' => {
                self.pos += 1;
                if self.peek().is_ascii_digit() {
                    return Err("a number begins with 0");
                }
            }
            b'1'..=b'9' => self.digits(),
            _ => return Err("a number has no digits"),
        }
        let mut whole = true;
        if self.peek() == b'.' {
            whole = false;
            self.pos += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            whole = false;
            self.pos += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.pos += 1;
            }
            self.some_digits()?;
        }
        match self.peek() {
            b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r' => {}
            _ if self.at_end() => {}
            _ => return Err("a number is followed by something else"),
        }
        Ok((self.slice(start, self.pos), whole))
    }

    #[inline]
    fn digits(&mut self) {
        while self.peek().is_ascii_digit() {
            self.pos += 1;
        }
    }

    fn some_digits(&mut self) -> Result<(), Syntax> {
        if !self.peek().is_ascii_digit() {
            return Err("a number lacks digits");
        }
        self.digits();
        Ok(())
    }

    /// Takes `true`, `false` or `null`.
    #[inline]
    pub(crate) fn literal(&mut self, word: &'static str) -> Result<(), Syntax> {
        let end = self.pos + word.len();
        if self.bytes.get(self.pos..end) == Some(word.as_bytes())
            && !self.bytes.get(end).is_some_and(u8::is_ascii_alphanumeric)
        {
            self.pos = end;
            Ok(())
        } else {
            Err("a value is none of JSON's")
        }
    }

    /// Takes a value without looking at it, though not without checking it.
    pub(crate) fn skip_value(&mut self, depth: usize) -> Result<(), Syntax> {
        match self.peek() {
            b'"' => {
                let (raw, escaped) = self.raw_string()?;
                if escaped { check_escapes(raw) } else { Ok(()) }
            }
            b'{' => self.skip_nested(depth, b'}', |s, depth| {
                if s.peek() != b'"' {
                    return Err("an object has a field without a name");
                }
                s.raw_string()?;
                s.skip_blanks();
                s.expect(b':', "a field name is not followed by ':'")?;
                s.skip_blanks();
                s.skip_value(depth)
            }),
            b'[' => self.skip_nested(depth, b']', Self::skip_value),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            _ if self.at_end() => Err("the text ends where a value is expected"),
            _ => Err("a value is none of JSON's"),
        }
    }

    fn skip_nested(
        &mut self,
        depth: usize,
        close: u8,
        item: impl Fn(&mut Self, usize) -> Result<(), Syntax>,
    ) -> Result<(), Syntax> {
        if depth >= MAX_DEPTH {
            return Err("the nesting is deeper than 1000 levels");
        }
        self.pos += 1;
        self.skip_blanks();
        if self.peek() == close {
            self.pos += 1;
            return Ok(());
        }
        loop {
            self.skip_blanks();
            item(self, depth + 1)?;
            if !self.more(close)? {
                return Ok(());
            }
        }
    }

    /// After an item: true for `,`, false for the closing bracket.
    #[inline]
    pub(crate) fn more(&mut self, close: u8) -> Result<bool, Syntax> {
        self.skip_blanks();
        let b = self.peek();
        if b == b',' {
            self.pos += 1;
            Ok(true)
        } else if b == close {
            self.pos += 1;
            Ok(false)
        } else if self.at_end() {
            Err("the text ends in the middle of an object or array")
        } else {
            Err("items are not separated by ','")
        }
    }
}

/// Whether two texts are the same; names are short, and a call to compare them costs more than comparing them.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    const WORD: usize = size_of::<u64>();
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<WORD>(), b.first_chunk::<WORD>(), a.last_chunk::<WORD>(), b.last_chunk::<WORD>()) {
        (Some(first_a), Some(first_b), Some(last_a), Some(last_b)) => {
            first_a == first_b
                && last_a == last_b
                // The first and the last word leave something between them.
                && (a.len() <= 2 * WORD || a.get(WORD..) == b.get(WORD..))
        }
        _ => a.iter().zip(b).all(|(a, b)| a == b),
    }
}

fn check_escapes(raw: &str) -> Result<(), Syntax> {
    unescape(raw, &mut Vec::new())
}

/// Appends a raw string with its escapes resolved. Half a surrogate pair becomes `?`, as in Java.
pub(crate) fn unescape(raw: &str, out: &mut Vec<u8>) -> Result<(), Syntax> {
    const BAD: Syntax = "a string has an unknown escape";
    let bytes = raw.as_bytes();
    let hex = |at: usize| -> Result<u32, Syntax> {
        let digits = bytes.get(at..at + 4).and_then(|d| std::str::from_utf8(d).ok()).ok_or(BAD)?;
        if digits.starts_with('+') {
            return Err(BAD);
        }
        u32::from_str_radix(digits, 16).map_err(|_| BAD)
    };
    let mut pos = 0;
    while let Some(b) = bytes.get(pos) {
        if *b != b'\\' {
            let run = bytes.get(pos..).unwrap_or_default();
            let n = run.iter().position(|b| *b == b'\\').unwrap_or(run.len());
            out.extend_from_slice(run.get(..n).unwrap_or_default());
            pos += n;
            continue;
        }
        pos += 2;
        out.push(match bytes.get(pos - 1).ok_or(BAD)? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 8,
            b'f' => 12,
            c @ (b'"' | b'\\' | b'/') => *c,
            b'u' => {
                let mut code = hex(pos)?;
                pos += 4;
                if (0xD800..0xDC00).contains(&code) && bytes.get(pos..pos + 2) == Some(b"\\u") {
                    let low = hex(pos + 2)?;
                    if (0xDC00..0xE000).contains(&low) {
                        code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                        pos += 6;
                    }
                }
                let c = char::from_u32(code).unwrap_or('?');
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return Err(BAD),
        });
    }
    Ok(())
}

/// Appends a value as compact JSON: blanks outside strings dropped, everything else as written.
pub(crate) fn compact(value: &str, out: &mut Vec<u8>) {
    let bytes = value.as_bytes();
    let (mut in_string, mut start) = (false, 0);
    let mut i = 0;
    while let Some(b) = bytes.get(i) {
        match b {
            b'\\' if in_string => i += 1,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => {
                out.extend_from_slice(bytes.get(start..i).unwrap_or_default());
                start = i + 1;
            }
            _ => {}
        }
        i += 1;
    }
    out.extend_from_slice(bytes.get(start..).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_end_where_values_end() {
        let taken = |text: &str| {
            let mut s = Scanner::new(text);
            (s.take_whole(), s.pos)
        };
        for (text, value, end) in [
            ("0,", 0, 1),
            ("-0}", 0, 2),
            ("7]", 7, 1),
            ("-12 ", -12, 3),
            ("999999999999999999,", 999_999_999_999_999_999, 18),
            ("-999999999999999999\n", -999_999_999_999_999_999, 19),
        ] {
            assert_eq!(taken(text), (Some(value), end), "{text}");
        }
        // What is no such number, or too long, or whose end is not seen, is left to others.
        for text in [
            "",
            "-",
            "1",
            "01,",
            "-01,",
            "1.5,",
            "1e3,",
            "1x",
            "\"1\"",
            "-,",
            "1000000000000000000,",
            "null,",
        ] {
            assert_eq!(taken(text), (None, 0), "{text}");
        }
    }

    #[test]
    fn tokens_are_compared_whole() {
        let text = "abcdefghijklmnopqrstuvwxyz";
        for start in 0..text.len() {
            for end in start..=text.len() {
                let token = &text.as_bytes()[start..end];
                let mut s = Scanner::new(text);
                s.pos = start;
                assert!(s.take(token));
                assert_eq!(s.pos, end);
                for i in 0..token.len() {
                    let mut other = token.to_vec();
                    other[i] ^= 1;
                    s.pos = start;
                    assert!(!s.take(&other), "{start} {end} {i}");
                    assert_eq!(s.pos, start);
                }
            }
        }
        let mut s = Scanner::new("ab");
        assert!(!s.take(b"abc"));
    }
}
