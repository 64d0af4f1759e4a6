//! From fields to a wall clock, as `java.time` resolves them by default: a day up to 31 that the month lacks is its
//! last, fields that say the same must agree. What is not said is taken from 1970-01-01 00:00:00, as Flink does.

use super::names::{includes, middle};
use super::strict::Field;
use super::strict_format::value;
use super::strict_read::Fields;
use super::{Moment, Parsed, day_of_week_date, weekday, zones};
use crate::functions::temporal::calendar::{days, month_length};

const DAY: i64 = 86_400;

impl Fields {
    /// The wall clock; `None` for what cannot be.
    pub(super) fn resolve(mut self) -> Option<Parsed> {
        let date = self.date()?;
        let (time, over) = self.time()?;
        self.check(date, time)?;
        let day = match date {
            Some(day) => day + i64::from(over),
            None => {
                let year = self.get(Field::Year).unwrap_or(1970);
                let month = u32::try_from(self.get(Field::Month).unwrap_or(1)).ok()?;
                let day = u32::try_from(self.get(Field::Day).unwrap_or(1)).ok()?;
                if !(1..=12).contains(&month) || !(1..=month_length(year, month)).contains(&day) {
                    return None;
                }
                days(year, month, day)
            }
        };
        let within = |field, most: i64| self.get(field).unwrap_or(0).clamp(0, most);
        let nanos = time.unwrap_or_else(|| {
            let seconds =
                within(Field::Hour, 23) * 3600 + within(Field::Minute, 59) * 60 + within(Field::Second, 59);
            seconds * 1_000_000_000 + within(Field::Nano, 999_999_999)
        });
        let seconds = day.checked_mul(DAY)?.checked_add(nanos / 1_000_000_000)?;
        let offset = self.offset.or_else(|| self.zone.map(|z| zones::offset_at(seconds, z)));
        Some(Parsed { seconds, nanos: nanos % 1_000_000_000, offset })
    }

    /// The day since 1970-01-01, if the fields say one.
    fn date(&mut self) -> Option<Option<i64>> {
        if let Some(year) = self.take(Field::YearOfEra) {
            if year < 1 {
                return None;
            }
            let year = match self.take(Field::Era) {
                Some(0) => 1 - year,
                Some(_) => year,
                None if self.get(Field::Year).is_some_and(|y| y <= 0) => 1 - year,
                None => year,
            };
            self.set(Field::Year, year)?;
        }
        if self.get(Field::Year).is_some_and(|y| y.abs() > 200_000) {
            return None;
        }
        let mut date = None;
        let mut found = |day: i64| match date.replace(day) {
            Some(other) if other != day => None,
            _ => Some(()),
        };
        if let Some(day) = self.take(Field::JulianDay) {
            found(day.checked_sub(40_587).filter(|d| d.abs() < 80_000_000)?)?;
        }
        if let (Some(year), Some(month), Some(day)) =
            (self.get(Field::Year), self.get(Field::Month), self.get(Field::Day))
        {
            let month = u32::try_from(month).ok().filter(|m| (1..=12).contains(m))?;
            let day = u32::try_from(day).ok().filter(|d| (1..=31).contains(d))?;
            found(days(year, month, day.min(month_length(year, month))))?;
            self.take(Field::Day);
        } else if let (Some(year), Some(day)) = (self.get(Field::Year), self.get(Field::DayOfYear)) {
            let length = days(year + 1, 1, 1) - days(year, 1, 1);
            found(days(year, 1, 1) + (1..=length).contains(&day).then_some(day - 1)?)?;
        }
        if let Some(local) = self.take(Field::LocalWeekday) {
            if !(1..=7).contains(&local) {
                return None;
            }
            // Monday 1.
            self.set(Field::Weekday, (local + 5) % 7 + 1)?;
        }
        if let Some(iso) = self.get(Field::Weekday) {
            if !(1..=7).contains(&iso) {
                return None;
            }
            let local = iso % 7 + 1;
            if let (Some(year), Some(number)) = (self.get(Field::WeekYear), self.get(Field::Week)) {
                if year.abs() > 200_000 || !(1..=53).contains(&number) {
                    return None;
                }
                found(day_of_week_date(year, number, local))?;
                self.forget(&[Field::WeekYear, Field::Week, Field::Weekday]);
            } else if let (Some(year), Some(month), Some(number)) =
                (self.get(Field::Year), self.get(Field::Month), self.get(Field::WeekOfMonth))
            {
                let month = u32::try_from(month).ok().filter(|m| (1..=12).contains(m))?;
                let first = days(year, month, 1);
                found(first - weekday(first) + (number - 1) * 7 + local)?;
                self.forget(&[Field::Year, Field::Month, Field::WeekOfMonth, Field::Weekday]);
            }
        }
        Some(date)
    }

