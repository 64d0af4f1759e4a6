//! A loaded script: its functions, and the calls of them.

use arrow::array::{Array, ArrayRef, StringArray, StringBuilder};
use arrow::datatypes::DataType;
use rquickjs::context::intrinsic;
use rquickjs::function::{Args, Function};
use rquickjs::{Array as JsArray, Ctx, Object, Value};

use super::Spec;
use super::values::{Column, Failed, Helpers, push};
use super::worker::{Answer, Request};
use crate::error::{Error, Location, Result};
use crate::functions::room::append;
use crate::functions::user::engine::Abilities;
use crate::functions::user::signature::shown;
use crate::functions::user::values::Builder;
use crate::sql::ast::Returns;

/// What a script has whose answers depend on its arguments alone.
pub(super) type Clockless = (
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::MapSet,
    intrinsic::TypedArrays,
    intrinsic::Promise,
);
/// With clocks.
pub(super) type Clocked = (Clockless, intrinsic::Date, intrinsic::Performance);

/// A script and its functions.
pub(super) struct Script<'js, 's> {
    ctx: Ctx<'js>,
    spec: &'s Spec,
    with: Helpers<'js>,
    dump: Function<'js>,
    parse: Function<'js>,
    functions: Functions<'js>,
}

enum Functions<'js> {
    Rows(Function<'js>),
    Aggregate {
        create_state: Function<'js>,
        accumulate: Function<'js>,
        retract: Option<Function<'js>>,
        merge: Option<Function<'js>>,
        finish: Option<Function<'js>>,
    },
}

