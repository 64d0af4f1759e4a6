//! Which numbers are persons, auctions and bids.
//!
//! Events come in rounds of `person.proportion` persons, then `auction.proportion` auctions, then bids. A segment is a
//! run of one kind within one round, so that what the generator derives from the round (the last auction, the hot
//! bidder) is worked out once a segment and the loops over rows are free of branches.

use std::ops::Range;

use super::Config;

/// The three kinds of events; the codes are those of the column `event_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EventKind {
    Person = 0,
    Auction = 1,
    Bid = 2,
}

pub(super) const KINDS: [EventKind; 3] = [EventKind::Person, EventKind::Auction, EventKind::Bid];

/// First ids, as in nexmark-flink.
pub(super) const FIRST_AUCTION_ID: i64 = 1000;
pub(super) const FIRST_PERSON_ID: i64 = 1000;

/// The event id of row 0. nexmark-flink counts from id 1 *and* number 1, and adds them.
const FIRST_EVENT_ID: u64 = 2;

/// A run of events of one kind in one round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub kind: EventKind,
    /// Number of the round.
    pub round: i64,
    /// Index of the first event among those of its kind in the round.
    pub offset: i64,
    /// Id of the first event.
    pub id: u64,
    /// Row of the first event in the batch.
    pub row: usize,
    /// Number of events.
    pub len: usize,
}

impl Segment {
    /// The ids.
    pub(super) fn ids(&self) -> Range<u64> {
        self.id..self.id + self.len as u64
    }
}

/// The segments of a range of rows, without the kinds that `wanted` leaves out; and how many rows they have.
pub(super) fn segments(config: &Config, rows: Range<u64>, wanted: [bool; 3]) -> (Vec<Segment>, usize) {
    let total = config.total();
    let mut id = rows.start.saturating_add(FIRST_EVENT_ID);
    let end = rows.end.saturating_add(FIRST_EVENT_ID);
    let mut found = Vec::with_capacity(((end.saturating_sub(id)) / total * 3 + 6) as usize);
    let mut row = 0;
    while id < end {
        let round = id / total;
        let mut position = id % total;
        for kind in KINDS {
            let count = u64::from(config.count_of(kind));
            if position >= count {
                position -= count;
                continue;
            }
            let len = (count - position).min(end - id);
            if wanted.get(kind as usize) == Some(&true) {
                let (round, offset) = (round as i64, position as i64);
                found.push(Segment { kind, round, offset, id, row, len: len as usize });
                row += len as usize;
            }
            id += len;
            position = 0;
            if id >= end {
                break;
            }
        }
    }
    (found, row)
}

impl Config {
    /// The time of the event of a row.
    pub(super) fn timestamp_of_row(&self, base_time: i64, row: u64) -> i64 {
        self.timestamp(base_time, row.saturating_add(FIRST_EVENT_ID))
    }

    /// The time of an event by its id.
    pub(super) fn timestamp(&self, base_time: i64, id: u64) -> i64 {
        let number = id - (FIRST_EVENT_ID - 1);
        base_time + (number as f64 * self.delay()) as i64 / 1000
    }

    /// The newest person when an event of a segment happens, counted from 0; -1 if there are never any.
    pub(super) fn last_person(&self, segment: &Segment, k: i64) -> i64 {
        let persons = i64::from(self.persons);
        let offset = if segment.kind == EventKind::Person { segment.offset + k } else { persons - 1 };
        segment.round * persons + offset
    }

    /// The newest auction when an event of a segment happens, counted from 0; -1 before the first.
    pub(super) fn last_auction(&self, segment: &Segment, k: i64) -> i64 {
        let auctions = i64::from(self.auctions);
        match segment.kind {
            EventKind::Person => (segment.round - 1) * auctions + auctions - 1,
            EventKind::Auction => segment.round * auctions + segment.offset + k,
            EventKind::Bid => segment.round * auctions + auctions - 1,
        }
    }
}

/// Numbers of auctions or persons that may be named before they appear.
const ID_LEAD: i64 = 10;
/// Auctions in flight at any time.
pub(super) const AUCTIONS_IN_FLIGHT: i64 = 100;
/// Persons considered active.
const ACTIVE_PERSONS: i64 = 1000;

/// The range of persons to draw from: first and count.
pub(super) fn active_persons(last: i64) -> (i64, u32) {
    let persons = last + 1;
    let active = persons.min(ACTIVE_PERSONS);
    (persons - active, (active + ID_LEAD) as u32)
}

/// The range of auctions to draw from: first and count.
pub(super) fn active_auctions(last: i64) -> (i64, u32) {
    let first = (last - AUCTIONS_IN_FLIGHT).max(0);
    (first, (last - first + 1 + ID_LEAD) as u32)
}
