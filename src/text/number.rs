//! Numbers as Java writes them.

use std::fmt::Write;

/// `Double.toString`: plain from 1e-3 up to 1e7, else `d.dE±n`; always a digit behind the point.
pub(super) fn write_f64(v: f64, out: &mut String) {
    if special(v, out) {
        return;
    }
    // Shortest digits that read back the same, as `d.ddde±n`.
    let mut buffer = Buffer::default();
    let _ = write!(buffer, "{v:e}");
    write_java(buffer.text(), out);
}

/// `Float.toString`.
pub(super) fn write_f32(v: f32, out: &mut String) {
    if special(f64::from(v), out) {
        return;
    }
    let mut buffer = Buffer::default();
    let _ = write!(buffer, "{v:e}");
    write_java(buffer.text(), out);
}

fn special(v: f64, out: &mut String) -> bool {
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

fn write_java(scientific: &str, out: &mut String) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mantissa = match mantissa.strip_prefix('-') {
        Some(rest) => {
            out.push('-');
            rest
        }
        None => mantissa,
    };
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let or_zero = |digits: &str, out: &mut String| out.push_str(if digits.is_empty() { "0" } else { digits });
    match exponent {
        0..7 => {
            let whole = exponent as usize;
            out.push_str(first);
            out.push_str(rest.get(..whole).unwrap_or(rest));
            out.extend(std::iter::repeat_n('0', whole.saturating_sub(rest.len())));
            out.push('.');
            or_zero(rest.get(whole..).unwrap_or(""), out);
        }
        -3..0 => {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
            out.push_str(first);
            out.push_str(rest);
        }
        _ => {
            out.push_str(first);
            out.push('.');
            or_zero(rest, out);
            let _ = write!(out, "E{exponent}");
        }
    }
}

/// A decimal without exponent.
pub(super) fn write_decimal(unscaled: i128, scale: i8, out: &mut String) {
    if unscaled < 0 {
        out.push('-');
    }
    let mut buffer = DigitBuffer::new(unscaled.unsigned_abs());
    let digits = buffer.text();
    let Ok(scale) = usize::try_from(scale) else {
        out.push_str(digits);
        out.extend(std::iter::repeat_n('0', usize::from(scale.unsigned_abs())));
        return;
    };
    if scale == 0 {
        out.push_str(digits);
    } else if digits.len() > scale {
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let _ = write!(out, "{whole}.{fraction}");
    } else {
        out.push_str("0.");
        out.extend(std::iter::repeat_n('0', scale - digits.len()));
        out.push_str(digits);
    }
}

/// `BigDecimal.toString`: with an exponent when the value is below 1e-6.
pub(super) fn write_big_decimal(unscaled: i128, scale: i8, out: &mut String) {
    let mut buffer = DigitBuffer::new(unscaled.unsigned_abs());
    let digits = buffer.text();
    let adjusted = digits.len() as i32 - 1 - i32::from(scale);
    if scale >= 0 && adjusted >= -6 {
        return write_decimal(unscaled, scale, out);
    }
    if unscaled < 0 {
        out.push('-');
    }
    let (first, rest) = digits.split_at(1);
    out.push_str(first);
    if !rest.is_empty() {
        let _ = write!(out, ".{rest}");
    }
    let _ = write!(out, "E{adjusted:+}");
}

struct DigitBuffer {
    value: u128,
    bytes: [u8; 40],
}

impl DigitBuffer {
    fn new(value: u128) -> Self {
        DigitBuffer { value, bytes: [b'0'; 40] }
    }

    fn text(&mut self) -> &str {
        let mut start = self.bytes.len();
        let mut left = self.value;
        for (i, b) in self.bytes.iter_mut().enumerate().rev() {
            *b = b'0' + (left % 10) as u8;
            left /= 10;
            start = i;
            if left == 0 {
                break;
            }
        }
        self.bytes.get(start..).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("0")
    }
}
