//! Reading tokens one after the other: what every hand-written part of the parser stands on.

use datafusion::sql::sqlparser::tokenizer::{Token, Word};

use super::ast::Name;
use super::keywords;
use super::lexer::Lexeme;
use crate::error::{Error, Location, Result};

/// A place in the tokens of one statement.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    /// The whole script.
    pub text: &'a str,
    tokens: &'a [Lexeme],
    pos: usize,
    depth: usize,
}

/// How deep types and hand-parsed constructs may nest.
const MAX_DEPTH: usize = 64;

impl<'a> Cursor<'a> {
    /// At the first of `tokens`, which are part of `text`.
    pub fn new(text: &'a str, tokens: &'a [Lexeme]) -> Self {
        Cursor { text, tokens, pos: 0, depth: 0 }
    }

    pub fn pos(&self) -> usize {
        self.pos
    }

    pub fn seek(&mut self, pos: usize) {
        self.pos = pos;
    }

    pub fn peek(&self) -> Option<&'a Lexeme> {
        self.tokens.get(self.pos)
    }

    pub fn nth(&self, n: usize) -> Option<&'a Lexeme> {
        self.tokens.get(self.pos + n)
    }

    /// The tokens not read yet.
    pub fn rest(&self) -> &'a [Lexeme] {
        self.tokens.get(self.pos..).unwrap_or(&[])
    }

    pub fn at_end(&self) -> bool {
        self.pos >= self.tokens.len()
    }

    pub fn bump(&mut self) -> Option<&'a Lexeme> {
        let lexeme = self.peek()?;
        self.pos += 1;
        Some(lexeme)
    }

    /// Where the next token stands, or the end of the last one.
    pub fn location(&self) -> Location {
        match self.peek() {
            Some(l) => l.start,
            None => self.tokens.last().map(|l| l.end).unwrap_or(Location { line: 1, column: 1 }),
        }
    }

    /// The source of the tokens `from..to`.
    pub fn source(&self, from: usize, to: usize) -> &'a str {
        let Some(tokens) = self.tokens.get(from..to) else { return "" };
        match (tokens.first(), tokens.last()) {
            (Some(a), Some(b)) => self.text.get(a.lo..b.hi).unwrap_or(""),
            _ => "",
        }
    }

    /// The next token as it is written, for messages.
    pub fn found(&self) -> String {
        found(self.text, self.peek())
    }

    /// "expected …, found …" at the next token.
    pub fn expected(&self, what: &str) -> Error {
        Error::syntax(format!("expected {what}, found {}", self.found())).at(self.location())
    }

    /// As [`Cursor::expected`] for one of some keywords, with a guess at what was meant.
    pub fn expected_keyword(&self, keywords: &[&str]) -> Error {
        let e = self.expected(&list(keywords));
        match self.peek().and_then(Lexeme::bare_word).and_then(|w| keywords::nearest(w, keywords)) {
            Some(k) => e.hint(format!("did you mean {k}?")),
            None => e,
        }
    }

    pub fn at_keyword(&self, keyword: &str) -> bool {
        self.nth_is_keyword(0, keyword)
    }

    pub fn nth_is_keyword(&self, n: usize, keyword: &str) -> bool {
        self.nth(n).is_some_and(|l| l.is_keyword(keyword))
    }

    pub fn at_keywords(&self, keywords: &[&str]) -> bool {
        keywords.iter().enumerate().all(|(i, k)| self.nth_is_keyword(i, k))
    }

    pub fn eat_keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        self.pos += usize::from(found);
        found
    }

    /// Takes all of `keywords` or none.
    pub fn eat_keywords(&mut self, keywords: &[&str]) -> bool {
        let found = self.at_keywords(keywords);
        if found {
            self.pos += keywords.len();
        }
        found
    }

    /// Takes one of `keywords`.
    pub fn eat_one_of<'k>(&mut self, keywords: &[&'k str]) -> Option<&'k str> {
        let found = keywords.iter().find(|k| self.at_keyword(k))?;
        self.pos += 1;
        Some(found)
    }

    pub fn expect_keyword(&mut self, keyword: &str) -> Result<()> {
        if self.eat_keyword(keyword) { Ok(()) } else { Err(self.expected_keyword(&[keyword])) }
    }

    pub fn expect_keywords(&mut self, keywords: &[&str]) -> Result<()> {
        keywords.iter().try_for_each(|k| self.expect_keyword(k))
    }

    pub fn at(&self, token: &Token) -> bool {
        self.peek().is_some_and(|l| l.token == *token)
    }

    pub fn eat(&mut self, token: &Token) -> bool {
        let found = self.at(token);
        self.pos += usize::from(found);
        found
    }

    pub fn expect(&mut self, token: &Token) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    /// `( item, item, … )`.
    pub fn parenthesized<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.expect(&Token::LParen)?;
        let mut items = vec![item(self)?];
        loop {
            if self.eat(&Token::RParen) {
                return Ok(items);
            }
            if !self.eat(&Token::Comma) {
                return Err(self.expected("`,` or `)`"));
            }
            items.push(item(self)?);
        }
    }

    /// Fails unless everything is read.
    pub fn expect_end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { Err(self.expected("the end of the statement")) }
    }

    /// A name of one part; `what` it names goes into the message.
    pub fn identifier(&mut self, what: &str) -> Result<(String, Location)> {
        let location = self.location();
        match self.peek().map(|l| &l.token) {
            Some(Token::Word(Word { value, quote_style: None, .. })) if keywords::is_reserved(value) => {
                Err(self.expected(what).hint(format!(
                    "{} is a reserved word; as a name it is written between backticks: {}",
                    value.to_uppercase(),
                    keywords::quote_ident(value)
                )))
            }
            Some(Token::Word(Word { value, .. })) => {
                self.pos += 1;
                Ok((value.clone(), location))
            }
            Some(Token::SingleQuotedString(s)) => Err(self
                .expected(what)
                .hint(format!("quote names with backticks: {}", keywords::quote_ident(s)))),
            _ => Err(self.expected(what)),
        }
    }

    /// A name of up to `max` parts.
    pub fn name(&mut self, what: &str, max: usize) -> Result<Name> {
        let (first, location) = self.identifier(what)?;
        let mut parts = vec![first];
        while self.eat(&Token::Period) {
            let (part, _) = self.identifier("a name after `.`")?;
            parts.push(part);
        }
        if parts.len() > max {
            let shape = match max {
                1 => "has one part",
                2 => "is database or catalog.database",
                _ => "is name, database.name or catalog.database.name",
            };
            return Err(Error::syntax(format!("`{}` has {} parts", parts.join("."), parts.len()))
                .at(location)
                .hint(format!("{what} {shape}; a name that contains dots is written between backticks")));
        }
        Ok(Name { parts, location })
    }

    /// A string literal.
    pub fn string(&mut self, what: &str) -> Result<String> {
        match self.peek().map(|l| &l.token) {
            Some(Token::SingleQuotedString(s)) => {
                self.pos += 1;
                Ok(s.clone())
            }
            Some(Token::Word(Word { value, .. })) => {
                let hint =
                    format!("strings are written between single quotes: '{}'", value.replace('\'', "''"));
                Err(self.expected(what).hint(hint))
            }
            _ => Err(self.expected(what)),
        }
    }

    /// A whole number without sign.
    pub fn integer(&mut self, what: &str) -> Result<u64> {
        match self.peek().map(|l| &l.token) {
            Some(Token::Number(n, _)) => match n.parse() {
                Ok(n) => {
                    self.pos += 1;
                    Ok(n)
                }
                Err(_) => Err(self.expected(what)),
            },
            _ => Err(self.expected(what)),
        }
    }

    /// Runs `f` one level deeper; refuses bottomless nesting instead of overflowing the stack.
    pub fn nested<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MAX_DEPTH {
            return Err(
                Error::syntax(format!("nested more than {MAX_DEPTH} levels deep")).at(self.location())
            );
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    /// The tokens up to, not including, the first that `stop`s outside of all brackets, or a closing bracket.
    pub fn take_until(&mut self, stop: impl Fn(&Lexeme) -> bool) -> &'a [Lexeme] {
        let from = self.pos;
        let mut depth = 0usize;
        while let Some(l) = self.peek() {
            match l.token {
                Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
                Token::RParen | Token::RBracket | Token::RBrace if depth == 0 => break,
                Token::RParen | Token::RBracket | Token::RBrace => depth -= 1,
                _ if depth == 0 && stop(l) => break,
                _ => {}
            }
            self.pos += 1;
        }
        self.tokens.get(from..self.pos).unwrap_or(&[])
    }
}

/// A token as it is written, for messages.
pub(crate) fn found(text: &str, lexeme: Option<&Lexeme>) -> String {
    match lexeme {
        None => "the end of the statement".into(),
        Some(l) => {
            let source = text.get(l.lo..l.hi).unwrap_or("");
            let short: String = source.chars().take(40).collect();
            let short = short.lines().next().unwrap_or("").to_owned();
            if short.len() < source.len() {
                format!("{short}…")
            } else if short.starts_with('`') {
                short
            } else {
                format!("`{short}`")
            }
        }
    }
}

/// `A`, `A or B`, `A, B or C`.
pub(crate) fn list(items: &[&str]) -> String {
    match items {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [head @ .., last] => format!("{} or {last}", head.join(", ")),
    }
}
