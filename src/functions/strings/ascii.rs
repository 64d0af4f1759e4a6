//! Strings of ASCII characters alone, where a character is a byte: what most columns hold.
//!
//! ```text
//!  all bytes of an array are ASCII ─► one pass over them; offsets and NULLs are those of the argument
//!  some are not                    ─► value by value, and by bytes where the value allows it
//! ```

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int32Array, NullBufferBuilder, StringArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};

use crate::error::Result;
use crate::functions::room::check_room;
use crate::functions::udf::Call;

/// Argument `i` if it is a column of ASCII strings.
pub(super) fn column<'a>(c: &'a Call<'_>, i: usize) -> Result<Option<&'a StringArray>> {
    if c.is_constant(i) {
        return Ok(None);
    }
    let a = c.strings(i)?;
    Ok(bytes(a).is_ascii().then_some(a))
}

/// Whether all values of argument `i` are ASCII.
pub(super) fn is_ascii(c: &Call<'_>, i: usize) -> Result<bool> {
    Ok(bytes(c.strings(i)?).is_ascii())
}

/// The bytes of argument `i`.
pub(super) fn size(c: &Call<'_>, i: usize) -> Result<usize> {
    Ok(bytes(c.strings(i)?).len())
}

/// The bytes of all values; an array may be a part of a larger one.
fn bytes(a: &StringArray) -> &[u8] {
    let (from, to) = bounds(a);
    a.value_data().get(from..to).unwrap_or_default()
}

fn bounds(a: &StringArray) -> (usize, usize) {
    let offsets = a.value_offsets();
    let at = |o: Option<&i32>| o.map_or(0, |o| *o as usize);
    (at(offsets.first()), at(offsets.last()))
}

/// The array with other bytes in the place of its own; `change` gets those of all values and where each begins.
pub(super) fn map(a: &StringArray, change: impl FnOnce(&mut [u8], &[i32])) -> Result<ArrayRef> {
    let (from, _) = bounds(a);
    let mut bytes = bytes(a).to_vec();
    let offsets = if from == 0 {
        a.offsets().clone()
    } else {
        let first = from as i32;
        OffsetBuffer::new(a.value_offsets().iter().map(|o| o - first).collect::<ScalarBuffer<i32>>())
    };
    change(&mut bytes, &offsets);
    Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), a.nulls().cloned())?))
}

/// `change` for the bytes of each value.
pub(super) fn map_values(a: &StringArray, change: impl Fn(&mut [u8])) -> Result<ArrayRef> {
    map(a, |bytes, offsets| {
        let mut rest = bytes;
        for pair in offsets.windows(2) {
            let (value, others) = rest.split_at_mut((pair[1] - pair[0]) as usize);
            change(value);
            rest = others;
        }
    })
}

/// The number of bytes of each value.
pub(super) fn lengths(a: &StringArray) -> Result<ArrayRef> {
    let lengths: ScalarBuffer<i32> = a.value_offsets().windows(2).map(|pair| pair[1] - pair[0]).collect();
    Ok(Arc::new(Int32Array::try_new(lengths, a.nulls().cloned())?))
}

/// Builds strings of bytes: `f` appends row `i` and says whether it is not null.
pub(super) fn build(
    rows: usize,
    capacity: usize,
    mut f: impl FnMut(usize, &mut Vec<u8>) -> Result<bool>,
) -> Result<ArrayRef> {
    let mut bytes = Vec::with_capacity(capacity);
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut nulls = NullBufferBuilder::new(rows);
    offsets.push(0);
    for i in 0..rows {
        let from = bytes.len();
        if f(i, &mut bytes)? {
            check_room(from, bytes.len() - from)?;
            nulls.append_non_null();
        } else {
            bytes.truncate(from);
            nulls.append_null();
        }
        offsets.push(bytes.len() as i32);
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(StringArray::try_new(offsets, bytes.into(), nulls.finish())?))
}

/// A string whose characters are counted, and whether each is a byte: looked at once.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    s: &'a str,
    ascii: bool,
}

impl<'a> Text<'a> {
    /// `all_ascii`: the column is known to be ASCII.
    pub(super) fn new(s: &'a str, all_ascii: bool) -> Self {
        Text { s, ascii: all_ascii || s.is_ascii() }
    }

    /// Its characters.
    pub(super) fn length(self) -> usize {
        if self.ascii { self.s.len() } else { self.s.chars().count() }
    }

    /// Byte offset of the n-th character, or the end.
    pub(super) fn offset(self, n: usize) -> usize {
        if self.ascii {
            n.min(self.s.len())
        } else {
            self.s.char_indices().nth(n).map_or(self.s.len(), |(i, _)| i)
        }
    }

    /// The characters before a byte offset.
    pub(super) fn count_before(self, byte: usize) -> usize {
        if self.ascii { byte } else { self.s.get(..byte).map_or(0, |before| before.chars().count()) }
    }

    /// The first `n` characters.
    pub(super) fn first(self, n: usize) -> &'a str {
        self.s.get(..self.offset(n)).unwrap_or("")
    }

    /// What follows the first `n` characters.
    pub(super) fn after(self, n: usize) -> Text<'a> {
        Text { s: self.s.get(self.offset(n)..).unwrap_or(""), ascii: self.ascii }
    }

    pub(super) fn as_str(self) -> &'a str {
        self.s
    }
}

/// The characters of a set, ASCII ones as a table.
pub(super) struct CharSet<'a> {
    ascii: [bool; 128],
    others: &'a str,
}

impl<'a> CharSet<'a> {
    pub(super) fn new(set: &'a str) -> Self {
        let mut ascii = [false; 128];
        for b in set.bytes().filter(u8::is_ascii) {
            ascii[usize::from(b)] = true;
        }
        CharSet { ascii, others: if set.is_ascii() { "" } else { set } }
    }

    fn contains(&self, c: char) -> bool {
        if c.is_ascii() { self.ascii[c as usize] } else { self.others.contains(c) }
    }

    /// `s` without the characters of the set at its ends.
    pub(super) fn trim<'s>(&self, mut s: &'s str, start: bool, end: bool) -> &'s str {
        if start {
            s = s.trim_start_matches(|c| self.contains(c));
        }
        if end {
            s = s.trim_end_matches(|c| self.contains(c));
        }
        s
    }
}
