//! What text is appended to.

/// Text being written: a `String`, or bytes of a record. Writers generic over it exist once and allocate nothing.
pub(crate) trait Sink {
    /// Appends text.
    fn push_str(&mut self, text: &str);

    /// Appends ASCII characters.
    fn push_ascii(&mut self, text: &[u8]);

    /// Appends an ASCII character.
    fn push_byte(&mut self, c: u8);

    /// Appends `n` zeros.
    fn push_zeros(&mut self, n: usize);
}

impl Sink for Vec<u8> {
    #[inline]
    fn push_str(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }

    #[inline]
    fn push_ascii(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }

    #[inline]
    fn push_byte(&mut self, c: u8) {
        self.push(c);
    }

    #[inline]
    fn push_zeros(&mut self, n: usize) {
        self.resize(self.len() + n, b'0');
    }
}

impl Sink for String {
    #[inline]
    fn push_str(&mut self, text: &str) {
        String::push_str(self, text);
    }

    #[inline]
    fn push_ascii(&mut self, text: &[u8]) {
        String::push_str(self, std::str::from_utf8(text).unwrap_or_default());
    }

    #[inline]
    fn push_byte(&mut self, c: u8) {
        self.push(char::from(c));
    }

    #[inline]
    fn push_zeros(&mut self, n: usize) {
        self.extend(std::iter::repeat_n('0', n));
    }
}
