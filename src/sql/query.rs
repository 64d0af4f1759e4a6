//! Queries and expressions: token fix-ups, then sqlparser, then a check of what it made.
//!
//! ```text
//!  tokens ─► fix-ups ───────────────────────────────► sqlparser ─► validate ─► Query    depth: nothing nests too deep
//!             CAST(x AS <any Flink type>), RETURNING <type> → one word  aliases for hinted tables,
//!             t /*+ OPTIONS(…) */         → t with a mark            every field consumed or refused
//!             (SELECT …) MATCH_RECOGNIZE, WITHIN   → see `match_recognize`
//!             VALUES 1, 2                          → VALUES (1), (2), see `values`
//!             TABLESAMPLE, …                       → refused here, where the place is known
//! ```

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{self, Ident};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::ast::{HINT_MARK, Query};
use super::cursor::{self, Cursor};
use super::depth::{MAX_NESTING, Nesting, too_deep};
use super::dialect::FlinkDialect;
use super::hints::HintedTable;
use super::lexer::{Lexeme, span, word};
use super::match_recognize::Clauses;
use super::values::Parens;
use super::{chain, depth, hints, keywords, types, validate, values};
use crate::error::{Error, Location, Result};
use crate::sql::ast::SqlExpr;

/// Calls of sqlparser within each other: up to one for each precedence of what is open, and [`Nesting`] counts that.
const RECURSION_LIMIT: usize = MAX_NESTING * 16;

/// Everything that is left at the cursor, as a query.
///
/// # Errors
/// Syntax and Unsupported, with the place.
pub(crate) fn parse_query(c: &mut Cursor) -> Result<Query> {
    parse_query_until(c, |_| false)
}

/// As [`parse_query`], up to the place where `stop` holds.
///
/// # Errors
/// As [`parse_query`].
pub(crate) fn parse_query_until(c: &mut Cursor, stop: impl Fn(&Cursor) -> bool) -> Result<Query> {
    let location = c.location();
    let from = c.pos();
    let tokens = c.rest();
    let mut ahead = c.clone();
    let mut tokens_before = 0;
    while !ahead.at_end() && !stop(&ahead) {
        ahead.bump();
        tokens_before += 1;
    }
    let tokens = tokens.get(..tokens_before).unwrap_or(tokens);
    let to = from + tokens.len();
    if tokens.is_empty() {
        return Err(c.expected("a query"));
    }
    let fixed = fix_up(c.text, tokens)?;
    let query = depth::with_room(|| {
        let mut query = run(c, tokens, &fixed.tokens, |p| p.parse_query())?;
        fixed.matches.put_back(&mut query, |inner| run(c, tokens, inner, |p| p.parse_query()))?;
        chain::balance_unions(&mut query);
        depth::check(&query)?;
        validate::query(&mut query, &fixed.hint_places)?;
        Ok::<_, Error>(query)
    })?;
    c.seek(to);
    Ok(Query {
        query,
        table_hints: fixed.hints,
        hinted: fixed.hinted,
        text: c.source(from, to).to_owned(),
        location,
    })
}

/// The tokens up to `stop` as an expression.
///
/// # Errors
/// As [`parse_query`].
pub(crate) fn parse_expr(c: &mut Cursor, stop: impl Fn(&Lexeme) -> bool) -> Result<SqlExpr> {
    let location = c.location();
    let from = c.pos();
    let tokens = c.take_until(stop);
    if tokens.is_empty() {
        return Err(c.expected("an expression"));
    }
    let fixed = fix_up(c.text, tokens)?;
    let expr = depth::with_room(|| {
        let mut expr = run(c, tokens, &fixed.tokens, |p| p.parse_expr())?;
        fixed.matches.put_back(&mut expr, |inner| run(c, tokens, inner, |p| p.parse_query()))?;
        chain::balance_unions(&mut expr);
        depth::check(&expr)?;
        validate::expr(&mut expr, &fixed.hint_places)?;
        Ok::<_, Error>(expr)
    })?;
    Ok(SqlExpr { expr, text: c.source(from, c.pos()).to_owned(), location })
}

