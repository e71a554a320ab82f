//! `xml`: a document to JSON, by the convention of Python's `xmltodict`, which people's functions use.
//!
//! An element is an object of its attributes (`@name`) and its elements; one that comes again becomes an array; text is
//! the value of an element without either, else the field `#text`, white space at its ends left out; an element of
//! nothing is null. Names keep their prefixes. All values are strings.
//!
//! No entity but XML's own five and characters by number; a document type is passed over unread, so there is nothing to
//! expand and nothing to fetch. Depth and the number of elements have bounds.

use std::str::{Utf8Error, from_utf8};

use quick_xml::XmlVersion;
use quick_xml::events::{BytesRef, BytesStart, Event};
use quick_xml::reader::Reader;
use serde_json::{Map, Value};
use standpipe_flow::Record;

use super::object::add;
use super::text;
use crate::stage::{Fault, Made, Stage};

/// Levels of elements: below what any reader of the JSON takes (serde_json: 128).
const DEPTH_MAX: usize = 100;

/// Elements and attributes of a document: each takes up to some 200 bytes of memory while it is read.
const NODES_MAX: usize = 250_000;

/// The stage.
#[derive(Debug, Default)]
pub struct Xml;

impl Stage for Xml {
    fn name(&self) -> &'static str {
        "xml"
    }

    fn apply(&self, record: Record, made: &mut Made) -> Result<(), Fault> {
        let text = text(&record)?;
        let mut reader = Reader::from_str(text);
        let document = Document::default().read(&mut reader).map_err(|wrong| {
            Fault::processing("Parse.Xml", format!("no XML at byte {}: {}", reader.error_position(), wrong.0))
        })?;
        let json = serde_json::to_vec(&document).expect("values with string keys have JSON");
        made.change(&record, json);
        Ok(())
    }
}

/// What is wrong with a document, without anything of it.
struct Wrong(&'static str);

impl From<quick_xml::Error> for Wrong {
    fn from(error: quick_xml::Error) -> Self {
        use quick_xml::Error;
        Self(match error {
            Error::IllFormed(_) => "tags that do not match, or a reference that does not end",
            Error::InvalidAttr(_) => "an attribute that is none",
            Error::Escape(_) => "an entity that XML does not define",
            _ => "not a piece of XML",
        })
    }
}

impl From<Utf8Error> for Wrong {
    fn from(_: Utf8Error) -> Self {
        Self("not UTF-8")
    }
}

/// A document while it is read.
#[derive(Default)]
struct Document {
    /// The elements that are not at their end, the root first.
    open: Vec<Element>,
    root: Option<Element>,
    nodes: usize,
}

#[derive(Default)]
struct Element {
    name: String,
    fields: Map<String, Value>,
    text: String,
}

impl Document {
    fn read(mut self, reader: &mut Reader<&[u8]>) -> Result<Value, Wrong> {
        loop {
            match reader.read_event()? {
                Event::Start(tag) => self.begin(&tag)?,
                Event::Empty(tag) => {
                    self.begin(&tag)?;
                    self.end();
                }
                Event::End(_) => self.end(),
                Event::Text(text) => self.text(&text.xml10_content().map_err(quick_xml::Error::from)?)?,
                Event::CData(text) => self.text(&text.xml10_content().map_err(quick_xml::Error::from)?)?,
                Event::GeneralRef(reference) => self.reference(&reference)?,
                Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        match self.root {
            Some(root) if self.open.is_empty() => {
                let name = root.name.clone();
                Ok(Value::Object(Map::from_iter([(name, root.value())])))
            }
            _ => Err(Wrong("the root element does not end, or there is none")),
        }
    }

    fn begin(&mut self, tag: &BytesStart<'_>) -> Result<(), Wrong> {
        if self.root.is_some() {
            return Err(Wrong("there is more than one root element"));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(Wrong("elements are nested more than 100 deep"));
        }
        self.count()?;
        let mut element = Element { name: from_utf8(tag.name().0)?.to_owned(), ..Element::default() };
        // The reader would compare every attribute with every other one.
        for attribute in tag.attributes().with_checks(false) {
            let attribute = attribute.map_err(|_| Wrong("an attribute that is none"))?;
            self.count()?;
            let name = format!("@{}", from_utf8(attribute.key.0)?);
            let value = attribute.normalized_value(XmlVersion::Implicit1_0)?.into_owned();
            if element.fields.insert(name, Value::String(value)).is_some() {
                return Err(Wrong("an element has two attributes of one name"));
            }
        }
        self.open.push(element);
        Ok(())
    }

    /// The reader has seen that the names match.
    fn end(&mut self) {
        let Some(element) = self.open.pop() else { return };
        match self.open.last_mut() {
            Some(parent) => {
                let name = element.name.clone();
                add(&mut parent.fields, &name, element.value());
            }
            None => self.root = Some(element),
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Wrong> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim_start_matches('\u{feff}').trim_ascii().is_empty() => {}
            None => return Err(Wrong("text outside of the root element")),
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), Wrong> {
        if let Some(character) = reference.resolve_char_ref()? {
            return self.text(character.encode_utf8(&mut [0; 4]));
        }
        let text = quick_xml::escape::resolve_xml_entity(from_utf8(reference)?);
        self.text(text.ok_or(Wrong("an entity that XML does not define"))?)
    }

    fn count(&mut self) -> Result<(), Wrong> {
        self.nodes += 1;
        if self.nodes > NODES_MAX { Err(Wrong("there are more than 250000 elements and attributes")) } else { Ok(()) }
    }
}

impl Element {
    fn value(mut self) -> Value {
        let text = self.text.trim_ascii();
        match (self.fields.is_empty(), text.is_empty()) {
            (true, true) => Value::Null,
            (true, false) => Value::String(text.to_owned()),
            (false, true) => Value::Object(self.fields),
            (false, false) => {
                self.fields.insert("#text".to_owned(), Value::String(text.to_owned()));
                Value::Object(self.fields)
            }
        }
    }
}

#[cfg(test)]
mod tests;
