//! Faults by name, decided by rules and a seeded generator, or by a hook of the simulation.
//!
//! A rule says where (service, operation, connection, detail), when (a span of the clock, a probability, a number of
//! times) and what. Several rules may strike one call: their effects add up. The order of decisions is the order of
//! calls, so one seed and one order of calls give one list of faults.

use std::fmt;
use std::sync::Mutex;

use crate::call::{Call, Service};
use crate::trace::lock;

/// What goes wrong with one call. Durations are milliseconds of the tokio clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Refused for throughput, without effect: ProvisionedThroughputExceededException, for S3 503 SlowDown.
    Throttle,
    /// The service works for so long: the effect comes at the end, and a write of DynamoDB holds its items meanwhile.
    Delay(u64),
    /// The request is on its way for so long; it arrives even if the caller has gone away.
    DelayRequest(u64),
    /// The effect happens at once, the answer comes so much later.
    DelayAnswer(u64),
    /// The effect happens, then the connection breaks.
    DropAnswer,
    /// The connection breaks before the request arrives.
    DropRequest,
    /// The effect happens, the answer arrives, and the same request arrives once more so much later.
    Repeat(u64),
    /// DynamoDB: another transaction holds an item; no effect.
    TransactionConflict,
    /// S3 CompleteMultipartUpload: status 200 with an error in the body; no effect.
    OkWithError,
    /// S3 CompleteMultipartUpload: the effect happens, then status 200 with an error in the body.
    OkWithErrorAfterEffect,
    /// S3 CompleteMultipartUpload: the effect happens, then NoSuchUpload is answered.
    NoSuchUploadAfterComplete,
    /// S3, a write under a condition: 409 ConditionalRequestConflict, another write of the key is under way; no effect.
    ConditionalConflict,
    /// Kinesis GetRecords: ExpiredIteratorException.
    ExpiredIterator,
    /// Kinesis: ResourceNotFoundException, although the shard is there; no effect.
    NotFound,
    /// The service cannot be reached (give the rule a span).
    Away,
    /// Status 500, without effect.
    InternalError,
    /// The effect happens, then status 500.
    InternalErrorAfterEffect,
    /// The effect happens, no answer ever comes, and the connection stays open.
    Unanswered,
    /// Kinesis SubscribeToShard: ResourceInUseException; no effect.
    InUse,
    /// Kinesis: LimitExceededException; no effect.
    LimitExceeded,
    /// Kinesis SubscribeToShard: after so many events the connection breaks, in the middle of the next one.
    EventsCut(u32),
    /// Kinesis SubscribeToShard: after so many events nothing comes any more, and the connection stays open.
    EventsSilent(u32),
    /// Kinesis SubscribeToShard: after so many events, one whose continuation is empty although no children are named.
    EventInvalid(u32),
    /// Kinesis SubscribeToShard: after so many events the stream ends with InternalFailureException.
    EventsFail(u32),
    /// Kinesis SubscribeToShard: after so many events the stream ends with ResourceInUseException.
    EventsTaken(u32),
}

/// What goes wrong with the events of one subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventsFault {
    /// So many events come as they should.
    pub(crate) after: u32,
    pub(crate) trouble: EventsTrouble,
}

/// What follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventsTrouble {
    Cut,
    Silent,
    Invalid,
    Fail,
    Taken,
}

type Matcher = Box<dyn Fn(&Call) -> bool + Send + Sync>;

/// Where and when a fault strikes.
pub struct Rule {
    service: Option<Service>,
    operation: Option<String>,
    connection: Option<String>,
    detail: Option<String>,
    matcher: Option<Matcher>,
    probability: f64,
    times: Option<u32>,
    from_millis: u64,
    until_millis: u64,
    fault: Fault,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("service", &self.service)
            .field("operation", &self.operation)
            .field("connection", &self.connection)
            .field("probability", &self.probability)
            .field("times", &self.times)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

impl Rule {
    /// A fault that strikes every call of a service, until it is narrowed.
    pub fn new(service: Service, fault: Fault) -> Self {
        Self { service: Some(service), ..Self::everywhere(fault) }
    }

    /// A fault that strikes every call of every service, until it is narrowed.
    pub fn everywhere(fault: Fault) -> Self {
        Self {
            service: None,
            operation: None,
            connection: None,
            detail: None,
            matcher: None,
            probability: 1.0,
            times: None,
            from_millis: 0,
            until_millis: u64::MAX,
            fault,
        }
    }

    /// Only this operation, by the API's name.
    pub fn operation(mut self, name: &str) -> Self {
        self.operation = Some(name.to_owned());
        self
    }

    /// Only calls of this connection.
    pub fn connection(mut self, name: &str) -> Self {
        self.connection = Some(name.to_owned());
        self
    }

    /// Only calls whose detail contains this text.
    pub fn detail(mut self, part: &str) -> Self {
        self.detail = Some(part.to_owned());
        self
    }