/// Tokens for sqlparser and the hints taken out of them.
struct Fixed {
    tokens: Vec<TokenWithSpan>,
    hints: Vec<BTreeMap<String, String>>,
    hint_places: Vec<Location>,
    hinted: Vec<HintedTable>,
    matches: Clauses,
}

fn fix_up(text: &str, lexemes: &[Lexeme]) -> Result<Fixed> {
    let mut c = Cursor::new(text, lexemes);
    let mut out = Fixed {
        tokens: Vec::with_capacity(lexemes.len()),
        hints: Vec::new(),
        hint_places: Vec::new(),
        hinted: Vec::new(),
        matches: Clauses::default(),
    };
    let mut depth = 0usize;
    // Depths at which an AS ends the operand of a cast.
    let mut casts: Vec<usize> = Vec::new();
    // Depths inside calls of JSON functions, where VALUE and EMPTY are keywords.
    let mut json: Vec<usize> = Vec::new();
    // Depths inside calls that take RETURNING and a type.
    let mut returning: Vec<usize> = Vec::new();
    let mut nesting = Nesting::default();
    let parens = values::parens(lexemes);
    while let Some(l) = c.peek() {
        if parens.get(&c.pos()).is_some_and(|change| parenthesize(*change, l, &mut out.tokens)) {
            c.bump();
            continue;
        }
        nesting.read(l)?;
        if out.matches.read(&mut c, depth, &mut out.tokens)? {
            continue;
        }
        refuse(&c)?;
        let before = c.pos().checked_sub(1).and_then(|i| lexemes.get(i));
        reserved(&c, !json.is_empty() || before.is_some_and(|p| p.is_keyword("JSON")))?;
        match &l.token {
            _ if l.is_hint_open() => {
                hint(&mut c, &mut out)?;
                continue;
            }
            Token::LParen => {
                depth += 1;
                out.matches.open(depth, &out.tokens);
                if before.is_some_and(|p| p.is_keyword("CAST") || p.is_keyword("TRY_CAST")) {
                    casts.push(depth);
                }
                let called = |names: &[&str]| before.is_some_and(|p| names.iter().any(|n| p.is_keyword(n)));
                if called(&["JSON_OBJECT", "JSON_OBJECTAGG", "JSON_VALUE", "JSON_QUERY"]) {
                    json.push(depth);
                }
                if called(&["JSON_VALUE", "JSON_QUERY"]) {
                    returning.push(depth);
                }
            }
            Token::RParen => {
                if json.last() == Some(&depth) {
                    json.pop();
                }
                if returning.last() == Some(&depth) {
                    returning.pop();
                }
                if casts.last() == Some(&depth) {
                    casts.pop();
                }
                out.matches.close(depth);
                depth = depth.saturating_sub(1);
            }
            _ if l.is_keyword("AS") && casts.last() == Some(&depth)
                || l.is_keyword("RETURNING") && returning.last() == Some(&depth) =>
            {
                let cast = l.is_keyword("AS");
                if cast {
                    casts.pop();
                }
                out.tokens.push(l.to_sqlparser());
                c.bump();
                let (start, from) = (c.location(), c.pos());
                let ty = types::data_type(&mut c)?;
                if !ty.nullable {
                    return Err(Error::syntax(format!(
                        "NOT NULL after the type {}",
                        if cast { "of a cast" } else { "that is returned" }
                    ))
                    .at(start)
                    .hint("leave it out: a cast keeps the nullability of its operand"));
                }
                if cast && !c.at(&Token::RParen) {
                    return Err(c.expected("`)` after the type"));
                }
                let end = lexemes.get(from..c.pos()).and_then(<[_]>::last).map_or(start, |l| l.end);
                out.tokens
                    .push(TokenWithSpan { token: word(ty.to_string(), Some('`')), span: span(start, end) });
                continue;
            }
            _ => {}
        }
        out.tokens.push(l.to_sqlparser());
        c.bump();
    }
    if let (Some(change), Some(last)) = (parens.get(&lexemes.len()), lexemes.last()) {
        parenthesize(*change, last, &mut out.tokens);
    }
    Ok(out)
}

