//! Expressions as Flink prints them back: keywords and functions in capitals, names between backticks, one space
//! around operators. Works on tokens, so that whatever parses also prints, and reads back as the same expression.

use datafusion::sql::sqlparser::tokenizer::{Token, Word};

use super::cursor::Cursor;
use super::keywords::{is_reserved, quote_ident};
use super::lexer::{self, Lexeme};
use super::types;

/// The text of an expression in Flink's style; the text as it is if it is no expression.
pub fn format_expr(text: &str) -> String {
    match lexer::tokenize(text) {
        Ok(tokens) => Printer { out: String::new(), glue: true }.print(text, &tokens),
        Err(_) => text.to_owned(),
    }
}

struct Printer {
    out: String,
    /// No space before the next token.
    glue: bool,
}

/// Words before a parenthesis that is no list of arguments.
const NO_CALL: &[&str] = &[
    "ALL", "AND", "ANY", "AS", "BETWEEN", "BY", "ELSE", "EXISTS", "IN", "IS", "LIKE", "NOT", "ON", "OR",
    "OVER", "SOME", "THEN", "WHEN",
];

/// Units that are not reserved, and so may be names as well.
const UNITS: &[&str] = &[
    "CENTURY",
    "DAYS",
    "DECADE",
    "DOW",
    "DOY",
    "EPOCH",
    "HOURS",
    "ISODOW",
    "ISOYEAR",
    "MILLENNIUM",
    "MILLISECOND",
    "MICROSECOND",
    "NANOSECOND",
    "MINUTES",
    "MONTHS",
    "QUARTER",
    "SECONDS",
    "WEEK",
    "WEEKS",
    "YEARS",
];

impl Printer {
    fn print(mut self, text: &str, tokens: &[Lexeme]) -> String {
        let mut c = Cursor::new(text, tokens);
        // Depths at which an AS is followed by a type.
        let mut casts: Vec<usize> = Vec::new();
        let mut depth = 0usize;
        while let Some(l) = c.peek() {
            let before = c.pos().checked_sub(1).and_then(|i| tokens.get(i));
            match &l.token {
                Token::Word(w) => self.word(w, before, c.nth(1)),
                Token::LParen | Token::LBracket => {
                    depth += 1;
                    let call = match before.map(|b| &b.token) {
                        Some(Token::Word(w)) => w.quote_style.is_some() || !among(NO_CALL, &w.value),
                        Some(Token::RBracket | Token::RParen) => l.token == Token::LBracket,
                        _ => false,
                    };
                    if before.is_some_and(|b| b.is_keyword("CAST") || b.is_keyword("TRY_CAST")) {
                        casts.push(depth);
                    }
                    self.put(&l.token.to_string(), !call, true);
                }
                Token::RParen | Token::RBracket => {
                    if casts.last() == Some(&depth) {
                        casts.pop();
                    }
                    depth = depth.saturating_sub(1);
                    self.put(&l.token.to_string(), false, false);
                }
                Token::Comma => self.put(",", false, false),
                Token::Period => self.put(".", false, true),
                _ => self.put(text.get(l.lo..l.hi).unwrap_or(""), true, false),
            }
            c.bump();
            if l.is_keyword("AS") && casts.last() == Some(&depth) {
                let from = c.pos();
                match types::data_type(&mut c) {
                    Ok(ty) => self.put(&ty.to_string(), true, false),
                    Err(_) => c.seek(from),
                }
            }
        }
        self.out
    }

    fn put(&mut self, token: &str, space: bool, glue_next: bool) {
        if space && !self.glue {
            self.out.push(' ');
        }
        self.out.push_str(token);
        self.glue = glue_next;
    }

    fn word(&mut self, w: &Word, before: Option<&Lexeme>, after: Option<&Lexeme>) {
        let field = before.is_some_and(|b| b.token == Token::Period);
        let called = after.is_some_and(|a| matches!(a.token, Token::LParen));
        let constructor = after.is_some_and(|a| a.token == Token::LBracket)
            && ["ARRAY", "MAP"].iter().any(|k| k.eq_ignore_ascii_case(&w.value));
        let unit = among(UNITS, &w.value)
            && (before
                .is_some_and(|b| matches!(b.token, Token::SingleQuotedString(_)) || b.is_keyword("TO"))
                || after.is_some_and(|a| a.is_keyword("FROM")));
        let keyword =
            w.quote_style.is_none() && !field && (called || constructor || unit || is_reserved(&w.value));
        let text = if keyword { w.value.to_uppercase() } else { quote_ident(&w.value) };
        self.put(&text, true, false);
    }
}

fn among(list: &[&str], word: &str) -> bool {
    list.iter().any(|k| k.eq_ignore_ascii_case(word))
}
