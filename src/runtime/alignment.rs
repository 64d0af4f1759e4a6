//! Watermark alignment: readers of a group wait for those that are far behind in event time.
//!
//! ```text
//!  orders   ──────────────────► 12:30   waits          group 'g', max-drift 10 min
//!  payments ─────► 12:05                 is read
//! ```
//!
//! So that a join of the two need not keep what one has read too early. A member that has ended, is idle or has begun no
//! split does not count.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::stream::Timestamp;

/// The watermarks of the members of a group.
#[derive(Debug, Default)]
pub struct AlignmentGroup(Mutex<Vec<Option<Timestamp>>>);

impl AlignmentGroup {
    fn members(&self) -> MutexGuard<'_, Vec<Option<Timestamp>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watermark of the member that is last.
    fn last(&self) -> Option<Timestamp> {
        self.members().iter().flatten().min().copied()
    }
}

/// How a source is aligned.
#[derive(Debug, Clone)]
pub struct Alignment {
    /// Its group.
    pub group: Arc<AlignmentGroup>,
    /// How far a reader may be ahead of the last one.
    pub max_drift: Duration,
    /// How often a reader that waits looks at the others.
    pub update_interval: Duration,
}

/// A reader of an aligned source.
#[derive(Debug)]
pub struct Member {
    alignment: Alignment,
    number: usize,
}

impl Member {
    /// A member whose time nobody knows yet.
    pub fn new(alignment: Alignment) -> Self {
        let mut members = alignment.group.members();
        members.push(None);
        let number = members.len() - 1;
        drop(members);
        Member { alignment, number }
    }

    /// Tells the others where this reader is; `None`: it does not count.
    pub fn tell(&self, watermark: Option<Timestamp>) {
        if let Some(own) = self.alignment.group.members().get_mut(self.number) {
            *own = watermark;
        }
    }

    /// Whether a reader at `watermark` is too far ahead.
    pub fn is_ahead(&self, watermark: Timestamp) -> bool {
        let drift = i64::try_from(self.alignment.max_drift.as_millis()).unwrap_or(i64::MAX);
        self.alignment.group.last().is_some_and(|last| watermark.0 > last.0.saturating_add(drift))
    }

    /// How long to wait before it is asked again.
    pub fn interval(&self) -> Duration {
        self.alignment.update_interval.max(Duration::from_millis(1))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tell(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_waits_for_the_last_one_that_counts() {
        let alignment = Alignment {
            group: Arc::default(),
            max_drift: Duration::from_secs(10),
            update_interval: Duration::from_secs(1),
        };
        let (a, b) = (Member::new(alignment.clone()), Member::new(alignment));
        assert!(!a.is_ahead(Timestamp(1_000_000)), "nobody has a time");
        a.tell(Some(Timestamp(20_000)));
        assert!(!a.is_ahead(Timestamp(20_000)), "it is the last itself");
        b.tell(Some(Timestamp(5_000)));
        assert!(a.is_ahead(Timestamp(15_001)));
        assert!(!a.is_ahead(Timestamp(15_000)));
        b.tell(Some(Timestamp::MIN));
        assert!(a.is_ahead(Timestamp(0)), "a split without rows is waited for");
        b.tell(None);
        assert!(!a.is_ahead(Timestamp(20_000)), "an idle one is not");
        b.tell(Some(Timestamp(1)));
        drop(b);
        assert!(!a.is_ahead(Timestamp(20_000)), "nor one that has ended");
    }
}
