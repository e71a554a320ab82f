//! The convention, what is refused, the bounds, and trees that are written and read.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::testing::{Outcome, outcome, record};

fn json_of(xml: &str) -> String {
    outcome(&Xml, record(xml.to_owned())).text()
}

#[track_caller]
fn rejected(xml: impl Into<bytes::Bytes>) -> String {
    let fault = outcome(&Xml, record(xml)).fault();
    assert_eq!((fault.output_type, fault.code), ("processing-failed", "Parse.Xml"));
    fault.message.split_once(": ").expect("a place").1.to_owned()
}

#[test]
fn a_document_is_what_xmltodict_makes_of_it() {
    let xml = r#"<?xml version="1.0" encoding="UTF-8"?>
        <!-- an order -->
        <order id="7" xmlns:x="urn:x">
          <item sku="a">first</item>
          <item>second &amp; <![CDATA[<third>]]></item>
          <item/>
          <x:note>  kept  inside  </x:note>
          mixed <b>bold</b> text
          <empty a=""></empty>
        </order>
    "#;
    let expected =
        r##"{"order":{"@id":"7","@xmlns:x":"urn:x","item":[{"@sku":"a","#text":"first"},"second & <third>",null],"##
            .to_owned()
            + r##""x:note":"kept  inside","b":"bold","empty":{"@a":""},"#text":"mixed  text"}}"##;
    // White space between the parts of a mixed text stays as it stands.
    assert_eq!(json_of(xml).replace("\\n", "").replace("          ", ""), expected);
    assert_eq!(json_of("<a/>"), r#"{"a":null}"#);
    assert_eq!(json_of("\u{feff}<a>&#x20ac;&#65;&lt;&apos;</a>"), r#"{"a":"€A<'"}"#);
    assert_eq!(json_of("<a>x\r\ny<![CDATA[\r\n]]>z</a>"), r#"{"a":"x\ny\nz"}"#, "a newline is one character");
    assert_eq!(json_of("<a b='x\n&#10;&quot;y'/>"), r#"{"a":{"@b":"x \n\"y"}}"#);
}

#[test]
fn entities_of_a_document_are_never_expanded_and_nothing_is_fetched() {
    let laughs = r#"<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;"><!ENTITY c SYSTEM "file:///etc/passwd">]>"#;
    assert_eq!(json_of(&format!("{laughs}<l>ok</l>")), r#"{"l":"ok"}"#);
    for reference in ["<l>&b;</l>", "<l>&c;</l>", "<l a='&b;'/>"] {
        assert_eq!(rejected(format!("{laughs}{reference}")), "an entity that XML does not define");
    }
}

#[test]
fn what_is_not_a_document_is_rejected_without_its_content() {
    for (xml, why) in [
        ("", "the root element does not end, or there is none"),
        ("{\"secret\":1}", "text outside of the root element"),
        ("<secret>", "the root element does not end, or there is none"),
        ("<secret></other>", "tags that do not match, or a reference that does not end"),
        ("</secret>", "tags that do not match, or a reference that does not end"),
        ("<a/><secret/>", "there is more than one root element"),
        ("<a/>secret", "text outside of the root element"),
        ("<a secret></a>", "an attribute that is none"),
        ("<a secret='1' secret='2'/>", "an element has two attributes of one name"),
        ("<a>&secret;</a>", "an entity that XML does not define"),
        ("<a>&secret</a>", "tags that do not match, or a reference that does not end"),
        ("<a>&#0;</a>", "an entity that XML does not define"),
        ("<a", "not a piece of XML"),
        ("<a><![CDATA[x", "not a piece of XML"),
    ] {
        assert_eq!(rejected(xml), why, "{xml}");
    }
    assert_eq!(outcome(&Xml, record(&b"<a>\xe9</a>"[..])).fault().code, "Parse.NotUtf8");
    assert_eq!(outcome(&Xml, record(vec![b' '; (16 << 20) + 1])).fault().code, "Parse.TooLarge");
}

#[test]
fn depth_and_number_have_bounds() {
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    assert_eq!(json_of(&nested(100)), format!("{}null{}", "{\"a\":".repeat(100), "}".repeat(100)));
    assert_eq!(rejected(nested(101)), "elements are nested more than 100 deep");
    assert_eq!(rejected("<a>".repeat(5_000_000)), "elements are nested more than 100 deep");
    let many = "there are more than 250000 elements and attributes";
    assert_eq!(rejected(format!("<a>{}</a>", "<b/>".repeat(250_000))), many);
    let attributes: String = (0..250_000).map(|i| format!(" a{i}=''")).collect();
    assert_eq!(rejected(format!("<a{attributes}/>")), many);
    assert!(json_of(&format!("<a>{}</a>", "<b/>".repeat(249_999))).ends_with("null]}}"));
}

/// A tree as a test writes it down.
fn element() -> impl Strategy<Value = (String, Value)> {
    let leaf = (
        "[a-z]{1,3}",
        prop_oneof![
            Just(Value::Null),
            "[^ \t\r\n\\x00-\\x1f][^\r\\x00-\\x1f]{0,8}[^ \t\r\n\\x00-\\x1f]".prop_map(Value::String)
        ],
    );
    leaf.prop_recursive(4, 30, 4, |inner| {
        ("[a-z]{1,3}", proptest::collection::btree_map("@?[a-z]{4,5}", inner.prop_map(|(_, value)| value), 1..4))
            .prop_map(|(name, fields)| {
                let fields = fields.into_iter().map(|(name, value)| match name.starts_with('@') {
                    true => (name, json!("<a> \"b\" & 'c'")),
                    false => (name, value),
                });
                (name, Value::Object(fields.collect()))
            })
    })
}

fn written(name: &str, value: &Value) -> String {
    let escape = |text: &str| quick_xml::escape::escape(text.to_owned()).into_owned();
    match value {
        Value::Null => format!("<{name}/>"),
        Value::String(text) => format!("<{name}> {}\n</{name}>", escape(text)),
        Value::Object(fields) => {
            let (attributes, elements): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| name.starts_with('@'));
            let attributes: String = attributes
                .iter()
                .map(|(name, value)| format!(" {}=\"{}\"", &name[1..], escape(value.as_str().unwrap())))
                .collect();
            let elements: String = elements.iter().map(|(name, value)| written(name, value)).collect();
            format!("<{name}{attributes}>{elements}</{name}>")
        }
        other => panic!("not made here: {other}"),
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_rejected(data in proptest::collection::vec(any::<u8>(), 0..100), xml in r#"(<[/!?]?[ab]? ?[a='"&;]{0,4}[/?]?>?|[a&;#x\[\]-]){0,12}"#) {
        outcome(&Xml, record(data));
        if let Outcome::Made(made) = outcome(&Xml, record(xml)) {
            prop_assert!(serde_json::from_slice::<Value>(&made[0].data).unwrap().is_object());
        }
    }

    #[test]
    fn what_was_written_as_xml_comes_out((name, value) in element()) {
        let read: Value = serde_json::from_str(&json_of(&written(&name, &value))).unwrap();
        prop_assert_eq!(read, json!({name: value}));
    }
}
