//! Flink's dialect for sqlparser, for queries and expressions.
//!
//! Tokens come from [`super::lexer`], so nothing about characters is decided here. What Flink has and sqlparser's
//! default does not, flag by flag:
//!
//! | hook | why |
//! |---|---|
//! | `dialect` answers Generic | opens `UNNEST(…)` as a table and other doors that ask for a known dialect |
//! | `supports_table_versioning` | `t FOR SYSTEM_TIME AS OF o.ts` |
//! | `supports_match_recognize` | `t MATCH_RECOGNIZE (…)` |
//! | `supports_filter_during_aggregation` | `SUM(x) FILTER (WHERE …)` |
//! | `supports_group_by_expr` | `GROUPING SETS`, `CUBE`, `ROLLUP` |
//! | `supports_window_clause_named_window_reference` | `WINDOW w AS (…)`, `OVER w` |
//! | `supports_window_function_null_treatment_arg` | `LAG(x) IGNORE NULLS` inside the parentheses |
//! | `supports_left_associative_joins_without_parens` | `a JOIN b JOIN c` nests to the left |
//! | `supports_parens_around_table_factor` | `FROM (t)` |
//! | `require_interval_qualifier` | `INTERVAL '5' SECOND`, never `INTERVAL '5 seconds'` |
//! | `is_reserved_for_identifier` | what does not parse as `CAST(…)` is not read once more as a call: `CAST(CAST(…` would take 2ⁿ attempts |
//! | `parse_infix` | `a IS DISTINCT FROM b AND c`: sqlparser would take `b AND c` as the operand; long rows of operators ([`chain`]); `IS JSON`, `BETWEEN SYMMETRIC` |
//! | `parse_prefix` | `TABLE t` as an argument, `(VALUES …)` as a value, `MAP[k, v]`, `KEY k VALUE v`, `CASE x WHEN 1, 2`, [`json`], and keywords where an expression is missing |

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
    FunctionArguments, Ident, ObjectName,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, Word};

use super::ast::{MAP_CONSTRUCTOR, TABLE_ARGUMENT};
use super::{chain, json, keywords};

/// Flink's SQL for sqlparser.
#[derive(Debug, Default, Clone, Copy)]
pub struct FlinkDialect;

impl Dialect for FlinkDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        keywords::is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        keywords::is_identifier_part(ch)
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_window_clause_named_window_reference(&self) -> bool {
        true
    }

    fn supports_window_function_null_treatment_arg(&self) -> bool {
        true
    }

    fn supports_left_associative_joins_without_parens(&self) -> bool {
        true
    }

    fn supports_parens_around_table_factor(&self) -> bool {
        true
    }

    fn require_interval_qualifier(&self) -> bool {
        true
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        SPECIAL_CALLS.contains(&keyword)
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        expr: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        if chain::operator(parser).is_some() {
            return Some(chain::parse(parser, expr, precedence));
        }
        if let Some(test) = json::predicate(parser, expr) {
            return Some(Ok(test));
        }
        if let Some(between) = between(parser, expr) {
            return Some(between);
        }
        let make: fn(Box<Expr>, Box<Expr>) -> Expr =
            if parser.parse_keywords(&[Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM]) {
                Expr::IsNotDistinctFrom
            } else if parser.parse_keywords(&[Keyword::IS, Keyword::DISTINCT, Keyword::FROM]) {
                Expr::IsDistinctFrom
            } else {
                return None;
            };
        let other = parser.parse_subexpr(precedence);
        Some(other.map(|other| make(Box::new(expr.clone()), Box::new(other))))
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if parser.peek_token_ref().token == Token::LParen {
            let values =
                matches!(&parser.peek_nth_token_ref(1).token, Token::Word(w) if w.keyword == Keyword::VALUES);
            return values.then(|| value_of_values(parser));
        }
        let Token::Word(Word { value, quote_style: None, keyword }) = &parser.peek_token_ref().token else {
            return None;
        };
        if NO_EXPRESSION.contains(keyword) {
            let found = parser.peek_token();
            return Some(parser.expected("an expression", found));
        }
        if *keyword == Keyword::TABLE {
            let name = matches!(parser.peek_nth_token_ref(1).token, Token::Word(_));
            return name.then(|| table_argument(parser));
        }
        if value.eq_ignore_ascii_case("KEY") && begins_object(parser) {
            return Some(key_and_value(parser));
        }
        if *keyword == Keyword::CASE {
            return Some(case(parser));
        }
        let map = value.eq_ignore_ascii_case("MAP") && parser.peek_nth_token_ref(1).token == Token::LBracket;
        if map {
            return Some(map_constructor(parser));
        }
        json::prefix(parser)
    }
}

