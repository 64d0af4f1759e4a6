//! Text to tokens by Flink's lexical rules.
//!
//! sqlparser's own tokenizer is not used: Flink's dialect has no double-quoted identifiers, no backslash escapes,
//! no `!=`, `::`, bitwise operators or dollar strings, and *does* have `U&'…'`, `E'…'` and hints. Its token type is
//! used, so that its parser can read queries and expressions. Every token knows its place in the whole script.
//! Behind AS, where the body of a function stands, `$$ … $$` and `$tag$ … $tag$` are texts as they are written.
//!
//! ```text
//!  characters ─► Lexeme { token, start, end (line, column), lo..hi (bytes) }
//!  /*+ … */   ─► HINT_OPEN, ordinary tokens, HINT_CLOSE
//! ```

use datafusion::sql::sqlparser::ast::DollarQuotedString;
use datafusion::sql::sqlparser::tokenizer::{self, Span, Token, TokenWithSpan, Word};

use super::keywords;
use crate::error::{Error, Location, Result};

/// A token with its place in the script.
#[derive(Debug, Clone)]
pub(crate) struct Lexeme {
    /// The token. Words carry the keyword only if Flink's query grammar uses it.
    pub token: Token,
    /// First character.
    pub start: Location,
    /// After the last character.
    pub end: Location,
    /// First byte.
    pub lo: usize,
    /// After the last byte.
    pub hi: usize,
}

const HINT_OPEN: &str = "/*+";
const HINT_CLOSE: &str = "*/";

impl Lexeme {
    /// `/*+`.
    pub fn is_hint_open(&self) -> bool {
        matches!(&self.token, Token::Placeholder(p) if p == HINT_OPEN)
    }

    /// The `*/` of a hint.
    pub fn is_hint_close(&self) -> bool {
        matches!(&self.token, Token::Placeholder(p) if p == HINT_CLOSE)
    }

    /// The word if it is not quoted.
    pub fn bare_word(&self) -> Option<&str> {
        match &self.token {
            Token::Word(Word { value, quote_style: None, .. }) => Some(value),
            _ => None,
        }
    }

    /// Whether it is this keyword, unquoted, any case.
    pub fn is_keyword(&self, keyword: &str) -> bool {
        self.bare_word().is_some_and(|w| w.eq_ignore_ascii_case(keyword))
    }

    /// As sqlparser wants it.
    pub fn to_sqlparser(&self) -> TokenWithSpan {
        TokenWithSpan { token: self.token.clone(), span: span(self.start, self.end) }
    }
}

/// sqlparser's span of two places.
pub(crate) fn span(start: Location, end: Location) -> Span {
    let at = |l: Location| tokenizer::Location { line: l.line, column: l.column };
    Span { start: at(start), end: at(end) }
}

