//! Packets of MySQL's protocol and the fields in them.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, BufReader};

use crate::error::{Error, Result};

/// A packet of this length goes on in the next one.
const LONGEST: usize = 0xff_ff_ff;

/// The two directions of a connection, encrypted or not.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Packets over a connection.
pub(super) struct Packets {
    pub(super) stream: BufReader<Box<dyn Wire>>,
    sequence: u8,
    packet: Vec<u8>,
}

impl Packets {
    pub(super) fn new(stream: Box<dyn Wire>) -> Self {
        Packets { stream: BufReader::with_capacity(1 << 16, stream), sequence: 0, packet: Vec::new() }
    }

    /// Goes on over another wire, which `wrap` makes of this one.
    pub(super) async fn rewire<F: Future<Output = Result<Box<dyn Wire>>>>(
        self,
        wrap: impl FnOnce(Box<dyn Wire>) -> F,
    ) -> Result<Self> {
        // What came before the handshake would be taken for encrypted.
        if !self.stream.buffer().is_empty() {
            return Err(Error::external("the server spoke before the connection was encrypted"));
        }
        let stream = wrap(self.stream.into_inner()).await?;
        Ok(Packets { sequence: self.sequence, ..Packets::new(stream) })
    }

    /// A command begins: packets are counted from 0.
    pub(super) fn begin(&mut self) {
        self.sequence = 0;
    }

    /// The next packet. Not to be given up half way.
    pub(super) async fn read(&mut self) -> Result<&[u8]> {
        self.packet.clear();
        loop {
            let mut header = [0; 4];
            self.stream.read_exact(&mut header).await?;
            let [a, b, c, sequence] = header;
            let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
            self.sequence = sequence.wrapping_add(1);
            let read = (&mut self.stream).take(length as u64).read_to_end(&mut self.packet).await?;
            if read < length {
                return Err(Error::external("the server has closed the connection"));
            }
            if length < LONGEST {
                return Ok(&self.packet);
            }
        }
    }

    /// A payload with the headers of its packets.
    pub(super) fn frame(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut framed = Vec::with_capacity(payload.len() + 4);
        let mut parts = payload.chunks(LONGEST).collect::<Vec<_>>();
        // One that is full, or nothing at all, is followed by an end.
        if parts.last().is_none_or(|part| part.len() == LONGEST) {
            parts.push(&[]);
        }
        for part in parts {
            let [a, b, c, ..] = (part.len() as u32).to_le_bytes();
            framed.extend([a, b, c, self.sequence]);
            framed.extend(part);
            self.sequence = self.sequence.wrapping_add(1);
        }
        framed
    }
}

/// What is left of a packet.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn new(packet: &'a [u8]) -> Self {
        Fields(packet)
    }

    pub(super) fn bytes(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn skip(&mut self, n: usize) -> Result<()> {
        self.bytes(n).map(|_| ())
    }

    pub(super) fn u8(&mut self) -> Result<u8> {
        self.bytes(1)?.first().copied().ok_or_else(short)
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        Ok(self.number(2)? as u16)
    }

    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.bytes(bytes)?.iter().rev().fold(0, |all, b| all << 8 | u64::from(*b)))
    }

    /// A number of one to nine bytes.
    pub(super) fn length(&mut self) -> Result<u64> {
        match self.u8()? {
            0xfc => self.number(2),
            0xfd => self.number(3),
            0xfe => self.number(8),
            small => Ok(u64::from(small)),
        }
    }

    /// A cell of a row; `None` for NULL.
    pub(super) fn cell(&mut self) -> Result<Option<&'a [u8]>> {
        if self.0.first() == Some(&0xfb) {
            self.skip(1)?;
            return Ok(None);
        }
        let length = usize::try_from(self.length()?).map_err(|_| short())?;
        self.bytes(length).map(Some)
    }

    /// Up to a zero.
    pub(super) fn text(&mut self) -> Result<&'a [u8]> {
        let end = self.0.iter().position(|b| *b == 0).ok_or_else(short)?;
        let text = self.bytes(end)?;
        self.skip(1)?;
        Ok(text)
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

fn short() -> Error {
    Error::external("the server sent a packet that is too short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_short_packets_told() {
        let packet = [3, b'a', b'b', b'c', 0xfb, 0xfc, 1, 0, b'x', b'y', 0, 9];
        let mut fields = Fields::new(&packet);
        assert_eq!(fields.cell().unwrap(), Some(&b"abc"[..]));
        assert_eq!(fields.cell().unwrap(), None);
        assert_eq!(fields.cell().unwrap(), Some(&b"x"[..]));
        assert_eq!(fields.text().unwrap(), b"y");
        assert!(fields.cell().is_err());
        assert!(Fields::new(&[]).u16().is_err());
        assert!(Fields::new(b"ab").text().is_err());
    }
}
