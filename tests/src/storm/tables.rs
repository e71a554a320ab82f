//! The two tables, read as plain items: whether the receipts' ranges chain, and what the lease rows say after the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde_json::{Value, json};

use super::http::call;
use super::{POSITION, TABLE};

/// A position as the tables hold it: sequence number or sentinel, and the sub-sequence number.
type Position = (String, String);

/// Every item of a table, read consistently, page by page. An item maps names to `{"S": ...}` and the like.
///
/// # Errors
/// Those of the connection, or an answer that is no page.
pub async fn scan(address: &str, table: &str) -> io::Result<Vec<Value>> {
    let headers = ["x-amz-target: DynamoDB_20120810.Scan", "content-type: application/x-amz-json-1.0"];
    let mut items = Vec::new();
    let mut from = Value::Null;
    loop {
        let mut request = json!({ "TableName": table, "ConsistentRead": true });
        if !from.is_null() {
            request["ExclusiveStartKey"] = from;
        }
        let (status, body) = call(address, "POST /", &headers, request.to_string().as_bytes()).await?;
        let mut page: Value = serde_json::from_slice(&body)?;
        if status != 200 {
            return Err(io::Error::other(format!("scanning {table}: {status} {page}")));
        }
        if let Some(found) = page["Items"].as_array_mut() {
            items.append(found);
        }
        from = page["LastEvaluatedKey"].take();
        if from.is_null() {
            return Ok(items);
        }
    }
}

/// Name of the commit table.
pub fn commits() -> String {
    format!("{TABLE}-standpipe-commits")
}

fn text(item: &Value, name: &str) -> String {
    let value = &item[name];
    value["S"].as_str().or(value["N"].as_str()).unwrap_or_default().to_owned()
}

fn list<'a>(item: &'a Value, name: &str) -> &'a [Value] {
    item[name]["L"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// One receipt.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The commit.
    pub cid: String,
    /// COMMITTED, DONE or RETRACTED.
    pub state: String,
    /// Records covered.
    pub records: u64,
    /// Keys of its outputs.
    pub keys: Vec<String>,
    ranges: Vec<(String, Position, Position)>,
}

/// All receipts, by commit.
///
/// # Errors
/// Those of the scan.
pub async fn receipts(address: &str) -> io::Result<BTreeMap<String, Receipt>> {
    let items = scan(address, &commits()).await?;
    // Beside receipts there are the items that pin the stream, the start and the fleet.
    let receipts = items.iter().filter(|item| !item["state"].is_null()).map(|item| {
        let range = |shard: &Value| {
            let shard = &shard["M"];
            let from = (text(shard, "from"), text(shard, "fromSub"));
            (text(shard, "lease"), from, (text(shard, "to"), text(shard, "toSub")))
        };
        let receipt = Receipt {
            cid: text(item, "cid"),
            state: text(item, "state"),
            records: text(item, "records").parse().unwrap_or_default(),
            keys: list(item, "outputs").iter().map(|output| text(&output["M"], "key")).collect(),
            ranges: list(item, "shards").iter().map(range).collect(),
        };
        (receipt.cid.clone(), receipt)
    });
    Ok(receipts.collect())
}

/// One lease row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// `leaseOwner`, if somebody holds it.
    pub owner: Option<String>,
    /// `spTenure`, base64.
    pub tenure: String,
    checkpoint: Position,
    at: Position,
    pending: Option<String>,
}

impl Lease {
    /// Whether it is finished for everybody.
    pub fn ended(&self) -> bool {
        self.checkpoint.0 == "SHARD_END"
    }
}

/// All leases, by key.
///
/// # Errors
/// Those of the scan.
pub async fn leases(address: &str) -> io::Result<BTreeMap<String, Lease>> {
    let items = scan(address, TABLE).await?;
    let leases = items.iter().map(|item| {
        let position = &item[POSITION]["M"];
        let lease = Lease {
            owner: item["leaseOwner"]["S"].as_str().map(str::to_owned),
            tenure: item["spTenure"]["B"].as_str().unwrap_or_default().to_owned(),
            checkpoint: (text(item, "checkpoint"), text(item, "checkpointSubSequenceNumber")),
            at: (text(position, "at"), text(position, "sub")),
            pending: position["cid"]["B"].as_str().map(str::to_owned),
        };
        (text(item, "leaseKey"), lease)
    });
    Ok(leases.collect())
}

