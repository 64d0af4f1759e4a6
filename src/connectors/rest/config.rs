//! What a table says: where the service is, how it is asked, and what its answers mean.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Identity, Method};
use url::Url;

use crate::catalog::ResolvedTable;
use crate::connectors::synthetic::refuse_metadata;
use crate::edges::lookup::LookupCache;
use crate::edges::{ConnectorEnv, Notices, SourceChangelog};
use crate::error::{Error, Result};
use crate::formats::{RecordFormat, RecordPlace, message_format};
use crate::options::Options;

/// Requests at a time where nothing is said.
const REQUESTS: usize = 8;
const TIMEOUT: Duration = Duration::from_secs(30);

/// Everything a table says.
pub(super) struct RestTable {
    /// Name for messages.
    pub name: String,
    pub url: String,
    pub method: Method,
    pub client: Client,
    /// Of the answers; all of its columns may be NULL.
    pub format: Arc<dyn RecordFormat>,
    pub cache: LookupCache,
    pub codes: Codes,
    pub retries: u32,
    pub delay: Delay,
    pub at_a_time: usize,
    pub continue_on_error: bool,
    pub fields: Fields,
    pub notices: Notices,
}

/// Never with headers.
impl fmt::Debug for RestTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestTable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Rows,
    /// An answer without rows.
    Nothing,
    /// Another time may do.
    Again,
    Failed,
}

/// Which statuses mean what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Codes {
    pub success: CodeSet,
    pub retry: CodeSet,
    pub ignored: CodeSet,
}

impl Codes {
    pub(super) fn meaning(&self, status: u16) -> Meaning {
        if self.ignored.holds(status) {
            Meaning::Nothing
        } else if self.success.holds(status) {
            Meaning::Rows
        } else if self.retry.holds(status) {
            Meaning::Again
        } else {
            Meaning::Failed
        }
    }
}

/// `2XX,404,!203`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CodeSet {
    groups: Vec<u16>,
    codes: Vec<u16>,
    without: Vec<u16>,
}

impl CodeSet {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut set = CodeSet::default();
        let code = |text: &str| text.parse::<u16>().ok().filter(|c| (100..600).contains(c));
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            if let Some(without) = part.strip_prefix('!') {
                set.without.push(code(without.trim())?);
            } else if let Some(group) = part.to_ascii_uppercase().strip_suffix("XX") {
                set.groups.push(group.parse().ok().filter(|g| (1..=5).contains(g))?);
            } else {
                set.codes.push(code(part)?);
            }
        }
        Some(set)
    }

    fn holds(&self, status: u16) -> bool {
        let named = self.codes.contains(&status) || self.groups.contains(&(status / 100));
        named && !self.without.contains(&status)
    }

    /// Statuses that are in both.
    fn shares(&self, other: &CodeSet) -> Option<u16> {
        (100..600).find(|status| self.holds(*status) && other.holds(*status))
    }
}

/// How long is waited before a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Delay {
    pub first: Duration,
    pub factor: f64,
    pub most: Duration,
}

impl Delay {
    /// Before the `n`-th time again, from 0.
    pub(super) fn before(&self, n: u32) -> Duration {
        let factor = self.factor.powi(i32::try_from(n).unwrap_or(i32::MAX));
        let millis = (self.first.as_secs_f64() * 1000.0 * factor).min(self.most.as_secs_f64() * 1000.0);
        Duration::from_millis(millis as u64)
    }
}

/// Which key columns go where. A key that is named nowhere goes where the method has its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub query: Vec<String>,
    pub body: Vec<String>,
    /// Column → what stands for it in the URL, without braces.
    pub url: BTreeMap<String, String>,
}

