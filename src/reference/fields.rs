//! A TOML table read field by field: every fault has its line, and a key that nobody took is one.
//!
//! Profiles have tables whose keys depend on other values (the classes of a rule), so a derived
//! reader cannot say which keys are known. This one can, and it gives the same value as JSON for
//! the canonical form.

use std::collections::BTreeMap;

use assay_evidence::time::Time;
use serde_json::Value;
use toml::Spanned;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::reference::ProfileError;

/// A profile with its sets inline: some hundred logs' worth of digests.
pub const MAX_TEXT: usize = 16 * 1_024 * 1_024;

/// A value and the line it stands on.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub line: usize,
    pub value: Written,
}

#[derive(Debug, Clone)]
pub(super) enum Written {
    Text(String),
    Number(u64),
    Truth(bool),
    /// A date or time that stands without quotation marks.
    Date(String),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

/// The fields of one table that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Fields {
    pub line: usize,
    fields: BTreeMap<String, Node>,
}

impl Fields {
    /// The whole text as fields, and as JSON.
    pub fn parse(text: &str) -> Result<(Self, Value), ProfileError> {
        if text.len() > MAX_TEXT {
            return Err(ProfileError::Syntax(format!("longer than {MAX_TEXT} bytes")));
        }
        let syntax =
            |error: toml::de::Error| ProfileError::Syntax(error.to_string().trim_end().to_owned());
        let table = DeTable::parse(text).map_err(syntax)?;
        let lines = Lines::of(text);
        let node = Node { line: 1, value: table_of(table.get_ref(), &lines)? };
        let json = node.to_json();
        Ok((Self::of(node)?, json))
    }

    fn of(node: Node) -> Result<Self, ProfileError> {
        match node.value {
            Written::Table(fields) => Ok(Self { line: node.line, fields }),
            _ => Err(refused(node.line, "value", "not a table", "a table")),
        }
    }

    pub fn take(&mut self, key: &str) -> Option<Node> {
        self.fields.remove(key)
    }

    pub fn text(&mut self, key: &'static str) -> Result<Option<String>, ProfileError> {
        self.take(key).map(|node| node.text(key)).transpose()
    }

    pub fn required(&mut self, key: &'static str) -> Result<String, ProfileError> {
        self.text(key)?.ok_or_else(|| refused(self.line, key, "nothing", "a text"))
    }

    pub fn number(&mut self, key: &'static str) -> Result<Option<u64>, ProfileError> {
        let Some(node) = self.take(key) else { return Ok(None) };
        match node.value {
            Written::Number(number) => Ok(Some(number)),
            _ => Err(refused(node.line, key, "something else", "a whole number")),
        }
    }

    pub fn truth(&mut self, key: &'static str) -> Result<Option<bool>, ProfileError> {
        let Some(node) = self.take(key) else { return Ok(None) };
        match node.value {
            Written::Truth(truth) => Ok(Some(truth)),
            _ => Err(refused(node.line, key, "something else", "true or false")),
        }
    }

    pub fn texts(&mut self, key: &'static str) -> Result<Option<Vec<String>>, ProfileError> {
        let Some(node) = self.take(key) else { return Ok(None) };
        node.list(key)?.into_iter().map(|node| node.text(key)).collect::<Result<_, _>>().map(Some)
    }

    /// A time in RFC 3339 or a date, quoted or not; a date means its first moment in UTC.
    pub fn time(&mut self, key: &'static str) -> Result<Option<Time>, ProfileError> {
        let Some(node) = self.take(key) else { return Ok(None) };
        let line = node.line;
        let text = match node.value {
            Written::Text(text) | Written::Date(text) => text,
            _ => return Err(refused(line, key, "something else", "an RFC 3339 time or a date")),
        };
        let time = Time::parse_rfc3339(&text)
            .or_else(|_| Time::parse_rfc3339(&format!("{text}T00:00:00Z")))
            .map_err(|_| refused(line, key, &text, "an RFC 3339 time or a date"))?;
        Ok(Some(time))
    }

    pub fn table(&mut self, key: &'static str) -> Result<Option<Self>, ProfileError> {
        self.take(key).map(Self::of).transpose()
    }

    pub fn tables(&mut self, key: &'static str) -> Result<Vec<Self>, ProfileError> {
        let Some(node) = self.take(key) else { return Ok(Vec::new()) };
        node.list(key)?.into_iter().map(Self::of).collect()
    }

