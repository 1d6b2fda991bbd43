//! Why a software TPM could not be made, started or asked. Nothing here decides about trust.

use std::path::PathBuf;

/// One variant per cause; the source is kept apart so that it is printed once, at the edge.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("programs missing on this machine: {}", .0.join(", "))]
    ProgramsMissing(Vec<&'static str>),
    #[error("`{path}` cannot be given to swtpm: {why}")]
    Path { path: PathBuf, why: &'static str },
    #[error("`{program}` ended with {status}: {tail}")]
    Program { program: &'static str, status: String, tail: String },
    #[error("`{program}` did not end within {seconds} s")]
    ProgramStuck { program: &'static str, seconds: u64 },
    #[error("cannot {what} `{path}`")]
    File { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("cannot {what}")]
    System { what: &'static str, source: std::io::Error },
    #[error("swtpm gave no whole answer to a command")]
    Engine { source: std::io::Error },
    #[error("swtpm answered {found:#x} to {command}, expected 0x0")]
    Refused { command: &'static str, found: u32 },
    #[error("the answer to {command} has not the form the specification gives")]
    Malformed { command: &'static str },
    #[error("the software TPM is not powered: it ended before")]
    Dead,
    #[error("the relay of the software TPM has ended")]
    RelayGone,
}

impl Error {
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    pub(crate) fn system<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}
