//! The demo's records: orders of a web shop as JSON, each a function of its id, so that every row that is read back can
//! be compared with what was produced.

use std::fmt::Write;

use standpipe_flow::Millis;

/// The columns of an order, as they stand in the demo's config.
pub const COLUMNS: &str = "id bigint, placed_at timestamp, customer string, country string, currency string, \
                           total double, express boolean, items array<struct<sku:string,quantity:int,price:double>>";

const COUNTRIES: [(&str, &str); 8] = [
    ("DE", "EUR"),
    ("FR", "EUR"),
    ("ES", "EUR"),
    ("PL", "PLN"),
    ("GB", "GBP"),
    ("US", "USD"),
    ("JP", "JPY"),
    ("BR", "BRL"),
];
/// Customers; the partition key, so that their orders keep their order.
const CUSTOMERS: u64 = 20_000;
const ITEMS_MAX: u64 = 4;

/// One order.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// 0 for the first; no other order has it.
    pub id: u64,
    /// The partition key.
    pub customer: String,
    country: &'static str,
    currency: &'static str,
    express: bool,
    items: Vec<Item>,
}

#[derive(Debug, Clone, PartialEq)]
struct Item {
    sku: u64,
    quantity: u64,
    price_cents: u64,
}

impl Order {
    /// The order with this id.
    pub fn new(id: u64) -> Self {
        let mut dice = Dice(id);
        let (country, currency) = COUNTRIES[dice.below(COUNTRIES.len() as u64) as usize];
        let items = (0..=dice.below(ITEMS_MAX)).map(|_| Item {
            sku: dice.below(100_000),
            quantity: 1 + dice.below(5),
            price_cents: 99 + dice.below(20_000),
        });
        let items = items.collect();
        let customer = format!("c-{:05}", dice.below(CUSTOMERS));
        Self { id, customer, country, currency, express: dice.below(10) == 0, items }
    }

    /// What all items cost.
    pub fn total(&self) -> f64 {
        self.items.iter().map(|item| item.quantity * item.price_cents).sum::<u64>() as f64 / 100.0
    }

    /// The record.
    pub fn json(&self, placed_at: Millis) -> String {
        let mut json = String::with_capacity(512);
        let written = self.write(&mut json, placed_at);
        written.expect("a string takes everything");
        json
    }

    fn write(&self, json: &mut String, placed_at: Millis) -> std::fmt::Result {
        let placed_at =
            i64::try_from(placed_at.0).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
        let placed_at = placed_at.unwrap_or_default();
        let Self { id, customer, country, currency, express, .. } = self;
        write!(json, r#"{{"id":{id},"placed_at":"{placed_at:.3}","customer":"{customer}","country":"{country}""#)?;
        write!(json, r#","currency":"{currency}","total":{:.2},"express":{express},"items":["#, self.total())?;
        for (index, Item { sku, quantity, price_cents }) in self.items.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let price = *price_cents as f64 / 100.0;
            write!(json, r#"{comma}{{"sku":"SKU-{sku:05}","quantity":{quantity},"price":{price:.2}}}"#)?;
        }
        json.push_str("]}");
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): one sequence a seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_json_and_says_what_it_is() {
        for id in [0, 1, 77, 1_000_000] {
            let order = Order::new(id);
            assert_eq!(order, Order::new(id));
            let json: serde_json::Value = serde_json::from_str(&order.json(Millis(1_769_904_000_000))).expect("JSON");
            assert_eq!(json["id"], id);
            assert_eq!(json["total"].as_f64(), Some(order.total()));
            assert_eq!(json["placed_at"], "2026-02-01T00:00:00.000Z");
            assert!((1..=4).contains(&json["items"].as_array().expect("items").len()));
        }
    }

    #[test]
    fn the_columns_hold_every_field() {
        let columns = standpipe_convert::Columns::parse(COLUMNS).expect("the columns are sound");
        let json: serde_json::Value = serde_json::from_str(&Order::new(3).json(Millis(0))).expect("JSON");
        let names: Vec<_> = columns.as_slice().iter().map(|column| column.name.as_str()).collect();
        assert_eq!(json.as_object().expect("an object").keys().map(String::as_str).collect::<Vec<_>>(), names);
    }
}
