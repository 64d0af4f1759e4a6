//! Strings as JSON.

use super::sink::Sink;

/// Which characters are escaped, and how.
pub(crate) struct Escapes {
    /// What follows the backslash, 0 for what stays, `u` for four hexadecimal digits.
    letters: [u8; 256],
    hex: &'static [u8; 16],
}

impl Escapes {
    /// What JSON demands: line feed, carriage return and tabulator by letter, other control characters as `\u001f`.
    pub(crate) const JSON: &Escapes = &Escapes::new(b"\n\r\t", b"nrt", true, b"0123456789abcdef");
    /// As Flink's Jackson: backspace and form feed by letter too, digits in upper case: `\u001F`.
    pub(crate) const JACKSON: &Escapes =
        &Escapes::new(b"\n\r\t\x08\x0c", b"nrtbf", true, b"0123456789ABCDEF");
    /// As Flink's JSON_QUOTE: slashes too, but no control characters without a letter.
    pub(crate) const JSON_QUOTE: &Escapes =
        &Escapes::new(b"\n\r\t\x08\x0c/", b"nrtbf/", false, b"0123456789ABCDEF");

    const fn new(escaped: &[u8], letters: &[u8], controls: bool, hex: &'static [u8; 16]) -> Self {
        let mut table = [0; 256];
        let mut c = 0;
        while controls && c < 0x20 {
            table[c] = b'u';
            c += 1;
        }
        table[b'"' as usize] = b'"';
        table[b'\\' as usize] = b'\\';
        let mut i = 0;
        while i < escaped.len() {
            table[escaped[i] as usize] = letters[i];
            i += 1;
        }
        Escapes { letters: table, hex }
    }
}

/// Appends a string in quotes.
#[inline]
pub(crate) fn write_json_string<S: Sink>(text: &str, escapes: &Escapes, out: &mut S) {
    out.push_byte(b'"');
    let mut from = 0;
    for (i, b) in text.bytes().enumerate() {
        let letter = escapes.letters[usize::from(b)];
        if letter == 0 {
            continue;
        }
        out.push_str(text.get(from..i).unwrap_or_default());
        from = i + 1;
        out.push_ascii(&[b'\\', letter]);
        if letter == b'u' {
            out.push_ascii(&[b'0', b'0', escapes.hex[usize::from(b >> 4)], escapes.hex[usize::from(b & 15)]]);
        }
    }
    out.push_str(text.get(from..).unwrap_or_default());
    out.push_byte(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles() {
        let text = "a\"\\/\n\r\t\u{8}\u{c}\u{1f}ü日";
        for (escapes, expected) in [
            (Escapes::JSON, r#""a\"\\/\n\r\t\u0008\u000c\u001fü日""#),
            (Escapes::JACKSON, r#""a\"\\/\n\r\t\b\f\u001Fü日""#),
            (Escapes::JSON_QUOTE, "\"a\\\"\\\\\\/\\n\\r\\t\\b\\f\u{1f}ü日\""),
        ] {
            let (mut bytes, mut string) = (Vec::new(), String::new());
            write_json_string(text, escapes, &mut bytes);
            write_json_string(text, escapes, &mut string);
            assert_eq!(string, expected);
            assert_eq!(bytes, expected.as_bytes());
        }
    }
}
