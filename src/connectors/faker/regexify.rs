//! Random texts that match a regular expression: `#{regexify '(GET|POST){1}'}`.
//!
//! ```text
//!  pattern ─► Regex: alternatives of sequences of (atom, least, most) ─► one text per call
//! ```
//!
//! What datafaker's generator understands: alternatives, groups, classes, the escapes of classes (`\d`, `\w`, `\s`) and of
//! single characters, `.`, and quantifiers. `*` and `+` repeat at most [`MOST_REPEATS`] times.

use crate::connectors::synthetic::random::Sequence;
use crate::error::{Error, Result};

/// How often `*` and `+` repeat at most.
const MOST_REPEATS: u32 = 10;
/// How often a quantifier may repeat, so that no text outgrows a batch.
const MOST_COUNT: u32 = 10_000;
/// Groups within groups.
const MOST_DEPTH: usize = 50;

/// A regular expression to make texts of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Regex(Vec<Vec<Repeat>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Repeat {
    atom: Atom,
    least: u32,
    most: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Atom {
    Char(char),
    /// Ranges with both ends, and how many characters they have.
    Class(Vec<(char, char)>, u32),
    Group(Regex),
}

impl Regex {
    /// # Errors
    /// Validation that says what is not understood.
    pub(super) fn parse(pattern: &str) -> Result<Regex> {
        let mut parser = Parser { pattern, chars: pattern.chars().peekable(), depth: 0 };
        let regex = parser.alternatives()?;
        match parser.chars.next() {
            None => Ok(regex),
            Some(c) => Err(parser.bad(&format!("`{c}` closes nothing"))),
        }
    }

    /// Bytes that no text has more of.
    pub(super) fn most_bytes(&self) -> u64 {
        let of = |repeat: &Repeat| {
            let one = match &repeat.atom {
                Atom::Char(c) => c.len_utf8() as u64,
                Atom::Class(..) => 4,
                Atom::Group(inner) => inner.most_bytes(),
            };
            one.saturating_mul(repeat.most.into())
        };
        let of_all = |all: &Vec<Repeat>| all.iter().map(of).fold(0, u64::saturating_add);
        self.0.iter().map(of_all).max().unwrap_or(0)
    }

    /// Appends a text that matches.
    pub(super) fn write(&self, random: &mut Sequence, out: &mut Vec<u8>) {
        let chosen = match self.0.len() {
            1 => 0,
            n => random.below(n as u64) as usize,
        };
        for Repeat { atom, least, most } in self.0.get(chosen).into_iter().flatten() {
            let times =
                if least == most { *least } else { least + random.below(u64::from(most - least) + 1) as u32 };
            for _ in 0..times {
                match atom {
                    Atom::Char(c) => push(out, *c),
                    Atom::Class(ranges, size) => push(out, nth(ranges, random.below((*size).into()) as u32)),
                    Atom::Group(inner) => inner.write(random, out),
                }
            }
        }
    }
}

/// Appends a character.
pub(super) fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn size((from, to): (char, char)) -> u32 {
    u32::from(to) - u32::from(from) + 1
}

/// A character of a class by its number. The gap of the surrogates is in no range ([`Parser::range`]).
fn nth(ranges: &[(char, char)], mut n: u32) -> char {
    for range in ranges {
        if n < size(*range) {
            return char::from_u32(u32::from(range.0) + n).unwrap_or(range.0);
        }
        n -= size(*range);
    }
    ranges.first().map_or('?', |r| r.0)
}

const DIGITS: &[(char, char)] = &[('0', '9')];
const WORD: &[(char, char)] = &[('a', 'z'), ('A', 'Z'), ('0', '9'), ('_', '_')];
const SPACE: &[(char, char)] = &[(' ', ' '), ('\t', '\t')];
/// What `.` and classes that begin with `^` choose from: what can be printed in ASCII.
const PRINTED: (char, char) = (' ', '~');

struct Parser<'a> {
    pattern: &'a str,
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    depth: usize,
}

