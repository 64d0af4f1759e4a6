//! Bytes of keys by slot.

/// Bytes of a chunk; the first one grows up to it, a longer key has its own.
const CHUNK: usize = 4 << 20;

/// Below this many dead bytes packing does not pay.
const PACK_FROM: usize = 65_536;

/// Bytes per slot in chunks, so that growing copies nothing.
#[derive(Default)]
pub(super) struct Arena {
    chunks: Vec<Vec<u8>>,
    /// By slot.
    spans: Vec<Span>,
    /// Bytes of keys, dead ones too.
    used: usize,
    dead: usize,
}

/// Where the bytes of a slot lie.
#[derive(Clone, Copy, Default)]
struct Span {
    chunk: u32,
    offset: u32,
    len: u32,
}

impl Arena {
    #[inline]
    pub(super) fn get(&self, slot: u32) -> &[u8] {
        match self.spans.get(slot as usize) {
            Some(Span { len: 0, .. }) | None => &[],
            Some(span) => {
                let offset = span.offset as usize;
                &self.chunks[span.chunk as usize][offset..offset + span.len as usize]
            }
        }
    }

    pub(super) fn put(&mut self, slot: u32, bytes: &[u8]) {
        if slot as usize >= self.spans.len() {
            self.spans.resize(slot as usize + 1, Span::default());
        }
        self.used += bytes.len();
        self.spans[slot as usize] = append(&mut self.chunks, bytes);
    }

    pub(super) fn free(&mut self, slot: u32) {
        if let Some(span) = self.spans.get_mut(slot as usize) {
            self.dead += span.len as usize;
            *span = Span::default();
        }
        if self.dead > PACK_FROM && self.dead > self.used / 2 {
            self.pack();
        }
    }

    /// Moves what lives to new chunks.
    fn pack(&mut self) {
        let mut packed = Vec::new();
        for i in 0..self.spans.len() {
            if self.spans[i].len > 0 {
                self.spans[i] = append(&mut packed, self.get(i as u32));
            }
        }
        self.chunks = packed;
        self.used -= self.dead;
        self.dead = 0;
    }

    pub(super) fn clear(&mut self) {
        // One chunk is kept for its allocation.
        self.chunks.truncate(1);
        self.chunks.iter_mut().for_each(Vec::clear);
        self.spans.clear();
        (self.used, self.dead) = (0, 0);
    }

    pub(super) fn size(&self) -> usize {
        self.chunks.iter().map(Vec::capacity).sum::<usize>() + self.spans.capacity() * size_of::<Span>()
    }
}

/// Appends bytes to the last chunk, or to a new one if they do not fit there.
fn append(chunks: &mut Vec<Vec<u8>>, bytes: &[u8]) -> Span {
    if chunks.last().is_none_or(|last| last.len() + bytes.len() > CHUNK) {
        // The first one starts small: most states are.
        let size = if chunks.is_empty() { bytes.len() } else { bytes.len().max(CHUNK) };
        chunks.push(Vec::with_capacity(size));
    }
    let chunk = chunks.len() - 1;
    let offset = chunks[chunk].len();
    chunks[chunk].extend_from_slice(bytes);
    Span { chunk: chunk as u32, offset: offset as u32, len: bytes.len() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_any_length_are_found_again() {
        let mut arena = Arena::default();
        let key = |slot: u32| vec![slot as u8; [0, 10, 3 << 20, 5 << 20][slot as usize % 4]];
        (0..20).for_each(|slot| arena.put(slot, &key(slot)));
        assert!((0..20).all(|slot| arena.get(slot) == key(slot)));
        let before = arena.size();
        (0..16).for_each(|slot| arena.free(slot));
        assert!(arena.size() < before / 2);
        assert!((0..16).all(|slot| arena.get(slot).is_empty()));
        assert!((16..20).all(|slot| arena.get(slot) == key(slot)));
        arena.put(3, b"again");
        assert_eq!(arena.get(3), b"again");
        arena.clear();
        assert!(arena.get(3).is_empty() && arena.get(99).is_empty());
    }
}