/// The parentheses that a row of VALUES gets before a token, at the place of that token, and whether it is left out.
fn parenthesize(change: Parens, at: &Lexeme, tokens: &mut Vec<TokenWithSpan>) -> bool {
    let span = span(at.start, at.start);
    let close = std::iter::repeat_n(Token::RParen, change.close.into());
    let open = std::iter::repeat_n(Token::LParen, change.open.into());
    tokens.extend(close.chain(open).map(|token| TokenWithSpan { token, span }));
    change.drop
}

/// `/*+ … */` inside a query: OPTIONS belongs to the table name before it.
fn hint(c: &mut Cursor, out: &mut Fixed) -> Result<()> {
    let at = c.location();
    let after_select = matches!(out.tokens.last().map(|t| &t.token), Some(Token::Word(w)) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case("SELECT"));
    if after_select {
        return hints::query_hints(c, &mut out.hinted);
    }
    let options = hints::table_options(c)?;
    let number = out.hints.len();
    match out.tokens.last_mut() {
        Some(TokenWithSpan { token: Token::Word(w), .. })
            if w.quote_style.is_some() || !keywords::is_reserved(&w.value) =>
        {
            let marked = format!("{}{HINT_MARK}{number}", w.value);
            *w = Word { value: marked, quote_style: Some('`'), keyword: Keyword::NoKeyword };
        }
        _ => return Err(hints::misplaced(at)),
    }
    out.hints.push(options);
    out.hint_places.push(at);
    Ok(())
}

/// Reserved words that no construct of a query uses, and that no `(` makes a call, can only be meant as names.
fn reserved(c: &Cursor, in_json: bool) -> Result<()> {
    let Some(Lexeme { token: Token::Word(w), .. }) = c.peek() else { return Ok(()) };
    if w.quote_style.is_some() || !keywords::is_reserved(&w.value) {
        return Ok(());
    }
    let of_json = w.value.eq_ignore_ascii_case("VALUE") || w.value.eq_ignore_ascii_case("EMPTY");
    let keyword = if of_json { in_json } else { w.keyword != Keyword::NoKeyword };
    let called = c.nth(1).is_some_and(|l| matches!(l.token, Token::LParen | Token::LBracket));
    if keyword || called || BARE.iter().any(|b| w.value.eq_ignore_ascii_case(b)) {
        return Ok(());
    }
    let e = Error::syntax(format!("unexpected reserved word `{}`", w.value)).at(c.location());
    Err(match c.peek().and_then(advice) {
        Some(hint) => e.hint(hint),
        None => e,
    })
}

/// Reserved words that stand alone where an expression may, or that another check refuses with better words.
const BARE: &[&str] = &[
    "COLLATE",
    "CURRENT_CATALOG",
    "CURRENT_ROLE",
    "CURRENT_SCHEMA",
    "CURRENT_USER",
    "DEFAULT",
    "SESSION_USER",
    "SYSTEM_USER",
    "USER",
];

/// Constructs of Flink that are not supported, refused where they stand.
fn refuse(c: &Cursor) -> Result<()> {
    let unsupported =
        |what: &str| Err(Error::unsupported(format!("{what} is not supported")).at(c.location()));
    let Some(word) = c.peek().and_then(Lexeme::bare_word) else { return Ok(()) };
    // Only at the few words below is more looked at.
    match word.to_ascii_uppercase().as_str() {
        "TABLESAMPLE" => unsupported("TABLESAMPLE"),
        "MULTISET" if c.nth(1).is_some_and(|l| matches!(l.token, Token::LParen | Token::LBracket)) => {
            Err(Error::unsupported("the MULTISET constructor is not supported, nor is it in Flink")
                .at(c.location())
                .hint("the aggregate COLLECT(x) makes a MULTISET"))
        }
        "WITH" if c.nth_is_keyword(1, "RECURSIVE") => unsupported("WITH RECURSIVE"),
        _ => Ok(()),
    }
}

