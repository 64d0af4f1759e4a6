//! Groups that nothing has changed for the time to live are forgotten, without a word downstream.
//!
//! The clock ([`StepClock`]) moves with the timer only. All groups are looked at when the oldest one may be due.

use super::bundle::Bundle;
use super::table::AggregateTable;
use crate::state::ttl::StepClock;
use crate::stream::Timestamp;

#[derive(Debug)]
pub(super) struct Expiry {
    clock: StepClock,
    /// When to look at the groups again.
    due: i64,
}

impl Expiry {
    pub(super) fn new(ttl: i64) -> Self {
        Expiry { clock: StepClock::new(ttl), due: i64::MIN }
    }

    /// The stamp for groups that change now. Before the first timer it is unknown: the timer dates them.
    pub(super) fn now(&self) -> i64 {
        self.clock.stamp().unwrap_or(i64::MAX)
    }

    /// When the clock moves next.
    pub(super) fn next(&self) -> Timestamp {
        self.clock.next_timer()
    }

    /// Moves the clock and forgets what is due, except groups of the open bundle.
    pub(super) fn advance(&mut self, now: Timestamp, table: &mut AggregateTable, bundle: &Bundle) {
        self.clock.advance(now);
        if now.0 < self.due {
            return;
        }
        let Some(changed) = &mut table.changed else { return };
        let stamp = self.clock.stamp().unwrap_or(now.0);
        let (mut gone, mut oldest) = (Vec::new(), stamp);
        for slot in table.directory.slots() {
            let at = &mut changed[slot as usize];
            if *at == i64::MAX {
                *at = stamp;
            }
            if self.clock.is_over(*at, now) && !bundle.holds(slot) {
                gone.push(slot);
            } else {
                oldest = oldest.min(*at);
            }
        }
        self.due = oldest.saturating_add(self.clock.ttl());
        table.clear(&gone);
        gone.iter().for_each(|s| table.rows[*s as usize] = 0);
        table.directory.remove(&gone);
    }
}
