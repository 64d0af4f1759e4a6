//! What sqlparser does not read of MATCH_RECOGNIZE, put into words that it does, while the tokens go by.
//!
//! ```text
//!  (SELECT …) MATCH_RECOGNIZE (     → `__derived_0` MATCH_RECOGNIZE (    the query is put back into the tree
//!  PATTERN (…) WITHIN i DEFINE a …  → PATTERN (…) DEFINE `__within` AS i, a …
//!  AFTER MATCH SKIP TO b            → AFTER MATCH SKIP TO LAST b
//!  MEASURES FINAL LAST(a.x)         → MEASURES LAST(a.x)                 where a match is one row
//!  MEASURES, PATTERN, ONE, PER, …   → keywords, here alone
//!  ^ $ {- -} PERMUTE SUBSET         → refused where they stand
//! ```

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Query, TableFactor, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

use super::ast::WITHIN;
use super::cursor::Cursor;
use super::lexer::{Lexeme, word};
use crate::error::{Error, Location, Result};

/// Stands for a sub-query whose rows are matched.
const DERIVED: &str = "__derived_";

/// Words that are keywords between the clauses only.
const KEYWORDS: &[&str] = &[
    "AFTER",
    "ALL",
    "DEFINE",
    "EMPTY",
    "MATCH",
    "MATCHES",
    "MEASURES",
    "NEXT",
    "OMIT",
    "ONE",
    "PAST",
    "PATTERN",
    "PER",
    "SHOW",
    "SKIP",
    "UNMATCHED",
];

/// The MATCH_RECOGNIZE clauses of a query while its tokens are read.
#[derive(Debug, Default)]
pub(super) struct Clauses {
    /// The open ones.
    open: Vec<Open>,
    /// Depth of the parentheses of PATTERN.
    pattern: Option<usize>,
    /// Whether these have just closed: WITHIN and SUBSET stand here, elsewhere they are other words.
    behind_pattern: bool,
    /// Sub-queries taken out.
    derived: Vec<Vec<TokenWithSpan>>,
}

/// A MATCH_RECOGNIZE whose parenthesis is open.
#[derive(Debug, Default)]
struct Open {
    /// The depth of its parentheses.
    depth: usize,
    /// Where FINAL stands in it.
    last: Option<Location>,
    /// Whether ALL ROWS PER MATCH has gone by.
    all_rows: bool,
    /// Whether PATTERN has gone by.
    has_pattern: bool,
    /// Whether DEFINE has gone by.
    defines: bool,
}

impl Clauses {
    /// A parenthesis opens behind `before`; `depth` counts it.
    pub(super) fn open(&mut self, depth: usize, before: &[TokenWithSpan]) {
        let Some(Token::Word(Word { keyword, quote_style: None, .. })) = before.last().map(|t| &t.token)
        else {
            return;
        };
        match keyword {
            Keyword::MATCH_RECOGNIZE => self.open.push(Open { depth, ..Open::default() }),
            Keyword::PATTERN if self.open.last().is_some_and(|own| own.depth + 1 == depth) => {
                self.pattern = Some(depth);
            }
            _ => {}
        }
    }

    /// The parenthesis of that depth closes.
    pub(super) fn close(&mut self, depth: usize) {
        if self.pattern == Some(depth) {
            self.pattern = None;
            self.behind_pattern = true;
            if let Some(own) = self.open.last_mut() {
                own.has_pattern = true;
            }
        }
        self.open.pop_if(|own| own.depth == depth);
    }

