//! JSON by others, and what to say of a value that is not what was due.

use serde_json::Value;

use crate::json;
use crate::reference::import::ImportError;

/// The whole text; a name that stands twice in one object is refused.
pub fn parse(bytes: &[u8]) -> Result<Value, ImportError> {
    json::parse(bytes).map_err(|error| ImportError::Json(error.to_string()))
}

/// What kind of value stands there, for a message.
pub fn kind(value: Option<&Value>) -> String {
    match value {
        None => "missing".to_owned(),
        Some(Value::Null) => "null".to_owned(),
        Some(Value::Bool(truth)) => truth.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => format!("`{}`", text.chars().take(80).collect::<String>()),
        Some(Value::Array(list)) => format!("a list of {}", list.len()),
        Some(Value::Object(_)) => "an object".to_owned(),
    }
}