impl Parser<'_> {
    fn bad(&self, why: &str) -> Error {
        Error::validation(format!("cannot make texts of the regular expression '{}': {why}", self.pattern))
            .hint("alternatives, groups, classes, escapes and quantifiers are understood")
    }

    fn eat(&mut self, c: char) -> bool {
        self.chars.next_if_eq(&c).is_some()
    }

    fn alternatives(&mut self) -> Result<Regex> {
        let mut all = vec![self.sequence()?];
        while self.eat('|') {
            all.push(self.sequence()?);
        }
        Ok(Regex(all))
    }

    fn sequence(&mut self) -> Result<Vec<Repeat>> {
        let mut items = Vec::new();
        while let Some(c) = self.chars.next_if(|c| !matches!(c, '|' | ')')) {
            let atom = match c {
                '(' => self.group()?,
                '[' => self.class()?,
                '.' => of_ranges(vec![PRINTED]),
                '\\' => self.escape()?,
                // Anchors match where a text begins and ends, which is where they stand.
                '^' | '$' => continue,
                '*' | '+' | '?' | '{' => return Err(self.bad(&format!("`{c}` repeats nothing"))),
                c => Atom::Char(c),
            };
            let (least, most) = self.quantifier()?;
            items.push(Repeat { atom, least, most });
        }
        Ok(items)
    }

    fn group(&mut self) -> Result<Atom> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(self.bad("its groups are too deep"));
        }
        if self.eat('?') && !self.eat(':') {
            return Err(self.bad("groups are `(…)` and `(?:…)`"));
        }
        let inner = self.alternatives()?;
        if !self.eat(')') {
            return Err(self.bad("a group is not closed"));
        }
        self.depth -= 1;
        Ok(Atom::Group(inner))
    }

    fn escape(&mut self) -> Result<Atom> {
        let Some(c) = self.chars.next() else { return Err(self.bad("nothing follows the last `\\`")) };
        Ok(match class_of(c) {
            Some(ranges) => of_ranges(ranges.to_vec()),
            None => Atom::Char(self.escaped(c)?),
        })
    }

    /// The character that an escape means.
    fn escaped(&self, c: char) -> Result<char> {
        Ok(match c {
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            c if c.is_ascii_alphanumeric() => return Err(self.bad(&format!("`\\{c}` is not supported"))),
            c => c,
        })
    }

    fn class(&mut self) -> Result<Atom> {
        let negated = self.eat('^');
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut first = true;
        loop {
            let Some(c) = self.chars.next() else { return Err(self.bad("a class is not closed")) };
            let from = match c {
                ']' if !first => break,
                '\\' => {
                    let Some(c) = self.chars.next() else { return Err(self.bad("a class is not closed")) };
                    if let Some(class) = class_of(c) {
                        ranges.extend_from_slice(class);
                        first = false;
                        continue;
                    }
                    self.escaped(c)?
                }
                c => c,
            };
            first = false;
            let range = self.range(from)?;
            ranges.push(range);
        }
        if negated {
            let (from, to) = PRINTED;
            ranges = (from..=to)
                .filter(|c| !ranges.iter().any(|(from, to)| (from..=to).contains(&c)))
                .map(|c| (c, c))
                .collect();
        }
        if ranges.is_empty() {
            return Err(self.bad("a class has no character that can be printed"));
        }
        Ok(of_ranges(ranges))
    }

    /// `from`, or `from-to` if that follows.
    fn range(&mut self, from: char) -> Result<(char, char)> {
        let mut ahead = self.chars.clone();
        if ahead.next() != Some('-') || matches!(ahead.peek(), None | Some(']')) {
            return Ok((from, from));
        }
        self.chars = ahead;
        let to = match self.chars.next() {
            Some('\\') => match self.chars.next() {
                Some(c) => self.escaped(c)?,
                None => return Err(self.bad("a class is not closed")),
            },
            Some(c) => c,
            None => return Err(self.bad("a class is not closed")),
        };
        if from > to {
            return Err(self.bad(&format!("the range {from}-{to} ends before it begins")));
        }
        // The surrogates between are no characters.
        if from <= '\u{d7ff}' && to >= '\u{e000}' {
            return Err(self.bad(&format!("the range {from}-{to} is too large")));
        }
        Ok((from, to))
    }

    fn quantifier(&mut self) -> Result<(u32, u32)> {
        let bounds = match self.chars.peek() {
            Some('*') => (0, MOST_REPEATS),
            Some('+') => (1, MOST_REPEATS),
            Some('?') => (0, 1),
            Some('{') => {
                self.chars.next();
                return self.counts();
            }
            _ => return Ok((1, 1)),
        };
        self.chars.next();
        self.eat('?');
        Ok(bounds)
    }

    /// `n}`, `n,}` or `n,m}`
    fn counts(&mut self) -> Result<(u32, u32)> {
        let mut text = String::new();
        loop {
            match self.chars.next() {
                Some('}') => break,
                Some(c) => text.push(c),
                None => return Err(self.bad("a quantifier is not closed")),
            }
        }
        let count = |text: &str| {
            let n = text.trim().parse::<u32>().ok().filter(|n| *n <= MOST_COUNT);
            n.ok_or_else(|| self.bad(&format!("`{{{text}}}`: counts are numbers up to {MOST_COUNT}")))
        };
        let (least, most) = match text.split_once(',') {
            None => (count(&text)?, count(&text)?),
            Some((least, "")) => (count(least)?, count(least)? + MOST_REPEATS),
            Some((least, most)) => (count(least)?, count(most)?),
        };
        if least > most {
            return Err(self.bad(&format!("`{{{text}}}` is empty")));
        }
        self.eat('?');
        Ok((least, most))
    }
}