    /// Only calls for which this holds.
    pub fn when(mut self, matcher: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Self {
        self.matcher = Some(Box::new(matcher));
        self
    }

    /// Strikes a matching call with this probability, 0 to 1, drawn from the seeded generator.
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// Strikes so many times, then never again.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Strikes only in this span of the emulator's clock, epoch milliseconds, the end excluded.
    pub fn between(mut self, from_millis: u64, until_millis: u64) -> Self {
        self.from_millis = from_millis;
        self.until_millis = until_millis;
        self
    }

    fn matches(&self, call: &Call) -> bool {
        self.times != Some(0)
            && (self.from_millis..self.until_millis).contains(&call.at_millis)
            && self.service.is_none_or(|service| service == call.service)
            && self.operation.as_ref().is_none_or(|name| *name == call.operation)
            && self.connection.as_ref().is_none_or(|name| **name == *call.connection)
            && self.detail.as_ref().is_none_or(|part| call.detail.contains(part.as_str()))
            && self.matcher.as_ref().is_none_or(|matcher| matcher(call))
    }
}

/// How long requests and answers travel when nothing is wrong, in milliseconds, both ends included; drawn per call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// From the caller to the service.
    pub request: (u64, u64),
    /// From the service to the caller.
    pub answer: (u64, u64),
    /// How long a TransactWriteItems holds its items.
    pub transaction: (u64, u64),
}

type Hook = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;

/// The faults of one emulator.
pub struct Faults {
    latency: Latency,
    state: Mutex<State>,
}

struct State {
    rules: Vec<Rule>,
    hook: Option<Hook>,
    random: SplitMix,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("rules", &lock(&self.state).rules).finish_non_exhaustive()
    }
}

impl Faults {
    pub(crate) fn new(seed: u64, latency: Latency) -> Self {
        Self { latency, state: Mutex::new(State { rules: Vec::new(), hook: None, random: SplitMix(seed) }) }
    }

    /// Adds a rule; rules are asked in the order in which they were added.
    pub fn add(&self, rule: Rule) {
        lock(&self.state).rules.push(rule);
    }

    /// Forgets every rule and the hook.
    pub fn clear(&self) {
        let mut state = lock(&self.state);
        state.rules.clear();
        state.hook = None;
    }

    /// Asks this closure about every call, before the rules.
    pub fn set_hook(&self, hook: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        lock(&self.state).hook = Some(Box::new(hook));
    }

    /// What will happen to this call.
    pub(crate) fn fate(&self, call: &Call) -> Fate {
        let mut state = lock(&self.state);
        let mut fate = Fate::default();
        let transaction = call.operation == "TransactWriteItems";
        fate.before_millis = state.random.within(self.latency.request);
        fate.after_millis = state.random.within(self.latency.answer);
        if transaction {
            fate.hold_millis = state.random.within(self.latency.transaction);
        }
        if let Some(fault) = state.hook.as_mut().and_then(|hook| hook(call)) {
            fate.strike(fault);
        }
        let State { rules, random, .. } = &mut *state;
        for rule in rules.iter_mut().filter(|rule| rule.matches(call)) {
            if rule.probability >= 1.0 || random.unit() < rule.probability {
                rule.times = rule.times.map(|left| left - 1);
                fate.strike(rule.fault);
            }
        }
        fate
    }
}

/// An answer that takes the place of the true one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Instead {
    Throttle,
    TransactionConflict,
    OkWithError,
    NoSuchUpload,
    ConditionalConflict,
    NotFound,
    ExpiredIterator,
    InternalError,
    InUse,
    LimitExceeded,
}

/// What will happen to one call: travel, work, answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) before_millis: u64,
    pub(crate) hold_millis: u64,
    pub(crate) after_millis: u64,
    pub(crate) repeat_millis: Option<u64>,
    /// Whether the service acts at all.
    pub(crate) acts: bool,
    pub(crate) instead: Option<Instead>,
    pub(crate) refused: bool,
    pub(crate) answer_lost: bool,
    pub(crate) unanswered: bool,
    pub(crate) events: Option<EventsFault>,
}

impl Default for Fate {
    fn default() -> Self {
        Self {
            before_millis: 0,
            hold_millis: 0,
            after_millis: 0,
            repeat_millis: None,
            acts: true,
            instead: None,
            refused: false,
            answer_lost: false,
            unanswered: false,
            events: None,
        }
    }
}

