//! `Debug` of the messages that carry a private key or a bearer token: whom it is for, how long
//! it is, and never the thing itself.

use std::fmt;

use crate::spire::api::server::agent::v1::CreateJoinTokenRequest;
use crate::spire::api::types;
use crate::workload;

/// Stands where a secret is; shows its length only.
struct Hidden(usize);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes, hidden>", self.0)
    }
}

impl fmt::Debug for workload::X509svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509svid")
            .field("spiffe_id", &self.spiffe_id)
            .field("x509_svid", &self.x509_svid.len())
            .field("x509_svid_key", &Hidden(self.x509_svid_key.len()))
            .field("bundle", &self.bundle.len())
            .field("hint", &self.hint)
            .finish()
    }
}

impl fmt::Debug for workload::Jwtsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwtsvid")
            .field("spiffe_id", &self.spiffe_id)
            .field("svid", &Hidden(self.svid.len()))
            .field("hint", &self.hint)
            .finish()
    }
}

impl fmt::Debug for workload::ValidateJwtsvidRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidateJwtsvidRequest")
            .field("audience", &self.audience)
            .field("svid", &Hidden(self.svid.len()))
            .finish()
    }
}

impl fmt::Debug for workload::Witsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witsvid")
            .field("spiffe_id", &self.spiffe_id)
            .field("wit_svid", &Hidden(self.wit_svid.len()))
            .field("wit_svid_key", &Hidden(self.wit_svid_key.len()))
            .field("hint", &self.hint)
            .finish()
    }
}

impl fmt::Debug for types::Jwtsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwtsvid")
            .field("token", &Hidden(self.token.len()))
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .field("issued_at", &self.issued_at)
            .field("hint", &self.hint)
            .finish()
    }
}

impl fmt::Debug for types::Witsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witsvid")
            .field("token", &Hidden(self.token.len()))
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .field("issued_at", &self.issued_at)
            .field("hint", &self.hint)
            .finish()
    }
}

impl fmt::Debug for types::JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("value", &Hidden(self.value.len()))
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

impl fmt::Debug for CreateJoinTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateJoinTokenRequest")
            .field("ttl", &self.ttl)
            .field("token", &Hidden(self.token.len()))
            .field("agent_id", &self.agent_id)
            .finish()
    }
}
