//! What the agent may do for workloads at this moment, and what it tells those it cannot serve.

use assay_evidence::reason::Reason;

/// The host's state, as the agent knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostState {
    /// Not attested since the agent started.
    Starting,
    /// The server holds a live standing of this host.
    Attested,
    /// The standing has run out and the server is not within reach: what was issued is given out,
    /// nothing new is signed.
    Stale,
    /// The server refused this host: nothing is given out, open streams stay.
    Refused { code: String },
    /// Banned or quarantined: open streams end.
    Banned,
    /// The agent goes down.
    Stopping,
}

impl HostState {
    /// Whether new SVIDs may be asked for.
    pub fn may_issue(&self) -> bool {
        matches!(self, Self::Attested)
    }

    /// Whether SVIDs already issued may be handed to a caller that had none.
    pub fn may_give(&self) -> bool {
        matches!(self, Self::Attested | Self::Stale)
    }

    /// Whether waiting is of no use: the server refused, or is not within reach.
    pub fn is_down(&self) -> bool {
        matches!(self, Self::Stale | Self::Refused { .. })
    }

    /// A refusal whose code we know, else the words of the server.
    pub fn refused(code: &str) -> Self {
        let known = code.parse::<Reason>().is_ok();
        let code: String = match known {
            true => code.to_owned(),
            false => code.chars().filter(|c| c.is_ascii_graphic()).take(64).collect(),
        };
        Self::Refused { code }
    }
}
