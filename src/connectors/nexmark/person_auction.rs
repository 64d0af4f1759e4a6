//! Persons and auctions: 4 of 50 events.

use arrow::array::ArrayRef;
use arrow::datatypes::FieldRef;

use crate::connectors::synthetic::random::{Sequence, Stream, below32};
use crate::error::{Error, Result};

use super::Config;
use super::bid::{ExtraSize, POOL, PRICES, next_string};
use super::columns::Batch;
use super::segments::{AUCTIONS_IN_FLIGHT, EventKind, FIRST_AUCTION_ID, FIRST_PERSON_ID, active_persons};

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] = [
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
];
const FIRST_NAMES: [&str; 11] =
    ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] =
    ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

fn pick(random: &mut Sequence, from: &[&'static str]) -> &'static str {
    from.get(random.below(from.len() as u64) as usize).copied().unwrap_or_default()
}

/// The columns of persons.
pub(super) struct PersonColumns {
    name: Stream,
    email: Stream,
    card: Stream,
    city: Stream,
    state: Stream,
    extra: Stream,
}

impl PersonColumns {
    pub(super) fn new(seed: u64) -> Self {
        let stream = |salt: u64| Stream::new(seed, 0x100 + salt);
        PersonColumns {
            name: stream(0),
            email: stream(1),
            card: stream(2),
            city: stream(3),
            state: stream(4),
            extra: stream(5),
        }
    }

    pub(super) fn column(&self, config: &Config, field: &FieldRef, batch: &Batch<'_>) -> Result<ArrayRef> {
        const PERSON: EventKind = EventKind::Person;
        match field.name().as_str() {
            "id" => {
                let ids = batch.numbers(PERSON, |s, out| {
                    let first = config.last_person(s, 0) + FIRST_PERSON_ID;
                    out.iter_mut().zip(first..).for_each(|(id, n)| *id = n);
                });
                Ok(batch.array(PERSON, ids, field.data_type()))
            }
            "name" => batch.strings(PERSON, 16, |s, k, out| self.write_name(s.id + k, out)),
            "emailAddress" => batch.strings(PERSON, 16, |s, k, out| self.write_email(s.id + k, out)),
            "creditCard" => batch.strings(PERSON, 20, |s, k, out| self.write_card(s.id + k, out)),
            "city" => {
                batch.strings(PERSON, 16, |s, k, out| out.extend_from_slice(self.city(s.id + k).as_bytes()))
            }
            "state" => {
                batch.strings(PERSON, 2, |s, k, out| out.extend_from_slice(self.state(s.id + k).as_bytes()))
            }
            "extra" => {
                let pool = &*POOL;
                let mut scratch = Vec::new();
                batch.strings(PERSON, config.person_size as usize, |s, k, out| {
                    let id = s.id + k;
                    scratch.clear();
                    self.write_name(id, &mut scratch);
                    self.write_email(id, &mut scratch);
                    self.write_card(id, &mut scratch);
                    let size = 8 + scratch.len() + self.city(id).len() + self.state(id).len();
                    ExtraSize::new(size as i64, config.person_size).write(self.extra.at(id), pool, out);
                })
            }
            other => Err(Error::internal(format!("nexmark: no person field `{other}`"))),
        }
    }

    fn write_name(&self, id: u64, out: &mut Vec<u8>) {
        let mut random = self.name.sequence(id);
        out.extend_from_slice(pick(&mut random, &FIRST_NAMES).as_bytes());
        out.push(b' ');
        out.extend_from_slice(pick(&mut random, &LAST_NAMES).as_bytes());
    }

    fn write_email(&self, id: u64, out: &mut Vec<u8>) {
        let mut random = self.email.sequence(id);
        next_string(&mut random, 7, b' ', out);
        out.push(b'@');
        next_string(&mut random, 5, b' ', out);
        out.extend_from_slice(b".com");
    }

    fn write_card(&self, id: u64, out: &mut Vec<u8>) {
        let mut random = self.card.sequence(id);
        for i in 0..4 {
            if i > 0 {
                out.push(b' ');
            }
            let four = random.below(10_000);
            for power in [1000, 100, 10, 1] {
                out.push(b'0' + (four / power % 10) as u8);
            }
        }
    }

    fn city(&self, id: u64) -> &'static str {
        pick(&mut self.city.sequence(id), &CITIES)
    }

    fn state(&self, id: u64) -> &'static str {
        pick(&mut self.state.sequence(id), &STATES)
    }
}

