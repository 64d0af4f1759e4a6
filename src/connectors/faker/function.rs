//! What is not a list of words but made: numbers, times, addresses of computers, texts by pattern.

use std::io::Write;

use crate::connectors::synthetic::random::unit;
use crate::error::{Error, Result};
use crate::formats::datetime::{TimestampFormat, parse_timestamp, write_timestamp};
use crate::text::calendar::{add_months, civil};

use super::expression::{Finish, Value};
use super::regexify::{Regex, push};
use super::words;
use arrow::datatypes::TimeUnit;

/// A limit on one text, far beyond use, that keeps batches within Arrow's offsets.
const MOST: u64 = 1 << 17;
const DAY_MS: i64 = 86_400_000;

/// Makes texts.
#[derive(Debug, Clone)]
pub(super) enum Function {
    /// From the first to before the second.
    Integer(i64, i64),
    /// Digits behind the point, bounds.
    Double(i32, f64, f64),
    /// So many random digits.
    Digits(usize),
    Bool,
    /// One of these.
    OneOf(Vec<String>),
    Regex(Regex),
    /// A text whose marks are replaced.
    Pattern(String, Finish),
    /// Letters and digits become others of their kind.
    Example(String),
    /// So many hexadecimal digits.
    Hex(usize),
    /// `#` and six of them.
    Color,
    Uuid,
    IpV4(Net),
    IpV4Range,
    IpV6,
    Mac,
    /// At least and at most so many characters.
    Characters(usize, usize),
    /// So many words, at least and at most.
    Sentence(usize, usize),
    /// A time at least and at most so many milliseconds from now.
    Ago(i64, i64),
    /// Nanoseconds of the day of such a time.
    TimeOfDay(i64, i64),
    /// A time between two.
    Between(i64, i64),
    /// The first and the last age; whether as a date.
    Birthday(i64, i64, bool),
}

/// Which addresses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Net {
    Any,
    Public,
    Private,
}

const NAMES: &[&str] = &[
    "number.numberbetween",
    "number.randomdouble",
    "number.randomnumber",
    "number.randomdigit",
    "number.randomdigitnotzero",
    "number.positive",
    "number.negative",
    "number.digits",
    "number.digit",
    "bool.bool",
    "options.option",
    "regexify",
    "numerify",
    "letterify",
    "bothify",
    "examplify",
    "internet.uuid",
    "internet.ipv4address",
    "internet.publicipv4address",
    "internet.privateipv4address",
    "internet.ipv4cidr",
    "internet.ipv6address",
    "internet.macaddress",
    "internet.password",
    "internet.port",
    "lorem.characters",
    "lorem.character",
    "lorem.sentence",
    "lorem.paragraph",
    "date.past",
    "date.future",
    "date.between",
    "date.birthday",
    "time.past",
    "time.future",
    "address.latitude",
    "address.longitude",
    "address.streetaddressnumber",
    "commerce.price",
    "color.hex",
    "crypto.md5",
    "crypto.sha1",
    "crypto.sha256",
    "crypto.sha512",
];

/// Names of the functions, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().copied()
}

