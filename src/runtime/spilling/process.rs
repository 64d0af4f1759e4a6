//! What a process has one of, however many sessions and statements run in it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// One `T` for each limit in bytes that is in use. A process has one limit; where embedders or tests set several, what
/// has the same limit is shared.
#[derive(Debug)]
pub(super) struct OfProcess<T>(Mutex<Option<HashMap<usize, Weak<T>>>>);

impl<T> OfProcess<T> {
    pub(super) const fn new() -> Self {
        OfProcess(Mutex::new(None))
    }

    /// The one of `limit`; `make` makes it while nobody holds it.
    pub(super) fn get(&self, limit: usize, make: impl FnOnce() -> T) -> Arc<T> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = all.get_or_insert_default();
        all.retain(|_, one| one.strong_count() > 0);
        if let Some(one) = all.get(&limit).and_then(Weak::upgrade) {
            return one;
        }
        let one = Arc::new(make());
        all.insert(limit, Arc::downgrade(&one));
        one
    }
}
