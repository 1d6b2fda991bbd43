//! What a command answers: one JSON object on one line, or a short text for people; an exit code
//! that means something; an error that says what to do.

use std::io::Write;
use std::process::ExitCode;

use serde_json::Value;
use serde_json::json;

/// 0: affirmed or done.
pub const AFFIRMED: u8 = 0;
/// 1: evidence or a request was read and is refused.
pub const REFUSED: u8 = 1;
/// 2: could not tell: a file, an option, a server or a device is missing.
pub const COULD_NOT_TELL: u8 = 2;

/// A finished command: both forms of its answer.
#[derive(Debug)]
pub struct Answer {
    pub json: Value,
    pub text: String,
    pub exit: u8,
}

/// A command that did not finish.
#[derive(Debug)]
pub struct Failure {
    /// Evidence that was refused before it could be looked at, as its answer.
    pub answer: Option<Box<Answer>>,
    pub message: String,
    pub hint: Option<String>,
    pub exit: u8,
}

impl Answer {
    pub fn new(json: Value, text: impl Into<String>) -> Self {
        Self { json, text: text.into(), exit: AFFIRMED }
    }
}

impl Failure {
    pub fn new(message: impl Into<String>) -> Self {
        Self { answer: None, message: message.into(), hint: None, exit: COULD_NOT_TELL }
    }

    pub fn refused(message: impl Into<String>) -> Self {
        Self { answer: None, message: message.into(), hint: None, exit: REFUSED }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// The chain of an error, printed once, here at the edge.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let mut message = error.to_string();
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            if !message.contains(&cause) {
                message.push_str(": ");
                message.push_str(&cause);
            }
        }
        Self::new(message)
    }
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        let exit = match status.code() {
            tonic::Code::InvalidArgument
            | tonic::Code::NotFound
            | tonic::Code::AlreadyExists
            | tonic::Code::PermissionDenied
            | tonic::Code::FailedPrecondition => REFUSED,
            _ => COULD_NOT_TELL,
        };
        Self { answer: None, message: status.message().to_owned(), hint: None, exit }
    }
}

/// Prints the outcome and gives the exit code. A reader that went away is no error.
pub fn print(outcome: Result<Answer, Failure>, as_json: bool) -> ExitCode {
    let outcome = match outcome {
        Err(Failure { answer: Some(answer), .. }) => Ok(*answer),
        outcome => outcome,
    };
    let (exit, out, err) = match outcome {
        Ok(answer) if as_json => (answer.exit, format!("{}\n", answer.json), String::new()),
        Ok(answer) => {
            let mut text = answer.text;
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            (answer.exit, text, String::new())
        }
        Err(failure) => {
            let mut err = format!("error: {}\n", failure.message);
            if let Some(hint) = &failure.hint {
                err.push_str(&format!("hint: {hint}\n"));
            }
            let out = if as_json { format!("{}\n", failure_json(&failure)) } else { String::new() };
            (failure.exit, out, err)
        }
    };
    let written = std::io::stdout().write_all(out.as_bytes());
    let _ = std::io::stderr().write_all(err.as_bytes());
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            ExitCode::from(COULD_NOT_TELL)
        }
        _ => ExitCode::from(exit),
    }
}

fn failure_json(failure: &Failure) -> Value {
    json!({
        "verdict": "error",
        "reason": null,
        "error": failure.message,
        "hint": failure.hint,
    })
}

/// Text from outside as one line of a terminal: whatever controls it is shown and not obeyed.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out
}

/// Columns aligned by their widest cell, the first row being the heading.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let rows =
            [vec!["ID".to_owned(), "STATE".to_owned()], vec!["a-long-id".to_owned(), "ok".into()]];
        assert_eq!(table(&rows), "ID         STATE\na-long-id  ok\n");
    }

    #[test]
    fn a_chain_of_causes_is_said_once() {
        let error = anyhow::anyhow!("no such file").context("cannot read `x`");
        assert_eq!(Failure::from(error).message, "cannot read `x`: no such file");
    }
}
