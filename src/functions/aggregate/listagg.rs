//! `LISTAGG(s[, separator])`: strings joined in order of arrival, NULLs skipped.
//!
//! State per group: the text so far (NULL before the first value).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::PhysicalExpr;

use super::for_each_valid;
use super::value::{GroupValues, Value, ValueGroups, ValueOne};
use crate::error::{Error, Result};
use crate::functions::room::{check_column, check_value};

/// The constant separator of LISTAGG.
pub(crate) fn separator(args: &[Arc<dyn PhysicalExpr>]) -> Result<String> {
    match args.get(1) {
        None => Ok(",".to_owned()),
        Some(e) => match e.downcast_ref::<Literal>().map(Literal::value) {
            Some(ScalarValue::Utf8(Some(s))) => Ok(s.clone()),
            _ => Err(Error::validation("the separator of LISTAGG must be a string literal")),
        },
    }
}

fn append(text: &mut Option<String>, separator: &str, value: &str) -> Result<()> {
    match text {
        Some(t) => {
            check_value(t.len() + separator.len() + value.len())?;
            t.push_str(separator);
            t.push_str(value);
        }
        None => *text = Some(value.to_owned()),
    }
    Ok(())
}

fn named(e: Error) -> Error {
    e.context("LISTAGG")
}

#[derive(Debug)]
struct ListaggGroups {
    separator: String,
    texts: Vec<Option<String>>,
    bytes: usize,
}

impl GroupValues for ListaggGroups {
    fn add(
        &mut self,
        values: &ArrayRef,
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> DfResult<()> {
        let a = values.as_string::<i32>();
        self.texts.resize(total, None);
        let (texts, separator) = (self.texts.as_mut_slice(), self.separator.as_str());
        let (mut bytes, mut appended) = (0, Ok(()));
        for_each_valid(group_indices, a.nulls(), filter, |g, row| {
            let v = a.value(row);
            if appended.is_ok() {
                bytes += v.len() + separator.len();
                appended = append(&mut texts[g], separator, v);
            }
        });
        self.bytes += bytes;
        Ok(appended.map_err(named)?)
    }

    fn take(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let texts = emit.take_needed(&mut self.texts);
        let gone: usize = texts.iter().flatten().map(String::len).sum();
        check_column(gone).map_err(named)?;
        self.bytes = self.bytes.saturating_sub(gone);
        Ok(Arc::new(texts.into_iter().collect::<StringArray>()))
    }

    fn size(&self) -> usize {
        self.bytes + self.texts.capacity() * size_of::<Option<String>>()
    }
}

pub(super) fn groups(separator: String) -> Box<dyn GroupsAccumulator> {
    Box::new(ValueGroups(ListaggGroups { separator, texts: Vec::new(), bytes: 0 }))
}

pub(super) fn accumulator(separator: String) -> Box<dyn Accumulator> {
    Box::new(ValueOne(ListaggOne { separator, text: None }))
}

#[derive(Debug)]
struct ListaggOne {
    separator: String,
    text: Option<String>,
}

impl Value for ListaggOne {
    fn add(&mut self, values: &ArrayRef) -> DfResult<()> {
        for v in values.as_string::<i32>().iter().flatten() {
            append(&mut self.text, &self.separator, v).map_err(named)?;
        }
        Ok(())
    }

    fn get(&self) -> ScalarValue {
        ScalarValue::Utf8(self.text.clone())
    }

    fn heap_size(&self) -> usize {
        self.text.as_ref().map_or(0, String::capacity)
    }
}
