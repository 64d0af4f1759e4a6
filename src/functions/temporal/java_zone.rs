//! Zones by the names that `java.util.TimeZone` takes, which are not those of the session's zone: `PST` and `GMT+01:30` are
//! known, `+01:00` and `UTC+1` are not, and what is not known is GMT.

use chrono_tz::Tz;

use crate::functions::context::{instant_to_wall, wall_to_instant};

/// A zone with rules, or one that is always so many microseconds ahead of UTC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum JavaZone {
    Named(Tz),
    Ahead(i64),
}

/// Names of three letters that the IANA list does not have, or has with other rules.
const SHORT_NAMES: [(&str, Tz); 25] = [
    ("ACT", Tz::Australia__Darwin),
    ("AET", Tz::Australia__Sydney),
    ("AGT", Tz::America__Argentina__Buenos_Aires),
    ("ART", Tz::Africa__Cairo),
    ("AST", Tz::America__Anchorage),
    ("BET", Tz::America__Sao_Paulo),
    ("BST", Tz::Asia__Dhaka),
    ("CAT", Tz::Africa__Harare),
    ("CNT", Tz::America__St_Johns),
    ("CST", Tz::America__Chicago),
    ("CTT", Tz::Asia__Shanghai),
    ("EAT", Tz::Africa__Addis_Ababa),
    ("ECT", Tz::Europe__Paris),
    ("IET", Tz::America__Indiana__Indianapolis),
    ("IST", Tz::Asia__Kolkata),
    ("JST", Tz::Asia__Tokyo),
    ("MIT", Tz::Pacific__Apia),
    ("NET", Tz::Asia__Yerevan),
    ("NST", Tz::Pacific__Auckland),
    ("PLT", Tz::Asia__Karachi),
    ("PNT", Tz::America__Phoenix),
    ("PRT", Tz::America__Puerto_Rico),
    ("PST", Tz::America__Los_Angeles),
    ("SST", Tz::Pacific__Guadalcanal),
    ("VST", Tz::Asia__Ho_Chi_Minh),
];

impl JavaZone {
    /// The zone of a name.
    pub(super) fn named(name: &str) -> Self {
        if let Some((_, zone)) = SHORT_NAMES.iter().find(|(short, _)| *short == name) {
            return JavaZone::Named(*zone);
        }
        match name.parse::<Tz>() {
            Ok(zone) => JavaZone::Named(zone),
            Err(_) => JavaZone::Ahead(offset(name).unwrap_or(0)),
        }
    }

    /// The instant at which its clocks show `micros` since the epoch.
    pub(super) fn instant(self, micros: i64) -> Option<i64> {
        match self {
            JavaZone::Named(zone) => Some(wall_to_instant(micros, zone)),
            JavaZone::Ahead(by) => micros.checked_sub(by),
        }
    }

    /// What its clocks show at an instant.
    pub(super) fn wall(self, micros: i64) -> Option<i64> {
        match self {
            JavaZone::Named(zone) => Some(instant_to_wall(micros, zone)),
            JavaZone::Ahead(by) => micros.checked_add(by),
        }
    }

    /// For patterns that show the zone.
    pub(super) fn shown_as(self) -> Tz {
        match self {
            JavaZone::Named(zone) => zone,
            JavaZone::Ahead(_) => Tz::UTC,
        }
    }
}

/// Microseconds of `GMT+h`, `GMT+hh`, `GMT+h:mm`, `GMT+hh:mm`, `GMT+hmm` and `GMT+hhmm`, and of those with a minus.
fn offset(name: &str) -> Option<i64> {
    let rest = name.strip_prefix("GMT")?;
    let (sign, rest) = match rest.as_bytes() {
        [b'+', ..] => (1, rest.get(1..)?),
        [b'-', ..] => (-1, rest.get(1..)?),
        _ => return None,
    };
    let (hours, minutes) = match rest.split_once(':') {
        Some((hours, minutes)) if minutes.len() == 2 => (hours, minutes),
        Some(_) => return None,
        None if rest.len() > 2 => rest.split_at_checked(rest.len() - 2)?,
        None => (rest, "0"),
    };
    let number = |digits: &str, most: i64| {
        let known = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        known.then(|| digits.parse::<i64>().ok()).flatten().filter(|n| *n <= most)
    };
    Some(sign * (number(hours, 23)? * 60 + number(minutes, 59)?) * 60_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_java() {
        let minutes = |name: &str| match JavaZone::named(name) {
            JavaZone::Ahead(micros) => micros / 60_000_000,
            JavaZone::Named(zone) => panic!("{name} is {zone}"),
        };
        for (name, expected) in [
            ("GMT+1", 60),
            ("GMT+01:30", 90),
            ("GMT-9:05", -545),
            ("GMT+0800", 480),
            ("GMT-800", -480),
            ("GMT+23:59", 1439),
            // Not known, hence GMT.
            ("GMT-9:5", 0),
            ("GMT+24:00", 0),
            ("GMT+1:60", 0),
            ("GMT+", 0),
            ("GMT+12345", 0),
            ("GMT+é1", 0),
            ("+01:00", 0),
            ("-1", 0),
            ("UTC+1", 0),
            ("nowhere", 0),
            ("", 0),
        ] {
            assert_eq!(minutes(name), expected, "{name}");
        }
        assert_eq!(JavaZone::named("PST"), JavaZone::Named(Tz::America__Los_Angeles));
        assert_eq!(JavaZone::named("Asia/Tokyo"), JavaZone::Named(Tz::Asia__Tokyo));
    }
}
