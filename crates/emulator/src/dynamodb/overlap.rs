//! TransactionConflict from real overlap: which items are being written right now, and by what.
//!
//! A transaction holds its items from its arrival until its effect; a plain write that takes time holds its item too.
//! Two plain writes may overlap, a transaction may overlap with nothing (developer guide, "transactional conflicts").

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::Value;

use crate::trace::lock;

/// The items that one call writes, and how.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Items {
    /// Table and key of each item, in the order of the request.
    pub(crate) keys: Vec<String>,
    /// Whether they are one transaction.
    pub(crate) transaction: bool,
    /// Whether the call writes at all; TransactGetItems does not, yet conflicts.
    pub(crate) writes: bool,
}

/// A hold on items until it is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold(u64);

/// Every item that is held.
#[derive(Debug, Default)]
pub(super) struct Holds {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    held: BTreeMap<u64, Items>,
}

impl Holds {
    /// Which items of the call stand in conflict with what is under way, by position; `None` if none does.
    pub(super) fn conflicts(&self, items: &Items) -> Option<Vec<bool>> {
        let state = lock(&self.state);
        let hit = |key: &String| {
            state.held.values().any(|held| (held.transaction || items.transaction) && held.keys.contains(key))
        };
        let hits: Vec<bool> = items.keys.iter().map(hit).collect();
        hits.contains(&true).then_some(hits)
    }

    /// Holds these items.
    pub(super) fn hold(&self, items: Items) -> Hold {
        let mut state = lock(&self.state);
        let id = state.next;
        state.next += 1;
        state.held.insert(id, items);
        Hold(id)
    }

    /// Gives the items back.
    pub(super) fn release(&self, hold: Hold) {
        lock(&self.state).held.remove(&hold.0);
    }
}

/// The items that a request names; `key_names` gives the key attributes of a table.
pub(super) fn items(operation: &str, request: &Value, key_names: impl Fn(&str) -> Vec<String>) -> Items {
    let single = |request: &Value| key_of(request, &key_names);
    match operation {
        "PutItem" | "UpdateItem" | "DeleteItem" => {
            Items { keys: single(request).into_iter().collect(), transaction: false, writes: true }
        }
        "GetItem" => Items { keys: single(request).into_iter().collect(), transaction: false, writes: false },
        "TransactWriteItems" | "TransactGetItems" => {
            let actions = request["TransactItems"].as_array().map(Vec::as_slice).unwrap_or_default();
            let inner = |action: &Value| action.as_object()?.values().find_map(single);
            let keys = actions.iter().map(|action| inner(action).unwrap_or_default()).collect();
            Items { keys, transaction: true, writes: operation == "TransactWriteItems" }
        }
        _ => Items::default(),
    }
}

fn key_of(request: &Value, key_names: &impl Fn(&str) -> Vec<String>) -> Option<String> {
    // A table may be given by its ARN.
    let table = request["TableName"].as_str()?;
    let table = table.rsplit_once('/').map_or(table, |(_, name)| name);
    let mut text = table.to_owned();
    let mut push = |name: &str, value: &Value| {
        let value = value.as_object().and_then(|typed| typed.iter().next());
        let (kind, value) = value.map(|(kind, value)| (kind.as_str(), value)).unwrap_or(("?", &Value::Null));
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        text.push_str(&format!("/{name}={kind}:{value}"));
    };
    match (request["Key"].as_object(), request["Item"].as_object()) {
        (Some(key), _) => {
            let mut names: Vec<_> = key.keys().collect();
            names.sort();
            names.into_iter().for_each(|name| push(name, &key[name]));
        }
        (None, Some(item)) => {
            let mut names = key_names(table);
            names.sort();
            names.iter().for_each(|name| push(name, item.get(name).unwrap_or(&Value::Null)));
        }
        (None, None) => return None,
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(_: &str) -> Vec<String> {
        vec!["leaseKey".to_owned()]
    }

    #[test]
    fn a_put_and_an_update_of_one_item_have_one_key() {
        let put = json!({ "TableName": "t", "Item": { "x": { "N": "1" }, "leaseKey": { "S": "a" } } });
        let update = json!({ "TableName": "arn:aws:dynamodb:us-east-1:000000000000:table/t", "Key": { "leaseKey": { "S": "a" } } });
        assert_eq!(items("PutItem", &put, names), items("UpdateItem", &update, names));
        assert_eq!(items("PutItem", &put, names).keys, ["t/leaseKey=S:a"]);
    }

    #[test]
    fn plain_writes_overlap_and_transactions_do_not() {
        let holds = Holds::default();
        let plain = Items { keys: vec!["t/a".into()], transaction: false, writes: true };
        let transaction = Items { keys: vec!["t/b".into(), "t/a".into()], transaction: true, writes: true };
        let hold = holds.hold(plain.clone());
        assert_eq!(holds.conflicts(&plain), None);
        assert_eq!(holds.conflicts(&transaction), Some(vec![false, true]));
        holds.release(hold);
        holds.hold(transaction.clone());
        assert_eq!(holds.conflicts(&plain), Some(vec![true]));
        assert_eq!(holds.conflicts(&transaction), Some(vec![true, true]));
    }
}
