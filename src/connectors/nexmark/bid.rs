//! Bids: 46 of 50 events, so every column is a tight loop over segments.

use std::sync::LazyLock;

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;

use crate::connectors::synthetic::random::{Sequence, Stream, below32};
use crate::error::{Error, Result};

use super::Config;
use super::columns::Batch;
use super::segments::{EventKind, FIRST_AUCTION_ID, FIRST_PERSON_ID, active_auctions, active_persons};

/// Hot auctions and bidders are the first (second) of each hundred.
const HOT_EVERY: i64 = 100;

const CHANNELS: u32 = 10_000;
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// The columns of bids.
pub(super) struct BidColumns {
    auction: Stream,
    bidder: Stream,
    price: Stream,
    channel: Stream,
    extra: Stream,
}

impl BidColumns {
    pub(super) fn new(seed: u64) -> Self {
        let stream = |salt: u64| Stream::new(seed, 0x300 + salt);
        BidColumns {
            auction: stream(0),
            bidder: stream(1),
            price: stream(2),
            channel: stream(3),
            extra: stream(4),
        }
    }

    pub(super) fn column(&self, config: &Config, field: &FieldRef, batch: &Batch<'_>) -> Result<ArrayRef> {
        const BID: EventKind = EventKind::Bid;
        let values = match field.name().as_str() {
            "auction" => batch.numbers(BID, |s, out| {
                let last = config.last_auction(s, 0);
                let hot = last / HOT_EVERY * HOT_EVERY + FIRST_AUCTION_ID;
                let (first, count) = active_auctions(last);
                draw(self.auction, s.id, out, config.hot_auctions, hot, first + FIRST_AUCTION_ID, count);
            }),
            "bidder" => batch.numbers(BID, |s, out| {
                let last = config.last_person(s, 0);
                let hot = last / HOT_EVERY * HOT_EVERY + 1;
                let (first, count) = active_persons(last);
                // nexmark-flink adds the first id twice to bidders; its results are published with that.
                let base = 2 * FIRST_PERSON_ID;
                draw(self.bidder, s.id, out, config.hot_bidders, hot + base, first + base, count);
            }),
            "price" => {
                let prices = &*PRICES;
                batch.numbers(BID, |s, out| {
                    for (p, id) in out.iter_mut().zip(s.ids()) {
                        *p = prices.of(self.price.at(id));
                    }
                })
            }
            "channel" => {
                let channels = &*CHANNEL_TEXTS;
                return batch.strings(BID, 12, |s, k, out| {
                    out.extend_from_slice(channels.channel(self.channel.at(s.id + k)).as_bytes());
                });
            }
            "url" => {
                let channels = &*CHANNEL_TEXTS;
                return batch.strings(BID, 64, |s, k, out| {
                    out.extend_from_slice(channels.url(self.channel.at(s.id + k)).as_bytes());
                });
            }
            "extra" => {
                let size = ExtraSize::new(32, config.bid_size);
                let pool = &*POOL;
                return batch.strings(BID, size.most(), |s, k, out| {
                    size.write(self.extra.at(s.id + k), pool, out);
                });
            }
            other => return Err(Error::internal(format!("nexmark: no bid field `{other}`"))),
        };
        Ok(batch.array(BID, values, field.data_type()))
    }
}

/// Fills with `hot`, but one in `ratio` drawn from `first..first + count`.
fn draw(stream: Stream, id: u64, out: &mut [i64], ratio: u32, hot: i64, first: i64, count: u32) {
    for (value, id) in out.iter_mut().zip(id..) {
        let random = stream.at(id);
        let cold = first + i64::from(below32(random as u32, count));
        *value = if below32((random >> 32) as u32, ratio) > 0 { hot } else { cold };
    }
}

/// Prices: `round(10^(6u) * 100)` for uniform u, from two tables instead of a power per event.
pub(super) struct Prices {
    coarse: Vec<f64>,
    fine: Vec<f64>,
}

pub(super) static PRICES: LazyLock<Prices> = LazyLock::new(|| {
    let power = |step: f64| (0..4096).map(|i| 10f64.powf(6.0 * f64::from(i) * step)).collect::<Vec<f64>>();
    Prices { coarse: power(1.0 / 4096.0), fine: power(1.0 / 4096.0 / 4096.0) }
});

impl Prices {
    /// A price from 24 of 64 random bits.
    #[inline]
    pub(super) fn of(&self, random: u64) -> i64 {
        let coarse = self.coarse.get((random >> 52) as usize).copied().unwrap_or(1.0);
        let fine = self.fine.get((random >> 40 & 4095) as usize).copied().unwrap_or(1.0);
        (coarse * fine * 100.0 + 0.5) as i64
    }
}

