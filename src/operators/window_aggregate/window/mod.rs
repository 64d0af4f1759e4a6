//! Windows and their slices: pure arithmetic on wall-clock milliseconds.
//!
//! ```text
//!  TUMBLE    slice = window                    HOP       slice = slide, a row is in size/slide windows
//!  ├────┤├────┤├────┤                          ├──┤├──┤├──┤├──┤        window ends: every slice end
//!
//!  CUMULATE  slice = step, windows grow        attached  window columns are in the input already
//!  ├─┤  ├───┤  ├─────┤ │ next max window
//! ```
//!
//! Windows are aligned to 1970-01-01 00:00 (plus offset) of the wall clock: UTC for TIMESTAMP, the session zone for
//! TIMESTAMP_LTZ, whose instants are shifted to the zone first and back when a window is due.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{DateTime, LocalResult, NaiveDateTime, Offset, TimeDelta, TimeZone};
use chrono_tz::Tz;

use crate::error::{Error, Result};

/// Shape of the windows, lengths in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    /// Windows of `size` side by side.
    Tumble {
        /// Length.
        size: i64,
    },
    /// Windows of `size` starting every `slide`; `size` is a multiple of `slide`.
    Hop {
        /// Length.
        size: i64,
        /// Distance of starts.
        slide: i64,
    },
    /// Windows that start together and grow by `step` up to `size`, a multiple of `step`.
    Cumulate {
        /// Greatest length.
        size: i64,
        /// Growth.
        step: i64,
    },
    /// Windows that rows of a key make by coming less than `gap` apart: not known before their rows are.
    Session {
        /// The gap.
        gap: i64,
    },
    /// Rows carry `window_start` and `window_end` (TIMESTAMP(3)) already: aggregation over the result of another
    /// windowed operator. The end decides the start.
    Attached {
        /// Input column of the start.
        start_column: usize,
        /// Input column of the end.
        end_column: usize,
    },
}

/// Windows with their alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    /// Their shape.
    pub kind: WindowKind,
    /// Shift of the alignment in milliseconds, possibly negative.
    pub offset: i64,
    /// The session zone when the time attribute is TIMESTAMP_LTZ.
    pub zone: Option<Tz>,
}

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

impl WindowSpec {
    /// Whether its windows are made by their rows.
    pub fn is_session(&self) -> bool {
        matches!(self.kind, WindowKind::Session { .. })
    }

    /// Whether rows carry their windows.
    pub fn is_attached(&self) -> bool {
        matches!(self.kind, WindowKind::Attached { .. })
    }

    /// Type of `window_time`.
    pub fn time_type(&self) -> DataType {
        DataType::Timestamp(TimeUnit::Millisecond, self.zone.map(|_| "UTC".into()))
    }

    /// Checks lengths and offset as Flink does.
    ///
    /// # Errors
    /// Validation in Flink's words.
    pub fn validate(&self) -> Result<()> {
        let positive = |what: &str, length: i64| {
            if length > 0 {
                Ok(())
            } else {
                Err(Error::validation(format!("{what} of a window must be positive, but is {length} ms")))
            }
        };
        match self.kind {
            WindowKind::Tumble { size } => {
                positive("the size", size)?;
                if self.offset.unsigned_abs() >= size.unsigned_abs() {
                    return Err(Error::validation(
                        "TUMBLE table function parameters must satisfy abs(offset) < size",
                    ));
                }
            }
            WindowKind::Hop { size, slide } => {
                positive("the size", size)?;
                positive("the slide", slide)?;
            }
            WindowKind::Cumulate { size, step } => {
                positive("the maximum size", size)?;
                positive("the step", step)?;
                if size % step != 0 {
                    return Err(Error::validation(format!(
                        "CUMULATE table function based aggregate requires maxSize must be an integral multiple of step, but got maxSize {size} ms and step {step} ms"
                    )));
                }
            }
            WindowKind::Session { gap } => {
                if gap <= 0 {
                    return Err(Error::validation(format!(
                        "SESSION table function based aggregate requires gap to be positive, but got gap {gap} ms"
                    )));
                }
            }
            WindowKind::Attached { .. } => {}
        }
        Ok(())
    }