/// Splits a text into tokens; comments vanish.
///
/// # Errors
/// Syntax, for characters Flink does not know and for literals and comments that do not end.
pub(crate) fn tokenize(text: &str) -> Result<Vec<Lexeme>> {
    Lexer { text, pos: 0, at: Location { line: 1, column: 1 }, out: Vec::new(), hint: None, pattern: 0 }.run()
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    at: Location,
    out: Vec<Lexeme>,
    /// Where the hint that is open began.
    hint: Option<Location>,
    /// Parentheses that are open since a `PATTERN (`, that one included.
    pattern: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.pos..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        if c == '\n' {
            self.at.line += 1;
            self.at.column = 1;
        } else {
            self.at.column += 1;
        }
        Some(c)
    }

    fn bump_while(&mut self, mut f: impl FnMut(char) -> bool) -> &'a str {
        let from = self.pos;
        while self.peek().is_some_and(&mut f) {
            self.bump();
        }
        self.text.get(from..self.pos).unwrap_or("")
    }

    fn push(&mut self, token: Token, start: Location, lo: usize) {
        self.out.push(Lexeme { token, start, end: self.at, lo, hi: self.pos });
    }

    fn run(mut self) -> Result<Vec<Lexeme>> {
        // A byte order mark is no part of the first statement.
        if self.rest().starts_with('\u{feff}') {
            self.pos += '\u{feff}'.len_utf8();
        }
        while let Some(c) = self.peek() {
            let (start, lo) = (self.at, self.pos);
            let rest = self.rest();
            if c.is_whitespace() {
                self.bump();
            } else if rest.starts_with("--") || rest.starts_with("//") {
                self.bump_while(|c| c != '\n');
            } else if rest.starts_with(HINT_OPEN) {
                if self.hint.is_some() {
                    return Err(Error::syntax("a hint inside a hint").at(start));
                }
                self.hint = Some(start);
                self.take(3);
                self.push(Token::Placeholder(HINT_OPEN.into()), start, lo);
            } else if rest.starts_with("/*") {
                self.block_comment(start)?;
            } else if rest.starts_with(HINT_CLOSE) && self.hint.take().is_some() {
                self.take(2);
                self.push(Token::Placeholder(HINT_CLOSE.into()), start, lo);
            } else {
                self.token(c, start, lo)?;
            }
        }
        match self.hint {
            Some(l) => Err(Error::syntax("this hint does not end").at(l).hint("close it with */")),
            None => Ok(self.out),
        }
    }

    fn take(&mut self, n: usize) {
        for _ in 0..n {
            self.bump();
        }
    }

    fn block_comment(&mut self, start: Location) -> Result<()> {
        self.take(2);
        loop {
            if self.rest().starts_with("*/") {
                self.take(2);
                return Ok(());
            }
            if self.bump().is_none() {
                return Err(Error::syntax("this comment does not end").at(start).hint("close it with */"));
            }
        }
    }

    fn token(&mut self, c: char, start: Location, lo: usize) -> Result<()> {
        let prefixed = |p: &str| {
            self.rest().get(..p.len()).is_some_and(|s| s.eq_ignore_ascii_case(p))
                && self.rest().get(p.len()..).is_some_and(|s| s.starts_with('\''))
        };
        match c {
            '\'' => {
                let s = self.quoted('\'', "string", start)?;
                self.string(s, start, lo)?;
            }
            '`' => {
                let value = self.quoted('`', "quoted name", start)?;
                if value.is_empty() {
                    return Err(Error::syntax("an empty name between backticks").at(start));
                }
                if value.contains(char::is_control) {
                    return Err(Error::syntax("a control character in a quoted name").at(start));
                }
                self.push(word(value, Some('`')), start, lo);
            }
            _ if prefixed("U&") => {
                self.take(2);
                let raw = self.quoted('\'', "string", start)?;
                let escape = self.uescape()?;
                let s = super::literals::unicode(&raw, escape).map_err(|m| Error::syntax(m).at(start))?;
                self.push(Token::SingleQuotedString(s), start, lo);
            }
            _ if prefixed("E") => {
                self.take(1);
                let raw = self.c_style(start)?;
                let s = super::literals::c_style(&raw).map_err(|m| Error::syntax(m).at(start))?;
                self.push(Token::SingleQuotedString(s), start, lo);
            }
            _ if prefixed("X") => {
                self.take(1);
                let raw = self.quoted('\'', "binary string", start)?;
                let hex: String = raw.chars().filter(|c| !c.is_whitespace()).collect();
                if !hex.len().is_multiple_of(2) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(Error::syntax(format!(
                        "X'{raw}' needs an even number of hexadecimal digits"
                    ))
                    .at(start));
                }
                self.push(Token::HexStringLiteral(hex), start, lo);
            }
            // National strings are what all strings are here.
            _ if prefixed("N") => {
                self.take(1);
                let s = self.quoted('\'', "string", start)?;
                self.push(Token::SingleQuotedString(s), start, lo);
            }
            // `$a$` is a name elsewhere.
            '$' if self.out.last().is_some_and(|l| l.is_keyword("AS")) && self.dollar_tag().is_some() => {
                let tag = self.dollar_tag().unwrap_or_default();
                self.take(tag.chars().count());
                let Some(length) = self.rest().find(tag) else {
                    return Err(Error::syntax("this text does not end")
                        .at(start)
                        .hint(format!("close it with {tag}")));
                };
                let value = self.rest().get(..length).unwrap_or("").to_owned();
                self.take(value.chars().count() + tag.chars().count());
                let tag = tag.trim_matches('$');
                let tag = (!tag.is_empty()).then(|| tag.to_owned());
                self.push(Token::DollarQuotedString(DollarQuotedString { value, tag }), start, lo);
            }
            _ if keywords::is_identifier_start(c) => {
                let value = self.bump_while(keywords::is_identifier_part).to_owned();
                self.push(word(value, None), start, lo);
            }
            _ if c.is_ascii_digit()
                || (c == '.' && self.peek_second().is_some_and(|d| d.is_ascii_digit())) =>
            {
                self.number(start, lo);
            }
            _ => self.symbol(c, start, lo)?,
        }
        Ok(())
    }

    /// `$$` or `$tag$`, if the text goes on with it.
    fn dollar_tag(&self) -> Option<&'a str> {
        let rest = self.rest();
        let length = rest.get(1..)?.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
        rest.get(..length + 2).filter(|tag| tag.ends_with('$'))
    }

    /// Text between quotes, with doubled quotes undone.
    fn quoted(&mut self, quote: char, what: &str, start: Location) -> Result<String> {
        self.bump();
        let mut s = String::new();
        loop {
            match self.bump() {
                Some(c) if c == quote => {
                    if self.peek() != Some(quote) {
                        return Ok(s);
                    }
                    self.bump();
                    s.push(quote);
                }
                Some(c) => s.push(c),
                None => {
                    let hint = if quote == '\'' {
                        "close it with ' (a quote inside is written '')"
                    } else {
                        "close it with ` (a backtick inside is written ``)"
                    };
                    return Err(Error::syntax(format!("this {what} does not end")).at(start).hint(hint));
                }
            }
        }
    }

    /// The raw text of `E'…'`, in which `\'` does not end it.
    fn c_style(&mut self, start: Location) -> Result<String> {
        self.bump();
        let mut s = String::new();
        loop {
            match self.bump() {
                Some('\\') => {
                    s.push('\\');
                    if let Some(c) = self.bump() {
                        s.push(c);
                    }
                }
                Some('\'') if self.peek() == Some('\'') => {
                    self.bump();
                    s.push('\'');
                }
                Some('\'') => return Ok(s),
                Some(c) => s.push(c),
                None => {
                    return Err(Error::syntax("this string does not end").at(start).hint("close it with '"));
                }
            }
        }
    }

    /// A plain string; one on the next line continues it.
    fn string(&mut self, s: String, start: Location, lo: usize) -> Result<()> {
        if let Some(last) = self.out.last_mut()
            && let Token::SingleQuotedString(before) = &mut last.token
            && self.text.as_bytes().get(last.lo) == Some(&b'\'')
        {
            if last.end.line == start.line {
                return Err(Error::syntax("two strings side by side")
                    .at(start)
                    .hint("join them with ||, or put a comma or an operator between them"));
            }
            before.push_str(&s);
            (last.end, last.hi) = (self.at, self.pos);
            return Ok(());
        }
        self.push(Token::SingleQuotedString(s), start, lo);
        Ok(())
    }

    /// `UESCAPE 'c'` after a `U&'…'`, if it is there.
    fn uescape(&mut self) -> Result<char> {
        let (pos, at) = (self.pos, self.at);
        self.bump_while(char::is_whitespace);
        let start = self.at;
        if self.bump_while(keywords::is_identifier_part).eq_ignore_ascii_case("UESCAPE") {
            self.bump_while(char::is_whitespace);
            if self.peek() == Some('\'') {
                let s = self.quoted('\'', "string", start)?;
                let mut chars = s.chars();
                if let (Some(c), None) = (chars.next(), chars.next()) {
                    return Ok(c);
                }
            }
            return Err(Error::syntax("UESCAPE takes a string of one character").at(start));
        }
        (self.pos, self.at) = (pos, at);
        Ok('\\')
    }

    fn number(&mut self, start: Location, lo: usize) {
        self.bump_while(|c| c.is_ascii_digit());
        if self.peek() == Some('.') {
            self.bump();
            self.bump_while(|c| c.is_ascii_digit());
        }
        let mut tail = self.rest().chars();
        if tail.next().is_some_and(|c| c == 'e' || c == 'E') {
            let sign_or_digit = tail.next();
            let signed = sign_or_digit.is_some_and(|c| c == '+' || c == '-');
            let digit = if signed { tail.next() } else { sign_or_digit };
            if digit.is_some_and(|c| c.is_ascii_digit()) {
                self.take(if signed { 2 } else { 1 });
                self.bump_while(|c| c.is_ascii_digit());
            }
        }
        let text = self.text.get(lo..self.pos).unwrap_or("").to_owned();
        self.push(Token::Number(text, false), start, lo);
    }

    fn symbol(&mut self, c: char, start: Location, lo: usize) -> Result<()> {
        const TWO: [(&str, Token); 6] = [
            ("<>", Token::Neq),
            ("<=", Token::LtEq),
            (">=", Token::GtEq),
            ("||", Token::StringConcat),
            ("=>", Token::RArrow),
            ("::", Token::DoubleColon),
        ];
        if self.rest().starts_with("::") {
            return Err(Error::syntax("`::` is not part of Flink SQL")
                .at(start)
                .hint("write CAST(x AS type)"));
        }
        if self.rest().starts_with("!=") {
            return Err(Error::syntax("`!=` is not part of Flink SQL").at(start).hint("write <>"));
        }
        if let Some((_, token)) = TWO.iter().find(|(s, _)| self.rest().starts_with(s)) {
            self.take(2);
            self.push(token.clone(), start, lo);
            return Ok(());
        }
        let token = match c {
            '(' => {
                if self.pattern > 0 || self.out.last().is_some_and(|l| l.is_keyword("PATTERN")) {
                    self.pattern += 1;
                }
                Token::LParen
            }
            ')' => {
                self.pattern = self.pattern.saturating_sub(1);
                Token::RParen
            }
            // Characters of row patterns alone.
            '?' if self.pattern > 0 => Token::Placeholder("?".into()),
            '|' if self.pattern > 0 => Token::Pipe,
            '^' if self.pattern > 0 => Token::Caret,
            '[' => Token::LBracket,
            ']' => Token::RBracket,
            '{' => Token::LBrace,
            '}' => Token::RBrace,
            ',' => Token::Comma,
            ';' => Token::SemiColon,
            '.' => Token::Period,
            '+' => Token::Plus,
            '-' => Token::Minus,
            '*' => Token::Mul,
            '/' => Token::Div,
            '%' => Token::Mod,
            '=' => Token::Eq,
            '<' => Token::Lt,
            '>' => Token::Gt,
            ':' => Token::Colon,
            other => return Err(unknown_character(other).at(start)),
        };
        self.bump();
        self.push(token, start, lo);
        Ok(())
    }
}

