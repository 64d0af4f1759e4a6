//! Text of a path to its steps.

use super::Step;
use super::filter::Filter;

/// How many filters may stand in each other.
const NESTING: usize = 32;

/// The steps of a whole path; `None` if it is not valid.
pub(super) fn steps(text: &str) -> Option<Vec<Step>> {
    if text.is_empty() {
        return None;
    }
    let mut c = Chars { rest: text, nesting: 0 };
    // Jayway puts the root before a path that has none.
    let steps = if c.eat("$") || c.eat("@") { c.steps(false)? } else { c.bare()? };
    c.rest.is_empty().then_some(steps)
}

/// What is left of a path.
pub(super) struct Chars<'a> {
    pub(super) rest: &'a str,
    pub(super) nesting: usize,
}

impl<'a> Chars<'a> {
    pub(super) fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    pub(super) fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// A path without its `$`.
    fn bare(&mut self) -> Option<Vec<Step>> {
        let first = self.name(false)?;
        let mut steps = vec![first];
        steps.extend(self.steps(false)?);
        Some(steps)
    }

    /// Steps as far as they go. `inside` a filter, names end at its operators.
    pub(super) fn steps(&mut self, inside: bool) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        loop {
            if self.eat("..") {
                steps.push(Step::Anywhere);
                if self.rest.starts_with('[') {
                    continue;
                }
                steps.push(self.name(inside)?);
            } else if self.eat(".") {
                if self.rest.starts_with('[') {
                    continue;
                }
                steps.push(self.name(inside)?);
            } else if self.eat("[") {
                steps.push(self.bracket()?);
            } else {
                return Some(steps);
            }
        }
    }

    fn name(&mut self, inside: bool) -> Option<Step> {
        if self.eat("*") {
            return Some(Step::All);
        }
        let ends = |c: char| {
            matches!(c, '.' | '[' | ' ' | '(')
                || inside && matches!(c, ')' | '=' | '!' | '<' | '>' | '&' | '|' | ',' | ']')
        };
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        if matches!(name, "length" | "size") && rest == "()" {
            self.rest = "";
            return Some(Step::Length);
        }
        let called = rest.starts_with('(') || !inside && rest.starts_with(' ');
        (!name.is_empty() && !called).then(|| Step::Names(vec![name.to_owned()]))
    }

    fn bracket(&mut self) -> Option<Step> {
        self.blanks();
        if self.eat("*") {
            return self.close(Step::All);
        }
        if self.eat("?") {
            self.blanks();
            if self.nesting >= NESTING || !self.eat("(") {
                return None;
            }
            self.nesting += 1;
            let filter = Filter::parse(self)?;
            self.nesting -= 1;
            self.blanks();
            if !self.eat(")") {
                return None;
            }
            return self.close(Step::Filter(filter));
        }
        if self.rest.starts_with(['\'', '"']) {
            let mut names = vec![self.quoted()?];
            while self.comma() {
                names.push(self.quoted()?);
            }
            return self.close(Step::Names(names));
        }
        let first = self.integer();
        self.blanks();
        if self.eat(":") {
            self.blanks();
            let to = self.integer();
            return self.close(Step::Slice(first, to));
        }
        let mut indexes = vec![first?];
        while self.comma() {
            indexes.push(self.integer()?);
        }
        self.close(Step::Indexes(indexes))
    }

    fn close(&mut self, step: Step) -> Option<Step> {
        self.blanks();
        self.eat("]").then_some(step)
    }

    fn comma(&mut self) -> bool {
        self.blanks();
        let found = self.eat(",");
        self.blanks();
        found
    }

    fn integer(&mut self) -> Option<i64> {
        let digits = self.rest.trim_start_matches('-');
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        let (number, rest) = self.rest.split_at(self.rest.len() - digits.len() + end);
        let number = number.parse().ok()?;
        self.rest = rest;
        Some(number)
    }

    /// A text in single or double quotes; `\` takes the next character as it is.
    pub(super) fn quoted(&mut self) -> Option<String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let mut out = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => out.push(chars.next()?.1),
                c if c == quote => {
                    self.rest = self.rest.get(at + 1..)?;
                    return Some(out);
                }
                c => out.push(c),
            }
        }
        None
    }
}
