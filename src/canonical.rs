//! Canonical JSON (RFC 8785), for values that are hashed or signed: records, profiles, sets.
//!
//! Numbers are whole and within ±(2^53 − 1), where every reader of JSON agrees; 64-bit integers
//! travel as strings. So none of the RFC's number formatting is needed, and none is here.

use serde_json::Value;

/// RFC 7493 2.2: beyond this, integers are not exact everywhere.
const MAX_EXACT: u64 = (1 << 53) - 1;

/// A number that readers of JSON do not agree on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("number `{0}` has no one form everywhere")]
pub struct InexactNumber(pub String);

/// The one way to write `value`.
pub fn write(value: &Value) -> Result<Vec<u8>, InexactNumber> {
    let mut text = String::new();
    append(&mut text, value)?;
    Ok(text.into_bytes())
}

fn append(text: &mut String, value: &Value) -> Result<(), InexactNumber> {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => {
            let exact = number.as_i64().is_some_and(|n| n.unsigned_abs() <= MAX_EXACT);
            if !exact {
                return Err(InexactNumber(number.to_string()));
            }
            text.push_str(&number.to_string());
        }
        Value::String(string) => append_string(text, string),
        Value::Array(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                append(text, item)?;
            }
            text.push(']');
        }
        Value::Object(object) => {
            // RFC 8785 3.2.3: by UTF-16 code units, not by bytes.
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (i, (name, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                append_string(text, name);
                text.push(':');
                append(text, member)?;
            }
            text.push('}');
        }
    }
    Ok(())
}

/// RFC 8785 3.2.2.2: the five short escapes, `\u00xx` in lower case for other control characters,
/// and nothing else.
fn append_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\u{9}' => text.push_str("\\t"),
            '\u{a}' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\u{d}' => text.push_str("\\r"),
            c if c < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn text(value: &Value) -> String {
        String::from_utf8(write(value).unwrap()).unwrap()
    }

    #[test]
    fn members_are_sorted_by_utf16_units() {
        // RFC 8785 3.2.3, the example of the RFC.
        let value = json!({
            "\u{20ac}": "Euro Sign",
            "\r": "Carriage Return",
            "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One",
            "\u{1f600}": "Emoji: Grinning Face",
            "\u{80}": "Control",
            "\u{f6}": "Latin Small Letter O With Diaeresis",
        });
        assert_eq!(
            text(&value),
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\",\
             \"\u{f6}\":\"Latin Small Letter O With Diaeresis\",\"\u{20ac}\":\"Euro Sign\",\
             \"\u{1f600}\":\"Emoji: Grinning Face\",\
             \"\u{fb33}\":\"Hebrew Letter Dalet With Dagesh\"}"
        );
    }

    #[test]
    fn strings_have_one_form() {
        let value = json!("\u{20ac}$\u{f}\nA'B\"\\\"/\u{7f}\u{0}");
        assert_eq!(text(&value), "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\"/\u{7f}\\u0000\"");
        assert_eq!(text(&json!([[], {}, null, true, -1])), "[[],{},null,true,-1]");
    }

    #[test]
    fn numbers_that_readers_disagree_on_are_refused() {
        assert_eq!(text(&json!(9_007_199_254_740_991_u64)), "9007199254740991");
        for value in
            [json!(9_007_199_254_740_992_u64), json!(u64::MAX), json!(i64::MIN), json!(0.5)]
        {
            assert!(matches!(write(&value), Err(InexactNumber(_))), "{value}");
        }
    }
}
