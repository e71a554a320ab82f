//! Faults by name, decided by rules and a seed, and how often each has struck.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// ThrottlingException, without effect.
    Throttle,
    /// Status 500, InternalServerException, without effect.
    Internal,
    /// Status 500 after the effect.
    InternalAfter,
    /// The connection is closed before the effect.
    DropRequest,
    /// The connection is closed after the effect; a statement has then been accepted and runs.
    DropAccepted,
    /// The connection is closed when the statement has ended, committed if it could.
    DropEnded,
    /// ActiveStatementsExceededException: nothing was accepted.
    ActiveStatements,
    /// DatabaseConnectionException: nothing was accepted.
    DatabaseConnection,
    /// The statement's id is not known any more.
    Forgotten,
    /// Everything ran; it is rolled back instead of committed, status ABORTED.
    Aborted,
    /// Everything ran; it is rolled back instead of committed, with a serialization failure.
    Serialization,
    /// Everything ran and was committed; status FAILED, as when the connection breaks while the commit is under way.
    CommitUnclear,
    /// The connection to PostgreSQL is ended by its server after the first COPY, or after the first statement.
    ConnectionGone,
    /// COPY takes so many seconds more, with its transaction open.
    SlowCopy,
}

impl Fault {
    /// Whether it strikes a request, rather than a statement that runs.
    pub(crate) fn of_requests(self) -> bool {
        !matches!(
            self,
            Fault::Aborted | Fault::Serialization | Fault::CommitUnclear | Fault::ConnectionGone | Fault::SlowCopy
        )
    }
}

/// Where and how often a fault strikes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) fault: Fault,
    /// Only requests of this operation.
    #[serde(default)]
    operation: Option<String>,
    /// Only statements, and requests that bring statements, with a COPY in them.
    #[serde(default)]
    with_copy: bool,
    #[serde(default = "always")]
    probability: f64,
    /// So many times, then never more.
    #[serde(default)]
    times: Option<u32>,
    /// Of `slow_copy`.
    #[serde(default)]
    seconds: f64,
}

fn always() -> f64 {
    1.0
}

/// What strikes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Strike {
    pub(crate) fault: Fault,
    pub(crate) seconds: f64,
}

#[derive(Debug)]
struct State {
    rules: Vec<Rule>,
    seed: u64,
    counts: BTreeMap<Fault, u64>,
}

/// All rules.
#[derive(Debug)]
pub(crate) struct Faults(Mutex<State>);

impl Faults {
    pub(crate) fn new(seed: u64, rules: Vec<Rule>) -> Self {
        Self(Mutex::new(State { rules, seed, counts: BTreeMap::new() }))
    }

    pub(crate) fn set(&self, rules: Vec<Rule>) {
        self.lock().rules = rules;
    }

    pub(crate) fn rules(&self) -> Vec<Rule> {
        self.lock().rules.clone()
    }

    pub(crate) fn counts(&self) -> BTreeMap<Fault, u64> {
        self.lock().counts.clone()
    }

    /// The first rule that strikes, of those that `wanted` lets through, counted.
    pub(crate) fn strike(&self, operation: &str, has_copy: bool, wanted: impl Fn(Fault) -> bool) -> Option<Strike> {
        let mut state = self.lock();
        let state = &mut *state;
        for rule in &mut state.rules {
            let here = rule.operation.as_deref().is_none_or(|only| only == operation);
            let spent = rule.times == Some(0);
            if !wanted(rule.fault) || !here || spent || (rule.with_copy && !has_copy) {
                continue;
            }
            if unit(&mut state.seed) < rule.probability {
                rule.times = rule.times.map(|times| times - 1);
                *state.counts.entry(rule.fault).or_default() += 1;
                return Some(Strike { fault: rule.fault, seconds: rule.seconds });
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next number in 0..1 of a seed (splitmix64).
fn unit(seed: &mut u64) -> f64 {
    *seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^= mixed >> 31;
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_strikes_where_and_as_often_as_it_says() {
        let rules = r#"[{"fault":"throttle","operation":"DescribeStatement","times":2},
                        {"fault":"drop_ended","with_copy":true,"probability":0.5}]"#;
        let faults = Faults::new(7, serde_json::from_str(rules).expect("rules"));
        let any = |_| true;
        let throttled = (0..5).filter(|_| faults.strike("DescribeStatement", false, any).is_some()).count();
        assert_eq!(throttled, 2);
        assert_eq!(faults.strike("BatchExecuteStatement", false, any), None);
        let dropped = (0..1000).filter(|_| faults.strike("BatchExecuteStatement", true, any).is_some()).count();
        assert!((400..600).contains(&dropped), "{dropped} of 1000");
        assert_eq!(faults.counts(), BTreeMap::from([(Fault::Throttle, 2), (Fault::DropEnded, dropped as u64)]));
        assert_eq!(faults.strike("BatchExecuteStatement", true, |fault| fault == Fault::Aborted), None);
    }
}