/// Names and URLs of channels, the same in every run.
struct ChannelTexts {
    names: Vec<String>,
    urls: Vec<String>,
    hot_urls: Vec<String>,
}

static CHANNEL_TEXTS: LazyLock<ChannelTexts> = LazyLock::new(|| {
    let mut random = Sequence::seeded(0x6e65_786d);
    let mut base_url = || {
        let mut url = b"https://www.nexmark.com/".to_vec();
        for _ in 0..3 {
            next_string(&mut random, 5, b'_', &mut url);
            url.push(b'/');
        }
        url.extend_from_slice(b"item.htm?query=1");
        (String::from_utf8_lossy(&url).into_owned(), random.below(10) > 0)
    };
    let hot_urls = HOT_CHANNELS.iter().map(|_| base_url().0).collect();
    let mut names = Vec::with_capacity(CHANNELS as usize);
    let mut urls = Vec::with_capacity(CHANNELS as usize);
    for i in 0..CHANNELS as i32 {
        let (mut url, with_id) = base_url();
        if with_id {
            // Java's Math.abs(Integer.reverse(i)), which keeps the one value that has no positive.
            url.push_str(&format!("&channel_id={}", i.reverse_bits().wrapping_abs()));
        }
        names.push(format!("channel-{i}"));
        urls.push(url);
    }
    ChannelTexts { names, urls, hot_urls }
});

impl ChannelTexts {
    fn channel(&self, random: u64) -> &str {
        match choose(random) {
            Ok(hot) => HOT_CHANNELS.get(hot).copied().unwrap_or_default(),
            Err(cold) => self.names.get(cold).map_or("", String::as_str),
        }
    }

    fn url(&self, random: u64) -> &str {
        match choose(random) {
            Ok(hot) => self.hot_urls.get(hot).map_or("", String::as_str),
            Err(cold) => self.urls.get(cold).map_or("", String::as_str),
        }
    }
}

/// Half of the bids come through one of four hot channels.
fn choose(random: u64) -> Result<usize, usize> {
    let pick = random as u32;
    if random >> 63 == 1 { Ok((pick >> 30) as usize) } else { Err(below32(pick, CHANNELS) as usize) }
}

/// Random letters to cut `extra` from, as in nexmark-flink.
pub(super) static POOL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Sequence::seeded(0x706f_6f6c);
    let mut pool = Vec::with_capacity(POOL_SIZE);
    while pool.len() < POOL_SIZE {
        let mut bits = random.next_u64();
        for _ in 0..12 {
            pool.push(b'a' + (bits % 26) as u8);
            bits /= 26;
        }
    }
    pool
});

/// An eighth of what nexmark-flink keeps: it stays in the cache of a core.
const POOL_SIZE: usize = 1 << 17;

/// Lengths of `extra` that bring the event to its average size: 80 % to 120 % of what is missing.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExtraSize {
    least: u32,
    spread: u32,
}

impl ExtraSize {
    pub(super) fn new(current: i64, average: i64) -> Self {
        if current > average {
            return ExtraSize { least: 0, spread: 0 };
        }
        let missing = average - current;
        let delta = (missing as f64 * 0.2).round() as i64;
        ExtraSize { least: (missing - delta) as u32, spread: (2 * delta) as u32 }
    }

    fn most(self) -> usize {
        (self.least + self.spread) as usize
    }

    pub(super) fn write(self, random: u64, pool: &[u8], out: &mut Vec<u8>) {
        let len = (self.least + below32(random as u32, self.spread)) as usize;
        let room = pool.len().saturating_sub(len);
        let start = below32((random >> 32) as u32, room as u32) as usize;
        out.extend_from_slice(pool.get(start..start + len).unwrap_or_default());
    }
}

/// 3 to `most` - 1 letters, one in 13 of them `special`; spaces at the ends are cut off.
pub(super) fn next_string(random: &mut Sequence, most: u64, special: u8, out: &mut Vec<u8>) {
    const ONE_IN_13: u32 = 65536 / 13;
    let len = 3 + random.below(most - 3);
    let start = out.len();
    let mut bits = 0;
    for i in 0..len {
        if i % 4 == 0 {
            bits = random.next_u64();
        }
        let part = (bits & 0xffff) as u32;
        bits >>= 16;
        out.push(match part.checked_sub(ONE_IN_13) {
            None => special,
            Some(rest) => b'a' + (rest * 26 / (65536 - ONE_IN_13)) as u8,
        });
    }
    if special == b' ' {
        while out.len() > start && out.last() == Some(&b' ') {
            out.pop();
        }
        let leading = out.iter().skip(start).take_while(|c| **c == b' ').count();
        out.drain(start..start + leading);
    }
}
