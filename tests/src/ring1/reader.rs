//! The scripted reader of one shard: it sees what is there by now, in chunks that never split an aggregate.

use std::sync::Arc;
use std::time::Duration;

use standpipe_flow::{Chunk, LeaseKey, Position, Read, ReadError, Record, ShardReader, Taken, Tenure};
use tokio::time::{Instant, sleep};

use super::wire::Wire;

pub struct ScriptedReader {
    pub wire: Arc<Wire>,
    pub lease: LeaseKey,
    pub tenure: Tenure,
    pub position: Position,
}

enum Found {
    Records(Vec<Record>),
    Nothing,
    End,
}

impl ScriptedReader {
    fn look(&self, most: usize) -> Found {
        let store = self.wire.store();
        let shard = &store.shards[&self.lease];
        let now = Instant::now();
        let mut records = Vec::new();
        let mut whole = 0;
        for made in shard.records.iter().filter(|made| made.record.position() > self.position) {
            if made.there_from > now || whole >= most {
                break;
            }
            records.push(made.record.clone());
            if made.last_of_aggregate {
                whole = records.len();
            }
        }
        records.truncate(whole);
        let last = shard.records.last().map_or(Position::TrimHorizon, |last| last.record.position());
        match records.is_empty() {
            false => Found::Records(records),
            true if self.position >= last && shard.closes.is_some_and(|at| at <= now) => Found::End,
            true => Found::Nothing,
        }
    }
}

impl ShardReader for ScriptedReader {
    async fn next(&mut self) -> Result<Read, ReadError> {
        // The last chunk may itself say that the shard ends with it: then nothing is asked any more.
        if matches!(self.look(1), Found::End) && self.wire.chance(500) {
            return Ok(Read::End { children: Vec::new() });
        }
        sleep(self.wire.latency()).await;
        if self.wire.chance(20) {
            sleep(Duration::from_millis(300)).await;
            return Err(ReadError::Again { cause: "ProvisionedThroughputExceeded".into() });
        }
        let (most, memory_bytes) = self.wire.roll(|dice| (dice.within(1, 9) as usize, dice.within(1, 250) << 10));
        match self.look(most) {
            Found::Records(records) => {
                let from = self.position.clone();
                let to = records.last().map_or(from.clone(), Record::position);
                self.position = to.clone();
                let (lease, tenure) = (self.lease.clone(), self.tenure);
                let (behind, taken) = (Duration::ZERO, Taken::default());
                let memory_bytes = memory_bytes as usize;
                Ok(Read::Chunk(Chunk {
                    lease,
                    tenure,
                    from,
                    to,
                    records,
                    rejected: Vec::new(),
                    originals: Default::default(),
                    behind,
                    memory_bytes,
                    taken,
                }))
            }
            Found::Nothing => {
                sleep(Duration::from_millis(250)).await;
                Ok(Read::Empty { behind: Duration::ZERO })
            }
            Found::End => Ok(Read::End { children: Vec::new() }),
        }
    }

    fn expected_bytes(&self) -> usize {
        250 << 10
    }
}