/// The function of a normalized name; `None` if there is none for so many arguments.
///
/// # Errors
/// Validation for arguments that make no sense.
pub(super) fn find(name: &str, arguments: &[String]) -> Result<Option<Function>> {
    let args: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let bad = |what: &str| Error::validation(format!("#{{{name}}}: {what}"));
    let integer = |text: &str| {
        let text = text.trim();
        text.parse::<i64>().map_err(|_| bad(&format!("'{text}' is no whole number")))
    };
    let number = |text: &str| {
        let text = text.trim();
        text.parse::<f64>()
            .ok()
            .filter(|n| n.is_finite())
            .ok_or_else(|| bad(&format!("'{text}' is no number")))
    };
    let count = |text: &str| match integer(text)? {
        n if (0..=MOST as i64).contains(&n) => Ok(n as usize),
        n => Err(bad(&format!("{n} is not between 0 and {MOST}"))),
    };
    let span = |most: &str, least: &str, unit: &str| {
        let unit = milliseconds(unit).ok_or_else(|| bad(&format!("'{unit}' is no unit of time")))?;
        let (most, least) = (integer(most)?, integer(least)?);
        let ms = |n: i64| n.checked_mul(unit).filter(|ms| ms.abs() < i64::MAX / 4);
        match (ms(least), ms(most)) {
            (Some(least), Some(most)) if 0 <= least && least < most => Ok((least, most)),
            _ => Err(bad(&format!("no time is between {least} and {most} away"))
                .hint("the larger number comes first")),
        }
    };
    let future = |(least, most): (i64, i64)| (-most, -least);
    let (provider, method) = name.split_once('.').unwrap_or(("", name));
    let provider = match provider {
        "dateandtime" | "timeanddate" => "date",
        "finance" if method == "price" => "commerce",
        "hashing" => "crypto",
        p => p,
    };
    let function = match (provider, method, args.as_slice()) {
        ("number", "numberbetween", [least, most]) => {
            let (a, b) = (integer(least)?, integer(most)?);
            Function::Integer(a.min(b), a.max(b))
        }
        ("number", "randomdouble", [digits, least, most]) => {
            let digits = count(digits)?.min(15) as i32;
            let (a, b) = (number(least)?, number(most)?);
            Function::Double(digits, a.min(b), a.max(b))
        }
        ("number", "randomnumber", []) => Function::Integer(i64::MIN, i64::MAX),
        ("number", "randomnumber", [digits] | [digits, _]) => {
            let digits = u32::try_from(count(digits)?).ok().filter(|d| (1..=18).contains(d));
            let digits = digits.ok_or_else(|| bad("a number has 1 to 18 digits"))?;
            let strict = args.get(1).is_none_or(|s| s.eq_ignore_ascii_case("true"));
            let most = 10i64.pow(digits);
            Function::Integer(if strict { most / 10 } else { 0 }, most)
        }
        ("number", "randomdigit", []) => Function::Integer(0, 10),
        ("number", "randomdigitnotzero", []) => Function::Integer(1, 10),
        ("number", "positive", []) => Function::Integer(1, i32::MAX.into()),
        ("number", "negative", []) => Function::Integer(i32::MIN.into(), 0),
        ("number", "digit", []) => Function::Digits(1),
        ("number", "digits", [n]) => Function::Digits(count(n)?),
        ("bool", "bool", []) => Function::Bool,
        ("options", "option" | "nextelement", [_, ..]) => Function::OneOf(arguments.to_vec()),
        ("", "regexify", [pattern]) => {
            let regex = Regex::parse(pattern)?;
            if regex.most_bytes() > MOST {
                return Err(bad(&format!("'{pattern}' makes texts of more than {MOST} bytes")));
            }
            Function::Regex(regex)
        }
        ("", "numerify", [text]) => Function::Pattern((*text).to_owned(), Finish::Digits),
        ("", "letterify", [text]) => Function::Pattern((*text).to_owned(), Finish::Letters),
        ("", "bothify", [text]) => Function::Pattern((*text).to_owned(), Finish::DigitsAndLetters),
        ("", "examplify", [text]) => Function::Example((*text).to_owned()),
        ("internet", "uuid" | "uuidv4", []) => Function::Uuid,
        ("internet", "ipv4address", []) => Function::IpV4(Net::Any),
        ("internet", "publicipv4address", []) => Function::IpV4(Net::Public),
        ("internet", "privateipv4address", []) => Function::IpV4(Net::Private),
        ("internet", "ipv4cidr", []) => Function::IpV4Range,
        ("internet", "ipv6address", []) => Function::IpV6,
        ("internet", "macaddress", []) => Function::Mac,
        ("internet", "port", []) => Function::Integer(0, 65_536),
        ("internet" | "credentials", "password", []) => Function::Characters(8, 16),
        ("internet" | "credentials", "password", [least, most, ..]) => between(count(least)?, count(most)?),
        ("lorem", "character", []) => Function::Characters(1, 1),
        ("lorem", "characters", []) => Function::Characters(255, 255),
        ("lorem", "characters", [n]) => Function::Characters(count(n)?, count(n)?),
        ("lorem", "characters", [least, most]) => between(count(least)?, count(most)?),
        ("lorem", "sentence", []) => Function::Sentence(4, 10),
        ("lorem", "sentence", [n]) => Function::Sentence(count(n)?.min(1000), count(n)?.min(1000)),
        ("lorem", "paragraph", []) => Function::Sentence(20, 40),
        ("date", "past", [most, unit]) => ago(span(most, "0", unit)?),
        ("date", "past", [most, least, unit]) => ago(span(most, least, unit)?),
        ("date", "future", [most, unit]) => ago(future(span(most, "0", unit)?)),
        ("date", "future", [most, least, unit]) => ago(future(span(most, least, unit)?)),
        ("date", "between", [from, to]) => {
            let time = |text: &str| {
                parse_timestamp(text.trim(), TimestampFormat::Sql, false, TimeUnit::Millisecond).ok_or_else(
                    || bad(&format!("'{text}' is no time")).hint("times are yyyy-MM-dd HH:mm:ss[.SSS]"),
                )
            };
            let (from, to) = (time(from)?, time(to)?);
            if from > to {
                return Err(bad("the first time is after the second"));
            }
            Function::Between(from, to)
        }
        ("date", "birthday" | "birthdaylocaldate", []) => Function::Birthday(18, 65, method != "birthday"),
        ("date", "birthday" | "birthdaylocaldate", [least, most]) => {
            let (least, most) = (integer(least)?, integer(most)?);
            if !(0 <= least && least <= most && most <= 1000) {
                return Err(bad("ages are two numbers from 0 to 1000, the smaller one first"));
            }
            Function::Birthday(least, most, method != "birthday")
        }
        ("time", "past", [most, unit]) => time_of_day(span(most, "0", unit)?),
        ("time", "past", [most, least, unit]) => time_of_day(span(most, least, unit)?),
        ("time", "future", [most, unit]) => time_of_day(future(span(most, "0", unit)?)),
        ("time", "future", [most, least, unit]) => time_of_day(future(span(most, least, unit)?)),
        ("address", "latitude", []) => Function::Double(8, -90.0, 90.0),
        ("address", "longitude", []) => Function::Double(8, -180.0, 180.0),
        ("address", "streetaddressnumber", []) => Function::Integer(1, 1000),
        ("commerce", "price", []) => Function::Double(2, 0.0, 100.0),
        ("commerce", "price", [least, most]) => Function::Double(2, number(least)?, number(most)?),
        ("color", "hex", []) => Function::Color,
        ("crypto", "md5", []) => Function::Hex(32),
        ("crypto", "sha1", []) => Function::Hex(40),
        ("crypto", "sha256", []) => Function::Hex(64),
        ("crypto", "sha512", []) => Function::Hex(128),
        ("date", "past" | "future", [_, _, _, _]) => {
            return Err(bad("a pattern for the time is not supported")
                .hint("leave it out, and give a computed column the text: AS DATE_FORMAT(…, '…')"));
        }
        _ => return Ok(None),
    };
    Ok(Some(function))
}

