//! `batch -> requests`: which records go out together, and the bytes.
//!
//! Records of one id go out one after the other, in their order (a *wave* each), so that the last written is the last that
//! was read. Pure, and long work: it runs away from the async threads.
//! Never here: an answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor};
use standpipe_flow::{Batch, LeaseKey, Record};

use super::action::{Action, ID_BYTES_MAX, generated_id};
use super::answer::Said;
use super::{DocumentId, Expressions, MALFORMED, NO_ID, OpenSearchSettings, document};

/// Documents of a request at most: an answer has some 50 bytes for each, and one about an error up to a few thousand.
const DOCUMENTS_MAX: usize = 10_000;
/// Bytes of an action without what comes from a record.
const ACTION_BYTES: usize = 64;
/// What is added to a document: `@timestamp`.
const STAMP_BYTES: usize = 32;

/// Where the records of a batch are, by their number in it, and what expressions made of them.
#[derive(Debug)]
pub(super) struct Plan {
    /// Part of generated ids.
    stream: Arc<str>,
    places: Vec<Place>,
    /// Of each record; empty without expressions.
    named: Vec<Named>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    shard: u32,
    chunk: u32,
    record: u32,
}

/// What expressions made of a record.
#[derive(Debug, Default)]
struct Named {
    id: Option<Box<str>>,
    routing: Option<Box<str>>,
    /// It has no id, and never will.
    fault: Option<Said>,
}

/// A request, built.
#[derive(Debug)]
pub(super) struct Built {
    /// The body as it is sent.
    pub body: Bytes,
    /// Its bytes before compression.
    pub raw_bytes: usize,
    /// The records whose documents it has, in its order.
    pub records: Vec<u32>,
    /// Records that are no documents.
    pub unfit: Vec<(u32, Said)>,
}

impl Plan {
    /// Finds the records of a batch, and runs the expressions over those that are pending.
    pub(super) fn new(
        batch: &Batch,
        settings: &OpenSearchSettings,
        (expressions, stream): (Option<&Arc<dyn Expressions>>, &Arc<str>),
        pending: &[u32],
    ) -> Self {
        let mut places = Vec::new();
        for (shard, of) in (0..).zip(&batch.shards) {
            for (chunk, of) in (0..).zip(&of.chunks) {
                places.extend((0..).zip(&of.records).map(|(record, _)| Place { shard, chunk, record }));
            }
        }
        let mut plan = Self { stream: stream.clone(), places, named: Vec::new() };
        if let Some(expressions) = expressions {
            plan.named.resize_with(plan.places.len(), Named::default);
            for number in pending {
                let (_, record) = plan.record(batch, *number);
                plan.named[*number as usize] = Named::of(record, settings, expressions.as_ref());
            }
        }
        plan
    }

