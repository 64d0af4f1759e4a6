//! Patterns of `DateTimeFormatter`: letters to parts. The rules are those of
//! `DateTimeFormatterBuilder.appendPattern`.

use super::names::{Named, Width};

/// A field that is a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Era,
    YearOfEra,
    Year,
    Month,
    Day,
    DayOfYear,
    /// Modified Julian day.
    JulianDay,
    Quarter,
    WeekYear,
    Week,
    WeekOfMonth,
    /// Monday 1.
    Weekday,
    /// Sunday 1.
    LocalWeekday,
    /// Day of the week that begins with the month.
    AlignedDay,
    /// AM 0, PM 1.
    Half,
    /// 0 to 11.
    HalfHour,
    /// 1 to 12.
    ClockHalfHour,
    /// 1 to 24.
    ClockHour,
    Hour,
    Minute,
    Second,
    Nano,
    MilliOfDay,
    NanoOfDay,
}

/// How many fields there are.
pub(super) const FIELDS: usize = Field::NanoOfDay as usize + 1;

/// Which signs a number has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A minus where it is negative.
    Normal,
    /// Also a plus where there are more digits than the pattern has letters.
    ExceedsPad,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Plain,
    /// `yy`: the last two digits, of the years from 2000 on.
    TwoDigits,
    /// Digits behind the decimal point.
    Fraction,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) field: Field,
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) sign: Sign,
    pub(super) shape: Shape,
    /// Digits of the numbers of fixed width right behind it; `None` for one that is of fixed width itself.
    pub(super) behind: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Literal(String),
    Number(Number),
    Text(Named, Field, Width),
    /// `B`: in the morning.
    Period(Width),
    /// `V v z O X x Z` and how often.
    Zone(char, usize),
    Pad(usize, Box<Part>),
    Optional(Vec<Part>),
}

/// As [`super::Pattern::grain`].
pub(super) fn grain(parts: &[Part]) -> Option<i64> {
    let of_field = |field: Field| match field {
        Field::Nano | Field::MilliOfDay | Field::NanoOfDay => None,
        Field::Second => Some(1),
        Field::Minute => Some(60),
        Field::Half | Field::HalfHour | Field::ClockHalfHour | Field::ClockHour | Field::Hour => Some(3600),
        _ => Some(86_400),
    };
    parts.iter().try_fold(86_400_i64, |grain, part| {
        let of = match part {
            Part::Literal(_) => Some(86_400),
            Part::Number(number) => of_field(number.field),
            Part::Text(_, field, _) => of_field(*field),
            Part::Period(_) => Some(60),
            Part::Zone(..) => None,
            Part::Pad(_, inner) => self::grain(std::slice::from_ref(inner)),
            Part::Optional(inner) => self::grain(inner),
        };
        of.map(|g| g.min(grain))
    })
}

#[derive(Default)]
struct Section {
    parts: Vec<Part>,
    /// The number that takes the digits of fixed numbers behind it.
    active: Option<usize>,
    pad: Option<usize>,
}

impl Section {
    fn push(&mut self, part: Part) -> usize {
        let part = match self.pad.take() {
            Some(width) => Part::Pad(width, Box::new(part)),
            None => part,
        };
        self.parts.push(part);
        self.active = None;
        self.parts.len() - 1
    }

    /// Numbers without anything between them: the first takes all digits but those of the fixed ones behind it.
    fn push_number(&mut self, mut number: Number) {
        let fixed = number.min == number.max && number.sign == Sign::Never;
        let before = self.active;
        if let Some(Part::Number(base)) = before.and_then(|i| self.parts.get_mut(i)) {
            if fixed {
                base.behind = base.behind.map(|n| n + number.max);
                number.behind = None;
                self.push(Part::Number(number));
                self.active = before;
                return;
            }
            base.behind = None;
        }
        let at = self.push(Part::Number(number));
        self.active = Some(at);
    }
}

/// Compiles a pattern.
pub(super) fn compile(text: &str) -> Result<Vec<Part>, String> {
    let mut sections = vec![Section::default()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let Some(section) = sections.last_mut() else { return Err("']' without a '[' before it".into()) };
        match c {
            c if c.is_ascii_alphabetic() => {
                let (mut letter, mut count) = (c, 1);
                while chars.next_if_eq(&letter).is_some() {
                    count += 1;
                }
                if letter == 'p' {
                    let Some(next) = chars.next_if(char::is_ascii_alphabetic) else {
                        return Err("the pad letter 'p' has to stand before another letter".into());
                    };
                    section.pad = Some(count);
                    (letter, count) = (next, 1);
                    while chars.next_if_eq(&letter).is_some() {
                        count += 1;
                    }
                }
                add(section, letter, count)?;
            }
            '\'' => {
                let mut literal = String::new();
                loop {
                    match chars.next() {
                        None => return Err("a quote is not closed".into()),
                        Some('\'') if chars.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(other) => literal.push(other),
                    }
                }
                section.push(Part::Literal(if literal.is_empty() { "'".into() } else { literal }));
            }
            '[' => sections.push(Section::default()),
            ']' => close(&mut sections)?,
            '{' | '}' | '#' => return Err(format!("the character '{c}' is reserved; write it in quotes")),
            other => {
                section.push(Part::Literal(other.to_string()));
            }
        }
    }
    while sections.len() > 1 {
        close(&mut sections)?;
    }
    Ok(sections.pop().map(|s| s.parts).unwrap_or_default())
}