impl<'js, 's> Script<'js, 's> {
    /// Evaluates the body and finds what it defines.
    ///
    /// # Errors
    /// Data, with the place in the statement.
    pub(super) fn load(ctx: &Ctx<'js>, spec: &'s Spec) -> Result<Self> {
        let start = |e: rquickjs::Error| Error::internal(format!("the prelude of scripts fails: {e}"));
        let prelude: Object<'js> = ctx.eval(include_str!("prelude.js")).map_err(start)?;
        if spec.signature.deterministic() {
            ctx.eval::<Value<'js>, _>("delete Math.random").map_err(start)?;
        }
        let helper = |name: &str| prelude.get::<_, Function<'js>>(name).map_err(start);
        let with = Helpers {
            rows: helper("rows")?,
            fits: helper("fits")?,
            latin: helper("latin")?,
            entries: helper("entries")?,
        };
        let body = without_exports(&spec.body);
        if let Err(e) = ctx.eval::<Value<'js>, _>(body) {
            let (message, line) = exception(ctx, &e);
            let place = place(spec, line);
            return Err(hinted(Error::data(message), spec).at(place));
        }
        let find = |name: &str| -> Result<Option<Function<'js>>> {
            let known = name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '$');
            if !known {
                return Ok(None);
            }
            let lookup = format!("typeof {name} === 'function' ? {name} : undefined");
            Ok(ctx.eval::<Option<Function<'js>>, _>(lookup).unwrap_or_else(|_| {
                // A name that is a keyword of JavaScript.
                let _ = ctx.catch();
                None
            }))
        };
        let missing = |what: &str| {
            Error::validation(format!("the body defines no function {what}")).at(spec.body_location)
        };
        let functions = if spec.aggregate {
            let needed = |name: &str| {
                find(name)?.ok_or_else(|| {
                    missing(name).hint(
                        "an aggregate has create_state(), accumulate(state, …) and, as far as they are needed, \
                         retract(state, …), merge(state, other) and finish(state)",
                    )
                })
            };
            Functions::Aggregate {
                create_state: needed("create_state")?,
                accumulate: needed("accumulate")?,
                retract: find("retract")?,
                merge: find("merge")?,
                finish: find("finish")?,
            }
        } else {
            let name = &spec.signature.name;
            let found = match find(name)? {
                Some(f) => Some(f),
                None => find(&name.to_lowercase())?,
            };
            let parameters: Vec<&str> = spec.signature.parameters.iter().map(|p| p.name.as_str()).collect();
            let hint = format!("write function {name}({}) {{ … }}", parameters.join(", "));
            Functions::Rows(found.ok_or_else(|| missing(name).hint(hint))?)
        };
        Ok(Script { ctx: ctx.clone(), spec, with, dump: helper("dump")?, parse: helper("parse")?, functions })
    }

    pub(super) fn abilities(&self) -> Abilities {
        match &self.functions {
            Functions::Rows(_) => Abilities::default(),
            Functions::Aggregate { retract, merge, .. } => {
                Abilities { retracts: retract.is_some(), merges: merge.is_some() }
            }
        }
    }

    /// What is asked for.
    ///
    /// # Errors
    /// Data, with the row.
    pub(super) fn answer(&self, request: Request) -> Result<Answer> {
        match request {
            Request::Nothing => Ok(Answer::Done),
            Request::Call { args, rows } => self.call(&args, rows).map(Answer::Column),
            Request::Accumulate { states, groups, signs, args } => {
                self.accumulate(&states, &groups, signs.as_deref(), &args).map(Answer::Column)
            }
            Request::Merge { states, groups, others } => {
                self.merge(&states, &groups, &others).map(Answer::Column)
            }
            Request::Finish { states } => self.finish(&states).map(Answer::Column),
        }
    }

    /// The error of a row.
    fn failed(&self, failed: Failed, place: &str) -> Error {
        match failed {
            Failed::Script(e) => {
                let (message, line) = exception(&self.ctx, &e);
                let line = line.map(|l| format!(" in line {l} of its body")).unwrap_or_default();
                hinted(Error::data(format!("{message}{line}; {place}")), self.spec)
            }
            Failed::Argument(e) => {
                let told = Error::data(format!("{}; {place}", e.message()));
                match e.hint_text() {
                    Some(hint) => told.hint(hint.to_owned()),
                    None => told,
                }
            }
            Failed::Value(e) => {
                let (message, hint) = (e.message(), e.hint_text().map(str::to_owned));
                let e = Error::data(format!("its result {message}; {place}"));
                match hint {
                    Some(hint) => e.hint(hint),
                    None => e,
                }
            }
        }
    }

    fn row(&self, args: &[ArrayRef], row: usize) -> String {
        format!("row {} of its batch: {}({})", row + 1, self.spec.signature.name, shown(args, row))
    }

    fn columns<'a>(&self, args: &'a [ArrayRef]) -> Result<Vec<Column<'a>>> {
        args.iter().map(|a| Column::of(a, self.spec.numbers)).collect()
    }

    fn call(&self, args: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
        let Functions::Rows(function) = &self.functions else {
            return Err(Error::internal("a call of an aggregate"));
        };
        let columns = self.columns(args)?;
        let table = matches!(&self.spec.signature.returns, Returns::Table(_));
        let mut out = Builder::new(&self.spec.result, self.spec.signature.result_is_nullable(), rows)?;
        for row in 0..rows {
            let pushed = self.invoke(function, None, &columns, row).and_then(|value| {
                if table {
                    self.push_table(&mut out, &value)
                } else {
                    push(&mut out, &value, &self.spec.result, &self.with)
                }
            });
            pushed.map_err(|e| self.failed(e, &self.row(args, row)))?;
        }
        out.finish()
    }

    /// The rows that a table function gives.
    fn push_table(&self, out: &mut Builder, value: &Value<'js>) -> Result<(), Failed> {
        use crate::functions::user::values::Kind;
        let rows: JsArray<'js> = self.with.rows.call((value.clone(),))?;
        let (Kind::List(list), DataType::List(item)) = (&mut out.kind, &self.spec.result) else {
            return Err(Failed::Value(Error::internal("a table that is no array of rows")));
        };
        for i in 0..rows.len() {
            let row: Value<'js> = rows.get(i)?;
            match (&mut list.item.kind, item.data_type()) {
                // The value of a table of one column is that of the column.
                (Kind::Row(one), DataType::Struct(fields)) if fields.len() == 1 => {
                    if let (Some(column), Some(field)) = (one.columns.first_mut(), fields.first()) {
                        push(column, &row, field.data_type(), &self.with)?;
                    }
                    one.end(true);
                }
                (_, ty) => push(&mut list.item, &row, ty, &self.with)?,
            }
        }
        Ok(list.end(true)?)
    }

    fn invoke(
        &self,
        function: &Function<'js>,
        first: Option<&Value<'js>>,
        columns: &[Column<'_>],
        row: usize,
    ) -> Result<Value<'js>, Failed> {
        let mut args = Args::new(self.ctx.clone(), columns.len() + usize::from(first.is_some()));
        if let Some(first) = first {
            args.push_arg(first.clone())?;
        }
        for column in columns {
            args.push_arg(column.value(&self.ctx, row)?)?;
        }
        let value: Value<'js> = function.call_arg(args)?;
        if value.is_promise() {
            return Err(Failed::Value(
                Error::data("is a Promise").hint("functions answer at once: leave async and await out"),
            ));
        }
        Ok(value)
    }

    /// The state that a text stands for; a new one for NULL.
    fn state(&self, states: &StringArray, i: usize) -> Result<Value<'js>, Failed> {
        let Functions::Aggregate { create_state, .. } = &self.functions else {
            return Err(Failed::Value(Error::internal("a state of a function that is no aggregate")));
        };
        Ok(if states.is_null(i) { create_state.call(())? } else { self.parse.call((states.value(i),))? })
    }

    fn parsed(&self, states: &StringArray) -> Result<Vec<Value<'js>>> {
        let state = |i| self.state(states, i).map_err(|e| self.failed(e, "create_state()"));
        (0..states.len()).map(state).collect()
    }

    fn dumped(&self, states: &[Value<'js>]) -> Result<ArrayRef> {
        let mut out = StringBuilder::with_capacity(states.len(), states.len() * 32);
        for state in states {
            let text: rquickjs::Result<String> = self.dump.call((state.clone(),));
            let text = text.map_err(|e| self.failed(Failed::Script(e), "its state as JSON"))?;
            append(&mut out, text)?;
        }
        Ok(std::sync::Arc::new(out.finish()))
    }

    fn accumulate(
        &self,
        states: &StringArray,
        groups: &[u32],
        signs: Option<&[i8]>,
        args: &[ArrayRef],
    ) -> Result<ArrayRef> {
        let Functions::Aggregate { accumulate, retract, .. } = &self.functions else {
            return Err(Error::internal("rows for a function that is no aggregate"));
        };
        let columns = self.columns(args)?;
        let mut states = self.parsed(states)?;
        for (row, group) in groups.iter().enumerate() {
            let back = signs.is_some_and(|s| s.get(row).is_some_and(|s| *s < 0));
            let function = match (back, retract) {
                (false, _) => accumulate,
                (true, Some(retract)) => retract,
                (true, None) => {
                    return Err(Error::internal("rows taken back from an aggregate without retract"));
                }
            };
            let Some(state) = states.get_mut(*group as usize) else {
                return Err(Error::internal("a row without a group"));
            };
            let next = self.invoke(function, Some(state), &columns, row);
            let next = next.map_err(|e| {
                let called = if back { "retract" } else { "accumulate" };
                self.failed(
                    e,
                    &format!("row {} of its batch: {called}(state, {})", row + 1, shown(args, row)),
                )
            })?;
            // A state that was changed in its place need not be returned.
            if !next.is_undefined() {
                *state = next;
            }
        }
        self.dumped(&states)
    }

    fn merge(&self, states: &StringArray, groups: &[u32], others: &StringArray) -> Result<ArrayRef> {
        let Functions::Aggregate { merge: Some(merge), .. } = &self.functions else {
            return Err(Error::internal("states to be merged by an aggregate without merge"));
        };
        let mut states = self.parsed(states)?;
        for (i, group) in groups.iter().enumerate() {
            let Some(state) = states.get_mut(*group as usize) else {
                return Err(Error::internal("a state without a group"));
            };
            let merged = self.state(others, i).and_then(|other| {
                let merged: Value<'js> = merge.call((state.clone(), other))?;
                Ok(merged)
            });
            let merged = merged.map_err(|e| self.failed(e, "merge(state, other)"))?;
            if !merged.is_undefined() {
                *state = merged;
            }
        }
        self.dumped(&states)
    }

    fn finish(&self, states: &StringArray) -> Result<ArrayRef> {
        let Functions::Aggregate { finish, .. } = &self.functions else {
            return Err(Error::internal("the result of a function that is no aggregate"));
        };
        let mut out =
            Builder::new(&self.spec.result, self.spec.signature.result_is_nullable(), states.len())?;
        for i in 0..states.len() {
            let pushed = self.state(states, i).and_then(|state| {
                let value: Value<'js> = match finish {
                    Some(finish) => finish.call((state,))?,
                    None => state,
                };
                push(&mut out, &value, &self.spec.result, &self.with)
            });
            pushed.map_err(|e| self.failed(e, "finish(state)"))?;
        }
        out.finish()
    }
}