fn unknown_character(c: char) -> Error {
    let e = Error::syntax(format!("unexpected character `{c}`"));
    match c {
        '"' => e.hint("quote names with backticks: `name`, and strings with single quotes: 'text'"),
        '?' => e.hint("a script has no parameters; write the value itself"),
        '&' | '|' | '^' | '~' => e.hint("Flink SQL has no bitwise operators; logic is AND, OR, NOT"),
        '\u{2018}' | '\u{2019}' | '\u{201c}' | '\u{201d}' => {
            e.hint("strings are quoted with plain single quotes: 'text'")
        }
        '!' => e.hint("not equal is <>, negation is NOT"),
        '\\' => e.hint("escapes with a backslash exist only inside E'…' and U&'…'"),
        _ => e.hint("names with special characters are quoted with backticks: `name`"),
    }
}

/// A word token whose keyword is set only where Flink's query grammar knows one: sqlparser would otherwise read the
/// keywords of all other dialects (`PREWHERE`, `TOP`, `ILIKE`, …) where Flink sees a name.
pub(crate) fn word(value: String, quote: Option<char>) -> Token {
    match Token::make_word(&value, quote) {
        Token::Word(w) => Token::Word(Word { keyword: keywords::filter(w.keyword), ..w }),
        other => other,
    }
}
