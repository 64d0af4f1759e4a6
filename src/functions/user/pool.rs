//! Workers of a function: made when a batch finds none that is free, kept for the next one.
//!
//! ```text
//!  batch ─► take a free worker, or make one ─► work ─► put it back   (one that is broken is dropped)
//! ```
//!
//! So there are never more workers than threads that evaluate the function at the same time.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;

/// Workers that are free.
pub(super) struct Pool<W> {
    free: Mutex<Vec<W>>,
}

impl<W> Default for Pool<W> {
    fn default() -> Self {
        Pool { free: Mutex::new(Vec::new()) }
    }
}

impl<W> Pool<W> {
    fn free(&self) -> MutexGuard<'_, Vec<W>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives `work` a worker. One that failed is used again only if it is still `whole`.
    ///
    /// # Errors
    /// Those of `make` and `work`.
    pub(super) fn with<T>(
        &self,
        make: impl FnOnce() -> Result<W>,
        whole: impl FnOnce(&W) -> bool,
        work: impl FnOnce(&mut W) -> Result<T>,
    ) -> Result<T> {
        let free = self.free().pop();
        let mut worker = match free {
            Some(worker) => worker,
            None => make()?,
        };
        let out = work(&mut worker);
        if out.is_ok() || whole(&worker) {
            self.free().push(worker);
        }
        out
    }
}