fn between(a: usize, b: usize) -> Function {
    Function::Characters(a.min(b), a.max(b))
}

fn ago((least, most): (i64, i64)) -> Function {
    Function::Ago(least, most)
}

fn time_of_day((least, most): (i64, i64)) -> Function {
    Function::TimeOfDay(least, most)
}

/// Java's `TimeUnit` in milliseconds.
fn milliseconds(unit: &str) -> Option<i64> {
    Some(match unit.trim().to_ascii_uppercase().as_str() {
        "MILLISECONDS" => 1,
        "SECONDS" => 1_000,
        "MINUTES" => 60_000,
        "HOURS" => 3_600_000,
        "DAYS" => DAY_MS,
        _ => return None,
    })
}

impl Function {
    /// Bytes that no text has more of.
    pub(super) fn most_bytes(&self) -> u64 {
        match self {
            Function::Digits(n) | Function::Hex(n) | Function::Characters(_, n) => *n as u64,
            Function::Sentence(_, n) => *n as u64 * 20,
            Function::OneOf(all) => all.iter().map(String::len).max().unwrap_or(0) as u64,
            Function::Regex(regex) => regex.most_bytes(),
            Function::Pattern(text, _) | Function::Example(text) => text.len() as u64,
            _ => 40,
        }
    }

