//! The JSON functions that have a syntax of their own, as ordinary calls.
//!
//! | SQL | call |
//! |---|---|
//! | `JSON_EXISTS(d, p x ON ERROR)` | `__json_exists(d, p, 'x')` |
//! | `JSON_VALUE(d, p RETURNING t x ON EMPTY DEFAULT e ON ERROR)` | `__json_value(d, p, 't', 'x', NULL, 'DEFAULT', e)` |
//! | `JSON_QUERY(d, p RETURNING t w WRAPPER x ON EMPTY y ON ERROR)` | `__json_query(d, p, 't', 'w', 'x', 'y')` |
//! | `JSON_OBJECT(KEY k VALUE v, …)`, `… ABSENT ON NULL` | `json_object(k, v, …)`, `__json_object_absent(k, v, …)` |
//! | `JSON_ARRAY(v, …)`, `… NULL ON NULL` | `json_array(v, …)`, `__json_array_null(v, …)` |
//! | `s IS JSON OBJECT` | `__is_json(s, 'OBJECT')` |
//!
//! Without clauses the first three are plain calls, `json_value(d, p)`.

use datafusion::sql::sqlparser::ast::{Expr, Ident, UnaryOperator, Value};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token, Word};

use super::dialect::call;

/// One of them, if the parser stands before it.
pub(super) fn prefix(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let Token::Word(Word { value, quote_style: None, .. }) = &parser.peek_token_ref().token else {
        return None;
    };
    if parser.peek_nth_token_ref(1).token != Token::LParen {
        return None;
    }
    let read = match value.to_ascii_uppercase().as_str() {
        "JSON_EXISTS" => exists,
        "JSON_VALUE" => value_of,
        "JSON_QUERY" => query,
        "JSON_OBJECT" => object,
        "JSON_ARRAY" => array,
        _ => return None,
    };
    let span = parser.next_token().span;
    parser.next_token();
    Some(read(parser, span).and_then(|e| parser.expect_token(&Token::RParen).map(|_| e)))
}

/// `IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]` behind an expression.
pub(super) fn predicate(parser: &mut Parser, expr: &Expr) -> Option<Expr> {
    let span = parser.peek_token_ref().span;
    let negated = eat_all(parser, &["IS", "NOT", "JSON"]);
    if !negated && !eat_all(parser, &["IS", "JSON"]) {
        return None;
    }
    let kind = ["VALUE", "SCALAR", "ARRAY", "OBJECT"].into_iter().find(|k| eat(parser, k)).unwrap_or("VALUE");
    let test = call(Ident::with_span(span, "__is_json"), vec![expr.clone(), text(kind)]);
    Some(if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(test) } } else { test })
}

fn text(s: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(s.to_owned()).into())
}

fn null() -> Expr {
    Expr::Value(Value::Null.into())
}

