//! JSON as Python's json.dumps writes it: what chat templates were trained with.

use std::io;

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind, State};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use serde_json::Value as Json;

/// The filter: tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False). It escapes no character that
/// `is_stand_in`.
pub fn tojson(
    state: &State,
    value: Value,
    arguments: Kwargs,
    is_stand_in: &dyn Fn(char) -> bool,
) -> Result<String, Error> {
    let ensure_ascii: Option<bool> = arguments.get("ensure_ascii")?;
    let indent: Option<usize> = arguments.get("indent")?;
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    let sort_keys: Option<bool> = arguments.get("sort_keys")?;
    arguments.assert_all_used()?;
    let cannot = |reason: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidOperation, format!("tojson: {reason}"));

    let mut json = serde_json::to_value(&value).map_err(|error| cannot(&error))?;
    if sort_keys == Some(true) {
        json.sort_all_objects();
    }
    let (item, key) = match separators.as_deref() {
        None => (if indent.is_some() { "," } else { ", " }, ": "),
        Some([item, key]) => (item.as_str(), key.as_str()),
        Some(_) => return Err(cannot(&"separators: two texts are needed")),
    };
    if indent.is_some_and(|width| width > 16) {
        return Err(cannot(&"indent: at most 16"));
    }
    let ensure_ascii = ensure_ascii == Some(true);
    let text = write_in(&json, Style { indent, item, key, ensure_ascii, is_stand_in, depth: 0, is_empty: false });
    // As much as the engine's own filter: walking a value costs more than copying text.
    state.consume_fuel(text.len() as u64 / 4)?;
    Ok(text)
}

/// As tojson writes it without arguments.
pub fn write(json: &Json) -> String {
    let is_stand_in = &|_| false;
    let style =
        Style { indent: None, item: ", ", key: ": ", ensure_ascii: false, is_stand_in, depth: 0, is_empty: false };
    write_in(json, style)
}

fn write_in(json: &Json, style: Style) -> String {
    let mut text = Vec::new();
    json.serialize(&mut Serializer::with_formatter(&mut text, style)).expect("what is written to does not fail");
    String::from_utf8(text).expect("JSON of texts")
}

struct Style<'a> {
    indent: Option<usize>,
    item: &'a str,
    key: &'a str,
    ensure_ascii: bool,
    is_stand_in: &'a dyn Fn(char) -> bool,
    depth: usize,
    is_empty: bool,
}

impl Style<'_> {
    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.is_empty = true;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.is_empty {
            self.break_line(writer)?;
        }
        self.is_empty = false;
        writer.write_all(bracket)
    }

    fn begin_item<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.is_empty = false;
        self.break_line(writer)
    }

    fn break_line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(width) => write!(writer, "\n{:1$}", "", width * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for Style<'_> {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(writer, first)
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }
    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin_item(writer, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ensure_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            if c.is_ascii() || (self.is_stand_in)(c) {
                write!(writer, "{c}")?;
                continue;
            }
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