/// Keywords of expressions that sqlparser reads by rules of their own. All are reserved words of Flink.
const SPECIAL_CALLS: &[Keyword] = &[
    Keyword::ARRAY,
    Keyword::CASE,
    Keyword::CAST,
    Keyword::CEIL,
    Keyword::EXISTS,
    Keyword::EXTRACT,
    Keyword::FLOOR,
    Keyword::INTERVAL,
    Keyword::NOT,
    Keyword::OVERLAY,
    Keyword::POSITION,
    Keyword::SUBSTRING,
    Keyword::TRIM,
    Keyword::TRY_CAST,
];

/// Keywords with which no expression begins. sqlparser would take them for names and stumble over what follows.
const NO_EXPRESSION: &[Keyword] = &[
    Keyword::FROM,
    Keyword::WHERE,
    Keyword::GROUP,
    Keyword::HAVING,
    Keyword::ORDER,
    Keyword::LIMIT,
    Keyword::UNION,
    Keyword::INTERSECT,
    Keyword::EXCEPT,
    Keyword::JOIN,
    Keyword::ON,
    Keyword::USING,
    Keyword::AND,
    Keyword::OR,
    Keyword::AS,
    Keyword::BY,
    Keyword::IN,
    Keyword::IS,
    Keyword::LIKE,
    Keyword::BETWEEN,
    Keyword::WHEN,
    Keyword::THEN,
    Keyword::ELSE,
    Keyword::END,
    Keyword::OVER,
    Keyword::INTO,
    Keyword::FETCH,
];

/// `(VALUES …)` as a value.
fn value_of_values(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.next_token();
    let query = parser.parse_query()?;
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Subquery(query))
}

/// `TABLE t [PARTITION BY column | PARTITION BY (column, …)]`.
fn table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    let keyword = parser.next_token();
    let name = parser.parse_object_name(false)?;
    let idents: Vec<Ident> = name.0.into_iter().filter_map(|p| p.as_ident().cloned()).collect();
    let arg = match <[Ident; 1]>::try_from(idents) {
        Ok([one]) => Expr::Identifier(one),
        Err(many) => Expr::CompoundIdentifier(many),
    };
    let mut args = vec![arg];
    if parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        // In parentheses, or one column: behind it, a comma begins the next argument.
        if parser.consume_token(&Token::LParen) {
            let columns = parser.parse_comma_separated(|p| p.parse_identifier())?;
            parser.expect_token(&Token::RParen)?;
            args.extend(columns.into_iter().map(Expr::Identifier));
        } else {
            args.push(Expr::Identifier(parser.parse_identifier()?));
        }
        let found = parser.peek_token();
        if matches!(&found.token, Token::Word(w) if w.keyword == Keyword::ORDER) {
            return parser.expected("no ORDER BY, which a table argument does not take", found);
        }
    }
    Ok(call(Ident::with_span(keyword.span, TABLE_ARGUMENT), args))
}

/// Whether the parser stands right behind `JSON_OBJECTAGG (`.
fn begins_object(parser: &Parser) -> bool {
    let at = parser.get_current_index();
    let is_call = at > 0 && parser.token_at(at).token == Token::LParen;
    let name = &parser.token_at(at.saturating_sub(1)).token;
    is_call && matches!(name, Token::Word(w) if w.value.eq_ignore_ascii_case("JSON_OBJECTAGG"))
}

/// `KEY k VALUE v` as the tuple `(k, v)`.
fn key_and_value(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.next_token();
    let key = parser.parse_expr()?;
    parser.expect_keyword(Keyword::VALUE)?;
    Ok(Expr::Tuple(vec![key, parser.parse_expr()?]))
}

