//! datafaker's expressions: texts with `#{…}` in them.
//!
//! ```text
//!  '#{Name.firstName} of #{Address.city}' ─► Template: [one of the first names] " of " [one of the templates of cities]
//! ```
//!
//! A `#{…}` is a name and arguments in single quotes. What it means is looked up once, when the table is planned: a list of
//! words ([`super::words`], whose entries are templates again) or a function ([`super::function`]). Names are compared
//! without case and underscores, as `Name.full_name`, `name.fullName` and `Name.FullName` mean the same to datafaker.

use std::collections::HashMap;
use std::sync::Arc;

use crate::connectors::synthetic::random::Sequence;
use crate::error::{Error, Result};
use crate::sql::nearest_name;

use super::function::{self, Function};
use super::words::{self, normalized};

/// Lists within lists: more than any of datafaker's needs, and an end for those that refer to each other.
const MOST_DEPTH: usize = 12;

/// What is done with a text that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finish {
    /// Nothing.
    Nothing,
    /// `#` becomes a digit, `Ø` one that is not zero.
    Digits,
    /// `?` becomes a letter.
    Letters,
    /// Both.
    DigitsAndLetters,
    /// Small ASCII letters, digits and points, as before the `@` of an address.
    Mail,
}

/// A text with places for random ones.
#[derive(Debug, Clone)]
pub(super) struct Template(Vec<Piece>);

#[derive(Debug, Clone)]
enum Piece {
    Text(Box<str>),
    OneOf(Arc<List>),
    Call(Function),
}

#[derive(Debug)]
struct List {
    finish: Finish,
    choice: Vec<Template>,
}

/// A value that is being made.
pub(super) struct Value<'a> {
    /// Where its chance comes from.
    pub random: &'a mut Sequence,
    /// Milliseconds since the epoch.
    pub now: i64,
    /// Where it is appended to.
    pub out: &'a mut Vec<u8>,
}

/// Lists that are compiled once, however often a table names them.
#[derive(Debug, Default)]
pub(super) struct Compiler {
    lists: HashMap<String, Arc<List>>,
}

impl Compiler {
    /// The template of an expression.
    ///
    /// # Errors
    /// Validation for what is not known.
    pub(super) fn compile(&mut self, expression: &str) -> Result<Template> {
        self.template(expression, None, 0)
    }

    /// `provider`: what names without a point belong to.
    fn template(&mut self, text: &str, provider: Option<&str>, depth: usize) -> Result<Template> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("#{") {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            let Some(end) = end_of(behind) else {
                return Err(Error::validation(format!("a #{{ is not closed in '{text}'"))
                    .hint("an expression is #{name 'argument', …}"));
            };
            pieces.push(self.directive(behind.get(..end).unwrap_or_default(), provider, depth)?);
            rest = behind.get(end + 1..).unwrap_or_default();
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Template(pieces))
    }

    fn directive(&mut self, directive: &str, provider: Option<&str>, depth: usize) -> Result<Piece> {
        let name = directive.split_whitespace().next().unwrap_or_default();
        let arguments = arguments_of(directive.get(name.len()..).unwrap_or_default());
        let key = normalized(name);
        if depth > MOST_DEPTH {
            return Err(Error::internal(format!("the words of #{{{name}}} refer to each other")));
        }
        if let Some(function) = function::find(&key, &arguments)? {
            return Ok(Piece::Call(function));
        }
        let inside = provider.filter(|_| !key.contains('.')).map(|p| format!("{p}.{key}"));
        for key in inside.into_iter().chain([key.clone()]) {
            if arguments.is_empty()
                && let Some(list) = self.list(&key, depth)?
            {
                return Ok(Piece::OneOf(list));
            }
        }
        let e = Error::validation(match arguments.len() {
            0 => format!("#{{{name}}} is no expression that is known"),
            n => format!("#{{{name}}} with {n} arguments is no expression that is known"),
        });
        let names = words::names().chain(function::names());
        Err(match nearest_name(&key, names) {
            Some(near) => e.hint(format!("did you mean #{{{near}}}? Names are compared without case and underscores")),
            None => e.hint("docs/faker.md lists what there is; #{options.option 'a','b'} and #{regexify '(a|b)'} make texts of your own"),
        })
    }

    fn list(&mut self, key: &str, depth: usize) -> Result<Option<Arc<List>>> {
        if let Some(list) = self.lists.get(key) {
            return Ok(Some(list.clone()));
        }
        let Some((finish, texts)) = words::list(key) else { return Ok(None) };
        let provider = key.split('.').next();
        let choice = texts.map(|t| self.template(t, provider, depth + 1)).collect::<Result<Vec<_>>>()?;
        let list = Arc::new(List { finish, choice });
        self.lists.insert(key.to_owned(), list.clone());
        Ok(Some(list))
    }
}

