//! What was delivered, row by row, beside what was produced: nothing that a worker says is believed.
//!
//! Never here: where rows are read from.

use super::orders::Order;
use super::producer::Produced;

/// What was delivered.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Rows.
    pub delivered: u64,
    /// Produced orders that are in no row.
    pub lost: u64,
    /// Rows beyond the first of an order.
    pub duplicated: u64,
    /// Rows that are no order that was produced, or another than was produced.
    pub altered: u64,
    /// Rows that come after a later one of their shard in the same file; none where rows have no order.
    pub out_of_order: Option<u64>,
    /// Files.
    pub files: u64,
    /// Bytes of the files.
    pub file_bytes: u64,
    /// Rows of each shard, at its place in [`Produced::shards`].
    pub of_shard: Vec<u64>,
}

/// What is compared of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    pub id: Option<i64>,
    pub customer: &'a str,
    pub total: f64,
}

/// A count under way.
pub struct Tally<'a> {
    produced: &'a Produced,
    seen: Vec<u32>,
    /// So far.
    pub count: Count,
}

impl<'a> Tally<'a> {
    /// Before the first row.
    pub fn new(produced: &'a Produced) -> Self {
        let count = Count { of_shard: vec![0; produced.shards.len()], ..Count::default() };
        Self { produced, seen: vec![0; produced.shard_of.len()], count }
    }

    /// One row. Gives the order's id and the place of its shard; none if no such order was produced.
    pub fn row(&mut self, row: &Row<'_>) -> Option<(u64, usize)> {
        self.count.delivered += 1;
        let known = row.id.and_then(|id| u64::try_from(id).ok()).filter(|id| *id < self.seen.len() as u64);
        let Some(id) = known else {
            self.count.altered += 1;
            return None;
        };
        let order = Order::new(id);
        self.count.altered += u64::from(order.customer != row.customer || order.total() != row.total);
        self.seen[id as usize] += 1;
        let shard = usize::from(self.produced.shard_of[id as usize]);
        self.count.of_shard[shard] += 1;
        Some((id, shard))
    }

    /// After the last row.
    pub fn end(self) -> Count {
        let lost = self.seen.iter().filter(|times| **times == 0).count() as u64;
        let duplicated = self.seen.iter().map(|times| u64::from(times.saturating_sub(1))).sum();
        Count { lost, duplicated, ..self.count }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_repeats_and_changes_are_found() {
        let produced = Produced { shard_of: vec![0, 1, 0], shards: vec!["a".to_owned(), "b".to_owned()], bytes: 0 };
        let mut tally = Tally::new(&produced);
        let row = |tally: &mut Tally<'_>, id: i64, off: f64| {
            let order = Order::new(id as u64);
            tally.row(&Row { id: Some(id), customer: &order.customer, total: order.total() + off })
        };
        assert_eq!(row(&mut tally, 1, 0.0), Some((1, 1)));
        assert_eq!(row(&mut tally, 1, 0.5), Some((1, 1)));
        assert_eq!(row(&mut tally, 7, 0.0), None);
        assert_eq!(tally.row(&Row { id: None, customer: "", total: 0.0 }), None);
        let expected =
            Count { delivered: 4, lost: 2, duplicated: 1, altered: 3, of_shard: vec![0, 2], ..Count::default() };
        assert_eq!(tally.end(), expected);
    }
}