    /// Appends one text.
    pub(super) fn write(&self, value: &mut Value<'_>) {
        match self {
            Function::Integer(least, most) => {
                // Two's complement: the difference of any two fits 64 bits without a sign.
                let n = value.random.below(most.wrapping_sub(*least) as u64);
                write_number(value.out, least.wrapping_add(n as i64));
            }
            Function::Double(digits, least, most) => {
                let n = least + (most - least) * unit(value.random.next_u64());
                // Writing to memory does not fail.
                let _ = write!(value.out, "{n:.*}", *digits as usize);
            }
            Function::Digits(n) => {
                for _ in 0..*n {
                    value.out.push(b'0' + value.random.below(10) as u8);
                }
            }
            Function::Bool => {
                let text: &[u8] = if value.random.below(2) == 0 { b"false" } else { b"true" };
                value.out.extend_from_slice(text);
            }
            Function::OneOf(all) => {
                let chosen = value.random.below(all.len() as u64) as usize;
                value.out.extend_from_slice(all.get(chosen).map_or(b"", |t| t.as_bytes()));
            }
            Function::Regex(regex) => regex.write(value.random, value.out),
            Function::Color => {
                value.out.push(b'#');
                hex(value, 6);
            }
            Function::Pattern(text, finish) => {
                let begin = value.out.len();
                value.out.extend_from_slice(text.as_bytes());
                finish.apply(begin, value);
            }
            Function::Example(text) => {
                for c in text.chars() {
                    let (first, of) = match c {
                        '0'..='9' => (b'0', 10),
                        'a'..='z' => (b'a', 26),
                        'A'..='Z' => (b'A', 26),
                        c => {
                            push(value.out, c);
                            continue;
                        }
                    };
                    value.out.push(first + value.random.below(of) as u8);
                }
            }
            Function::Hex(n) => hex(value, *n),
            Function::Uuid => {
                let (high, low) = (value.random.next_u64(), value.random.next_u64());
                let uuid = uuid::Builder::from_random_bytes(
                    (u128::from(high) << 64 | u128::from(low)).to_be_bytes(),
                );
                value
                    .out
                    .extend_from_slice(uuid.into_uuid().hyphenated().encode_lower(&mut [0; 36]).as_bytes());
            }
            Function::IpV4(net) => {
                let address = net.address(value);
                let _ = write!(value.out, "{address}");
            }
            Function::IpV4Range => {
                let address = Net::Any.address(value);
                let bits = 1 + value.random.below(31);
                let _ = write!(value.out, "{address}/{bits}");
            }
            Function::IpV6 => {
                for i in 0..8 {
                    let _ = write!(
                        value.out,
                        "{}{:x}",
                        if i == 0 { "" } else { ":" },
                        value.random.below(65_536)
                    );
                }
            }
            Function::Mac => {
                for i in 0..6 {
                    let _ =
                        write!(value.out, "{}{:02x}", if i == 0 { "" } else { ":" }, value.random.below(256));
                }
            }
            Function::Characters(least, most) => {
                let n = least + value.random.below((most - least) as u64 + 1) as usize;
                for _ in 0..n {
                    let c = value.random.below(36) as u8;
                    value.out.push(if c < 10 { b'0' + c } else { b'a' + c - 10 });
                }
            }
            Function::Sentence(least, most) => {
                let n = least + value.random.below((most - least) as u64 + 1) as usize;
                let begin = value.out.len();
                for i in 0..n {
                    if i > 0 {
                        value.out.push(b' ');
                    }
                    value.out.extend_from_slice(word(value.random.next_u64()).as_bytes());
                }
                if let Some(first) = value.out.get_mut(begin) {
                    first.make_ascii_uppercase();
                }
                value.out.push(b'.');
            }
            Function::Ago(least, most) => {
                let time = away(value, *least, *most);
                write_time(value.out, time);
            }
            Function::TimeOfDay(least, most) => {
                let time = away(value, *least, *most).rem_euclid(DAY_MS);
                write_number(value.out, time.saturating_mul(1_000_000));
            }
            Function::Between(from, to) => {
                let time = from + value.random.below((to - from).unsigned_abs()) as i64;
                write_time(value.out, time);
            }
            Function::Birthday(least, most, date) => {
                let today = value.now.div_euclid(DAY_MS);
                let (from, to) = (add_months(today, -12 * most), add_months(today, -12 * least));
                let day = from + value.random.below((to - from).unsigned_abs()) as i64;
                if *date {
                    let (y, m, d) = civil(day);
                    let _ = write!(value.out, "{y:04}-{m:02}-{d:02}");
                } else {
                    let time = value.random.below(DAY_MS as u64) as i64;
                    write_time(value.out, day * DAY_MS + if least == most { 0 } else { time });
                }
            }
        }
    }
}

/// A time that lies at least and at most so far back, in milliseconds; datafaker keeps a millisecond's distance.
fn away(value: &mut Value<'_>, least: i64, most: i64) -> i64 {
    let ms = value.random.below((most - least - 1).max(1).unsigned_abs()) as i64;
    value.now.saturating_sub(least + 1 + ms)
}

/// As `java.sql.Timestamp` is written, in UTC.
fn write_time(out: &mut Vec<u8>, ms: i64) {
    write_timestamp(out, ms, TimeUnit::Millisecond, TimestampFormat::Sql, false);
    // Without a fraction Java writes `.0`.
    if ms % 1000 == 0 {
        out.extend_from_slice(b".0");
    }
}

fn write_number(out: &mut Vec<u8>, n: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn hex(value: &mut Value<'_>, digits: usize) {
    for _ in 0..digits {
        let n = value.random.below(16) as u8;
        value.out.push(if n < 10 { b'0' + n } else { b'a' + n - 10 });
    }
}

/// One of the words of Lorem ipsum.
fn word(random: u64) -> &'static str {
    let Some((_, mut words)) = words::list("lorem.words") else { return "lorem" };
    // The list has 30 words: found by walking.
    words.nth((random % 30) as usize).unwrap_or("lorem")
}

impl Net {
    fn address(self, value: &mut Value<'_>) -> std::net::Ipv4Addr {
        let mut byte = || value.random.below(256) as u8;
        let [mut a, mut b, c, d] = [byte(), byte(), byte(), byte()];
        match self {
            Net::Any => {}
            Net::Public => {
                while matches!(a, 0 | 10 | 127 | 169 | 172 | 192 | 224..) {
                    a = byte();
                }
            }
            Net::Private => {
                [a, b] = match a % 3 {
                    0 => [10, b],
                    1 => [172, 16 + b % 16],
                    _ => [192, 168],
                };
            }
        }
        std::net::Ipv4Addr::new(a, b, c, d)
    }
}