/// `[NOT] BETWEEN SYMMETRIC a AND b`, which is BETWEEN in one order of the bounds or the other, and `BETWEEN ASYMMETRIC`,
/// which is BETWEEN.
fn between(parser: &mut Parser, expr: &Expr) -> Option<Result<Expr, ParserError>> {
    use Keyword::{ASYMMETRIC, BETWEEN, NOT, SYMMETRIC};
    let negated = parser.peek_keyword(NOT);
    let symmetric = if parser.parse_keywords(&[BETWEEN, SYMMETRIC])
        || parser.parse_keywords(&[NOT, BETWEEN, SYMMETRIC])
    {
        true
    } else if parser.parse_keywords(&[BETWEEN, ASYMMETRIC])
        || parser.parse_keywords(&[NOT, BETWEEN, ASYMMETRIC])
    {
        false
    } else {
        return None;
    };
    let bound = |parser: &mut Parser| parser.parse_subexpr(FlinkDialect.prec_value(Precedence::Between));
    let bounds = bound(parser).and_then(|low| {
        parser.expect_keyword(Keyword::AND)?;
        Ok((low, bound(parser)?))
    });
    Some(bounds.map(|(low, high)| {
        let between = |low: &Expr, high: &Expr| Expr::Between {
            expr: Box::new(expr.clone()),
            negated,
            low: Box::new(low.clone()),
            high: Box::new(high.clone()),
        };
        if !symmetric {
            return between(&low, &high);
        }
        Expr::Nested(Box::new(Expr::BinaryOp {
            left: Box::new(between(&low, &high)),
            op: if negated { BinaryOperator::And } else { BinaryOperator::Or },
            right: Box::new(between(&high, &low)),
        }))
    }))
}

/// `CASE …`: as sqlparser reads it, and several values in a WHEN behind an operand: `CASE x WHEN 1, 2 THEN …`.
fn case(parser: &mut Parser) -> Result<Expr, ParserError> {
    let case_token = AttachedToken(parser.next_token());
    let operand = if parser.parse_keyword(Keyword::WHEN) {
        None
    } else {
        let operand = parser.parse_expr()?;
        parser.expect_keyword(Keyword::WHEN)?;
        Some(Box::new(operand))
    };
    let mut conditions = Vec::new();
    loop {
        let mut values = vec![parser.parse_expr()?];
        while operand.is_some() && parser.consume_token(&Token::Comma) {
            values.push(parser.parse_expr()?);
        }
        parser.expect_keyword(Keyword::THEN)?;
        let result = parser.parse_expr()?;
        conditions.extend(values.into_iter().map(|condition| CaseWhen { condition, result: result.clone() }));
        if !parser.parse_keyword(Keyword::WHEN) {
            break;
        }
    }
    let else_result =
        if parser.parse_keyword(Keyword::ELSE) { Some(Box::new(parser.parse_expr()?)) } else { None };
    let end_token = AttachedToken(parser.expect_keyword(Keyword::END)?);
    Ok(Expr::Case { case_token, end_token, operand, conditions, else_result })
}

fn map_constructor(parser: &mut Parser) -> Result<Expr, ParserError> {
    let keyword = parser.next_token();
    parser.expect_token(&Token::LBracket)?;
    let args = if parser.peek_token_ref().token == Token::RBracket {
        Vec::new()
    } else {
        parser.parse_comma_separated(Parser::parse_expr)?
    };
    let found = parser.peek_token();
    parser.expect_token(&Token::RBracket)?;
    if args.len() % 2 != 0 {
        return parser.expected("a value for every key of MAP[key, value, …]", found);
    }
    Ok(call(Ident::with_span(keyword.span, MAP_CONSTRUCTOR), args))
}

/// A call of a function.
pub(super) fn call(name: Ident, args: Vec<Expr>) -> Expr {
    Expr::Function(Function {
        name: ObjectName::from(vec![name]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: args.into_iter().map(|a| FunctionArg::Unnamed(FunctionArgExpr::Expr(a))).collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