fn at(parser: &Parser, n: usize, word: &str) -> bool {
    matches!(&parser.peek_nth_token_ref(n).token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

/// Takes a word, whether it is a keyword of sqlparser or not.
fn eat(parser: &mut Parser, word: &str) -> bool {
    let found = at(parser, 0, word);
    if found {
        parser.next_token();
    }
    found
}

fn eat_all(parser: &mut Parser, words: &[&str]) -> bool {
    let found = words.iter().enumerate().all(|(n, w)| at(parser, n, w));
    if found {
        words.iter().for_each(|_| drop(parser.next_token()));
    }
    found
}

/// `document, path`.
fn document_and_path(parser: &mut Parser) -> Result<Vec<Expr>, ParserError> {
    let document = parser.parse_expr()?;
    parser.expect_token(&Token::Comma)?;
    Ok(vec![document, parser.parse_expr()?])
}

/// `RETURNING type`: the type has become one quoted word before.
fn returning(parser: &mut Parser) -> Result<Option<Expr>, ParserError> {
    if !eat(parser, "RETURNING") {
        return Ok(None);
    }
    let found = parser.next_token();
    match &found.token {
        Token::Word(w) => Ok(Some(text(&w.value))),
        _ => parser.expected("a type", found),
    }
}

/// `ON EMPTY` or `ON ERROR` behind one of the answers.
fn on(parser: &mut Parser) -> Result<bool, ParserError> {
    if eat_all(parser, &["ON", "EMPTY"]) {
        return Ok(true);
    }
    if eat_all(parser, &["ON", "ERROR"]) {
        return Ok(false);
    }
    let found = parser.peek_token();
    parser.expected("ON EMPTY or ON ERROR", found)
}

fn exists(parser: &mut Parser, span: Span) -> Result<Expr, ParserError> {
    let mut args = document_and_path(parser)?;
    let Some(answer) = ["TRUE", "FALSE", "UNKNOWN", "ERROR"].into_iter().find(|a| eat(parser, a)) else {
        return Ok(call(Ident::with_span(span, "json_exists"), args));
    };
    if !eat_all(parser, &["ON", "ERROR"]) {
        let found = parser.peek_token();
        return parser.expected("ON ERROR", found);
    }
    args.push(text(answer));
    Ok(call(Ident::with_span(span, "__json_exists"), args))
}

fn value_of(parser: &mut Parser, span: Span) -> Result<Expr, ParserError> {
    let mut args = document_and_path(parser)?;
    let returned = returning(parser)?;
    let mut answers: [Option<(&str, Expr)>; 2] = [None, None];
    loop {
        let answer = if eat(parser, "NULL") {
            ("NULL", null())
        } else if eat(parser, "ERROR") {
            ("ERROR", null())
        } else if eat(parser, "DEFAULT") {
            ("DEFAULT", parser.parse_expr()?)
        } else {
            break;
        };
        settle(parser, &mut answers, answer)?;
    }
    if returned.is_none() && answers.iter().all(Option::is_none) {
        return Ok(call(Ident::with_span(span, "json_value"), args));
    }
    args.push(returned.unwrap_or_else(|| text("STRING")));
    for answer in answers {
        let (kind, default) = answer.unwrap_or_else(|| ("NULL", null()));
        args.extend([text(kind), default]);
    }
    Ok(call(Ident::with_span(span, "__json_value"), args))
}

/// Puts an answer to its place; each can be given once, the one for EMPTY first.
fn settle<T>(parser: &mut Parser, answers: &mut [Option<T>; 2], answer: T) -> Result<(), ParserError> {
    let place = parser.peek_token();
    let empty = on(parser)?;
    let [on_empty, on_error] = answers;
    let twice = if empty { on_empty.is_some() || on_error.is_some() } else { on_error.is_some() };
    if twice {
        return parser.expected("one clause ON EMPTY and then one ON ERROR at most", place);
    }
    *(if empty { on_empty } else { on_error }) = Some(answer);
    Ok(())
}

fn query(parser: &mut Parser, span: Span) -> Result<Expr, ParserError> {
    let mut args = document_and_path(parser)?;
    let returned = returning(parser)?;
    let mut wrapper = None;
    if eat(parser, "WITHOUT") {
        eat(parser, "ARRAY");
        wrapper = Some("WITHOUT");
    } else if eat(parser, "WITH") {
        let conditional = eat(parser, "CONDITIONAL");
        if !conditional {
            eat(parser, "UNCONDITIONAL");
        }
        eat(parser, "ARRAY");
        wrapper = Some(if conditional { "CONDITIONAL" } else { "UNCONDITIONAL" });
    }
    if wrapper.is_some() && !eat(parser, "WRAPPER") {
        let found = parser.peek_token();
        return parser.expected("WRAPPER", found);
    }
    let mut answers: [Option<&str>; 2] = [None, None];
    loop {
        let answer = if eat(parser, "NULL") {
            "NULL"
        } else if eat(parser, "ERROR") {
            "ERROR"
        } else if eat_all(parser, &["EMPTY", "ARRAY"]) {
            "EMPTY ARRAY"
        } else if eat_all(parser, &["EMPTY", "OBJECT"]) {
            "EMPTY OBJECT"
        } else {
            break;
        };
        settle(parser, &mut answers, answer)?;
    }
    if returned.is_none() && wrapper.is_none() && answers.iter().all(Option::is_none) {
        return Ok(call(Ident::with_span(span, "json_query"), args));
    }
    args.push(returned.unwrap_or_else(|| text("STRING")));
    args.push(text(wrapper.unwrap_or("WITHOUT")));
    args.extend(answers.map(|a| text(a.unwrap_or("NULL"))));
    Ok(call(Ident::with_span(span, "__json_query"), args))
}

/// `NULL ON NULL` or `ABSENT ON NULL`: whether NULLs are kept.
fn on_null(parser: &mut Parser) -> Option<bool> {
    if eat_all(parser, &["NULL", "ON", "NULL"]) {
        Some(true)
    } else if eat_all(parser, &["ABSENT", "ON", "NULL"]) {
        Some(false)
    } else {
        None
    }
}

fn object(parser: &mut Parser, span: Span) -> Result<Expr, ParserError> {
    let mut args = Vec::new();
    let mut nulls = on_null(parser);
    while nulls.is_none() && parser.peek_token_ref().token != Token::RParen {
        let named = at(parser, 0, "KEY") && !at(parser, 1, "VALUE");
        if named {
            parser.next_token();
        }
        // A literal by itself: behind another key, sqlparser would take `:` for an access to JSON.
        args.push(match &parser.peek_token_ref().token {
            Token::SingleQuotedString(s) => {
                let key = text(s);
                parser.next_token();
                key
            }
            _ => parser.parse_expr()?,
        });
        if !eat(parser, "VALUE") && !parser.consume_token(&Token::Colon) {
            let found = parser.peek_token();
            return parser.expected("VALUE and a value for the key", found);
        }
        args.push(parser.parse_expr()?);
        nulls = on_null(parser);
        if nulls.is_none() && !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let name = if nulls == Some(false) { "__json_object_absent" } else { "json_object" };
    Ok(call(Ident::with_span(span, name), args))
}

fn array(parser: &mut Parser, span: Span) -> Result<Expr, ParserError> {
    let mut args = Vec::new();
    let mut nulls = on_null(parser);
    while nulls.is_none() && parser.peek_token_ref().token != Token::RParen {
        args.push(parser.parse_expr()?);
        nulls = on_null(parser);
        if nulls.is_none() && !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let name = if nulls == Some(true) { "__json_array_null" } else { "json_array" };
    Ok(call(Ident::with_span(span, name), args))
}
