//! `CREATE FUNCTION` and `ALTER FUNCTION` with a body, `DROP FUNCTION`.
//!
//! Flink's `CREATE FUNCTION f AS 'class'` loads Java: it is refused but for classes whose functions are built in.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::{comment, if_not_exists};
use crate::error::{Error, Location, Result};
use crate::sql::ast::{Alter, CreateFunction, FunctionLanguage, Name, Parameter, Returns, Statement};
use crate::sql::cursor::Cursor;
use crate::sql::{hints, types};

/// Classes of others whose functions are built in, by the names that their scripts give them.
const BUILTIN_CLASSES: [(&str, &str); 1] = [("com.github.nexmark.flink.udf.CountChar", "count_char")];

const SHAPE: &str = "a function is written CREATE [OR REPLACE] [TEMPORARY [SYSTEM]] [AGGREGATE] FUNCTION f(a INT, …) \
    RETURNS type|TABLE (x INT, …) LANGUAGE SQL|JAVASCRIPT|PYTHON AS $$ … $$";

/// Whether a function is what CREATE, ALTER or DROP goes on with.
pub(super) fn begins(c: &Cursor) -> bool {
    c.at_keyword("FUNCTION") || c.at_keywords(&["SYSTEM", "FUNCTION"]) || c.at_keyword("AGGREGATE")
}

/// `[SYSTEM] [AGGREGATE] FUNCTION …` behind `CREATE [OR REPLACE] [TEMPORARY]`.
pub(super) fn create(c: &mut Cursor, temporary: bool, replace: bool) -> Result<Statement> {
    let at = c.location();
    let system = system(c, temporary)?;
    let aggregate = c.eat_keyword("AGGREGATE");
    c.expect_keyword("FUNCTION")?;
    let condition = c.location();
    let if_not_exists = if_not_exists(c)?;
    if replace && if_not_exists {
        return Err(Error::syntax("OR REPLACE and IF NOT EXISTS in one statement")
            .at(condition)
            .hint("keep one of them"));
    }
    let name = c.name("a function name", if system { 1 } else { 3 })?;
    if c.at_keyword("AS") {
        return of_class(c, &name, at);
    }
    let head = Head { name, temporary, system, aggregate, if_not_exists, replace };
    let mut create = definition(c, head)?;
    create.text = c.source(0, c.pos()).to_owned();
    Ok(Statement::CreateFunction(Box::new(create)))
}

/// `[SYSTEM] [AGGREGATE] FUNCTION [IF EXISTS] f(…) …` behind `ALTER [TEMPORARY]`: the function as it will be.
pub(super) fn alter(c: &mut Cursor, temporary: bool) -> Result<Alter> {
    let at = c.location();
    let system = system(c, temporary)?;
    let aggregate = c.eat_keyword("AGGREGATE");
    c.expect_keyword("FUNCTION")?;
    let if_exists = super::alter::if_exists(c)?;
    let from = c.pos();
    let name = c.name("a function name", if system { 1 } else { 3 })?;
    if c.at_keyword("AS") {
        return Err(Error::unsupported("ALTER FUNCTION to a Java class is not supported").at(at).hint(
            "a function is altered by all of its definition: ALTER FUNCTION f(a INT, …) RETURNS type LANGUAGE \
             SQL|JAVASCRIPT|PYTHON AS $$ … $$",
        ));
    }
    let head = Head { name, temporary, system, aggregate, if_not_exists: false, replace: false };
    let mut function = definition(c, head)?;
    // As the statement that would create it, which SHOW CREATE FUNCTION shows.
    let words = [(temporary, "TEMPORARY "), (system, "SYSTEM "), (aggregate, "AGGREGATE ")];
    let words: String = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    function.text = format!("CREATE {words}FUNCTION {}", c.source(from, c.pos()));
    Ok(Alter::Function { function: Box::new(function), if_exists })
}

/// What stands before the parameters.
struct Head {
    name: Name,
    temporary: bool,
    system: bool,
    aggregate: bool,
    if_not_exists: bool,
    replace: bool,
}