    fn record<'a>(&self, batch: &'a Batch, number: u32) -> (&'a LeaseKey, &'a Record) {
        let place = self.places[number as usize];
        let shard = &batch.shards[place.shard as usize];
        (&shard.range.fence.lease, &shard.chunks[place.chunk as usize].records[place.record as usize])
    }

    /// The index that a record is for.
    pub(super) fn index(&self, batch: &Batch, settings: &OpenSearchSettings, number: u32) -> String {
        settings.index_of(self.record(batch, number).1.arrival)
    }

    /// The id that an expression gave a record.
    pub(super) fn id(&self, number: u32) -> Option<&str> {
        self.named.get(number as usize)?.id.as_deref()
    }

    /// Pending records in waves: in each, no id comes twice.
    pub(super) fn waves(&self, pending: &[u32]) -> Vec<Vec<u32>> {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut waves: Vec<Vec<u32>> = Vec::new();
        for number in pending {
            let wave = match self.id(*number) {
                Some(id) => {
                    let next = seen.entry(id).or_default();
                    *next += 1;
                    *next - 1
                }
                None => 0,
            };
            if waves.len() <= wave {
                waves.resize_with(wave + 1, Vec::new);
            }
            waves[wave].push(*number);
        }
        waves
    }

    /// Records in groups, of which each becomes a request of at most so many bytes before compression, as far as can be
    /// told before it is built; a larger record is alone.
    pub(super) fn groups(
        &self,
        batch: &Batch,
        settings: &OpenSearchSettings,
        records: &[u32],
        most: usize,
    ) -> Vec<Vec<u32>> {
        let mut groups: Vec<Vec<u32>> = Vec::new();
        let mut bytes = 0;
        for number in records {
            let weight = self.weight(batch, settings, *number);
            let fits = bytes + weight <= most && groups.last().is_some_and(|group| group.len() < DOCUMENTS_MAX);
            match groups.last_mut().filter(|_| fits) {
                Some(group) => group.push(*number),
                None => {
                    groups.push(vec![*number]);
                    bytes = 0;
                }
            }
            bytes += weight;
        }
        groups
    }

    fn weight(&self, batch: &Batch, settings: &OpenSearchSettings, number: u32) -> usize {
        let named = self.named.get(number as usize);
        let text = |of: &Option<Box<str>>| of.as_ref().map_or(0, |text| text.len() + 16);
        let named = named.map_or(0, |named| text(&named.id) + text(&named.routing));
        let generated = if settings.document_id == DocumentId::Generated { 36 } else { 0 };
        ACTION_BYTES + STAMP_BYTES + settings.index.len() + generated + named + self.record(batch, number).1.data.len()
    }

    /// Builds the request of these records.
    pub(super) fn build(&self, batch: &Batch, settings: &OpenSearchSettings, records: &[u32]) -> Built {
        let mut body = Vec::with_capacity(records.iter().map(|number| self.weight(batch, settings, *number)).sum());
        let mut built = Built { body: Bytes::new(), raw_bytes: 0, records: Vec::new(), unfit: Vec::new() };
        let mut index = (None, String::new());
        for number in records {
            let (lease, record) = self.record(batch, *number);
            let hour = settings.rotation.hour(record.arrival);
            if index.0 != Some(hour) {
                index = (Some(hour), settings.index_of(record.arrival));
            }
            let begin = body.len();
            match self.append((*number, lease, record), &index.1, settings, &mut body) {
                Ok(()) => built.records.push(*number),
                Err(said) => {
                    body.truncate(begin);
                    built.unfit.push((*number, said));
                }
            }
        }
        built.raw_bytes = body.len();
        built.body = if settings.gzip { gzip(&body).into() } else { body.into() };
        built
    }

    /// Appends both lines of a record.
    fn append(
        &self,
        (number, lease, record): (u32, &LeaseKey, &Record),
        index: &str,
        settings: &OpenSearchSettings,
        body: &mut Vec<u8>,
    ) -> Result<(), Said> {
        let named = self.named.get(number as usize);
        if let Some(fault) = named.and_then(|named| named.fault.as_ref()) {
            return Err(fault.clone());
        }
        let generated =
            (settings.document_id == DocumentId::Generated).then(|| generated_id(&self.stream, lease, record));
        let id = generated.as_deref().or_else(|| self.id(number));
        let routing = named.and_then(|named| named.routing.as_deref());
        Action { operation: settings.operation(), index, id, routing }.append(body);
        let timestamp = settings.data_stream.then_some(record.arrival);
        document::append(&record.data, timestamp, body).map_err(|wrong| Said::new(MALFORMED, wrong))
    }
}

impl Named {
    fn of(record: &Record, settings: &OpenSearchSettings, expressions: &dyn Expressions) -> Self {
        let fault = |why: &str| Self { fault: Some(Said::new(NO_ID, why)), ..Self::default() };
        let mut texts = match expressions.texts(&record.data) {
            Ok(texts) => texts.into_iter(),
            Err(why) => return fault(&why),
        };
        let mut next = || texts.next().flatten().filter(|text| !text.is_empty()).map(String::into_boxed_str);
        let mut named = Self::default();
        if matches!(settings.document_id, DocumentId::Expression { .. }) {
            named.id = next();
            match named.id.as_deref() {
                None => return fault("the expression of the document's id gives null, or nothing"),
                Some(id) if id.len() > ID_BYTES_MAX => return fault("the document's id has more than 512 bytes"),
                Some(_) => {}
            }
        }
        if settings.routing {
            named.routing = next();
        }
        named
    }
}

/// The level that costs least and compresses: what comes of it lives for a moment.
const GZIP_LEVEL: i32 = 1;

/// The bytes, compressed for a request.
pub(crate) fn gzip(body: &[u8]) -> Vec<u8> {
    let level = CompressionLvl::new(GZIP_LEVEL).unwrap_or_default();
    let mut compressor = Compressor::new(level);
    let mut out = vec![0; compressor.gzip_compress_bound(body.len())];
    let bytes = compressor.gzip_compress(body, &mut out).expect("the bound is libdeflate's own");
    out.truncate(bytes);
    out
}
