//! A script's tokens, statement by statement.
//!
//! A semicolon ends a statement, except inside `… STATEMENT SET BEGIN a; b; END`, which is one statement.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::lexer::Lexeme;
use crate::error::{Error, Result};

/// The tokens of each statement, without the semicolon that ends it; empty statements are left out.
///
/// # Errors
/// Syntax for a statement set that does not end.
pub(crate) fn statements(tokens: &[Lexeme]) -> Result<Vec<&[Lexeme]>> {
    let mut out = Vec::new();
    let mut rest = tokens;
    while let Some(first) = rest.first() {
        if first.token == Token::SemiColon {
            rest = rest.get(1..).unwrap_or(&[]);
            continue;
        }
        let length = match set_opening(rest) {
            Some(opening) => set_length(rest, opening).ok_or_else(|| {
                Error::syntax("this statement set does not end")
                    .at(first.start)
                    .hint("end every statement in it with a semicolon, and the set with END;")
            })?,
            None => rest.iter().position(|l| l.token == Token::SemiColon).unwrap_or(rest.len()),
        };
        let (statement, tail) = rest.split_at(length.min(rest.len()));
        out.push(statement);
        rest = tail;
    }
    Ok(out)
}

/// The number of tokens up to where the statements of a set begin, if it is a set.
fn set_opening(tokens: &[Lexeme]) -> Option<usize> {
    let word = |i: usize, w: &str| tokens.get(i).is_some_and(|l| l.is_keyword(w));
    if word(0, "BEGIN") && word(1, "STATEMENT") && word(2, "SET") {
        let semicolon = tokens.get(3).is_some_and(|l| l.token == Token::SemiColon);
        return Some(if semicolon { 4 } else { 3 });
    }
    if !(word(0, "EXECUTE") || word(0, "EXPLAIN")) {
        return None;
    }
    // EXPLAIN may have a list of details before.
    let end = tokens.iter().position(|l| l.token == Token::SemiColon).unwrap_or(tokens.len());
    (1..end).find(|&i| word(i, "STATEMENT") && word(i + 1, "SET") && word(i + 2, "BEGIN")).map(|i| i + 3)
}

/// The number of tokens of a set: up to the END that stands where a statement could begin.
fn set_length(tokens: &[Lexeme], opening: usize) -> Option<usize> {
    (opening..tokens.len())
        .find(|&i| {
            let starts = i == opening || tokens.get(i - 1).is_some_and(|l| l.token == Token::SemiColon);
            let ends = tokens.get(i + 1).is_none_or(|l| l.token == Token::SemiColon);
            starts && ends && tokens.get(i).is_some_and(|l| l.is_keyword("END"))
        })
        .map(|i| i + 1)
}