/// `(…) RETURNS … LANGUAGE … AS …`; the text is left to the caller.
fn definition(c: &mut Cursor, head: Head) -> Result<CreateFunction> {
    let Head { name, temporary, system, aggregate, if_not_exists, replace } = head;
    if !c.at(&Token::LParen) {
        return Err(c.expected("`(` and the parameters").hint(SHAPE));
    }
    let parameters = parameters(c, "parameter")?;
    c.expect_keyword("RETURNS").map_err(|e| e.hint(SHAPE))?;
    let location = c.location();
    let returns = if c.eat_keyword("TABLE") {
        let columns = parameters_of_table(c)?;
        if aggregate {
            return Err(Error::validation("an aggregate function returns a value, not a table").at(location));
        }
        Returns::Table(columns)
    } else {
        Returns::Value(types::data_type(c)?, location)
    };
    let mut clauses = Clauses::default();
    clauses.read(c)?;
    let Some(language) = clauses.language else {
        return Err(c.expected_keyword(&["LANGUAGE"]).hint("LANGUAGE SQL, JAVASCRIPT or PYTHON"));
    };
    let comment = comment(c)?;
    c.expect_keyword("AS")?;
    let (body, body_location) = body(c)?;
    let options = if c.eat_keyword("WITH") { hints::options(c)? } else { Default::default() };
    Ok(CreateFunction {
        name,
        temporary,
        system,
        aggregate,
        if_not_exists,
        replace,
        parameters,
        returns,
        language,
        deterministic: clauses.deterministic.unwrap_or(true),
        strict: clauses.strict.unwrap_or(false),
        comment,
        body,
        body_location,
        options,
        text: String::new(),
    })
}

/// `DROP … [SYSTEM] [AGGREGATE] FUNCTION [IF EXISTS] f`.
pub(super) fn drop(c: &mut Cursor, temporary: bool) -> Result<Statement> {
    let system = system(c, temporary)?;
    c.eat_keyword("AGGREGATE");
    c.expect_keyword("FUNCTION")?;
    let if_exists = c.at_keyword("IF");
    if if_exists {
        c.expect_keywords(&["IF", "EXISTS"])?;
    }
    let name = c.name("a function name", if system { 1 } else { 3 })?;
    Ok(Statement::DropFunction { name, if_exists, temporary, system })
}

fn system(c: &mut Cursor, temporary: bool) -> Result<bool> {
    let at = c.location();
    let system = c.eat_keyword("SYSTEM");
    if system && !temporary {
        return Err(Error::syntax("a SYSTEM FUNCTION is TEMPORARY")
            .at(at)
            .hint("write TEMPORARY SYSTEM FUNCTION"));
    }
    Ok(system)
}

/// `AS 'class'`.
fn of_class(c: &mut Cursor, name: &Name, at: Location) -> Result<Statement> {
    c.expect_keyword("AS")?;
    let refused = |what: &str| Error::unsupported(format!("{what} is not supported")).at(at).hint(SHAPE);
    if matches!(c.peek().map(|l| &l.token), Some(Token::DollarQuotedString(_))) {
        return Err(c.expected("`(` and the parameters before AS").hint(SHAPE));
    }
    let class = c.string("a class in single quotes")?;
    let known = BUILTIN_CLASSES.iter().find(|(known, _)| *known == class);
    if let Some((_, function)) = known
        && c.at_end()
        && name.parts.last().is_some_and(|n| n.eq_ignore_ascii_case(function))
    {
        return Ok(Statement::CreateBuiltinFunction { class, function });
    }
    Err(refused("CREATE FUNCTION of a Java class"))
}

