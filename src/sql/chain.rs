//! Long rows of operators, `a AND b AND …` and `a + b + …`.
//!
//! sqlparser leans `a op b op c` to the left, one level for each operator. What walks such a tree by recursion overflows
//! its stack, and what asks for the type of each level asks for all levels below again: the time is the square of the
//! length. Rows of up to [`SHORT`] operands are left as they are; of longer ones
//!
//! ```text
//!  AND, OR         a balanced tree: ((a AND b) AND (c AND d))              they associate
//!  + - * / % ||    calls of a function: chain(chain(a, b, c), d, e)        evaluated from the left, as written
//!  UNION [ALL]     a balanced tree
//! ```

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Query, SetExpr, SetOperator, SetQuantifier, Values, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Span, Token};

use super::ast::CHAIN;
use super::dialect::call;

/// Operands of a row that stays a tree which leans to the left.
const SHORT: usize = 64;

/// Calls of the function within each other. All arguments of a call are evaluated before the first operator is: more
/// calls keep fewer values alive, fewer calls make the tree flatter.
const CALLS: usize = 8;

/// The operator of a row that the parser stands before.
pub(super) fn operator(parser: &Parser) -> Option<BinaryOperator> {
    let op = match &parser.peek_token_ref().token {
        Token::Plus => BinaryOperator::Plus,
        Token::Minus => BinaryOperator::Minus,
        Token::Mul => BinaryOperator::Multiply,
        Token::Div => BinaryOperator::Divide,
        Token::Mod => BinaryOperator::Modulo,
        Token::StringConcat => BinaryOperator::StringConcat,
        Token::Word(w) if w.keyword == Keyword::AND => BinaryOperator::And,
        Token::Word(w) if w.keyword == Keyword::OR => BinaryOperator::Or,
        _ => return None,
    };
    // sqlparser says what is wrong with `a + ANY (…)`.
    let quantified = matches!(&parser.peek_nth_token_ref(1).token, Token::Word(w)
        if matches!(w.keyword, Keyword::ANY | Keyword::ALL | Keyword::SOME));
    (!quantified).then_some(op)
}

/// The rest of a row of operators that bind as strongly as `precedence`, behind its first operand.
pub(super) fn parse(parser: &mut Parser, first: &Expr, precedence: u8) -> Result<Expr, ParserError> {
    let mut operands = vec![first.clone()];
    let mut operators = Vec::new();
    let mut place = Span::empty();
    while parser.get_next_precedence()? == precedence
        && let Some(op) = operator(parser)
    {
        if operators.is_empty() {
            place = parser.peek_token_ref().span;
        }
        parser.advance_token();
        operands.push(parser.parse_subexpr(precedence)?);
        operators.push(op);
    }
    Ok(match operators.first() {
        Some(op @ (BinaryOperator::And | BinaryOperator::Or)) if operands.len() > SHORT => {
            let op = op.clone();
            balanced(operands, |left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: op.clone(),
                right: Box::new(right),
            })
        }
        _ if operands.len() > SHORT => calls(operands, &operators, place),
        _ => {
            let mut operands = operands.into_iter();
            let first = operands.next();
            operators.into_iter().zip(operands).fold(first, |left, (op, right)| {
                left.map(|left| Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) })
            })
        }
    }
    .unwrap_or_else(|| first.clone()))
}

/// Neighbours joined until one is left; `None` of nothing.
pub(crate) fn balanced<T>(mut row: Vec<T>, join: impl Fn(T, T) -> T) -> Option<T> {
    while row.len() > 1 {
        let mut joined = Vec::with_capacity(row.len().div_ceil(2));
        let mut rest = row.into_iter();
        while let Some(left) = rest.next() {
            joined.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        row = joined;
    }
    row.pop()
}

/// Calls of the function whose name is [`CHAIN`] and the operators between its arguments.
fn calls(operands: Vec<Expr>, operators: &[BinaryOperator], place: Span) -> Option<Expr> {
    let size = operators.len().div_ceil(CALLS).max(SHORT);
    let mut operands = operands.into_iter();
    let mut result = operands.next()?;
    for operators in operators.chunks(size) {
        let signs: String = operators.iter().filter_map(sign).collect();
        let args = std::iter::once(result).chain(operands.by_ref().take(operators.len())).collect();
        result = call(Ident::with_quote_and_span('`', place, format!("{CHAIN}{signs}")), args);
    }
    Some(result)
}

fn sign(op: &BinaryOperator) -> Option<char> {
    Some(match op {
        BinaryOperator::Plus => '+',
        BinaryOperator::Minus => '-',
        BinaryOperator::Multiply => '*',
        BinaryOperator::Divide => '/',
        BinaryOperator::Modulo => '%',
        BinaryOperator::StringConcat => '|',
        _ => return None,
    })
}

/// Balances the long UNIONs of all queries in a tree.
pub(super) fn balance_unions(tree: &mut impl VisitMut) {
    let _ = tree.visit(&mut Unions);
}

struct Unions;

impl VisitorMut for Unions {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        balance_set(&mut query.body);
        ControlFlow::Continue(())
    }
}

