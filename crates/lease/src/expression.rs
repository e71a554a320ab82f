//! `lease ->`: a [`RowWrite`] of the protocol as DynamoDB's expressions, for UpdateItem and for the Update of a
//! transaction alike.
//!
//! Every condition begins with `attribute_exists(leaseKey)`: an update must never make a row again that a Java worker
//! has deleted. Every attribute is named by a `#` placeholder (AT, TO, STATE and MODE are reserved words), maps are
//! written whole, `spGen` absent counts as 0. What is rendered does exactly what [`RowWrite::apply`] does in memory.
//!
//! Never here: what a write is for, or who sends it.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::AttributeValue;
use standpipe_flow::write::{Change, Clause, RowWrite};
use standpipe_flow::{CommitId, DestinationId, Generation, LeaseRow, Position, ShardId, WorkerId};

use crate::kcl::{self, Item, name};

/// A rendered write.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Expression {
    /// ConditionExpression.
    pub(crate) condition: String,
    /// UpdateExpression; `None` when nothing changes.
    pub(crate) update: Option<String>,
    /// ExpressionAttributeNames.
    pub(crate) names: BTreeMap<String, String>,
    /// ExpressionAttributeValues.
    pub(crate) values: Item,
}

/// Renders a write.
pub(crate) fn render(write: &RowWrite) -> Expression {
    let mut render = Render::default();
    let key = render.name(name::KEY);
    let mut clauses = vec![format!("attribute_exists({key})")];
    for clause in &write.require {
        clauses.push(render.clause(clause));
    }
    let update = render.changes(&write.change);
    let names = render.names.into_iter().map(|(attribute, placeholder)| (placeholder, attribute)).collect();
    Expression { condition: clauses.join(" AND "), update, names, values: render.values }
}

/// What becomes of one attribute.
enum Effect {
    Set(AttributeValue),
    Remove,
    Add(u64),
}

/// The placeholders in use.
#[derive(Default)]
struct Render {
    names: BTreeMap<String, String>,
    values: Item,
}

impl Render {
    fn name(&mut self, attribute: &str) -> String {
        let fresh = format!("#n{}", self.names.len());
        self.names.entry(attribute.to_owned()).or_insert(fresh).clone()
    }

    fn value(&mut self, value: AttributeValue) -> String {
        let placeholder = format!(":v{}", self.values.len());
        self.values.insert(placeholder.clone(), value);
        placeholder
    }

    fn equals(&mut self, attribute: &str, value: AttributeValue) -> String {
        format!("{} = {}", self.name(attribute), self.value(value))
    }

    fn absent(&mut self, attribute: &str) -> String {
        format!("attribute_not_exists({})", self.name(attribute))
    }

    fn clause(&mut self, clause: &Clause) -> String {
        match clause {
            Clause::CounterIs(counter) => self.equals(name::COUNTER, kcl::number(*counter)),
            Clause::OwnerIs(worker) => self.equals(name::OWNER, kcl::text(worker.as_str())),
            Clause::HeldBy(worker) => self.held_by(worker),
            Clause::TenureIs(tenure) => self.equals(name::TENURE, kcl::bytes(&tenure.0)),
            Clause::GenerationIs(generation) => self.generation_is(*generation),
            Clause::CheckpointUntouched => {
                let (checkpoint, own) = (self.name(name::CHECKPOINT), self.name(name::OWN_CHECKPOINT));
                let (sub, own_sub) = (self.name(name::CHECKPOINT_SUB), self.name(name::OWN_SUB));
                format!("{checkpoint} = {own} AND {sub} = {own_sub}")
            }
            Clause::VersionKnown => {
                let absent = self.absent(name::VERSION);
                format!("({absent} OR {})", self.equals(name::VERSION, kcl::number(LeaseRow::VERSION)))
            }
            Clause::NobodyWaits => self.absent(name::NEXT),
            Clause::CommitIs(id, cid) => self.commit_is(id, *cid),
            Clause::PositionIs(id, at) => self.position_is(id, at),
            Clause::PositionOrCommitIs(id, at, cid) => {
                let position = self.position_is(id, at);
                format!("(({position}) OR {})", self.commit_is(id, *cid))
            }
        }
    }

    fn held_by(&mut self, worker: &WorkerId) -> String {
        let me = self.value(kcl::text(worker.as_str()));
        let (owner, checkpoint_owner) = (self.name(name::OWNER), self.name(name::CHECKPOINT_OWNER));
        format!("(({owner} = {me} AND attribute_not_exists({checkpoint_owner})) OR {checkpoint_owner} = {me})")
    }

    fn generation_is(&mut self, generation: Generation) -> String {
        let equals = self.equals(name::GENERATION, kcl::number(generation.0));
        if generation.0 == 0 { format!("({} OR {equals})", self.absent(name::GENERATION)) } else { equals }
    }

    fn commit_is(&mut self, id: &DestinationId, cid: CommitId) -> String {
        let (map, member) = (self.name(&kcl::destination_attribute(id)), self.name(name::CID));
        format!("{map}.{member} = {}", self.value(kcl::bytes(&cid.0)))
    }