fn close(sections: &mut Vec<Section>) -> Result<(), String> {
    match (sections.pop(), sections.last_mut()) {
        (Some(inner), Some(outer)) => {
            outer.active = None;
            if !inner.parts.is_empty() {
                outer.push(Part::Optional(inner.parts));
            }
            Ok(())
        }
        _ => Err("']' without a '[' before it".into()),
    }
}

fn add(section: &mut Section, letter: char, count: usize) -> Result<(), String> {
    let too_many = || Err(format!("too many letters '{letter}' in a row"));
    if count > 19 {
        return too_many();
    }
    let number =
        |field, min, max, sign| Number { field, min, max, sign, shape: Shape::Plain, behind: Some(0) };
    let any = |field| number(field, 1, 19, Sign::Normal);
    let fixed = |field, n| number(field, n, n, Sign::Never);
    let two = |field| Number { shape: Shape::TwoDigits, ..fixed(field, 2) };
    let width = match count {
        4 => Width::Long,
        5 => Width::Narrow,
        _ => Width::Short,
    };
    match letter {
        'u' | 'y' | 'Y' => {
            let field = match letter {
                'u' => Field::Year,
                'y' => Field::YearOfEra,
                _ => Field::WeekYear,
            };
            section.push_number(match count {
                2 => two(field),
                n if n < 4 => number(field, n, 19, Sign::Normal),
                n => number(field, n, 19, Sign::ExceedsPad),
            });
        }
        'M' | 'L' | 'Q' | 'q' | 'E' | 'e' | 'c' => {
            let (named, field) = match letter {
                'M' | 'L' => (Named::Month, Field::Month),
                'Q' | 'q' => (Named::Quarter, Field::Quarter),
                _ => (Named::Weekday, Field::Weekday),
            };
            match (letter, count) {
                ('c', 2) => return Err("there is no pattern \"cc\"".into()),
                ('e' | 'c', 1 | 2) => section.push_number(fixed(Field::LocalWeekday, count)),
                ('M' | 'L' | 'Q' | 'q', 1) => section.push_number(any(field)),
                ('M' | 'L' | 'Q' | 'q', 2) => section.push_number(fixed(field, 2)),
                (_, 1..=5) => drop(section.push(Part::Text(named, field, width))),
                _ => return too_many(),
            }
        }
        'a' if count == 1 => drop(section.push(Part::Text(Named::Half, Field::Half, width))),
        'G' if count <= 5 => drop(section.push(Part::Text(Named::Era, Field::Era, width))),
        'S' if count <= 9 => {
            section.push_number(Number { shape: Shape::Fraction, ..fixed(Field::Nano, count) });
        }
        'F' if count == 1 => section.push_number(any(Field::AlignedDay)),
        'd' | 'h' | 'H' | 'k' | 'K' | 'm' | 's' if count <= 2 => {
            let field = match letter {
                'd' => Field::Day,
                'h' => Field::ClockHalfHour,
                'H' => Field::Hour,
                'k' => Field::ClockHour,
                'K' => Field::HalfHour,
                'm' => Field::Minute,
                _ => Field::Second,
            };
            section.push_number(if count == 1 { any(field) } else { fixed(field, 2) });
        }
        'D' if count == 1 => section.push_number(any(Field::DayOfYear)),
        'D' if count <= 3 => section.push_number(number(Field::DayOfYear, count, 3, Sign::Never)),
        'g' => section.push_number(number(Field::JulianDay, count, 19, Sign::Normal)),
        'A' => section.push_number(number(Field::MilliOfDay, count, 19, Sign::Never)),
        'n' => section.push_number(number(Field::Nano, count, 19, Sign::Never)),
        'N' => section.push_number(number(Field::NanoOfDay, count, 19, Sign::Never)),
        'W' if count == 1 => section.push_number(fixed(Field::WeekOfMonth, 1)),
        'w' if count <= 2 => section.push_number(number(Field::Week, count, 2, Sign::Never)),
        'B' if matches!(count, 1 | 4 | 5) => drop(section.push(Part::Period(width))),
        'z' if count <= 4 => drop(section.push(Part::Zone(letter, count))),
        'V' if count == 2 => drop(section.push(Part::Zone(letter, count))),
        'v' | 'O' if matches!(count, 1 | 4) => drop(section.push(Part::Zone(letter, count))),
        'X' | 'x' | 'Z' if count <= 5 => drop(section.push(Part::Zone(letter, count))),
        'V' => return Err("'V' has to stand twice: VV".into()),
        'v' | 'O' | 'B' => return Err(format!("'{letter}' cannot stand {count} times")),
        'a' | 'G' | 'S' | 'F' | 'd' | 'h' | 'H' | 'k' | 'K' | 'm' | 's' | 'D' | 'W' | 'w' | 'z' | 'X'
        | 'x' | 'Z' => return too_many(),
        _ => return Err(format!("unknown letter '{letter}'")),
    }
    Ok(())
}

/// Longest run of `S`.
pub(super) fn fraction_digits(parts: &[Part]) -> usize {
    let digits = |part: &Part| match part {
        Part::Number(Number { shape: Shape::Fraction, max, .. }) => *max,
        Part::Pad(_, part) => fraction_digits(std::slice::from_ref(part)),
        Part::Optional(parts) => fraction_digits(parts),
        _ => 0,
    };
    parts.iter().map(digits).max().unwrap_or(0)
}
