//! Protobuf's wire format.

use crate::error::{Error, Result};

/// How deep groups that nobody wants may be nested.
const MAX_GROUPS: usize = 100;

/// What stands behind a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Length(&'a [u8]),
    Fixed32(u32),
}

impl Wire<'_> {
    pub(super) fn name(self) -> &'static str {
        match self {
            Wire::Varint(_) => "a varint",
            Wire::Fixed64(_) => "8 bytes",
            Wire::Length(_) => "bytes with a length",
            Wire::Fixed32(_) => "4 bytes",
        }
    }
}

fn short() -> Error {
    Error::data("the message ends in the middle of a field")
}

/// Bytes of a message, read from front to back.
pub(super) struct Reader<'a> {
    data: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Reader { data }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.data
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for (i, byte) in self.data.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                if i == 9 && *byte > 1 {
                    break;
                }
                self.data = self.data.get(i + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(if self.data.len() < 10 { short() } else { Error::data("a number of more than 64 bits") })
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (bytes, rest) = self.data.split_at_checked(length).ok_or_else(short)?;
        self.data = rest;
        Ok(bytes)
    }

    pub(super) fn fixed32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().map_err(|_| short())?))
    }

    pub(super) fn fixed64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().map_err(|_| short())?))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| short())?)
    }

    /// The next field: its number and what it holds; `None` after a group, which was skipped.
    #[inline]
    pub(super) fn field(&mut self) -> Result<Option<(u32, Wire<'a>)>> {
        let (number, kind) = self.tag()?;
        Ok(Some((
            number,
            match kind {
                0 => Wire::Varint(self.varint()?),
                1 => Wire::Fixed64(self.fixed64()?),
                2 => Wire::Length(self.bytes()?),
                5 => Wire::Fixed32(self.fixed32()?),
                3 => {
                    self.skip_group(number)?;
                    return Ok(None);
                }
                _ => {
                    return Err(Error::data(format!(
                        "field {number} has the wire type {kind}, which means nothing here"
                    )));
                }
            },
        )))
    }

    fn tag(&mut self) -> Result<(u32, u64)> {
        let tag = self.varint()?;
        match u32::try_from(tag >> 3) {
            Ok(number) if (1..1 << 29).contains(&number) => Ok((number, tag & 7)),
            _ => Err(Error::data(format!("{tag} is no tag of a field"))),
        }
    }

    fn skip_group(&mut self, number: u32) -> Result<()> {
        let mut open = vec![number];
        while let Some(innermost) = open.last() {
            let (number, kind) = self.tag()?;
            match kind {
                0 => {
                    self.varint()?;
                }
                1 => {
                    self.take(8)?;
                }
                2 => {
                    self.bytes()?;
                }
                5 => {
                    self.take(4)?;
                }
                3 if open.len() < MAX_GROUPS => open.push(number),
                4 if number == *innermost => {
                    open.pop();
                }
                _ => return Err(Error::data(format!("a group with field {number} of wire type {kind}"))),
            }
        }
        Ok(())
    }
}

#[inline]
pub(super) fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, kind: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(kind));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends what `write` writes with its length before it.
pub(super) fn put_with_length(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let start = out.len();
    // Most lengths take one byte.
    out.push(0);
    write(out)?;
    let length = out.len() - start - 1;
    if let (Ok(length), Some(first)) = (u8::try_from(length), out.get_mut(start))
        && length < 0x80
    {
        *first = length;
        return Ok(());
    }
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, length as u64);
    out.splice(start..=start, prefix);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let mut r = Reader::new(&[
            0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert_eq!(r.field().unwrap(), Some((1, Wire::Varint(150))));
        assert_eq!(r.field().unwrap(), Some((2, Wire::Length(b"hi"))));
        assert_eq!(r.field().unwrap(), Some((3, Wire::Fixed32(1))));
        assert_eq!(r.field().unwrap(), Some((4, Wire::Fixed64(2))));
        assert!(r.is_empty());
    }

    #[test]
    fn groups_are_skipped() {
        // 1: { 2: 1, 3: { } }, then 4: 5
        let mut r = Reader::new(&[0x0b, 0x10, 1, 0x1b, 0x1c, 0x0c, 0x20, 5]);
        assert_eq!(r.field().unwrap(), None);
        assert_eq!(r.field().unwrap(), Some((4, Wire::Varint(5))));
    }

    #[test]
    fn damage() {
        for (data, says) in [
            (&[0x08][..], "ends in the middle"),
            (&[0x12, 5, 1], "ends in the middle"),
            (&[0x00, 1], "no tag"),
            (&[0x0c], "wire type 4"),
            (&[0x0b, 0x14], "a group with"),
            (&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], "more than 64 bits"),
        ] {
            let e = Reader::new(data).field().unwrap_err().to_string();
            assert!(e.contains(says), "{data:?}: {e}");
        }
    }

    #[test]
    fn lengths() {
        for n in [0, 1, 127, 128, 300, 20_000] {
            let mut out = vec![9];
            put_with_length(&mut out, |out| {
                out.extend(std::iter::repeat_n(7, n));
                Ok(())
            })
            .unwrap();
            let mut r = Reader::new(&out[1..]);
            assert_eq!(r.bytes().unwrap().len(), n);
            assert!(r.is_empty());
        }
    }
}
