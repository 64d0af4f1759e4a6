//! Doubles and floats as Java writes them.

use std::fmt::Write;

use super::integer::write_int;
use super::sink::Sink;

/// Appends `Double.toString`: plain from 1e-3 up to 1e7, else `d.dE±n`; always a digit behind the point.
pub(crate) fn write_f64<S: Sink>(v: f64, out: &mut S) {
    if special(v, out) {
        return;
    }
    // Shortest digits that read back the same, as `d.ddde±n`.
    let mut buffer = Buffer::default();
    let _ = write!(buffer, "{v:e}");
    write_java(buffer.text(), out);
}

/// Appends `Float.toString`.
pub(crate) fn write_f32<S: Sink>(v: f32, out: &mut S) {
    if special(f64::from(v), out) {
        return;
    }
    let mut buffer = Buffer::default();
    let _ = write!(buffer, "{v:e}");
    write_java(buffer.text(), out);
}

fn special<S: Sink>(v: f64, out: &mut S) -> bool {
    let text = if v.is_nan() {
        "NaN"
    } else if v == f64::INFINITY {
        "Infinity"
    } else if v == f64::NEG_INFINITY {
        "-Infinity"
    } else {
        return false;
    };
    out.push_str(text);
    true
}

/// A short text on the stack; an `f64` in scientific form has at most 24 characters.
#[derive(Default)]
struct Buffer {
    bytes: [u8; 32],
    len: usize,
}

impl Buffer {
    fn text(&self) -> &str {
        self.bytes.get(..self.len).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or_default()
    }
}

impl Write for Buffer {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        let end = self.len + s.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

fn write_java<S: Sink>(scientific: &str, out: &mut S) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = match mantissa.strip_prefix('-') {
        Some(rest) => {
            out.push_byte(b'-');
            rest
        }
        None => mantissa,
    };
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let or_zero = |digits: &str, out: &mut S| out.push_str(if digits.is_empty() { "0" } else { digits });
    match exponent {
        0..7 => {
            let whole = exponent as usize;
            out.push_str(first);
            out.push_str(rest.get(..whole).unwrap_or(rest));
            out.push_zeros(whole.saturating_sub(rest.len()));
            out.push_byte(b'.');
            or_zero(rest.get(whole..).unwrap_or(""), out);
        }
        -3..0 => {
            out.push_str("0.");
            out.push_zeros((-exponent - 1) as usize);
            out.push_str(first);
            out.push_str(rest);
        }
        _ => {
            out.push_str(first);
            out.push_byte(b'.');
            or_zero(rest, out);
            out.push_byte(b'E');
            write_int(exponent, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_as_java() {
        for (v, t) in [
            (1.0, "1.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1e7, "1.0E7"),
            (9_999_999.5, "9999999.5"),
            (1e-3, "0.001"),
            (1e-4, "1.0E-4"),
            (123_456_789.125, "1.23456789125E8"),
            (-1.5e300, "-1.5E300"),
            (100.0, "100.0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(text(|o| write_f64(v, o)), t);
            let mut string = String::new();
            write_f64(v, &mut string);
            assert_eq!(string, t);
        }
        for (v, t) in [(1.1, "1.1"), (1e-3, "0.001"), (1e-10, "1.0E-10"), (1e20, "1.0E20"), (0.0, "0.0")] {
            assert_eq!(text(|o| write_f32(v, o)), t);
        }
    }
}
