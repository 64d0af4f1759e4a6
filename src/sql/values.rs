//! Rows of VALUES in parentheses, as sqlparser wants each of them.
//!
//! ```text
//!  VALUES 'a', 1 + 1          ─►  VALUES ('a'), (1 + 1)
//!  VALUES (ROW(1, 2))         ─►  VALUES ROW(1, 2)          two columns, as in Flink
//!  VALUES (SELECT 1)          ─►  VALUES ((SELECT 1))       the value of a sub-query
//!  x > ALL (VALUES 1, 2)      ─►  x > ALL ((VALUES (1), (2)))  a sub-query, which sqlparser looks for there by SELECT only
//!  VALUES (1, 2), ROW(3, 4)   as it is
//! ```
//!
//! A row without parentheses is one expression. It ends at a comma that is in no parentheses, brackets or CASE, at the
//! parenthesis that closes around VALUES, and at the words that may follow a VALUES.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::lexer::Lexeme;

/// What happens to parentheses before a token.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parens {
    /// `)` that are put before it.
    pub close: u8,
    /// `(` that are put before it.
    pub open: u8,
    /// The token itself is left out.
    pub drop: bool,
}

/// Words behind a VALUES; all are reserved.
const FOLLOWING: &[&str] = &["UNION", "INTERSECT", "EXCEPT", "MINUS", "ORDER", "LIMIT", "OFFSET", "FETCH"];

/// Changes of parentheses by the index of the token, which may be that behind the last one.
pub(super) fn parens(lexemes: &[Lexeme]) -> BTreeMap<usize, Parens> {
    let mut changes = BTreeMap::new();
    for (at, l) in lexemes.iter().enumerate() {
        // `t.VALUES` and `VALUES` as a name need backticks: the bare word always begins rows.
        if l.is_keyword("VALUES") {
            rows(lexemes, at + 1, &mut changes);
            if is_compared(lexemes, at)
                && let Some(close) = close_of(lexemes, at - 1)
            {
                changes.entry(at).or_default().open += 1;
                changes.entry(close).or_default().close += 1;
            }
        }
    }
    changes
}

/// Whether `= ANY (` or the like stands before a token.
fn is_compared(lexemes: &[Lexeme], at: usize) -> bool {
    let back = |n: usize| at.checked_sub(n).and_then(|i| lexemes.get(i));
    let quantified = back(2).is_some_and(|l| ["ANY", "ALL", "SOME"].iter().any(|w| l.is_keyword(w)));
    let comparison = |l: &Lexeme| {
        matches!(l.token, Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq)
    };
    quantified && back(1).is_some_and(|l| l.token == Token::LParen) && back(3).is_some_and(comparison)
}

/// The rows that begin at `at`.
fn rows(lexemes: &[Lexeme], mut at: usize, changes: &mut BTreeMap<usize, Parens>) {
    let is = |i: usize, token: &Token| lexemes.get(i).is_some_and(|l| l.token == *token);
    let word =
        |i: usize, words: &[&str]| lexemes.get(i).is_some_and(|l| words.iter().any(|w| l.is_keyword(w)));
    loop {
        let end = row_end(lexemes, at);
        if end == at {
            return; // Nothing, which the parser reports.
        }
        if is(at, &Token::LParen) {
            if word(at + 1, &["ROW"]) && is(at + 2, &Token::LParen) {
                let inner = close_of(lexemes, at + 2);
                if inner.is_some_and(|i| is(i + 1, &Token::RParen)) {
                    changes.entry(at).or_default().drop = true;
                    changes.entry(inner.unwrap_or(at) + 1).or_default().drop = true;
                }
            } else if word(at + 1, &["SELECT", "WITH", "VALUES"]) {
                // Behind its own parenthesis, so that what follows a row is still refused.
                if let Some(close) = close_of(lexemes, at) {
                    changes.entry(at).or_default().open += 1;
                    changes.entry(close + 1).or_default().close += 1;
                }
            }
        } else if !(word(at, &["ROW"]) && is(at + 1, &Token::LParen)) {
            changes.entry(at).or_default().open += 1;
            changes.entry(end).or_default().close += 1;
        }
        if !is(end, &Token::Comma) {
            return;
        }
        at = end + 1;
    }
}

/// Behind the last token of the row that begins at `from`.
fn row_end(lexemes: &[Lexeme], from: usize) -> usize {
    let mut depth = 0usize;
    for (i, l) in lexemes.iter().enumerate().skip(from) {
        match &l.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket if depth == 0 => return i,
            Token::RParen | Token::RBracket => depth -= 1,
            Token::Comma | Token::SemiColon if depth == 0 => return i,
            _ if l.is_keyword("CASE") => depth += 1,
            _ if l.is_keyword("END") => depth = depth.saturating_sub(1),
            _ if depth == 0 && FOLLOWING.iter().any(|w| l.is_keyword(w)) => return i,
            _ => {}
        }
    }
    lexemes.len()
}

/// The parenthesis that closes the one at `open`.
fn close_of(lexemes: &[Lexeme], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, l) in lexemes.iter().enumerate().skip(open) {
        match l.token {
            Token::LParen => depth += 1,
            Token::RParen if depth <= 1 => return Some(i),
            Token::RParen => depth -= 1,
            _ => {}
        }
    }
    None
}