    fn position_is(&mut self, id: &DestinationId, position: &Position) -> String {
        let map = self.name(&kcl::destination_attribute(id));
        let (cid, at, sub) = (self.name(name::CID), self.name(name::AT), self.name(name::SUB));
        let (at_value, sub_value) =
            (self.value(kcl::text(position.checkpoint())), self.value(kcl::number(position.sub())));
        format!("attribute_not_exists({map}.{cid}) AND {map}.{at} = {at_value} AND {map}.{sub} = {sub_value}")
    }

    /// DynamoDB refuses two actions on one attribute, so later changes are folded into earlier ones first.
    fn changes(&mut self, changes: &[Change]) -> Option<String> {
        let mut effects = BTreeMap::new();
        for change in changes {
            fold(&mut effects, change);
        }
        let (mut set, mut remove, mut add) = (Vec::new(), Vec::new(), Vec::new());
        for (attribute, effect) in effects {
            let name = self.name(&attribute);
            match effect {
                Effect::Set(value) => set.push(format!("{name} = {}", self.value(value))),
                Effect::Remove => remove.push(name),
                Effect::Add(count) => add.push(format!("{name} {}", self.value(kcl::number(count)))),
            }
        }
        let parts = [("SET", set), ("REMOVE", remove), ("ADD", add)];
        let parts: Vec<_> = parts.into_iter().filter(|(_, list)| !list.is_empty()).collect();
        let sections: Vec<_> = parts.iter().map(|(word, list)| format!("{word} {}", list.join(", "))).collect();
        (!sections.is_empty()).then(|| sections.join(" "))
    }
}

fn fold(effects: &mut BTreeMap<String, Effect>, change: &Change) {
    let mut put = |attribute: &str, effect: Effect| {
        effects.insert(attribute.to_owned(), effect);
    };
    let set = |value| value_or_remove(Some(value));
    match change {
        Change::Counter(counter) => put(name::COUNTER, set(kcl::number(*counter))),
        Change::Owner(worker) => {
            put(name::OWNER, set(kcl::text(worker.as_str())));
            let switches = effects.remove(name::OWNER_SWITCHES);
            effects.insert(name::OWNER_SWITCHES.to_owned(), one_more(switches));
        }
        Change::NoOwner => put(name::OWNER, Effect::Remove),
        Change::NoCheckpointOwner => put(name::CHECKPOINT_OWNER, Effect::Remove),
        Change::Tenure(tenure) => put(name::TENURE, set(kcl::bytes(&tenure.0))),
        Change::Generation(generation) => put(name::GENERATION, set(kcl::number(generation.0))),
        Change::Version => put(name::VERSION, set(kcl::number(LeaseRow::VERSION))),
        Change::CopyCheckpoint(position) => {
            put(name::OWN_CHECKPOINT, set(kcl::text(position.checkpoint())));
            put(name::OWN_SUB, set(kcl::number(position.sub())));
        }
        Change::Checkpoint(position) => {
            for attribute in [name::CHECKPOINT, name::OWN_CHECKPOINT] {
                put(attribute, set(kcl::text(position.checkpoint())));
            }
            for attribute in [name::CHECKPOINT_SUB, name::OWN_SUB] {
                put(attribute, set(kcl::number(position.sub())));
            }
            put(name::OWNER_SWITCHES, set(kcl::number(0)));
            for attribute in name::PENDING_CHECKPOINT {
                put(attribute, Effect::Remove);
            }
        }
        Change::Destination(id, position) => {
            put(&kcl::destination_attribute(id), set(kcl::encode_destination(position)));
        }
        Change::NoDestination(id) => put(&kcl::destination_attribute(id), Effect::Remove),
        Change::Off(off) => put(name::OFF, value_or_remove(kcl::set(off, DestinationId::as_str))),
        Change::Next(worker) => put(name::NEXT, set(kcl::text(worker.as_str()))),
        Change::NobodyNext => put(name::NEXT, Effect::Remove),
        Change::Children(children) => put(name::CHILDREN, value_or_remove(kcl::set(children, ShardId::as_str))),
        Change::Throughput(throughput) => put(name::THROUGHPUT, set(kcl::encode_throughput(*throughput))),
        Change::Start(instant) => put(name::START, set(kcl::number(instant.0))),
        Change::NoStart => put(name::START, Effect::Remove),
    }
}

fn value_or_remove(value: Option<AttributeValue>) -> Effect {
    value.map_or(Effect::Remove, Effect::Set)
}

/// One more owner switch after what this write has already done to the count.
fn one_more(before: Option<Effect>) -> Effect {
    match before {
        Some(Effect::Set(AttributeValue::N(count))) => {
            Effect::Set(kcl::number(count.parse::<u64>().map_or(1, |count| count + 1)))
        }
        Some(Effect::Add(count)) => Effect::Add(count + 1),
        _ => Effect::Add(1),
    }
}

#[cfg(test)]
mod tests;
