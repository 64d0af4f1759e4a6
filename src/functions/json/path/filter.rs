//! The condition in `[?(…)]`.

use std::cmp::Ordering;

use regex::{Regex, RegexBuilder};

use super::parse::Chars;
use super::{Step, walk};
use crate::functions::json::value::Json;

/// How deep conditions nest.
const DEPTH: usize = 64;

/// A condition on a value.
#[derive(Debug, Clone)]
pub(super) enum Filter {
    Any(Vec<Filter>),
    All(Vec<Filter>),
    Not(Box<Filter>),
    Exists(Operand),
    Compare(Operand, Comparison, Operand),
    Matches(Operand, Regex),
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        // A regex has no equality; paths are compared in tests alone.
        format!("{self:?}") == format!("{other:?}")
    }
}

/// One side of a comparison.
#[derive(Debug, Clone)]
pub(super) enum Operand {
    /// From the value that is looked at, or from the root.
    Path {
        root: bool,
        steps: Vec<Step>,
    },
    Literal(Json),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
    Contains,
    Size,
    Empty,
}

/// Longer ones before those that they begin with.
const OPERATORS: [(&str, Comparison); 14] = [
    ("===", Comparison::Eq),
    ("!==", Comparison::Ne),
    ("==", Comparison::Eq),
    ("!=", Comparison::Ne),
    ("<=", Comparison::Le),
    (">=", Comparison::Ge),
    ("<", Comparison::Lt),
    (">", Comparison::Gt),
    ("in ", Comparison::In),
    ("in[", Comparison::In),
    ("nin", Comparison::NotIn),
    ("contains", Comparison::Contains),
    ("size", Comparison::Size),
    ("empty", Comparison::Empty),
];

impl Filter {
    pub(super) fn parse(c: &mut Chars<'_>) -> Option<Filter> {
        any(c, 0)
    }

    /// Whether a value satisfies it; `root` is the document.
    pub(super) fn accepts(&self, value: &Json, root: &Json) -> bool {
        match self {
            Filter::Any(parts) => parts.iter().any(|p| p.accepts(value, root)),
            Filter::All(parts) => parts.iter().all(|p| p.accepts(value, root)),
            Filter::Not(part) => !part.accepts(value, root),
            Filter::Exists(operand) => operand.value(value, root).is_some(),
            Filter::Matches(operand, regex) => match operand.value(value, root) {
                Some(Json::Text(s)) => regex.is_match(&s),
                Some(Json::Number(n)) => regex.is_match(&n),
                _ => false,
            },
            Filter::Compare(left, op, right) => {
                compare(left.value(value, root).as_ref(), *op, right.value(value, root).as_ref())
            }
        }
    }
}

impl Operand {
    fn value(&self, value: &Json, root: &Json) -> Option<Json> {
        match self {
            Operand::Literal(j) => Some(j.clone()),
            Operand::Path { root: from_root, steps } => {
                let (found, definite) = walk(steps, if *from_root { root } else { value }, true)?;
                if definite {
                    return found.into_iter().next().map(std::borrow::Cow::into_owned);
                }
                Some(Json::Array(found.into_iter().map(std::borrow::Cow::into_owned).collect()))
            }
        }
    }
}

fn compare(left: Option<&Json>, op: Comparison, right: Option<&Json>) -> bool {
    let equal = || match (left, right) {
        (None, None) => true,
        (Some(a), Some(b)) => equals(a, b),
        _ => false,
    };
    let order = || left.zip(right).and_then(|(a, b)| ordering(a, b));
    let among = |item: Option<&Json>, list: Option<&Json>| match (item, list) {
        (Some(item), Some(Json::Array(items))) => items.iter().any(|i| equals(i, item)),
        _ => false,
    };
    match op {
        Comparison::Eq => equal(),
        Comparison::Ne => !equal(),
        Comparison::Lt => order() == Some(Ordering::Less),
        Comparison::Le => matches!(order(), Some(Ordering::Less | Ordering::Equal)),
        Comparison::Gt => order() == Some(Ordering::Greater),
        Comparison::Ge => matches!(order(), Some(Ordering::Greater | Ordering::Equal)),
        Comparison::In => among(left, right),
        Comparison::NotIn => left.is_some() && !among(left, right),
        Comparison::Contains => match (left, right) {
            (Some(Json::Text(s)), Some(Json::Text(part))) => s.contains(part.as_str()),
            _ => among(right, left),
        },
        Comparison::Size => {
            let size = match left {
                Some(Json::Array(items)) => items.len(),
                Some(Json::Text(s)) => s.encode_utf16().count(),
                _ => return false,
            };
            matches!(right, Some(Json::Number(n)) if n.parse() == Ok(size))
        }
        Comparison::Empty => {
            let empty = match left {
                Some(Json::Array(items)) => items.is_empty(),
                Some(Json::Text(s)) => s.is_empty(),
                _ => return false,
            };
            matches!(right, Some(Json::Bool(b)) if *b == empty)
        }
    }
}