    /// Takes what stands at the cursor, if it is a matter of MATCH_RECOGNIZE.
    ///
    /// # Errors
    /// Unsupported for clauses and patterns that are not supported; Syntax where WITHIN is not followed by DEFINE;
    /// Validation for FINAL in DEFINE.
    pub(super) fn read(
        &mut self,
        c: &mut Cursor,
        depth: usize,
        tokens: &mut Vec<TokenWithSpan>,
    ) -> Result<bool> {
        let behind_pattern = std::mem::take(&mut self.behind_pattern);
        let Some(l) = c.peek() else { return Ok(false) };
        if l.is_keyword("MATCH_RECOGNIZE") && c.nth(1).is_some_and(|l| l.token == Token::LParen) {
            self.take_derived(l.start, tokens)?;
            tokens.push(with_keyword(l));
            c.bump();
            return Ok(true);
        }
        if self.pattern.is_some() {
            refuse_in_pattern(c, l)?;
            return Ok(false);
        }
        let Some(own) = self.open.last_mut() else { return Ok(false) };
        let Some(text) = l.bare_word() else { return Ok(false) };
        let upper = text.to_ascii_uppercase();
        let navigates = c.nth(2).is_some_and(|l| l.token == Token::LParen)
            && (c.nth_is_keyword(1, "FIRST") || c.nth_is_keyword(1, "LAST"));
        if navigates && (upper == "FINAL" || upper == "RUNNING") {
            if upper == "FINAL" {
                if own.defines {
                    return Err(Error::validation("FINAL cannot stand in DEFINE")
                        .hint("a row is tested with the rows before it: leave FINAL out")
                        .at(l.start));
                }
                if own.all_rows {
                    return Err(final_of_all_rows(l.start));
                }
                own.last.get_or_insert(l.start);
            }
            c.bump();
            return Ok(true);
        }
        if own.depth != depth {
            return Ok(false);
        }
        match upper.as_str() {
            "SUBSET" if behind_pattern => return Err(subset(l.start)),
            "WITHIN" if behind_pattern => {
                within(c, tokens)?;
                own.defines = true;
            }
            "ALL" if c.nth_is_keyword(1, "ROWS") => {
                if let Some(last) = own.last {
                    return Err(final_of_all_rows(last));
                }
                own.all_rows = true;
                tokens.push(with_keyword(l));
                c.bump();
            }
            "TO" if ends_in(tokens, Keyword::SKIP) => {
                tokens.push(l.to_sqlparser());
                c.bump();
                let named =
                    ["FIRST", "LAST"].iter().any(|w| c.at_keyword(w) && !c.nth_is_keyword(1, "PATTERN"));
                if !named && !c.at_keyword("NEXT") {
                    tokens.push(TokenWithSpan { token: keyword("LAST"), span: l.to_sqlparser().span });
                }
            }
            _ if KEYWORDS.contains(&upper.as_str()) => {
                own.defines |= upper == "DEFINE" && own.has_pattern;
                tokens.push(with_keyword(l));
                c.bump();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// `(SELECT …)` right before MATCH_RECOGNIZE becomes a name.
    fn take_derived(&mut self, at: Location, tokens: &mut Vec<TokenWithSpan>) -> Result<()> {
        if tokens.last().is_none_or(|t| t.token != Token::RParen) {
            return Ok(());
        }
        let mut open = 0usize;
        let from = tokens.iter().rposition(|t| {
            match t.token {
                Token::RParen => open += 1,
                Token::LParen => open = open.saturating_sub(1),
                _ => {}
            }
            open == 0
        });
        let Some(from) = from else { return Ok(()) };
        let begins = |word: &str| matches!(tokens.get(from + 1).map(|t| &t.token), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word));
        if !["SELECT", "WITH", "VALUES"].into_iter().any(begins) {
            return Err(Error::unsupported("MATCH_RECOGNIZE takes a table, a view or a sub-query")
                .hint("write FROM (SELECT * FROM …) MATCH_RECOGNIZE (…)")
                .at(at));
        }
        let inner = tokens.split_off(from);
        let span =
            inner.first().map(|t| t.span).unwrap_or(datafusion::sql::sqlparser::tokenizer::Span::empty());
        let name = format!("{DERIVED}{}", self.derived.len());
        tokens.push(TokenWithSpan { token: word(name, Some('`')), span });
        let end = inner.len().saturating_sub(1);
        self.derived.push(inner.get(1..end).unwrap_or_default().to_vec());
        Ok(())
    }

    /// Puts the sub-queries that were taken out into a tree.
    ///
    /// # Errors
    /// Of `parse`.
    pub(super) fn put_back(
        &self,
        tree: &mut impl VisitMut,
        parse: impl Fn(&[TokenWithSpan]) -> Result<Box<Query>>,
    ) -> Result<()> {
        if self.derived.is_empty() {
            return Ok(());
        }
        let queries = self.derived.iter().map(|tokens| parse(tokens)).collect::<Result<Vec<_>>>()?;
        let _ = tree.visit(&mut PutBack(queries.into_iter().map(|q| *q).collect()));
        Ok(())
    }
}

struct PutBack(Vec<Query>);

impl VisitorMut for PutBack {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::MatchRecognize { table, .. } = factor
            && let TableFactor::Table { name, .. } = table.as_ref()
            && let Some(part) = name.0.first().and_then(|p| p.as_ident())
            && let Some(number) = part.value.strip_prefix(DERIVED)
            && let Some(query) = number.parse().ok().and_then(|n: usize| self.0.get(n))
        {
            let subquery = Box::new(query.clone());
            **table = TableFactor::Derived { lateral: false, subquery, alias: None, sample: None };
        }
        ControlFlow::Continue(())
    }
}

fn ends_in(tokens: &[TokenWithSpan], keyword: Keyword) -> bool {
    matches!(tokens.last().map(|t| &t.token), Some(Token::Word(w)) if w.keyword == keyword)
}

fn keyword(text: &str) -> Token {
    Token::make_word(text, None)
}

fn with_keyword(l: &Lexeme) -> TokenWithSpan {
    TokenWithSpan { token: l.bare_word().map_or_else(|| l.token.clone(), keyword), ..l.to_sqlparser() }
}

fn final_of_all_rows(at: Location) -> Error {
    Error::unsupported("FINAL in ALL ROWS PER MATCH is not supported")
        .hint("a measure of a row is that of the match up to this row")
        .at(at)
}

fn subset(at: Location) -> Error {
    Error::unsupported("SUBSET is not supported")
        .hint("use the variables themselves, or columns without a variable, which stand for all of them")
        .at(at)
}

/// `WITHIN i DEFINE` as the first definition.
fn within(c: &mut Cursor, tokens: &mut Vec<TokenWithSpan>) -> Result<()> {
    let Some(start) = c.bump() else { return Ok(()) };
    let interval = c.take_until(|l| l.is_keyword("DEFINE"));
    if let Some(l) = interval.iter().find(|l| l.is_keyword("SUBSET")) {
        return Err(subset(l.start));
    }
    let interval: Vec<TokenWithSpan> = interval.iter().map(Lexeme::to_sqlparser).collect();
    let Some(define) = c.peek() else { return Err(c.expected_keyword(&["DEFINE"])) };
    if interval.is_empty() {
        return Err(c.expected("an interval"));
    }
    let span = start.to_sqlparser().span;
    tokens.push(with_keyword(define));
    tokens.push(TokenWithSpan { token: word(WITHIN.to_owned(), Some('`')), span });
    tokens.push(TokenWithSpan { token: keyword("AS"), span });
    tokens.extend(interval);
    tokens.push(TokenWithSpan { token: Token::Comma, span });
    c.bump();
    Ok(())
}

fn refuse_in_pattern(c: &Cursor, l: &Lexeme) -> Result<()> {
    let next = c.nth(1).map(|l| &l.token);
    let what = match &l.token {
        Token::Caret => "`^`, the begin of a partition, in a pattern",
        Token::LBrace if next == Some(&Token::Minus) => "`{- -}` in a pattern",
        Token::Word(_) if l.bare_word() == Some("$") => "`$`, the end of a partition, in a pattern",
        Token::Word(_) if l.is_keyword("PERMUTE") && next == Some(&Token::LParen) => "PERMUTE",
        _ => return Ok(()),
    };
    let e = Error::unsupported(format!("{what} is not supported")).at(l.start);
    Err(if what == "PERMUTE" { e.hint("write the orders as alternatives: (A B | B A)") } else { e })
}