const FIRST_CATEGORY: i64 = 10;
const CATEGORIES: u64 = 5;
const HOT_SELLER_EVERY: i64 = 100;

/// The columns of auctions.
pub(super) struct AuctionColumns {
    name: Stream,
    description: Stream,
    initial_bid: Stream,
    reserve: Stream,
    expires: Stream,
    seller: Stream,
    category: Stream,
    extra: Stream,
}

impl AuctionColumns {
    pub(super) fn new(seed: u64) -> Self {
        let stream = |salt: u64| Stream::new(seed, 0x200 + salt);
        AuctionColumns {
            name: stream(0),
            description: stream(1),
            initial_bid: stream(2),
            reserve: stream(3),
            expires: stream(4),
            seller: stream(5),
            category: stream(6),
            extra: stream(7),
        }
    }

    pub(super) fn column(
        &self,
        config: &Config,
        base_time: i64,
        field: &FieldRef,
        batch: &Batch<'_>,
    ) -> Result<ArrayRef> {
        const AUCTION: EventKind = EventKind::Auction;
        let values = match field.name().as_str() {
            "itemName" => {
                return batch.strings(AUCTION, 20, |s, k, out| {
                    next_string(&mut self.name.sequence(s.id + k), 20, b' ', out);
                });
            }
            "description" => {
                return batch.strings(AUCTION, 100, |s, k, out| {
                    next_string(&mut self.description.sequence(s.id + k), 100, b' ', out);
                });
            }
            "extra" => {
                let pool = &*POOL;
                let mut scratch = Vec::new();
                return batch.strings(AUCTION, config.auction_size as usize, |s, k, out| {
                    let id = s.id + k;
                    scratch.clear();
                    next_string(&mut self.name.sequence(id), 20, b' ', &mut scratch);
                    next_string(&mut self.description.sequence(id), 100, b' ', &mut scratch);
                    let size = ExtraSize::new(48 + scratch.len() as i64, config.auction_size);
                    size.write(self.extra.at(id), pool, out);
                });
            }
            "id" => batch.numbers(AUCTION, |s, out| {
                let first = config.last_auction(s, 0) + FIRST_AUCTION_ID;
                out.iter_mut().zip(first..).for_each(|(id, n)| *id = n);
            }),
            "initialBid" => batch.numbers(AUCTION, |s, out| {
                for (v, id) in out.iter_mut().zip(s.ids()) {
                    *v = PRICES.of(self.initial_bid.at(id));
                }
            }),
            "reserve" => batch.numbers(AUCTION, |s, out| {
                for (v, id) in out.iter_mut().zip(s.ids()) {
                    *v = PRICES.of(self.initial_bid.at(id)) + PRICES.of(self.reserve.at(id));
                }
            }),
            "expires" => {
                // An auction lasts until about as many more auctions have begun as are in flight.
                let events = AUCTIONS_IN_FLIGHT as u64 * config.total() / u64::from(config.auctions.max(1));
                batch.numbers(AUCTION, |s, out| {
                    for (v, id) in out.iter_mut().zip(s.ids()) {
                        let now = config.timestamp(base_time, id);
                        // The number of nexmark-flink's event is its id less one.
                        let horizon = config.timestamp(base_time, id + events) - now;
                        let span = (horizon * 2).max(1) as u64;
                        *v = now + 1 + self.expires.sequence(id).below(span) as i64;
                    }
                })
            }
            "seller" => batch.numbers(AUCTION, |s, out| {
                let last = config.last_person(s, 0);
                let hot = last / HOT_SELLER_EVERY * HOT_SELLER_EVERY;
                let (first, count) = active_persons(last);
                for (v, id) in out.iter_mut().zip(s.ids()) {
                    let random = self.seller.at(id);
                    let is_hot = below32((random >> 32) as u32, config.hot_sellers) > 0;
                    let person = if is_hot { hot } else { first + i64::from(below32(random as u32, count)) };
                    *v = person + FIRST_PERSON_ID;
                }
            }),
            "category" => batch.numbers(AUCTION, |s, out| {
                for (v, id) in out.iter_mut().zip(s.ids()) {
                    *v = FIRST_CATEGORY + self.category.sequence(id).below(CATEGORIES) as i64;
                }
            }),
            other => return Err(Error::internal(format!("nexmark: no auction field `{other}`"))),
        };
        Ok(batch.array(AUCTION, values, field.data_type()))
    }
}
