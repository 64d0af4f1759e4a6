//! What functions may know about their surroundings: the session zone, the execution mode and an injected clock.

use std::fmt::Debug;
use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, TimeZone, Utc};
use chrono_tz::Tz;

/// Where the current time comes from. Injected, so that tests and replays can fix it.
pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since the epoch.
    fn now_millis(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one clock of functions, which tests replace")]
    fn now_millis(&self) -> i64 {
        Utc::now().timestamp_millis()
    }
}

/// A clock that stands still.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub i64);

impl Clock for FixedClock {
    fn now_millis(&self) -> i64 {
        self.0
    }
}

/// The surroundings of a query's functions.
#[derive(Debug, Clone)]
pub struct FunctionContext {
    /// `table.local-time-zone`: the zone in which instants get fields and text.
    pub time_zone: Tz,
    /// Batch execution: `CURRENT_TIMESTAMP` and its kin stand still at `query_start`.
    pub batch: bool,
    /// When the query began, in milliseconds since the epoch.
    pub query_start: i64,
    /// The clock for streaming execution.
    pub clock: Arc<dyn Clock>,
    /// Answer of `CURRENT_DATABASE()`.
    pub current_database: String,
}

impl Default for FunctionContext {
    /// UTC, batch, starting now.
    fn default() -> Self {
        let clock = Arc::new(SystemClock);
        FunctionContext {
            time_zone: Tz::UTC,
            batch: true,
            query_start: clock.now_millis(),
            clock,
            current_database: "default_database".into(),
        }
    }
}

impl FunctionContext {
    /// The time that `CURRENT_TIMESTAMP` shows: fixed in batch, the clock's in streaming.
    pub fn now_millis(&self) -> i64 {
        if self.batch { self.query_start } else { self.clock.now_millis() }
    }

    /// Microseconds of the wall clock that `zone` shows at the instant `micros`.
    pub fn to_wall_micros(&self, micros: i64) -> i64 {
        instant_to_wall(micros, self.time_zone)
    }

    /// The instant in microseconds at which `zone` shows the wall clock `micros`.
    pub fn to_instant_micros(&self, micros: i64) -> i64 {
        wall_to_instant(micros, self.time_zone)
    }
}

/// Wall clock that `zone` shows at an instant, both in microseconds.
pub fn instant_to_wall(micros: i64, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return micros;
    }
    match DateTime::from_timestamp_micros(micros) {
        Some(t) => t.with_timezone(&zone).naive_local().and_utc().timestamp_micros(),
        None => micros,
    }
}

/// Instant at which `zone` shows a wall clock, both in microseconds. As in Java, an ambiguous wall clock means its
/// first occurrence, and one that a gap skips is moved forward by the length of the gap.
pub fn wall_to_instant(micros: i64, zone: Tz) -> i64 {
    if zone == Tz::UTC {
        return micros;
    }
    let Some(wall) = DateTime::from_timestamp_micros(micros).map(|t| t.naive_utc()) else {
        return micros;
    };
    match zone.from_local_datetime(&wall) {
        chrono::LocalResult::Single(t) => t.timestamp_micros(),
        chrono::LocalResult::Ambiguous(first, _) => first.timestamp_micros(),
        chrono::LocalResult::None => skipped(wall, micros, zone),
    }
}

fn skipped(wall: NaiveDateTime, micros: i64, zone: Tz) -> i64 {
    // The offset before the gap is the one in force a day earlier: gaps are far shorter and rarer than that.
    let before = wall - chrono::Duration::days(1);
    match zone.from_local_datetime(&before).earliest() {
        Some(t) => {
            let offset = before.and_utc().timestamp_micros() - t.timestamp_micros();
            micros - offset
        }
        None => micros,
    }
}

/// The zone of a name as Flink takes it: an ID (`Asia/Tokyo`), `UTC`, `GMT+08:00`, or a legacy abbreviation.
pub fn parse_zone(name: &str) -> Option<Tz> {
    let name = name.trim();
    if let Ok(zone) = name.parse::<Tz>() {
        return Some(zone);
    }
    let (sign, rest) = name
        .strip_prefix("GMT")
        .or_else(|| name.strip_prefix("UTC"))
        .unwrap_or(name)
        .split_at_checked(1)
        .filter(|(s, _)| *s == "+" || *s == "-")?;
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    if minutes.parse::<u8>().ok()? != 0 {
        // Etc/GMT zones exist for whole hours only.
        return None;
    }
    let hours: u8 = hours.parse().ok()?;
    if hours == 0 {
        return Some(Tz::UTC);
    }
    // POSIX signs are the other way round.
    format!("Etc/GMT{}{hours}", if sign == "+" { "-" } else { "+" }).parse().ok()
}
