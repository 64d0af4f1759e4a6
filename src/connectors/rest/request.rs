//! From keys to requests.
//!
//! ```text
//!  key columns ─► JSON of each value ─┬─► parameters  ?id=7&name=a%20b        (GET)
//!                                     ├─► body        {"id":7,"name":"a b"}   (POST, PUT)
//!                                     └─► path        /customers/7            (`request.url-map`)
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use reqwest::Method;
use url::Url;

use super::config::{Fields, RestTable};
use crate::error::{Error, Result};
use crate::formats::{RecordFormat, record_format};
use crate::options::Options;

/// Where a key column goes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Query,
    Body,
    /// For `{name}`.
    Path(String),
}

/// How keys become requests.
#[derive(Debug)]
pub(super) struct Requests {
    url: String,
    has_body: bool,
    names: Vec<String>,
    /// By key column; one may go to several.
    places: Vec<Vec<Place>>,
    /// Of one column, by key column.
    formats: Vec<Arc<dyn RecordFormat>>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub url: Url,
    pub body: Option<Vec<u8>>,
}

impl Requests {
    /// For key columns of these names and types.
    ///
    /// # Errors
    /// Validation where the URL needs a column that is no key; Unsupported for types that JSON has not.
    pub(super) fn new(table: &RestTable, keys: &[Field]) -> Result<Self> {
        let names: Vec<String> = keys.iter().map(|f| f.name().clone()).collect();
        let has_body = table.method != Method::GET;
        let all = &table.fields;
        let named = all.query.iter().chain(&all.body).chain(all.url.keys());
        if let Some(missing) = named.clone().find(|name| !names.contains(name)) {
            return Err(Error::validation(format!(
                "table {}: the requests need the column `{missing}`, and the lookup join has no '=' for it",
                table.name
            ))
            .hint(format!("add {missing} = … to the condition of the join")));
        }
        let formats = keys.iter().map(|field| {
            let field = field.clone().with_name(VALUE);
            let options = Options::new(&table.name, "json", &BTreeMap::new());
            record_format("json", &options, "json.", Arc::new(Schema::new(vec![field])))
        });
        Ok(Requests {
            url: table.url.clone(),
            has_body,
            places: names.iter().map(|name| places(all, name, has_body)).collect(),
            formats: formats.collect::<Result<_>>()?,
            names,
        })
    }

    /// A request for each key.
    ///
    /// # Errors
    /// Data for values that JSON has not.
    pub(super) fn make(&self, keys: &RecordBatch) -> Result<Vec<Asked>> {
        let broken = || Error::internal("the keys of a lookup are others than were announced");
        let columns = keys.columns().iter().zip(&self.formats);
        let columns = columns.map(|(column, format)| {
            let schema: SchemaRef = Arc::clone(format.schema());
            let rows = RecordBatch::try_new(schema, vec![Arc::clone(column)])?;
            let (mut text, mut ends) = (Vec::new(), Vec::new());
            format.encoder()?.encode(&rows, &mut text, &mut ends)?;
            values(&text, &ends).ok_or_else(broken)
        });
        let columns = columns.collect::<Result<Vec<Vec<String>>>>()?;
        (0..keys.num_rows())
            .map(|row| {
                let of_key = columns.iter().map(|column| column.get(row).map(String::as_str));
                let of_key = of_key.collect::<Option<Vec<&str>>>().ok_or_else(broken)?;
                self.one(&of_key)
            })
            .collect()
    }

    /// The request of a key, by the JSON of its values.
    fn one(&self, values: &[&str]) -> Result<Asked> {
        let (mut url, mut query, mut body) = (self.url.clone(), Vec::new(), Vec::new());
        for ((name, places), json) in self.names.iter().zip(&self.places).zip(values) {
            for place in places {
                match place {
                    Place::Query => query.push((name.as_str(), plain(json))),
                    Place::Body => body.push((name.as_str(), *json)),
                    Place::Path(stands) => {
                        let value = plain(json);
                        if matches!(value.as_str(), "" | "." | "..") {
                            return Err(Error::data(format!(
                                "'{value}' of the key column `{name}` cannot stand in the path of a URL"
                            ))
                            .hint("leave such rows out by a WHERE below the lookup join"));
                        }
                        url = url.replace(&format!("{{{stands}}}"), &in_path(&value));
                    }
                }
            }
        }
        let mut url = Url::parse(&url).map_err(|_| Error::internal("a URL that was one is none"))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        if !self.has_body {
            return Ok(Asked { url, body: None });
        }
        let mut text = String::from("{");
        for (i, (name, json)) in body.into_iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            text.push_str(&serde_json::Value::from(name).to_string());
            text.push(':');
            text.push_str(json);
        }
        text.push('}');
        Ok(Asked { url, body: Some(text.into_bytes()) })
    }
}

/// Name of the column whose values are encoded.
const VALUE: &str = "v";

fn places(fields: &Fields, name: &str, has_body: bool) -> Vec<Place> {
    let mut places = Vec::new();
    if fields.query.iter().any(|n| n == name) {
        places.push(Place::Query);
    }
    if fields.body.iter().any(|n| n == name) {
        places.push(Place::Body);
    }
    if let Some(stands) = fields.url.get(name) {
        places.push(Place::Path(stands.clone()));
    }
    if places.is_empty() {
        places.push(if has_body { Place::Body } else { Place::Query });
    }
    places
}

/// The JSON of each value, from objects with nothing else.
fn values(text: &[u8], ends: &[usize]) -> Option<Vec<String>> {
    let mut start = 0;
    let head = format!("{{\"{VALUE}\":");
    let one = |end: &usize| {
        let object = std::str::from_utf8(text.get(start..*end)?).ok()?;
        start = *end;
        Some(object.trim_end().strip_prefix(&head)?.strip_suffix('}')?.to_owned())
    };
    ends.iter().map(one).collect()
}

/// A value as a text: without the quotes of a string.
fn plain(json: &str) -> String {
    match json.starts_with('"') {
        true => serde_json::from_str(json).unwrap_or_else(|_| json.to_owned()),
        false => json.to_owned(),
    }
}

/// A text as a part of a path: nothing of it may end the part.
fn in_path(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_where_they_were_told_to() {
        let fields = Fields {
            query: vec!["b".into()],
            body: Vec::new(),
            url: [("a".to_owned(), "x".to_owned())].into(),
        };
        let names = ["a", "b", "c"].map(str::to_owned).to_vec();
        let of = |has_body| Requests {
            url: "http://h/{x}/y?z=1".into(),
            has_body,
            places: names.iter().map(|n| places(&fields, n, has_body)).collect(),
            names: names.clone(),
            formats: Vec::new(),
        };
        let values = ["\"ä/.?\"", "\"q&\\\"r\"", "1.50"];
        let got = of(false).one(&values).unwrap();
        assert_eq!(got.url.as_str(), "http://h/%C3%A4%2F.%3F/y?z=1&b=q%26%22r&c=1.50");
        assert_eq!(got.body, None);
        let got = of(true).one(&values).unwrap();
        assert_eq!(got.url.as_str(), "http://h/%C3%A4%2F.%3F/y?z=1&b=q%26%22r");
        assert_eq!(got.body.unwrap(), b"{\"c\":1.50}");
        for up in ["\"..\"", "\".\"", "\"\""] {
            assert!(of(true).one(&[up, "1", "2"]).unwrap_err().to_string().contains("key column `a`"));
        }
    }
}
