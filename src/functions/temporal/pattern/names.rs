//! English names of months, days and their kin.

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// From Monday on, as the ISO number of the day.
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const HALVES: [&str; 2] = ["AM", "PM"];
const ERAS: [&str; 2] = ["BC", "AD"];
const LONG_ERAS: [&str; 2] = ["Before Christ", "Anno Domini"];
const NARROW_ERAS: [&str; 2] = ["B", "A"];
const QUARTERS: [&str; 4] = ["Q1", "Q2", "Q3", "Q4"];
const LONG_QUARTERS: [&str; 4] = ["1st quarter", "2nd quarter", "3rd quarter", "4th quarter"];

/// How long a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Short,
    Long,
    Narrow,
}

/// What has names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Month,
    Weekday,
    Half,
    Era,
    Quarter,
}

impl Named {
    /// The number of the first name.
    fn first(self) -> i64 {
        match self {
            Named::Half | Named::Era => 0,
            Named::Month | Named::Weekday | Named::Quarter => 1,
        }
    }

    fn names(self, width: Width) -> &'static [&'static str] {
        match (self, width) {
            (Named::Month, _) => &MONTHS,
            (Named::Weekday, _) => &WEEKDAYS,
            (Named::Half, _) => &HALVES,
            (Named::Era, Width::Short) => &ERAS,
            (Named::Era, Width::Long) => &LONG_ERAS,
            (Named::Era, Width::Narrow) => &NARROW_ERAS,
            (Named::Quarter, Width::Long) => &LONG_QUARTERS,
            (Named::Quarter, _) => &QUARTERS,
        }
    }

    /// The part of the full name that is written.
    fn cut(self, name: &'static str, width: Width) -> &'static str {
        match (self, width) {
            (Named::Month | Named::Weekday, Width::Short) => name.get(..3).unwrap_or(name),
            (Named::Month | Named::Weekday, Width::Narrow) => name.get(..1).unwrap_or(name),
            (Named::Quarter, Width::Narrow) => name.get(1..).unwrap_or(name),
            _ => name,
        }
    }

    /// The name of a number.
    pub(super) fn name(self, number: i64, width: Width) -> &'static str {
        let index = usize::try_from(number - self.first()).unwrap_or(0);
        self.names(width).get(index).map_or("", |name| self.cut(name, width))
    }

    /// The number of the longest name that `text` begins with, and the length of that; the last of several that are the
    /// same (J is July).
    pub(super) fn read(self, text: &str, width: Width, any_case: bool) -> Option<(i64, usize)> {
        let begins = |name: &str| {
            text.get(..name.len()).is_some_and(|t| t == name || (any_case && t.eq_ignore_ascii_case(name)))
        };
        let names = self.names(width).iter().enumerate();
        names
            .map(|(i, name)| (i as i64 + self.first(), self.cut(name, width)))
            .filter(|(_, name)| begins(name))
            .max_by_key(|(_, name)| name.len())
            .map(|(number, name)| (number, name.len()))
    }
}

/// A part of the day: name, narrow name, first minute, the minute behind the last one.
struct Period(&'static str, &'static str, i64, i64);

const PERIODS: [Period; 6] = [
    Period("midnight", "mi", 0, 1),
    Period("noon", "n", 720, 721),
    Period("in the morning", "in the morning", 360, 720),
    Period("in the afternoon", "in the afternoon", 720, 1080),
    Period("in the evening", "in the evening", 1080, 1260),
    Period("at night", "at night", 1260, 1800),
];

/// Whether a minute of the day belongs to a period.
pub(super) fn includes(period: usize, minute: i64) -> bool {
    PERIODS.get(period).is_some_and(|p| (p.2..p.3).contains(&minute) || (p.2..p.3).contains(&(minute + 1440)))
}

/// The minute in the middle of a period.
pub(super) fn middle(period: usize) -> i64 {
    match PERIODS.get(period) {
        Some(p) if p.3 - p.2 == 1 => p.2,
        Some(p) => (p.2 + p.3) / 2 % 1440,
        None => 0,
    }
}

/// The name of the period of a minute of the day.
pub(super) fn period_name(minute: i64, width: Width) -> &'static str {
    let found = (0..PERIODS.len()).find(|i| includes(*i, minute)).and_then(|i| PERIODS.get(i));
    found.map_or("", |p| if width == Width::Narrow { p.1 } else { p.0 })
}

/// The period whose name `text` begins with, and the length of that.
pub(super) fn read_period(text: &str, width: Width) -> Option<(usize, usize)> {
    PERIODS.iter().enumerate().find_map(|(i, p)| {
        let name = if width == Width::Narrow { p.1 } else { p.0 };
        text.starts_with(name).then_some((i, name.len()))
    })
}
