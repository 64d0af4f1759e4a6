//! How deep queries may nest, and the stack that it takes.
//!
//! Trees are walked by recursion nearly everywhere: by sqlparser, DataFusion and here. So their depth is limited, and
//! what makes and walks them runs [`with_room`].

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, Visit, Visitor};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::lexer::Lexeme;
use super::query::location_of;
use crate::error::{Error, Location, Result};

/// Brackets, CASEs and signs within each other.
pub(super) const MAX_NESTING: usize = 200;

/// Expressions and queries within each other in the tree, where a bracket may be several: `x = (a + b * (…`.
const MAX_DEPTH: usize = 1000;

/// Less stack than that is not enough for the depth allowed.
const NEEDED: usize = 32 << 20;

/// A new stack. Its pages take memory once they are used.
const STACK: usize = 256 << 20;

/// Runs `f` where the stack is large enough for everything that plans a query.
pub fn with_room<T>(f: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(NEEDED, STACK, f)
}

pub(super) fn too_deep(at: Location) -> Error {
    Error::syntax("the query nests too deep here")
        .at(at)
        .hint("give its parts names: WITH part AS (SELECT …) SELECT …, or CREATE VIEW")
}

/// Counts what is open while tokens are read: sqlparser does not say where it was too deep.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    /// Brackets and CASEs.
    open: usize,
    /// Signs and NOTs right before this place.
    prefixes: usize,
}

impl Nesting {
    /// Takes the next token.
    ///
    /// # Errors
    /// Syntax where too much is open.
    pub(super) fn read(&mut self, l: &Lexeme) -> Result<()> {
        let prefix = matches!(l.token, Token::Minus | Token::Plus) || l.is_keyword("NOT");
        self.prefixes = if prefix { self.prefixes + 1 } else { 0 };
        match l.token {
            Token::LParen | Token::LBracket | Token::LBrace => self.open += 1,
            Token::RParen | Token::RBracket | Token::RBrace => self.open = self.open.saturating_sub(1),
            Token::Word(_) if l.is_keyword("CASE") => self.open += 1,
            Token::Word(_) if l.is_keyword("END") => self.open = self.open.saturating_sub(1),
            _ => {}
        }
        if self.open + self.prefixes > MAX_NESTING { Err(too_deep(l.start)) } else { Ok(()) }
    }
}

/// Refuses trees that are too deep for what comes after the parser.
///
/// # Errors
/// Syntax at the first leaf of what is too deep.
pub(super) fn check(tree: &impl Visit) -> Result<()> {
    let mut depth = Depth { level: 0, exceeded: false };
    let place = match tree.visit(&mut depth) {
        ControlFlow::Continue(()) => Location::default(),
        ControlFlow::Break(at) => at,
    };
    if depth.exceeded { Err(too_deep(place)) } else { Ok(()) }
}

struct Depth {
    level: usize,
    exceeded: bool,
}

impl Visitor for Depth {
    type Break = Location;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<Location> {
        self.level += 1;
        self.exceeded |= self.level > MAX_DEPTH;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<Location> {
        self.level -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, e: &Expr) -> ControlFlow<Location> {
        self.level += 1;
        self.exceeded |= self.level > MAX_DEPTH;
        match e {
            // The place of a leaf: that of a tree is looked for by recursion.
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) if self.exceeded => {
                ControlFlow::Break(location_of(e))
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<Location> {
        self.level -= 1;
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse_script;

    fn nested(before: &str, inner: &str, after: &str, n: usize) -> String {
        format!("SELECT\n {}{inner}{} FROM t", before.repeat(n), after.repeat(n))
    }

    /// What nests, and the columns between one level and the next.
    const FORMS: [(&str, &str, &str, u64); 8] = [
        ("(", "a", ")", 1),
        ("UPPER(", "a", ")", 6),
        ("CAST(", "a", " AS INT)", 5),
        ("CASE WHEN a THEN b ELSE ", "a", " END", 24),
        ("NOT ", "a", "", 4),
        ("- ", "a", "", 2),
        ("(SELECT * FROM ", "t", ")", 15),
        ("ARRAY[", "a", "]", 6),
    ];

    #[test]
    fn nesting_up_to_the_limit_is_read() {
        for (before, inner, after, _) in FORMS {
            parse_script(&nested(before, inner, after, MAX_NESTING))
                .unwrap_or_else(|e| panic!("{before} {e}"));
        }
    }

    #[test]
    fn what_nests_deeper_is_told_where_it_does() {
        for (before, inner, after, width) in FORMS {
            for n in [MAX_NESTING + 1, 50_000] {
                let e = parse_script(&nested(before, inner, after, n)).unwrap_err();
                assert_eq!(e.message(), "the query nests too deep here", "{before}");
                let at = e.location().unwrap();
                let bracket =
                    before.len() as u64 - if before.ends_with(['(', '[']) { 1 } else { before.len() as u64 };
                let column =
                    2 + MAX_NESTING as u64 * width + if before.starts_with("(S") { 0 } else { bracket };
                assert_eq!((at.line, at.column), (2, column), "{before}");
                assert!(e.hint_text().is_some());
            }
        }
    }

    #[test]
    fn a_syntax_error_inside_of_many_calls_is_found_at_once() {
        let e = parse_script(&nested("CAST(", "a b c", " AS INT)", 100)).unwrap_err();
        assert_eq!(e.location().map(|at| at.column), Some(2 + 100 * 5 + 2), "{e}");
    }

    #[test]
    fn what_leans_to_the_left_has_a_limit_too() {
        for (before, op) in
            [("a", " IS NULL"), ("a = 1", " = TRUE"), ("a", " BETWEEN 1 AND 2"), ("a", " IN (1)")]
        {
            assert!(parse_script(&format!("SELECT {before}{} FROM t", op.repeat(900))).is_ok(), "{op}");
            let e = parse_script(&format!("SELECT {before}{} FROM t", op.repeat(100_000))).unwrap_err();
            assert_eq!(e.message(), "the query nests too deep here", "{op}");
            assert_eq!(e.location().map(|at| at.to_string()).as_deref(), Some("1:8"), "{op}");
        }
    }
}