fn class_of(c: char) -> Option<&'static [(char, char)]> {
    match c {
        'd' => Some(DIGITS),
        'w' => Some(WORD),
        's' => Some(SPACE),
        _ => None,
    }
}

fn of_ranges(ranges: Vec<(char, char)>) -> Atom {
    let size = ranges.iter().map(|r| size(*r)).sum();
    Atom::Class(ranges, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match_their_pattern() {
        let mut random = Sequence::seeded(1);
        for pattern in [
            "",
            "a",
            "(GET|POST|PUT|PATCH){1}",
            r"(HTTP/1\.1|HTTP/2|/HTTP/1\.0){1}",
            r"(Deja\ Brew|Lawn\ \&\ Order|America\/Los_Angeles)",
            "[a-z]{3,5}[^a-z0-9]x*",
            r"[A-F0-9]{8}-[\d_]{4}-\w+\s?",
            "(a|(b|c){2}){3}|zü+",
            "[]a-]x{2,}",
            "^.{4}$",
        ] {
            let regex = Regex::parse(pattern).unwrap();
            let check = regex::Regex::new(&format!(
                "^(?:{})$",
                pattern.replace(r"\ ", " ").replace("[]a-]", r"[\]a\-]")
            ))
            .unwrap();
            for _ in 0..200 {
                let mut out = Vec::new();
                regex.write(&mut random, &mut out);
                let text = String::from_utf8(out).unwrap();
                assert!(check.is_match(&text), "{pattern}: {text}");
            }
        }
    }

    #[test]
    fn every_alternative_comes() {
        let regex = Regex::parse("(x|y)|z").unwrap();
        let mut random = Sequence::seeded(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut out = Vec::new();
            regex.write(&mut random, &mut out);
            seen.insert(out);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [b"x", b"y", b"z"]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (pattern, why) in [
            ("(a", "not closed"),
            ("a)", "closes nothing"),
            ("[a", "not closed"),
            ("*a", "repeats nothing"),
            ("a{x}", "counts are numbers"),
            ("a{3,2}", "is empty"),
            ("a{99999}", "up to 10000"),
            (r"\b", "not supported"),
            ("a\\", "nothing follows"),
            ("(?=a)", "groups are"),
            ("[z-a]", "ends before"),
            ("[^ -~]", "no character"),
        ] {
            let e = Regex::parse(pattern).unwrap_err().to_string();
            assert!(e.contains(why), "{pattern}: {e}");
        }
    }
}
