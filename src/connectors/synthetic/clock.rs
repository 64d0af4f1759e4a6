//! What time it is for a generated row.

use chrono_tz::Tz;

/// What time it is for a row.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The clock of the machine, dates and times of day in the session's zone.
    System(Tz),
    /// `base` in milliseconds plus the row's place at the given rate.
    Simulated {
        /// Milliseconds of row 0.
        base: i64,
        /// Rows in a second.
        rows_per_second: u64,
    },
}

/// [`Clock`], read once a batch.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds of row 0 and milliseconds per row.
    instant: i64,
    local_offset: i64,
    rows_per_second: Option<u64>,
}

impl Clock {
    /// Reads it.
    pub fn now(self) -> Now {
        match self {
            Clock::System(zone) => {
                let utc = chrono::Utc::now();
                let local = utc.with_timezone(&zone).naive_local().and_utc();
                let local_offset = local.timestamp_millis() - utc.timestamp_millis();
                Now { instant: utc.timestamp_millis(), local_offset, rows_per_second: None }
            }
            Clock::Simulated { base, rows_per_second } => {
                Now { instant: base, local_offset: 0, rows_per_second: Some(rows_per_second) }
            }
        }
    }
}

impl Now {
    /// Milliseconds that a wall clock in the session's zone is ahead of UTC.
    pub fn local_offset(self) -> i64 {
        self.local_offset
    }

    /// The instant of a row.
    pub fn at(self, row: u64) -> i64 {
        match self.rows_per_second {
            None => self.instant,
            Some(rate) => {
                let passed = u128::from(row) * 1000 / u128::from(rate.max(1));
                self.instant.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
            }
        }
    }
}