    /// Nanoseconds of the day if the fields say a time, and whether it is the midnight at the day's end.
    fn time(&mut self) -> Option<(Option<i64>, bool)> {
        if let Some(hour) = self.take(Field::ClockHour) {
            self.set(Field::Hour, (0..=24).contains(&hour).then_some(hour % 24)?)?;
        }
        if let Some(hour) = self.take(Field::ClockHalfHour) {
            self.set(Field::HalfHour, (0..=12).contains(&hour).then_some(hour % 12)?)?;
        }
        if let (Some(half), Some(hour)) = (self.get(Field::Half), self.get(Field::HalfHour)) {
            self.take(Field::Half);
            self.take(Field::HalfHour);
            self.set(Field::Hour, (0..12).contains(&hour).then_some(half * 12 + hour)?)?;
        }
        if let Some(nanos) = self.take(Field::NanoOfDay) {
            self.set_clock((0..DAY * 1_000_000_000).contains(&nanos).then_some(nanos)?, 1)?;
        }
        if let Some(millis) = self.take(Field::MilliOfDay) {
            self.set_clock((0..DAY * 1000).contains(&millis).then_some(millis * 1_000_000)?, 1_000_000)?;
        }
        if let Some(period) = self.period
            && let Some(hour) = self.take(Field::HalfHour)
        {
            let hour = (0..12).contains(&hour).then_some(hour)?;
            let minute = self.get(Field::Minute).unwrap_or(0);
            let later = includes(period, (hour + 12) * 60 + minute);
            self.set(Field::Hour, hour + if later { 12 } else { 0 })?;
            self.period = None;
        }
        let [hour, minute, second, nano] =
            [Field::Hour, Field::Minute, Field::Second, Field::Nano].map(|f| self.get(f));
        let checked = |v: Option<i64>, most: i64| v.is_none_or(|v| (0..=most).contains(&v)).then_some(());
        checked(minute, 59)?;
        checked(second, 59)?;
        checked(nano, 999_999_999)?;
        checked(self.get(Field::HalfHour), 11)?;
        let Some(hour) = hour else {
            if minute.or(second).or(nano).is_some() {
                return Some((None, false));
            }
            let minute = match (self.period.take(), self.take(Field::Half)) {
                (Some(period), _) => middle(period),
                (None, Some(half)) => (half * 12 + 6) * 60,
                (None, None) => return Some((None, false)),
            };
            return Some((Some(minute * 60_000_000_000), false));
        };
        // A time with a hole is none.
        if (minute.is_none() && second.or(nano).is_some()) || (second.is_none() && nano.is_some()) {
            checked(Some(hour), 23)?;
            return Some((None, false));
        }
        let clock = [minute, second, nano].map(|v| v.unwrap_or(0));
        if hour == 24 && clock == [0, 0, 0] {
            return Some((Some(0), true));
        }
        checked(Some(hour), 23)?;
        let [minute, second, nano] = clock;
        if self.period.is_some_and(|p| !includes(p, hour * 60 + minute)) {
            return None;
        }
        Some((Some((hour * 3600 + minute * 60 + second) * 1_000_000_000 + nano), false))
    }

    fn forget(&mut self, fields: &[Field]) {
        for field in fields {
            self.take(*field);
        }
    }

    /// A time of the day that is exact to `unit` nanoseconds, as hours, minutes, seconds and nanoseconds.
    fn set_clock(&mut self, nanos: i64, unit: i64) -> Option<()> {
        let seconds = nanos / 1_000_000_000;
        self.set(Field::Hour, seconds / 3600)?;
        self.set(Field::Minute, seconds / 60 % 60)?;
        self.set(Field::Second, seconds % 60)?;
        let finer = self.get(Field::Nano).unwrap_or(0) % unit;
        self.set(Field::Nano, nanos % 1_000_000_000 + finer)
    }

    /// What else was said has to agree with the date and the time.
    fn check(&self, date: Option<i64>, time: Option<i64>) -> Option<()> {
        if let Some(day) = date {
            let m = Moment::new(day * DAY, 0);
            for field in [
                Field::Era,
                Field::Year,
                Field::Month,
                Field::Day,
                Field::DayOfYear,
                Field::Quarter,
                Field::Weekday,
                Field::AlignedDay,
                Field::WeekOfMonth,
                Field::WeekYear,
                Field::Week,
            ] {
                if self.get(field).is_some_and(|v| v != value(field, &m)) {
                    return None;
                }
            }
        }
        if let Some(nanos) = time {
            let m = Moment::new(nanos / 1_000_000_000, nanos % 1_000_000_000);
            for field in [Field::Half, Field::HalfHour] {
                if self.get(field).is_some_and(|v| v != value(field, &m)) {
                    return None;
                }
            }
        }
        Some(())
    }
}