impl Fate {
    /// Whether the call takes no time and nothing follows it.
    pub(crate) fn is_prompt(&self) -> bool {
        self.before_millis == 0 && self.hold_millis == 0 && self.after_millis == 0 && self.repeat_millis.is_none()
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Throttle => self.refuse(Instead::Throttle),
            Fault::Delay(millis) => self.hold_millis += millis,
            Fault::DelayRequest(millis) => self.before_millis += millis,
            Fault::DelayAnswer(millis) => self.after_millis += millis,
            Fault::DropAnswer => self.answer_lost = true,
            Fault::DropRequest => {
                self.acts = false;
                self.answer_lost = true;
            }
            Fault::Repeat(millis) => self.repeat_millis = Some(millis),
            Fault::TransactionConflict => self.refuse(Instead::TransactionConflict),
            Fault::OkWithError => self.refuse(Instead::OkWithError),
            Fault::OkWithErrorAfterEffect => self.answer_after(Instead::OkWithError),
            Fault::NoSuchUploadAfterComplete => self.answer_after(Instead::NoSuchUpload),
            Fault::ConditionalConflict => self.refuse(Instead::ConditionalConflict),
            Fault::ExpiredIterator => self.refuse(Instead::ExpiredIterator),
            Fault::NotFound => self.refuse(Instead::NotFound),
            Fault::Away => {
                self.acts = false;
                self.refused = true;
            }
            Fault::InternalError => self.refuse(Instead::InternalError),
            Fault::InternalErrorAfterEffect => self.answer_after(Instead::InternalError),
            Fault::Unanswered => self.unanswered = true,
            Fault::InUse => self.refuse(Instead::InUse),
            Fault::LimitExceeded => self.refuse(Instead::LimitExceeded),
            Fault::EventsCut(after) => self.trouble(after, EventsTrouble::Cut),
            Fault::EventsSilent(after) => self.trouble(after, EventsTrouble::Silent),
            Fault::EventInvalid(after) => self.trouble(after, EventsTrouble::Invalid),
            Fault::EventsFail(after) => self.trouble(after, EventsTrouble::Fail),
            Fault::EventsTaken(after) => self.trouble(after, EventsTrouble::Taken),
        }
    }

    fn trouble(&mut self, after: u32, trouble: EventsTrouble) {
        self.events = Some(EventsFault { after, trouble });
    }

    /// In the place of the answer to what was done: what another fault keeps from being done has no such answer.
    fn answer_after(&mut self, instead: Instead) {
        if self.acts {
            self.instead = Some(instead);
        }
    }

    fn refuse(&mut self, instead: Instead) {
        self.acts = false;
        self.instead = Some(instead);
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): small, seeded, the same on every machine.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number in [0, 1) of 53 bits.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn within(&mut self, (low, high): (u64, u64)) -> u64 {
        if high <= low { low } else { low + self.next() % (high - low + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(at_millis: u64, operation: &str) -> Call {
        Call {
            at_millis,
            connection: "w1".into(),
            service: Service::Kinesis,
            operation: operation.to_owned(),
            detail: "s/0".to_owned(),
        }
    }

    #[test]
    fn a_rule_is_bound_by_operation_span_and_count() {
        let faults = Faults::new(1, Latency::default());
        let rule = Rule::new(Service::Kinesis, Fault::Throttle).operation("GetRecords").between(10, 20).times(1);
        faults.add(rule);
        assert!(faults.fate(&call(9, "GetRecords")).acts);
        assert!(faults.fate(&call(12, "PutRecord")).acts);
        assert!(!faults.fate(&call(12, "GetRecords")).acts);
        assert!(faults.fate(&call(13, "GetRecords")).acts, "it struck once already");
    }

    #[test]
    fn one_seed_gives_one_list_of_faults() {
        let fates = |seed| {
            let faults = Faults::new(seed, Latency { request: (1, 9), ..Latency::default() });
            faults.add(Rule::everywhere(Fault::DropAnswer).probability(0.5));
            (0..64).map(|at| faults.fate(&call(at, "GetRecords"))).collect::<Vec<_>>()
        };
        assert_eq!(fates(7), fates(7));
        assert_ne!(fates(7), fates(8));
        let lost = fates(7).iter().filter(|fate| fate.answer_lost).count();
        assert!((16..48).contains(&lost), "about a half: {lost}");
    }

    #[test]
    fn what_was_not_done_is_not_answered_as_if_it_were() {
        for before in [Fault::OkWithError, Fault::InternalError, Fault::Throttle] {
            let both = |faults: [Fault; 2]| {
                let mut fate = Fate::default();
                faults.into_iter().for_each(|fault| fate.strike(fault));
                (fate.acts, fate.instead)
            };
            let after = Fault::NoSuchUploadAfterComplete;
            assert_eq!(both([before, after]), both([after, before]), "in either order");
            assert_ne!(
                both([before, after]),
                (false, Some(Instead::NoSuchUpload)),
                "no upload is said to be gone that lives"
            );
        }
    }

    #[test]
    fn faults_add_up() {
        let faults = Faults::new(1, Latency::default());
        faults.add(Rule::everywhere(Fault::Delay(5)));
        faults.set_hook(|_| Some(Fault::DropAnswer));
        let fate = faults.fate(&call(0, "PutRecord"));
        assert!(fate.acts && fate.answer_lost && fate.hold_millis == 5 && !fate.is_prompt());
    }
}