/// Runs sqlparser over all of `fixed`.
fn run<T>(
    c: &Cursor,
    lexemes: &[Lexeme],
    fixed: &[TokenWithSpan],
    parse: impl Fn(&mut Parser) -> Result<T, ParserError>,
) -> Result<T> {
    let attempt = |tokens: &[TokenWithSpan]| {
        let mut parser = Parser::new(&FlinkDialect)
            .with_recursion_limit(RECURSION_LIMIT)
            .with_tokens_with_locations(tokens.to_vec());
        let tree = parse(&mut parser)?;
        match parser.peek_token() {
            TokenWithSpan { token: Token::EOF, .. } => Ok(tree),
            found => parser.expected("the end of the statement", found),
        }
    };
    attempt(fixed).map_err(|e| {
        // sqlparser tries alternatives and reports the last one: look whether a sub-query is the true culprit.
        let end = lexemes.last().map_or(c.location(), |l| l.end);
        let culprit = innermost_failure(fixed).unwrap_or((e, end));
        let (e, end) = failure_of_argument(fixed, &culprit.0, end).unwrap_or(culprit);
        explain(c.text, lexemes, e, end)
    })
}

/// The error of the first innermost parenthesized query that does not parse by itself, with the place of its end.
fn innermost_failure(tokens: &[TokenWithSpan]) -> Option<(ParserError, Location)> {
    let mut open: Vec<usize> = Vec::new();
    for (i, t) in tokens.iter().enumerate() {
        match t.token {
            Token::LParen => open.push(i),
            Token::RParen => {
                let from = open.pop()? + 1;
                let inner = tokens.get(from..i)?;
                let is_query = matches!(inner.first().map(|t| &t.token), Some(Token::Word(w))
                    if w.quote_style.is_none() && (w.value.eq_ignore_ascii_case("SELECT") || w.value.eq_ignore_ascii_case("WITH")));
                if !is_query {
                    continue;
                }
                let mut parser = Parser::new(&FlinkDialect)
                    .with_recursion_limit(RECURSION_LIMIT)
                    .with_tokens_with_locations(inner.to_vec());
                let end = Location { line: t.span.start.line, column: t.span.start.column };
                match parser.parse_query().map(|_| parser.peek_token()) {
                    Ok(TokenWithSpan { token: Token::EOF, .. }) => {}
                    Ok(found) => return parser.expected::<()>("`)`", found).err().map(|e| (e, end)),
                    Err(e) => return Some((e, end)),
                }
            }
            _ => {}
        }
    }
    None
}

/// A named argument that does not parse is reported at its `=>`: the error of its value is the true one.
fn failure_of_argument(
    tokens: &[TokenWithSpan],
    e: &ParserError,
    end: Location,
) -> Option<(ParserError, Location)> {
    let ParserError::ParserError(message) = e else { return None };
    let (_, at) = split_location(message);
    let arrow = tokens.iter().position(|t| t.token == Token::RArrow && Some(span_location(t.span)) == at)?;
    let mut parser = Parser::new(&FlinkDialect)
        .with_recursion_limit(RECURSION_LIMIT)
        .with_tokens_with_locations(tokens.get(arrow + 1..)?.to_vec());
    match parser.parse_expr().map(|_| parser.peek_token()) {
        Ok(TokenWithSpan { token: Token::Comma | Token::RParen, .. }) => None,
        Ok(found) => parser.expected::<()>("`,` or `)`", found).err().map(|e| (e, end)),
        Err(e) => Some((e, end)),
    }
}