    /// Checks that the windows are made of slices: rows that belong to the same windows.
    ///
    /// # Errors
    /// Validation in Flink's words.
    pub fn validate_slices(&self) -> Result<()> {
        match self.kind {
            WindowKind::Hop { size, slide } if !self.has_slices() => Err(Error::validation(format!(
                "HOP table function based aggregate requires size must be an integral multiple of slide, but got size {size} ms and slide {slide} ms"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether windows end where slices do: only windows of GROUP BY may be of another size.
    pub fn has_slices(&self) -> bool {
        !matches!(self.kind, WindowKind::Hop { size, slide } if slide == 0 || size % slide != 0)
    }

    /// Distance of slice ends, which is also the distance of window ends. Zero for sessions and attached windows, which have
    /// no slices.
    pub fn slice_width(&self) -> i64 {
        match self.kind {
            WindowKind::Tumble { size } => size,
            // size is a multiple of slide, so that gcd(size, slide) is the slide.
            WindowKind::Hop { slide, .. } => slide,
            WindowKind::Cumulate { step, .. } => step,
            WindowKind::Session { .. } | WindowKind::Attached { .. } => 0,
        }
    }

    /// End of the slice that holds wall-clock time `t`.
    pub fn slice_end(&self, t: i64) -> i64 {
        let width = self.slice_width();
        floor_to(t, width, self.offset).saturating_add(width)
    }

    /// End of the last window that contains the slice: after it the slice is not needed.
    pub fn last_window_end(&self, slice_end: i64) -> i64 {
        match self.kind {
            WindowKind::Tumble { .. } | WindowKind::Session { .. } | WindowKind::Attached { .. } => slice_end,
            WindowKind::Hop { size, slide } => slice_end.saturating_add(size - slide),
            WindowKind::Cumulate { size, .. } => {
                floor_to(slice_end.saturating_sub(1), size, self.offset).saturating_add(size)
            }
        }
    }

    /// Start of the window that ends at `end` (not for sessions and attached windows).
    pub fn window_start(&self, end: i64) -> i64 {
        match self.kind {
            WindowKind::Tumble { size } | WindowKind::Hop { size, .. } => end.saturating_sub(size),
            WindowKind::Cumulate { size, .. } => floor_to(end.saturating_sub(1), size, self.offset),
            WindowKind::Session { .. } | WindowKind::Attached { .. } => end,
        }
    }

    /// The instant that a watermark has to reach for the window ending at `end` to fire.
    pub fn due(&self, end: i64) -> i64 {
        match self.zone {
            Some(zone) => timer_instant(zone, end.saturating_sub(1)),
            None => end.saturating_sub(1),
        }
    }

    /// `window_time` of the window ending at `end`: an instant if there is a zone.
    pub fn window_time(&self, end: i64) -> i64 {
        match self.zone {
            Some(zone) => to_instant(zone, end.saturating_sub(1)),
            None => end.saturating_sub(1),
        }
    }
}

/// The greatest `offset + k · width` at or below `t`.
fn floor_to(t: i64, width: i64, offset: i64) -> i64 {
    if width == 0 {
        return t;
    }
    t.saturating_sub(t.saturating_sub(offset).rem_euclid(width))
}

/// Shifts instants to the wall clock of a zone, remembering the offset of the last day.
#[derive(Debug)]
pub struct WallClock {
    zone: Tz,
    /// Day number and its offset in ms, when the offset is the same all day.
    day: Option<(i64, Option<i64>)>,
}

impl WallClock {
    /// For `zone`.
    pub fn new(zone: Tz) -> Self {
        WallClock { zone, day: None }
    }

    /// Wall-clock milliseconds of an instant.
    pub fn shift(&mut self, instant: i64) -> i64 {
        let day = instant.div_euclid(DAY);
        let constant = match self.day {
            Some((known, constant)) if known == day => constant,
            _ => {
                let first = offset_at(self.zone, day.saturating_mul(DAY));
                let last = offset_at(self.zone, day.saturating_mul(DAY).saturating_add(DAY - 1));
                let constant = (first == last).then_some(first);
                self.day = Some((day, constant));
                constant
            }
        };
        instant.saturating_add(constant.unwrap_or_else(|| offset_at(self.zone, instant)))
    }
}

/// Offset of the zone in ms; 0 for instants beyond the calendar.
fn offset_at(zone: Tz, instant: i64) -> i64 {
    DateTime::from_timestamp_millis(instant).map_or(0, |utc| {
        i64::from(zone.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc()) * 1000
    })
}

/// The instant of a wall-clock time: the earlier one where a clock was set back, shifted on by the gap where it was
/// set forward (as Java's `LocalDateTime.atZone`).
fn to_instant(zone: Tz, wall: i64) -> i64 {
    let Some(naive) = DateTime::from_timestamp_millis(wall).map(|t| t.naive_utc()) else { return wall };
    let mut earlier: NaiveDateTime = naive;
    // A gap is an hour or two; a day where a country crossed the date line.
    for _ in 0..=26 {
        match zone.offset_from_local_datetime(&earlier) {
            LocalResult::Single(offset) | LocalResult::Ambiguous(offset, _) => {
                return wall.saturating_sub(i64::from(offset.fix().local_minus_utc()) * 1000);
            }
            LocalResult::None => match earlier.checked_sub_signed(TimeDelta::hours(1)) {
                Some(before) => earlier = before,
                None => return wall,
            },
        }
    }
    wall
}

/// When the timer of wall-clock time `wall` fires: where a clock was set back, at the second of the two instants, so
/// that the window holds both hours; where it was set forward, at the change (Flink's `toEpochMillsForTimer`).
fn timer_instant(zone: Tz, wall: i64) -> i64 {
    let this = to_instant(zone, wall);
    let later = to_instant(zone, wall.saturating_add(HOUR));
    if later.saturating_sub(this) > HOUR {
        later - HOUR
    } else if later == this {
        this - this % HOUR
    } else {
        this
    }
}

#[cfg(test)]
mod tests;