    /// What is left, for tables whose keys are values.
    pub fn rest(self) -> BTreeMap<String, Node> {
        self.fields
    }

    /// Refuses what nobody took.
    pub fn finish(self) -> Result<(), ProfileError> {
        match self.fields.into_iter().next() {
            None => Ok(()),
            Some((key, node)) => Err(ProfileError::UnknownKey { line: node.line, key }),
        }
    }
}

impl Node {
    pub fn text(self, key: &str) -> Result<String, ProfileError> {
        match self.value {
            Written::Text(text) => Ok(text),
            _ => Err(refused(self.line, key, "something else", "a text")),
        }
    }

    pub fn list(self, key: &str) -> Result<Vec<Self>, ProfileError> {
        match self.value {
            Written::List(list) => Ok(list),
            _ => Err(refused(self.line, key, "something else", "a list")),
        }
    }

    pub fn fields(self) -> Result<Fields, ProfileError> {
        Fields::of(self)
    }

    fn to_json(&self) -> Value {
        match &self.value {
            Written::Text(text) | Written::Date(text) => Value::from(text.as_str()),
            Written::Number(number) => Value::from(*number),
            Written::Truth(truth) => Value::from(*truth),
            Written::List(list) => list.iter().map(Self::to_json).collect(),
            Written::Table(table) => {
                table.iter().map(|(key, node)| (key.clone(), node.to_json())).collect()
            }
        }
    }
}

pub(super) fn refused(line: usize, key: &str, found: &str, expected: &str) -> ProfileError {
    ProfileError::Value {
        line,
        key: key.to_owned(),
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}

/// Where each line begins.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(breaks.map(|(at, _)| at).collect())
    }

    fn line(&self, at: usize) -> usize {
        self.0.partition_point(|end| *end < at).saturating_add(1)
    }
}

fn table_of(table: &DeTable<'_>, lines: &Lines) -> Result<Written, ProfileError> {
    let mut fields = BTreeMap::new();
    for (key, value) in table {
        let node = node_of(value, lines.line(key.span().start), lines)?;
        fields.insert(key.get_ref().to_string(), node);
    }
    Ok(Written::Table(fields))
}

fn node_of(value: &Spanned<DeValue<'_>>, line: usize, lines: &Lines) -> Result<Node, ProfileError> {
    let value = match value.get_ref() {
        DeValue::String(text) => Written::Text(text.to_string()),
        DeValue::Boolean(truth) => Written::Truth(*truth),
        DeValue::Datetime(date) => Written::Date(date.to_string()),
        DeValue::Integer(number) => Written::Number(
            u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .filter(|number| *number < 1 << 53)
                .ok_or_else(|| refused(line, "value", number.as_str(), "0 to 2^53"))?,
        ),
        DeValue::Float(float) => {
            return Err(refused(line, "value", float.as_str(), "a whole number"));
        }
        DeValue::Array(array) => Written::List(
            array
                .iter()
                .map(|item| node_of(item, lines.line(item.span().start), lines))
                .collect::<Result<_, _>>()?,
        ),
        DeValue::Table(table) => table_of(table, lines)?,
    };
    Ok(Node { line, value })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_that_nobody_took_is_refused_with_its_line() {
        let (mut fields, json) =
            Fields::parse("a = \"x\"\nb = [1, 2]\n[c]\nd = 2027-01-15\n").unwrap();
        assert_eq!(json.to_string(), r#"{"a":"x","b":[1,2],"c":{"d":"2027-01-15"}}"#);
        assert_eq!(fields.required("a").unwrap(), "x");
        let mut c = fields.table("c").unwrap().unwrap();
        assert_eq!(c.time("d").unwrap().unwrap().to_string(), "2027-01-15T00:00:00.000Z");
        c.finish().unwrap();
        let error = fields.finish().unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("`b`"), "{error}");
    }

    #[test]
    fn a_value_of_another_kind_is_refused_with_its_line() {
        let refused = |text: &str| {
            let (mut fields, _) = Fields::parse(text).unwrap();
            fields.text("a").unwrap_err().to_string()
        };
        assert!(refused("\n\na = 1").contains("line 3"));
        assert!(refused("a = [\"x\"]").contains("a text"));
        for text in ["a = 1.5", "a = -1", "a = 9007199254740993", "a = ", "a = 1\na = 2"] {
            assert!(Fields::parse(text).is_err(), "{text}");
        }
    }
}