/// sqlparser's error in our words, at its place.
fn explain(text: &str, lexemes: &[Lexeme], e: ParserError, end: Location) -> Error {
    let message = match e {
        ParserError::ParserError(m) | ParserError::TokenizerError(m) => m,
        ParserError::RecursionLimitExceeded => {
            return too_deep(lexemes.first().map_or(end, |l| l.start));
        }
    };
    let (message, at) = split_location(&message);
    let at = at.unwrap_or(end);
    let lexeme = lexemes.iter().find(|l| l.start == at);
    let message = match message.split_once(", found: ") {
        Some((expected, _)) => {
            let expected = expected.trim_start_matches("Expected: ").trim_start_matches("Expected ");
            let found = match lexeme {
                Some(l) => cursor::found(text, Some(l)),
                None if lexemes.last().is_some_and(|l| l.end == at) => "the end of the statement".into(),
                None => "`)`".into(),
            };
            format!("expected {}, found {found}", tidy(expected))
        }
        None => message.to_owned(),
    };
    let named = message.contains("identifier");
    let message_is_about_units = message.starts_with("INTERVAL requires a unit");
    let error = Error::syntax(message).at(at);
    let place = lexemes.iter().position(|l| l.start == at);
    let limit = place.and_then(|i| lexemes.get(i.checked_sub(2)?)).is_some_and(|l| l.is_keyword("LIMIT"));
    if limit && lexeme.is_some_and(|l| l.token == Token::Comma) {
        return error.hint("LIMIT takes one number: write LIMIT n OFFSET m");
    }
    if message_is_about_units {
        return error.hint("units are SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER and YEAR");
    }
    // That FROM is a reserved word helps nobody, unless a name is missing.
    let reserved = |l: &&Lexeme| named || !l.bare_word().is_some_and(keywords::is_reserved);
    match lexeme.filter(reserved).and_then(advice) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Splits `… at Line: 3, Column: 5` off.
fn split_location(message: &str) -> (&str, Option<Location>) {
    let parse = || {
        let (head, tail) = message.rsplit_once(" at Line: ")?;
        let (line, column) = tail.split_once(", Column: ")?;
        Some((head, Some(Location { line: line.parse().ok()?, column: column.trim().parse().ok()? })))
    };
    parse().unwrap_or((message, None))
}

/// Punctuation as code, the rest as sqlparser says it.
fn tidy(expected: &str) -> String {
    match expected {
        ":" | "," | "(" | ")" | "]" | "[" => format!("`{expected}`"),
        ", or ) " | "), found" | ",, or )" => "`,` or `)`".into(),
        "an expression:" => "an expression".into(),
        "end of statement" => "the end of the statement".into(),
        other => other.trim_end_matches(':').to_owned(),
    }
}

/// What to write instead of a word that other systems have.
fn advice(l: &Lexeme) -> Option<String> {
    let word = l.bare_word()?;
    Some(match word.to_ascii_uppercase().as_str() {
        "ILIKE" => "write LOWER(x) LIKE LOWER(pattern)".into(),
        "RLIKE" | "REGEXP" => "write REGEXP(x, pattern)".into(),
        "TOP" => "write … LIMIT n at the end".into(),
        "MINUS" => "write EXCEPT".into(),
        "EMIT" => "results are emitted by the planner; window functions (TUMBLE, HOP, CUMULATE) emit at the window's end".into(),
        upper if keywords::is_reserved(upper) => {
            format!("{upper} is a reserved word; as a name it is written between backticks: {}", keywords::quote_ident(word))
        }
        _ => return None,
    })
}

/// The place of a name.
pub(crate) fn ident_location(i: &Ident) -> Location {
    span_location(i.span)
}

/// The place where a part of a tree begins; none for parts built by hand.
pub(crate) fn location_of(node: &impl ast::Spanned) -> Location {
    span_location(node.span())
}

/// The beginning of a span.
pub(crate) fn span_location(span: Span) -> Location {
    Location { line: span.start.line, column: span.start.column }
}