/// After a clean end: the ranges of each shard chain from TRIM_HORIZON to the row's position, nothing is pending, nobody
/// holds an open lease, `checkpoint` is the position, and every open shard has a lease. Gives what is wrong.
pub fn check(
    receipts: &BTreeMap<String, Receipt>,
    leases: &BTreeMap<String, Lease>,
    open_shards: &BTreeSet<String>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut ranges: BTreeMap<&str, BTreeMap<Position, (Position, &str)>> = BTreeMap::new();
    for receipt in receipts.values().filter(|receipt| receipt.state != "RETRACTED") {
        if receipt.state != "DONE" {
            wrong.push(format!("receipt {} is {} after a clean end", receipt.cid, receipt.state));
        }
        for (lease, from, to) in &receipt.ranges {
            let of_lease = ranges.entry(lease).or_default();
            if let Some((_, other)) = of_lease.insert(from.clone(), (to.clone(), &receipt.cid)) {
                wrong.push(format!("I2: {other} and {} both begin at {} of {lease}", receipt.cid, from.0));
            }
        }
    }
    for (key, lease) in leases {
        let mut of_lease = ranges.remove(key.as_str()).unwrap_or_default();
        let mut at = ("TRIM_HORIZON".to_owned(), "0".to_owned());
        while let Some((to, _)) = of_lease.remove(&at) {
            at = to;
        }
        if !of_lease.is_empty() {
            let cids: Vec<_> = of_lease.values().map(|(_, cid)| *cid).take(3).collect();
            wrong.push(format!(
                "I2: {} ranges of {key} do not chain, the chain ends at {}: {cids:?}",
                of_lease.len(),
                at.0
            ));
        }
        if at != lease.at {
            wrong.push(format!("I2: the ranges of {key} end at {}, its row says {}", at.0, lease.at.0));
        }
        if lease.checkpoint != lease.at {
            wrong.push(format!("I8: checkpoint of {key} is {}, delivered is {}", lease.checkpoint.0, lease.at.0));
        }
        if let Some(cid) = &lease.pending {
            wrong.push(format!("{key} still carries the commit {cid}"));
        }
        // A finished lease is of no more use to anybody: that its last holder could not take its name off does no harm.
        if let Some(owner) = lease.owner.as_ref().filter(|_| !lease.ended()) {
            wrong.push(format!("{key} still names {owner} as its owner"));
        }
        if lease.ended() == open_shards.contains(key) {
            let state = if lease.ended() {
                "finished though its shard is open"
            } else {
                "not finished though its shard is closed"
            };
            wrong.push(format!("{key} is {state}"));
        }
    }
    wrong.extend(ranges.keys().map(|key| format!("there are receipts of {key}, which has no lease")));
    wrong.extend(open_shards.iter().filter(|key| !leases.contains_key(*key)).map(|key| format!("{key} has no lease")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: &str) -> Position {
        (position.to_owned(), "0".to_owned())
    }

    fn receipt(cid: &str, from: &str, to: &str) -> (String, Receipt) {
        let ranges = vec![("s".to_owned(), at(from), at(to))];
        let receipt = Receipt { cid: cid.to_owned(), state: "DONE".to_owned(), records: 1, keys: Vec::new(), ranges };
        (cid.to_owned(), receipt)
    }

    fn wrong(receipts: &[(String, Receipt)], row: &str) -> usize {
        let lease = Lease { owner: None, tenure: String::new(), checkpoint: at(row), at: at(row), pending: None };
        let leases = [("s".to_owned(), lease)].into();
        check(&receipts.iter().cloned().collect(), &leases, &["s".to_owned()].into()).len()
    }

    #[test]
    fn ranges_chain_or_are_wrong() {
        let good = [receipt("a", "TRIM_HORIZON", "5"), receipt("b", "5", "9")];
        assert_eq!(wrong(&good, "9"), 0);
        assert_eq!(wrong(&good, "5"), 1, "the row is behind");
        assert!(wrong(&[receipt("a", "TRIM_HORIZON", "5"), receipt("b", "6", "9")], "9") > 0, "a gap");
        assert!(wrong(&[receipt("a", "TRIM_HORIZON", "5"), receipt("b", "TRIM_HORIZON", "5")], "5") > 0, "twice");
    }
}
