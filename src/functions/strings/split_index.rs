//! SPLIT_INDEX: one part of a text between separators.

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Int32Type};

use crate::error::Result;
use crate::functions::udf::{Call, build_strings};

pub(super) fn split_index(c: &Call<'_>) -> Result<ArrayRef> {
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
        let part = match separator.as_bytes() {
            // Java's splitByWholeSeparator with no separator splits at white space.
            [] => s.split_whitespace().nth(n),
            [byte] => part_between(s, *byte, n),
            _ => s.split(separator).nth(n),
        };
        Ok(part.map(|p| out.push_str(p)).is_some())
    })
}

/// The lower seven bits of each byte.
const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// The part behind `n` separators of one byte, which is a character.
///
/// Eight bytes are compared at once: parts are short, and there a search for the next separator costs more for its
/// beginning than for its bytes.
#[inline]
fn part_between(s: &str, separator: u8, n: usize) -> Option<&str> {
    let pattern = u64::from_le_bytes([separator; 8]);
    let (mut start, mut left) = (0, n);
    let (chunks, rest) = s.as_bytes().as_chunks::<8>();
    for (k, chunk) in chunks.iter().enumerate() {
        let differing = u64::from_le_bytes(*chunk) ^ pattern;
        // The highest bit of each byte that does not differ.
        let mut found = !(((differing & LOW) + LOW) | differing | LOW);
        while found != 0 {
            let at = 8 * k + (found.trailing_zeros() / 8) as usize;
            if left == 0 {
                return s.get(start..at);
            }
            left -= 1;
            start = at + 1;
            found &= found - 1;
        }
    }
    for (at, byte) in (8 * chunks.len()..).zip(rest) {
        if *byte == separator {
            if left == 0 {
                return s.get(start..at);
            }
            left -= 1;
            start = at + 1;
        }
    }
    if left == 0 { s.get(start..) } else { None }
}

#[cfg(test)]
mod tests {
    use super::part_between;

    #[test]
    fn parts_are_those_of_split() {
        let texts = [
            "",
            "/",
            "a",
            "//",
            "https://a.b/c/d/e",
            "/12345678",
            "1234567/",
            "12345678/",
            "ä/ö\u{2f2f}/ü/😀/",
            "a/",
        ];
        for text in
            texts.iter().map(|t| (*t).to_owned()).chain([texts.concat(), "x/".repeat(40), "0".repeat(33)])
        {
            for separator in [b'/', b'a', b'0', 0, 127] {
                for n in 0..90 {
                    let expected = text.split(char::from(separator)).nth(n);
                    assert_eq!(part_between(&text, separator, n), expected, "{text:?} {separator} {n}");
                }
            }
        }
    }
}