fn balance_set(body: &mut SetExpr) {
    // Down the left side, in a loop: it may be thousands long.
    let mut links = Vec::new();
    let mut rest = take(body);
    while let SetExpr::SetOperation { op, set_quantifier, left, right } = rest {
        let mut right = *right;
        balance_set(&mut right);
        links.push((op, set_quantifier, right));
        rest = *left;
    }
    // And up again, one run of the same kind of UNION after the other.
    let mut result = rest;
    let mut links = links.into_iter().rev().peekable();
    while let Some((op, set_quantifier, right)) = links.next() {
        let mut run = vec![result, right];
        let same = |next: &(SetOperator, SetQuantifier, SetExpr)| {
            op == SetOperator::Union && next.0 == op && next.1 == set_quantifier
        };
        while let Some((_, _, right)) = links.next_if(same) {
            run.push(right);
        }
        let join = |left, right| SetExpr::SetOperation {
            op,
            set_quantifier,
            left: Box::new(left),
            right: Box::new(right),
        };
        let joined = if run.len() > SHORT { balanced(run, join) } else { run.into_iter().reduce(join) };
        result = joined.unwrap_or_else(nothing);
    }
    *body = result;
}

fn take(body: &mut SetExpr) -> SetExpr {
    std::mem::replace(body, nothing())
}

fn nothing() -> SetExpr {
    SetExpr::Values(Values { explicit_row: false, value_keyword: false, rows: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{parse_expr, parse_query};

    fn depth(e: &Expr) -> usize {
        match e {
            Expr::BinaryOp { left, right, .. } => 1 + depth(left).max(depth(right)),
            _ => 0,
        }
    }

    fn row(op: &str, n: usize) -> Expr {
        let operands: Vec<String> = (0..n).map(|i| format!("a{i}")).collect();
        parse_expr(&operands.join(op)).unwrap().expr
    }

    #[test]
    fn long_conditions_are_balanced_in_their_order() {
        for op in [" AND ", " OR "] {
            let e = row(op, 5000);
            assert_eq!(depth(&e), 13);
            let expected: Vec<String> = (0..5000).map(|i| format!("a{i}")).collect();
            assert_eq!(e.to_string(), expected.join(op));
        }
        assert_eq!(depth(&row(" AND ", SHORT)), SHORT - 1);
    }

    #[test]
    fn the_precedence_of_long_rows_is_that_of_short_ones() {
        let text = vec!["a = 1 AND b + 2 * c > 3"; 100].join(" OR ");
        let e = parse_expr(&text).unwrap().expr;
        assert_eq!(e.to_string(), text);
        assert_eq!(depth(&e), 7 + 4);
    }

    #[test]
    fn long_sums_become_calls_that_hold_all_operands_in_order() {
        let e = row(" + ", 5000);
        let Expr::Function(f) = &e else { panic!("{e}") };
        let name = f.name.to_string();
        assert!(name.starts_with(&format!("`{CHAIN}+++")), "{name}");
        let operands: Vec<String> = e
            .to_string()
            .split(|c: char| !c.is_alphanumeric())
            .filter(|w| w.starts_with('a'))
            .map(str::to_owned)
            .collect();
        assert_eq!(operands, (0..5000).map(|i| format!("a{i}")).collect::<Vec<_>>());
        assert_eq!(depth(&row(" + ", SHORT)), SHORT - 1);
    }

    #[test]
    fn operators_of_one_strength_stand_in_one_row() {
        let mixed = (1..=SHORT).map(|i| format!(" {} a{i}", ["+", "-"][i % 2])).collect::<String>();
        let e = parse_expr(&format!("a0{mixed}")).unwrap().expr;
        let Expr::Function(f) = &e else { panic!("{e}") };
        assert_eq!(f.name.to_string(), format!("`{CHAIN}{}`", "-+".repeat(SHORT / 2)));
    }

    fn union_depth(body: &SetExpr) -> usize {
        match body {
            SetExpr::SetOperation { left, right, .. } => 1 + union_depth(left).max(union_depth(right)),
            _ => 0,
        }
    }

    #[test]
    fn long_unions_are_balanced_in_their_order() {
        let selects: Vec<String> = (0..3000).map(|i| format!("SELECT {i}")).collect();
        for op in [" UNION ALL ", " UNION "] {
            let query = parse_query(&selects.join(op)).unwrap().query;
            assert_eq!(union_depth(&query.body), 12);
            assert_eq!(query.to_string(), selects.join(op));
        }
    }

    #[test]
    fn what_does_not_associate_stays_as_it_is() {
        for text in [
            "SELECT 1 UNION SELECT 2 EXCEPT SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5",
            "SELECT 1 UNION ALL SELECT 2 UNION SELECT 3 INTERSECT SELECT 4 INTERSECT SELECT 5",
            "SELECT 1 UNION ALL (SELECT 2 UNION ALL SELECT 3)",
        ] {
            let query = parse_query(text).unwrap().query;
            assert_eq!(query.to_string(), text);
        }
        let excepts = vec!["SELECT 1"; 100].join(" EXCEPT ");
        assert_eq!(union_depth(&parse_query(&excepts).unwrap().query.body), 99);
        let text = "SELECT 1 UNION SELECT 2 UNION ALL SELECT 3 UNION SELECT 4";
        let SetExpr::SetOperation { left, set_quantifier, .. } = *parse_query(text).unwrap().query.body
        else {
            panic!("a set operation")
        };
        assert_eq!(set_quantifier, SetQuantifier::None);
        assert_eq!(left.to_string(), "SELECT 1 UNION SELECT 2 UNION ALL SELECT 3");
    }
}