impl RestTable {
    pub(super) fn parse(
        table: &ResolvedTable,
        env: &ConnectorEnv,
        connector: &str,
        prefix: &str,
    ) -> Result<Self> {
        refuse_metadata(table, connector)?;
        let name = table.def.path.to_string();
        let options = Options::new(&name, connector, &table.options);
        let key = |suffix: &str| format!("{prefix}{suffix}");
        let lookup = |suffix: &str| format!("{prefix}source.lookup.{suffix}");
        let url = options.require("url")?;
        let method = options.one_of("lookup-method", &["GET", "POST", "PUT"])?.unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Error::internal("a method of HTTP that is none"))?;
        options.bool("asyncPolling", true)?;
        let format_name = options.require("format")?;
        // What an answer leaves out of its key is that of the key that was asked for.
        let fields = table
            .scan_schema()
            .fields()
            .iter()
            .map(|f| f.as_ref().clone().with_nullable(true))
            .collect::<Vec<Field>>();
        let schema = Arc::new(Schema::new(fields));
        let format = message_format(
            &format_name,
            &options,
            &format!("{format_name}."),
            schema,
            &RecordPlace::default(),
        )?;
        if format.changelog() != SourceChangelog::AppendOnly {
            return Err(options.invalid(
                "format",
                &format_name,
                "a format whose records are rows, such as json",
            ));
        }
        match options.take("lookup-request.format").as_deref() {
            None | Some("json") => {}
            Some(other) => return Err(options.invalid("lookup-request.format", other, "json")),
        }
        let cache = LookupCache::parse(&options, true)?;
        if let LookupCache::Full(_) = cache {
            return Err(options.invalid(
                "lookup.cache",
                "FULL",
                "NONE or PARTIAL: the service cannot be read whole",
            ));
        }
        let retries =
            options.parse::<u32>("lookup.max-retries", "a number that is not negative")?.unwrap_or(3);
        let codes = codes(&options, prefix)?;
        let delay = delay(&options, &lookup("retry-strategy."))?;
        let at_a_time = options
            .parse::<usize>(&lookup("request.thread-pool.size"), "a number of requests above 0")?
            .unwrap_or(REQUESTS);
        if at_a_time == 0 {
            return Err(options.invalid(
                &lookup("request.thread-pool.size"),
                "0",
                "a number of requests above 0",
            ));
        }
        // What handles answers is not a pool of threads here.
        options.parse::<usize>(&lookup("response.thread-pool.size"), "a number of threads")?;
        options.one_of(&lookup("result-type"), &["single-value", "array"])?;
        let continue_on_error = options.bool(&lookup("continue-on-error"), false)?;
        let names = |key: &str| -> Result<Vec<String>> {
            let text = options.take(key).unwrap_or_default();
            let split = text.split([',', ';']).map(str::trim).filter(|n| !n.is_empty());
            split
                .map(|n| match table.physical.index_of(n) {
                    Ok(_) => Ok(n.to_owned()),
                    Err(_) => Err(options.invalid(key, &text, "names of columns with commas between them")),
                })
                .collect()
        };
        let fields = Fields {
            query: names(&key("request.query-param-fields"))?,
            body: names(&key("request.body-fields"))?,
            url: url_map(&options, &key("request.url-map"), &url, table)?,
        };
        if method == Method::GET && !fields.body.is_empty() {
            return Err(Error::validation(format!(
                "table {name}: '{}' needs 'lookup-method' = 'POST' or 'PUT'",
                key("request.body-fields")
            )));
        }
        check_url(&url, &fields).map_err(|e| e.context(format!("table {name}")))?;
        let client =
            client(&options, prefix, &method, env).map_err(|e| e.context(format!("table {name}")))?;
        options.finish()?;
        Ok(RestTable {
            name,
            url,
            method,
            client,
            format,
            cache,
            codes,
            retries,
            delay,
            at_a_time,
            continue_on_error,
            fields,
            notices: env.notices.clone(),
        })
    }
}

fn codes(options: &Options, prefix: &str) -> Result<Codes> {
    let set = |suffix: &str, default: &str| -> Result<CodeSet> {
        let key = format!("{prefix}source.lookup.{suffix}");
        let text = options.take(&key).unwrap_or_else(|| default.to_owned());
        CodeSet::parse(&text).ok_or_else(|| options.invalid(&key, &text, "statuses such as '2XX,404,!203'"))
    };
    let codes = Codes {
        success: set("success-codes", "2XX")?,
        retry: set("retry-codes", "500,503,504")?,
        ignored: set("ignored-response-codes", "")?,
    };
    for (good, what) in [(&codes.success, "success-codes"), (&codes.ignored, "ignored-response-codes")] {
        if let Some(status) = good.shares(&codes.retry) {
            return Err(Error::validation(format!(
                "the status {status} is in '{prefix}source.lookup.{what}' and in '{prefix}source.lookup.retry-codes'"
            )));
        }
    }
    Ok(codes)
}

fn delay(options: &Options, prefix: &str) -> Result<Delay> {
    let key = |suffix: &str| format!("{prefix}{suffix}");
    let kind = options.one_of(&key("type"), &["fixed-delay", "exponential-delay"])?.unwrap_or("fixed-delay");
    let fixed = options.duration(&key("fixed-delay.delay"))?;
    let first = options.duration(&key("exponential-delay.initial-backoff"))?;
    let most = options.duration(&key("exponential-delay.max-backoff"))?;
    let factor = options.parse::<f64>(&key("exponential-delay.backoff-multiplier"), "a number from 1 on")?;
    let second = Duration::from_secs(1);
    let belongs = |name: &str| {
        Error::validation(format!(
            "the option '{}' does not belong to '{}' = '{kind}'",
            key(name),
            key("type")
        ))
    };
    if kind == "fixed-delay" {
        if first.is_some() || most.is_some() || factor.is_some() {
            return Err(belongs("exponential-delay.*"));
        }
        let delay = fixed.unwrap_or(second);
        return Ok(Delay { first: delay, factor: 1.0, most: delay });
    }
    if fixed.is_some() {
        return Err(belongs("fixed-delay.delay"));
    }
    let factor = factor.unwrap_or(1.5);
    if !(1.0..=1000.0).contains(&factor) {
        return Err(options.invalid(
            &key("exponential-delay.backoff-multiplier"),
            &factor.to_string(),
            "a number from 1 to 1000",
        ));
    }
    Ok(Delay { first: first.unwrap_or(second), factor, most: most.unwrap_or(Duration::from_secs(60)) })
}

