//! Groups that nothing has changed for the time to live are forgotten, without a word downstream.
//!
//! The clock moves with the timer only, in steps of a tenth of the time to live: a group lives for at least that time
//! and at most a step longer. All groups are looked at when the oldest one may be due.

use super::bundle::Bundle;
use super::table::AggregateTable;
use crate::stream::Timestamp;

/// The longest step of the clock.
const LONGEST_STEP: i64 = 60_000;

#[derive(Debug)]
pub(super) struct Expiry {
    ttl: i64,
    now: Option<i64>,
    /// When to look at the groups again.
    due: i64,
}

impl Expiry {
    pub(super) fn new(ttl: i64) -> Self {
        Expiry { ttl: ttl.max(1), now: None, due: i64::MIN }
    }

    /// The time for groups that change now. Before the first timer it is unknown: the timer dates them.
    pub(super) fn now(&self) -> i64 {
        self.now.unwrap_or(i64::MAX)
    }

    /// When the clock moves next.
    pub(super) fn next(&self) -> Timestamp {
        match self.now {
            None => Timestamp::MIN,
            Some(now) => Timestamp(now.saturating_add((self.ttl / 10).clamp(1, LONGEST_STEP))),
        }
    }

    /// Moves the clock and forgets what is due, except groups of the open bundle.
    pub(super) fn advance(&mut self, now: Timestamp, table: &mut AggregateTable, bundle: &Bundle) {
        self.now = Some(now.0);
        if now.0 < self.due {
            return;
        }
        let Some(changed) = &mut table.changed else { return };
        let mut gone = Vec::new();
        let mut oldest = now.0;
        for slot in table.directory.slots() {
            let at = &mut changed[slot as usize];
            if *at == i64::MAX {
                *at = now.0;
            }
            if at.saturating_add(self.ttl) <= now.0 && !bundle.holds(slot) {
                gone.push(slot);
            } else {
                oldest = oldest.min(*at);
            }
        }
        self.due = oldest.saturating_add(self.ttl);
        table.clear(&gone);
        gone.iter().for_each(|s| table.rows[*s as usize] = 0);
        table.directory.remove(&gone);
    }
}
