//! Which session each row of a key is in: pure bookkeeping on wall-clock milliseconds.
//!
//! ```text
//!  key ─►  [10, 25) ── [40, 52)           a row at 22 grows the first to [10, 32); one at 31 is in both, so they are one
//!                                          gap 10: a row at t is a session [t, t + 10) of its own, and touching ones merge
//!  timers: end ─► keys whose first session may end then
//! ```
//!
//! A key has one timer, at the end that its first session had when it was set or looked at last. Ends only grow, so a timer
//! that is due finds what has ended, or is set again at an end that is later by then.

use std::collections::BTreeMap;

use crate::operators::window_aggregate::WindowSpec;

/// Rows of a key without a gap between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    /// Time of the first row.
    pub(super) start: i64,
    /// Time of the last row, and the gap.
    pub(super) end: i64,
    /// What is kept of the rows.
    pub(super) members: Vec<u32>,
}

/// Where a row belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In no session: one of its own would have ended.
    Late,
    /// In the session of this number of its key, which it opened.
    New(usize),
    /// In one that others are in.
    In(usize),
}

/// The open sessions of all keys.
#[derive(Debug)]
pub(super) struct Sessions {
    window: WindowSpec,
    gap: i64,
    /// By key: disjoint, in the order of time.
    by_key: Vec<Vec<Session>>,
    timers: BTreeMap<i64, Vec<u32>>,
    /// By key.
    timer_of: Vec<Option<i64>>,
    /// Time up to which all sessions have ended.
    reached: i64,
    open: usize,
}

impl Sessions {
    pub(super) fn new(window: WindowSpec, gap: i64) -> Self {
        Sessions {
            window,
            gap,
            by_key: Vec::new(),
            timers: BTreeMap::new(),
            timer_of: Vec::new(),
            reached: i64::MIN,
            open: 0,
        }
    }

    fn has_ended(&self, end: i64) -> bool {
        self.reached != i64::MIN && self.window.due(end) <= self.reached
    }

    /// About the bytes held.
    pub(super) fn size(&self) -> usize {
        self.open * (size_of::<Session>() + 16)
            + self.by_key.capacity() * (size_of::<Vec<Session>>() + 16)
            + self.timers.len() * 64
    }

    pub(super) fn reached(&self) -> i64 {
        self.reached
    }

    /// Time has come to `reached`.
    pub(super) fn advance(&mut self, reached: i64) {
        self.reached = self.reached.max(reached);
    }

    fn make_room(&mut self, key: u32) {
        if key as usize >= self.by_key.len() {
            self.by_key.resize_with(key as usize + 1, Vec::new);
            self.timer_of.resize(key as usize + 1, None);
        }
    }

    /// Takes a row of `key` at wall-clock time `t` into its session, which may join others.
    pub(super) fn add(&mut self, key: u32, t: i64) -> Place {
        self.make_room(key);
        let end = t.saturating_add(self.gap);
        let ended = self.has_ended(end);
        let Some(sessions) = self.by_key.get_mut(key as usize) else { return Place::Late };
        // Rows mostly come in order. Behind the start of the last session, none before it is near.
        let from = match sessions.last() {
            Some(last) if last.start <= t => sessions.len() - usize::from(last.end >= t),
            _ => sessions.partition_point(|s| s.end < t),
        };
        let to = from + sessions.iter().skip(from).take_while(|s| s.start <= end).count();
        if from == to {
            if ended {
                return Place::Late;
            }
            sessions.insert(from, Session { start: t, end, members: Vec::new() });
            self.open += 1;
            self.expect(key, end);
            return Place::New(from);
        }
        let mut joined = sessions.drain(from + 1..to);
        let (mut members, mut last_end) = (Vec::new(), end);
        for other in joined.by_ref() {
            last_end = last_end.max(other.end);
            members.extend(other.members);
        }
        drop(joined);
        self.open -= to - from - 1;
        if let Some(session) = sessions.get_mut(from) {
            session.start = session.start.min(t);
            session.end = session.end.max(last_end);
            session.members.extend(members);
        }
        Place::In(from)
    }

    /// Sets the timer of a key unless it has an earlier one.
    fn expect(&mut self, key: u32, end: i64) {
        if let Some(timer) = self.timer_of.get_mut(key as usize)
            && timer.is_none_or(|timer| end < timer)
        {
            *timer = Some(end);
            self.timers.entry(end).or_default().push(key);
        }
    }

    /// A session as a snapshot has it, in parts of it that come one by one.
    pub(super) fn restore(&mut self, key: u32, start: i64, end: i64, member: u32) {
        self.make_room(key);
        let Some(sessions) = self.by_key.get_mut(key as usize) else { return };
        let at = sessions.partition_point(|s| s.start < start);
        match sessions.get_mut(at).filter(|s| s.start == start) {
            Some(session) => session.members.push(member),
            None => {
                sessions.insert(at, Session { start, end, members: vec![member] });
                self.open += 1;
                self.expect(key, end);
            }
        }
    }

    /// The sessions of a key.
    pub(super) fn of_key(&mut self, key: u32) -> &mut [Session] {
        self.by_key.get_mut(key as usize).map_or(&mut [], Vec::as_mut_slice)
    }

    /// Session `number` of a key.
    pub(super) fn session(&mut self, key: u32, number: usize) -> Option<&mut Session> {
        self.by_key.get_mut(key as usize)?.get_mut(number)
    }

    /// All open sessions with their keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.by_key.iter().zip(0_u32..).flat_map(|(sessions, key)| sessions.iter().map(move |s| (key, s)))
    }

    /// When [`Sessions::take_ended`] may find something next.
    pub(super) fn next_due(&self) -> Option<i64> {
        self.timers.keys().next().map(|end| self.window.due(*end))
    }

    /// Takes out the sessions that have ended, in the order of their ends.
    pub(super) fn take_ended(&mut self) -> Vec<(u32, Session)> {
        let mut ended = Vec::new();
        while let Some((end, _)) = self.timers.first_key_value()
            && self.has_ended(*end)
            && let Some((end, keys)) = self.timers.pop_first()
        {
            for key in keys {
                if self.timer_of.get(key as usize) != Some(&Some(end)) {
                    continue;
                }
                let count = self
                    .by_key
                    .get(key as usize)
                    .map_or(0, |s| s.iter().take_while(|s| self.has_ended(s.end)).count());
                let mut next = None;
                if let Some(sessions) = self.by_key.get_mut(key as usize) {
                    ended.extend(sessions.drain(..count).map(|s| (key, s)));
                    self.open -= count;
                    next = sessions.first().map(|s| s.end);
                    if sessions.is_empty() {
                        *sessions = Vec::new();
                    }
                }
                if let Some(timer) = self.timer_of.get_mut(key as usize) {
                    *timer = None;
                }
                if let Some(next) = next {
                    self.expect(key, next);
                }
            }
        }
        ended.sort_by_key(|(_, s)| (s.end, s.start));
        ended
    }

    /// Whether a key has no open session.
    pub(super) fn is_idle(&self, key: u32) -> bool {
        self.by_key.get(key as usize).is_none_or(Vec::is_empty)
    }
}