fn equals(a: &Json, b: &Json) -> bool {
    match (a, b) {
        // A text that is a number equals it.
        (Json::Number(_), Json::Number(_) | Json::Text(_)) | (Json::Text(_), Json::Number(_)) => {
            number(a).zip(number(b)).is_some_and(|(a, b)| a == b)
        }
        _ => a == b,
    }
}

fn number(j: &Json) -> Option<f64> {
    match j {
        Json::Number(n) => n.parse().ok(),
        Json::Text(s) => s.parse().ok(),
        _ => None,
    }
}

fn ordering(a: &Json, b: &Json) -> Option<Ordering> {
    match (a, b) {
        (Json::Number(_), Json::Number(_)) => number(a)?.partial_cmp(&number(b)?),
        (Json::Text(a), Json::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

fn any(c: &mut Chars<'_>, depth: usize) -> Option<Filter> {
    let mut parts = vec![all(c, depth)?];
    loop {
        c.blanks();
        if !c.eat("||") {
            break;
        }
        parts.push(all(c, depth)?);
    }
    single(parts, Filter::Any)
}

fn all(c: &mut Chars<'_>, depth: usize) -> Option<Filter> {
    let mut parts = vec![one(c, depth)?];
    loop {
        c.blanks();
        if !c.eat("&&") {
            break;
        }
        parts.push(one(c, depth)?);
    }
    single(parts, Filter::All)
}

fn single(mut parts: Vec<Filter>, join: fn(Vec<Filter>) -> Filter) -> Option<Filter> {
    if parts.len() == 1 { parts.pop() } else { Some(join(parts)) }
}

fn one(c: &mut Chars<'_>, depth: usize) -> Option<Filter> {
    if depth > DEPTH {
        return None;
    }
    c.blanks();
    if c.eat("!") {
        return Some(Filter::Not(Box::new(one(c, depth + 1)?)));
    }
    if c.eat("(") {
        let inner = any(c, depth + 1)?;
        c.blanks();
        return c.eat(")").then_some(inner);
    }
    let left = operand(c)?;
    c.blanks();
    if c.eat("=~") {
        c.blanks();
        return Some(Filter::Matches(left, regex(c)?));
    }
    let Some((sign, op)) = OPERATORS.iter().find(|(sign, _)| c.rest.starts_with(sign)) else {
        return matches!(left, Operand::Path { .. }).then_some(Filter::Exists(left));
    };
    // The character behind `in` is not a part of it.
    c.eat(sign.trim_end_matches(['[', ' ']));
    c.blanks();
    Some(Filter::Compare(left, *op, operand(c)?))
}

fn operand(c: &mut Chars<'_>) -> Option<Operand> {
    for (sign, root) in [("@", false), ("$", true)] {
        if c.eat(sign) {
            return Some(Operand::Path { root, steps: c.steps(true)? });
        }
    }
    literal(c).map(Operand::Literal)
}

fn literal(c: &mut Chars<'_>) -> Option<Json> {
    c.blanks();
    for (word, value) in [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)] {
        if c.eat(word) {
            return Some(value);
        }
    }
    match c.rest.chars().next()? {
        '\'' | '"' => c.quoted().map(Json::Text),
        '[' => {
            c.eat("[");
            let mut items = Vec::new();
            c.blanks();
            while !c.eat("]") {
                items.push(literal(c)?);
                c.blanks();
                if !c.eat(",") && !c.rest.starts_with(']') {
                    return None;
                }
            }
            Some(Json::Array(items))
        }
        _ => {
            let end = c
                .rest
                .find(|ch: char| !(ch.is_ascii_digit() || matches!(ch, '-' | '+' | '.' | 'e' | 'E')))
                .unwrap_or(c.rest.len());
            let (text, rest) = c.rest.split_at(end);
            text.parse::<f64>().ok()?;
            c.rest = rest;
            Some(Json::Number(text.to_owned()))
        }
    }
}

/// `/pattern/flags`, matched as a whole.
fn regex(c: &mut Chars<'_>) -> Option<Regex> {
    let body = c.rest.strip_prefix('/')?;
    let mut escaped = false;
    let end = body.find(|ch| {
        let end = ch == '/' && !escaped;
        escaped = ch == '\\' && !escaped;
        end
    })?;
    let (pattern, rest) = body.split_at(end);
    let rest = rest.strip_prefix('/')?;
    let flags = rest.len() - rest.trim_start_matches(['i', 'm', 's', 'u', 'x', 'd']).len();
    let (flags, rest) = rest.split_at(flags);
    c.rest = rest;
    RegexBuilder::new(&format!("^(?:{})$", pattern.replace("\\/", "/")))
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .dot_matches_new_line(flags.contains('s'))
        .ignore_whitespace(flags.contains('x'))
        .build()
        .ok()
}