/// Where the `}` of an expression is: not in its quotes.
fn end_of(text: &str) -> Option<usize> {
    let mut quoted = false;
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'\'' => quoted = !quoted,
            b'}' if !quoted => return Some(i),
            _ => {}
        }
    }
    None
}

/// What stands in single quotes; two of them are one of the text. What is between arguments does not matter to datafaker.
fn arguments_of(text: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut chars = text.chars().peekable();
    while chars.any(|c| c == '\'') {
        let mut argument = String::new();
        while let Some(c) = chars.next() {
            if c == '\'' && chars.next_if_eq(&'\'').is_none() {
                break;
            }
            argument.push(c);
        }
        arguments.push(argument);
    }
    arguments
}

impl Template {
    /// Appends one text.
    pub(super) fn write(&self, value: &mut Value<'_>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => value.out.extend_from_slice(text.as_bytes()),
                Piece::Call(function) => function.write(value),
                Piece::OneOf(list) => {
                    let begin = value.out.len();
                    let chosen = value.random.below(list.choice.len() as u64) as usize;
                    if let Some(template) = list.choice.get(chosen) {
                        template.write(value);
                    }
                    list.finish.apply(begin, value);
                }
            }
        }
    }

    /// Bytes that no text has more of.
    pub(super) fn most_bytes(&self) -> u64 {
        let of = |piece: &Piece| match piece {
            Piece::Text(text) => text.len() as u64,
            Piece::Call(function) => function.most_bytes(),
            Piece::OneOf(list) => list.choice.iter().map(Template::most_bytes).max().unwrap_or(0),
        };
        self.0.iter().map(of).fold(0, u64::saturating_add)
    }
}

impl Finish {
    /// Changes the text from `begin` on.
    pub(super) fn apply(self, begin: usize, value: &mut Value<'_>) {
        const NOT_ZERO: &[u8] = "Ø".as_bytes();
        let (digits, letters) = match self {
            Finish::Nothing => return,
            Finish::Digits => (true, false),
            Finish::Letters => (false, true),
            Finish::DigitsAndLetters => (true, true),
            Finish::Mail => {
                let mut kept = begin;
                for i in begin..value.out.len() {
                    let Some(b) = value.out.get(i).map(u8::to_ascii_lowercase) else { break };
                    if (b.is_ascii_alphanumeric() || b == b'.')
                        && let Some(place) = value.out.get_mut(kept)
                    {
                        *place = b;
                        kept += 1;
                    }
                }
                value.out.truncate(kept);
                return;
            }
        };
        // Every replacement is at most as long as what it replaces.
        let (mut read, mut write) = (begin, begin);
        while let Some(b) = value.out.get(read).copied() {
            let (b, long) = match b {
                b'#' if digits => (b'0' + value.random.below(10) as u8, 1),
                b'?' if letters => (b'a' + value.random.below(26) as u8, 1),
                _ if digits && value.out.get(read..).is_some_and(|t| t.starts_with(NOT_ZERO)) => {
                    (b'1' + value.random.below(9) as u8, NOT_ZERO.len())
                }
                b => (b, 1),
            };
            if let Some(place) = value.out.get_mut(write) {
                *place = b;
            }
            (read, write) = (read + long, write + 1);
        }
        value.out.truncate(write);
    }
}