/// What was thrown, and the line of the body that it was thrown in.
fn exception(ctx: &Ctx<'_>, e: &rquickjs::Error) -> (String, Option<u64>) {
    if !e.is_exception() {
        return (format!("{e}"), None);
    }
    let thrown = ctx.catch();
    let Some(error) = thrown.as_exception() else {
        if thrown.is_null() || thrown.is_undefined() {
            return ("out of memory".to_owned(), None);
        }
        let text =
            thrown.get::<rquickjs::Coerced<String>>().map_or_else(|_| "an exception".to_owned(), |t| t.0);
        return (text.chars().take(300).collect(), None);
    };
    let name: String = error.get("name").unwrap_or_else(|_| "Error".to_owned());
    let message: String = error.message().unwrap_or_default().chars().take(300).collect();
    let line = error.stack().and_then(|s| {
        let (_, rest) = s.split_once("eval_script:")?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    });
    (format!("{name}: {message}"), line)
}

/// Adds what is to be done about what deterministic scripts and small ones lack.
fn hinted(e: Error, spec: &Spec) -> Error {
    let message = e.message();
    if message.contains("out of memory") {
        return e.hint(format!(
            "it may hold {} MB; the option 'memory' = '512 mb' allows more",
            spec.memory >> 20
        ));
    }
    let clock = ["Date is not defined", "performance is not defined", "not a function"];
    if spec.signature.deterministic()
        && clock.iter().any(|c| message.contains(c))
        && ["Date", "performance", "random"].iter().any(|c| spec.body.contains(c))
    {
        return e.hint("Date, performance and Math.random are there only for functions that are declared NOT DETERMINISTIC");
    }
    e
}

/// Where a line of the body stands.
fn place(spec: &Spec, line: Option<u64>) -> Location {
    crate::functions::user::place_in(spec.body_location, line.unwrap_or(1))
}

/// `export` before a function says no more than that the function is there.
fn without_exports(body: &str) -> String {
    let mut out = String::with_capacity(body.len());
    for line in body.split_inclusive('\n') {
        let exported = ["export default ", "export "].iter().find(|e| {
            line.strip_prefix(**e).is_some_and(|rest| {
                ["function", "async ", "const ", "let "].iter().any(|k| rest.trim_start().starts_with(k))
            })
        });
        match exported {
            Some(e) => {
                out.push_str(&" ".repeat(e.len()));
                out.push_str(line.get(e.len()..).unwrap_or(""));
            }
            None => out.push_str(line),
        }
    }
    out
}