/// `(name type, …)`, perhaps none.
fn parameters(c: &mut Cursor, what: &str) -> Result<Vec<Parameter>> {
    if c.at(&Token::LParen) && c.nth(1).is_some_and(|l| l.token == Token::RParen) {
        c.bump();
        c.bump();
        return Ok(Vec::new());
    }
    let mut names: Vec<String> = Vec::new();
    c.parenthesized(|c| {
        let (name, location) = c.identifier(&format!("the name of a {what}"))?;
        if names.iter().any(|n| n.eq_ignore_ascii_case(&name)) {
            return Err(Error::validation(format!("the {what} {name} appears twice")).at(location));
        }
        names.push(name.clone());
        Ok(Parameter { name, ty: types::data_type(c)?, location })
    })
}

fn parameters_of_table(c: &mut Cursor) -> Result<Vec<Parameter>> {
    let at = c.location();
    let columns = parameters(c, "column")?;
    if columns.is_empty() {
        return Err(Error::validation("a table has at least one column")
            .at(at)
            .hint("RETURNS TABLE (x INT)"));
    }
    Ok(columns)
}

/// What stands between RETURNS and AS, in any order.
#[derive(Default)]
struct Clauses {
    language: Option<FunctionLanguage>,
    deterministic: Option<bool>,
    strict: Option<bool>,
}

impl Clauses {
    fn read(&mut self, c: &mut Cursor) -> Result<()> {
        loop {
            let at = c.location();
            let twice = |known: bool, what: &str| {
                if known { Err(Error::syntax(format!("{what} is written twice")).at(at)) } else { Ok(()) }
            };
            if c.eat_keyword("LANGUAGE") {
                twice(self.language.is_some(), "LANGUAGE")?;
                self.language = Some(language(c)?);
            } else if c.eat_keyword("DETERMINISTIC") {
                twice(self.deterministic.is_some(), "DETERMINISTIC")?;
                self.deterministic = Some(true);
            } else if c.eat_keywords(&["NOT", "DETERMINISTIC"]) {
                twice(self.deterministic.is_some(), "DETERMINISTIC")?;
                self.deterministic = Some(false);
            } else if c.eat_keyword("RETURNS") {
                c.expect_keywords(&["NULL", "ON", "NULL", "INPUT"])?;
                twice(self.strict.is_some(), "… ON NULL INPUT")?;
                self.strict = Some(true);
            } else if c.eat_keyword("CALLED") {
                c.expect_keywords(&["ON", "NULL", "INPUT"])?;
                twice(self.strict.is_some(), "… ON NULL INPUT")?;
                self.strict = Some(false);
            } else {
                return Ok(());
            }
        }
    }
}

fn language(c: &mut Cursor) -> Result<FunctionLanguage> {
    Ok(match c.eat_one_of(&["SQL", "JAVASCRIPT", "PYTHON"]) {
        Some("SQL") => FunctionLanguage::Sql,
        Some("JAVASCRIPT") => FunctionLanguage::JavaScript,
        Some(_) => FunctionLanguage::Python,
        None => {
            return Err(match c.peek().and_then(|l| l.bare_word()) {
                Some(word) if ["JAVA", "SCALA", "RUST"].iter().any(|k| word.eq_ignore_ascii_case(k)) => {
                    Error::unsupported(format!("LANGUAGE {} is not supported", word.to_uppercase()))
                        .at(c.location())
                        .hint("functions are written in SQL, JAVASCRIPT or PYTHON; programs that embed tidelake register Rust functions")
                }
                _ => c.expected_keyword(&["SQL", "JAVASCRIPT", "PYTHON"]),
            });
        }
    })
}

/// `$$ … $$` or a string; where its first character stands.
fn body(c: &mut Cursor) -> Result<(String, Location)> {
    let at = c.location();
    let within = |columns: usize| Location { line: at.line, column: at.column + columns as u64 };
    match c.peek().map(|l| &l.token) {
        Some(Token::DollarQuotedString(text)) => {
            let text = text.clone();
            c.bump();
            Ok((text.value, within(2 + text.tag.map_or(0, |t| t.chars().count()))))
        }
        _ => Ok((c.string("the body, between $$ and $$ or in single quotes")?, within(1))),
    }
}