/// `column:name,…`, each for a `{name}` of the URL.
fn url_map(
    options: &Options,
    key: &str,
    url: &str,
    table: &ResolvedTable,
) -> Result<BTreeMap<String, String>> {
    let text = options.take(key).unwrap_or_default();
    let mut map = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        let pair = part.split_once(':').map(|(column, name)| (column.trim(), name.trim()));
        let known = pair.filter(|(column, name)| {
            table.physical.index_of(column).is_ok() && url.contains(&format!("{{{name}}}"))
        });
        let Some((column, name)) = known else {
            let expected =
                "pairs column:name with commas between them, of columns and of {name} in the 'url'";
            return Err(options.invalid(key, &text, expected));
        };
        map.insert(column.to_owned(), name.to_owned());
    }
    Ok(map)
}

/// Whether there is a URL once all that stands for columns is filled in.
fn check_url(url: &str, fields: &Fields) -> Result<()> {
    let filled =
        fields.url.values().fold(url.to_owned(), |url, name| url.replace(&format!("{{{name}}}"), "x"));
    // It may hold a secret.
    let invalid = |what: &str| {
        Error::validation(format!("the 'url' {what}")).hint("expected http://host:port/path or https://…")
    };
    if filled.contains(['{', '}']) {
        return Err(invalid("has {…} that stands for no column"));
    }
    match Url::parse(&filled) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        _ => Err(invalid("is no URL of HTTP")),
    }
}

fn client(options: &Options, prefix: &str, method: &Method, env: &ConnectorEnv) -> Result<Client> {
    let lookup = |suffix: &str| format!("{prefix}source.lookup.{suffix}");
    let raw = options.bool(&lookup("use-raw-authorization-header"), false)?;
    let mut headers = HeaderMap::new();
    for (name, value) in options.prefix(&lookup("header.")) {
        let bad = || Error::validation(format!("'{name}' cannot be a header of requests"));
        let is_basic = name.eq_ignore_ascii_case("authorization") && !raw && !value.starts_with("Basic ");
        let value = if is_basic { format!("Basic {}", BASE64_STANDARD.encode(value)) } else { value };
        let mut text = HeaderValue::from_str(&value).map_err(|_| bad())?;
        text.set_sensitive(true);
        headers.insert(HeaderName::try_from(&name).map_err(|_| bad())?, text);
    }
    if *method != Method::GET && !headers.contains_key(CONTENT_TYPE) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let timeout_key = lookup("request.timeout");
    let timeout = match options.take(&timeout_key) {
        None => TIMEOUT,
        // getindata's is a number of seconds.
        Some(text) => text
            .trim()
            .parse()
            .ok()
            .map(Duration::from_secs)
            .or_else(|| crate::options::parse_duration(&text))
            .filter(|timeout| !timeout.is_zero())
            .ok_or_else(|| {
                options.invalid(&timeout_key, &text, "seconds above 0, or a duration such as '30 s'")
            })?,
    };
    let mut builder = Client::builder()
        .default_headers(headers)
        .timeout(timeout)
        .user_agent(concat!("tidelake/", env!("CARGO_PKG_VERSION")));
    if let Some(timeout) = options.duration(&lookup("connection.timeout"))? {
        builder = builder.connect_timeout(timeout);
    }
    let pem = |key: &str, path: &str| -> Result<Vec<u8>> {
        let path = env.base_dir.join(Path::new(path.trim()));
        std::fs::read(&path)
            .map_err(|e| Error::external(format!("'{key}': cannot read {}: {e}", path.display())))
    };
    let bad = |key: &str, e: &reqwest::Error| {
        Error::validation(format!("'{key}': {}", request_error(e))).hint("expected a file in PEM")
    };
    let server = format!("{prefix}security.cert.server");
    if let Some(paths) = options.take(&server) {
        for path in paths.split(',').filter(|p| !p.trim().is_empty()) {
            let all = Certificate::from_pem_bundle(&pem(&server, path)?).map_err(|e| bad(&server, &e))?;
            builder = all.into_iter().fold(builder, reqwest::ClientBuilder::add_root_certificate);
        }
    }
    let (cert, own) = (format!("{prefix}security.cert.client"), format!("{prefix}security.key.client"));
    match (options.take(&cert), options.take(&own)) {
        (None, None) => {}
        (Some(certificate), Some(private)) => {
            let mut both = pem(&cert, &certificate)?;
            both.push(b'\n');
            both.extend(pem(&own, &private)?);
            builder = builder.identity(Identity::from_pem(&both).map_err(|e| bad(&cert, &e))?);
        }
        _ => return Err(Error::validation(format!("'{cert}' and '{own}' belong together"))),
    }
    builder.build().map_err(|e| Error::external(format!("the client of HTTP: {}", request_error(&e))))
}

/// An error with what is behind it, without the URL, which may hold a secret.
pub(super) fn request_error(e: &reqwest::Error) -> String {
    let mut text = match (e.is_timeout(), e.is_connect()) {
        (true, _) => "no answer in time".to_owned(),
        (_, true) => "it cannot be reached".to_owned(),
        _ => "the request failed".to_owned(),
    };
    let mut source = std::error::Error::source(e);
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = inner.source();
    }
    text
}
