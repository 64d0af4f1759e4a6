//! The values of each group, beside the table of all: what a window or a session has is found, and forgotten, without
//! going through what the others have.
//!
//! A value that came is appended; one that went stays until more than half of a list is of that kind. So a list may
//! have a value twice, and values that are gone: readers look each up in the table.

use std::borrow::Cow;

/// Values that may be gone in a list of any length.
const SLACK: usize = 16;

/// See the module.
#[derive(Default)]
pub(super) struct BySlot {
    lists: Vec<Vec<i64>>,
    /// Slots whose lists were seen to be too long.
    long: Vec<u32>,
    /// Values there is room for.
    room: usize,
}

fn is_long(list: &[i64], entries: u32) -> bool {
    list.len() > 2 * entries as usize + SLACK
}

impl BySlot {
    pub(super) fn resize(&mut self, slots: usize) {
        self.lists.resize_with(slots, Vec::new);
    }

    /// A value came to a slot.
    pub(super) fn push(&mut self, slot: u32, value: i64) {
        let list = &mut self.lists[slot as usize];
        self.room -= list.capacity();
        list.push(value);
        self.room += list.capacity();
    }

    /// A value of a slot went, which now has `entries`.
    pub(super) fn lost(&mut self, slot: u32, entries: u32) {
        if is_long(&self.lists[slot as usize], entries) && self.long.last() != Some(&slot) {
            self.long.push(slot);
        }
    }

    /// Takes what is gone out of lists that became too long. `entries`: values of each slot.
    pub(super) fn compact(&mut self, entries: &[u32], is_there: impl Fn(u32, i64) -> bool) {
        for slot in std::mem::take(&mut self.long) {
            let list = &mut self.lists[slot as usize];
            if is_long(list, entries[slot as usize]) {
                self.room -= list.capacity();
                list.sort_unstable();
                list.dedup();
                list.retain(|value| is_there(slot, *value));
                list.shrink_to_fit();
                self.room += list.capacity();
            }
        }
    }

    /// Values of a slot that has `entries`, each once; some may be gone.
    pub(super) fn values(&self, slot: u32, entries: u32) -> Cow<'_, [i64]> {
        let list = &self.lists[slot as usize];
        // None is missing, so of this length each is there, and once.
        if list.len() == entries as usize {
            return Cow::Borrowed(list);
        }
        let mut values = list.clone();
        values.sort_unstable();
        values.dedup();
        Cow::Owned(values)
    }

    /// Takes the values of a slot; one may come twice or be gone.
    pub(super) fn take(&mut self, slot: u32) -> Vec<i64> {
        let list = std::mem::take(&mut self.lists[slot as usize]);
        self.room -= list.capacity();
        list
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        self.lists.capacity() * size_of::<Vec<i64>>() + self.room * size_of::<i64>()
    }
}
