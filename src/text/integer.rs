//! Whole numbers.

use super::sink::Sink;

/// Appends an integer.
#[inline]
pub(crate) fn write_int<S: Sink>(v: impl itoa::Integer, out: &mut S) {
    out.push_str(itoa::Buffer::new().format(v));
}
