//! Who may call what: one class for each full RPC method, and one judgement of a caller.
//!
//! A method that is not in the table does not exist for anybody. The table says who may knock;
//! whether a node's standing is fresh is asked by the calls that sign, not here.

use std::net::SocketAddr;

use crate::records::Actor;
use crate::spiffe::Serial;
use crate::spiffe::SpiffeId;

/// Who may call a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Anybody who reaches a listener.
    Any,
    /// Anybody who reaches the TLS listener: the exchange binds a channel, so it needs one.
    Channel,
    /// The private socket alone.
    Local,
    /// The private socket, or an SVID of an entry marked `admin`.
    Admin,
    /// An attested agent over its mTLS channel.
    Agent,
}

/// Who calls, as the transport proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A process on the private socket, by SO_PEERCRED.
    Local { uid: u32, pid: i32 },
    /// A TLS connection without client certificate.
    Stranger { address: SocketAddr },
    /// A TLS connection whose SVID of this trust domain was verified.
    Peer { address: SocketAddr, id: SpiffeId, serial: Option<Serial> },
}

impl Caller {
    /// For logs.
    pub fn name(&self) -> String {
        match self {
            Self::Local { uid, pid } => format!("uid:{uid} pid:{pid}"),
            Self::Stranger { address } => address.to_string(),
            Self::Peer { id, .. } => id.to_string(),
        }
    }

    /// For records.
    pub fn actor(&self) -> Actor {
        match self {
            Self::Local { uid, pid } => Actor::Unix { uid: *uid, pid: *pid },
            Self::Stranger { address } => Actor::Address(*address),
            Self::Peer { id, .. } => Actor::Spiffe(id.clone()),
        }
    }
}

/// The class of a path such as `/spire.api.server.agent.v1.Agent/BanAgent`.
pub fn class(path: &str) -> Option<Class> {
    METHODS.iter().find(|(method, _)| *method == path).map(|(_, class)| *class)
}

#[rustfmt::skip]
const METHODS: &[(&str, Class)] = &[
    ("/spire.api.server.agent.v1.Agent/AttestAgent", Class::Channel),
    ("/spire.api.server.agent.v1.Agent/RenewAgent", Class::Agent),
    ("/spire.api.server.agent.v1.Agent/PostStatus", Class::Agent),
    ("/spire.api.server.agent.v1.Agent/CountAgents", Class::Admin),
    ("/spire.api.server.agent.v1.Agent/ListAgents", Class::Admin),
    ("/spire.api.server.agent.v1.Agent/GetAgent", Class::Admin),
    ("/spire.api.server.agent.v1.Agent/DeleteAgent", Class::Admin),
    ("/spire.api.server.agent.v1.Agent/BanAgent", Class::Admin),
    ("/spire.api.server.agent.v1.Agent/CreateJoinToken", Class::Local),

    ("/spire.api.server.entry.v1.Entry/GetAuthorizedEntries", Class::Agent),
    ("/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries", Class::Agent),
    ("/spire.api.server.entry.v1.Entry/CountEntries", Class::Admin),
    ("/spire.api.server.entry.v1.Entry/ListEntries", Class::Admin),
    ("/spire.api.server.entry.v1.Entry/GetEntry", Class::Admin),
    ("/spire.api.server.entry.v1.Entry/BatchCreateEntry", Class::Admin),
    ("/spire.api.server.entry.v1.Entry/BatchUpdateEntry", Class::Admin),
    ("/spire.api.server.entry.v1.Entry/BatchDeleteEntry", Class::Admin),

    ("/spire.api.server.svid.v1.SVID/BatchNewX509SVID", Class::Agent),
    ("/spire.api.server.svid.v1.SVID/NewJWTSVID", Class::Agent),
    ("/spire.api.server.svid.v1.SVID/BatchNewWITSVID", Class::Agent),
    ("/spire.api.server.svid.v1.SVID/NewDownstreamX509CA", Class::Agent),
    ("/spire.api.server.svid.v1.SVID/MintX509SVID", Class::Admin),
    ("/spire.api.server.svid.v1.SVID/MintJWTSVID", Class::Admin),
    ("/spire.api.server.svid.v1.SVID/MintWITSVID", Class::Admin),

    ("/spire.api.server.bundle.v1.Bundle/GetBundle", Class::Any),
    ("/spire.api.server.bundle.v1.Bundle/CountBundles", Class::Admin),
    ("/spire.api.server.bundle.v1.Bundle/AppendBundle", Class::Admin),
    ("/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority", Class::Admin),
    ("/spire.api.server.bundle.v1.Bundle/PublishWITAuthority", Class::Admin),
    ("/spire.api.server.bundle.v1.Bundle/ListFederatedBundles", Class::Admin),
    ("/spire.api.server.bundle.v1.Bundle/GetFederatedBundle", Class::Admin),
    ("/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle", Class::Admin),
    ("/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle", Class::Admin),
    ("/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle", Class::Admin),
    ("/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle", Class::Admin),

    ("/assay.v1.Node/Refresh", Class::Agent),
    ("/assay.v1.Node/Watch", Class::Agent),

    ("/assay.v1.Admin/AdmitNode", Class::Local),
    ("/assay.v1.Admin/ReleaseNode", Class::Local),
    ("/assay.v1.Admin/ResetCounters", Class::Local),
    ("/assay.v1.Admin/GetNode", Class::Local),
    ("/assay.v1.Admin/ListNodes", Class::Local),
    ("/assay.v1.Admin/ExplainNode", Class::Local),
    ("/assay.v1.Admin/ListRecords", Class::Local),
    ("/assay.v1.Admin/GetRecord", Class::Local),
    ("/assay.v1.Admin/GetBlob", Class::Local),
    ("/assay.v1.Admin/GetAuthority", Class::Local),
    ("/assay.v1.Admin/CertifyAttestationKey", Class::Local),

    ("/grpc.health.v1.Health/Check", Class::Any),
    ("/grpc.health.v1.Health/List", Class::Any),
    ("/grpc.health.v1.Health/Watch", Class::Any),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Every `rpc` of every service that this server serves, read from the .proto files.
    fn served() -> BTreeSet<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let files = [
            "spire/api/server/agent/v1/agent.proto",
            "spire/api/server/entry/v1/entry.proto",
            "spire/api/server/svid/v1/svid.proto",
            "spire/api/server/bundle/v1/bundle.proto",
            "assay/v1/node.proto",
            "assay/v1/admin.proto",
            "grpc/health/v1/health.proto",
        ];
        let mut found = BTreeSet::new();
        for file in files {
            let text = fs::read_to_string(root.join(file)).unwrap();
            let word = |line: &str, key: &str| {
                let rest = line.trim().strip_prefix(key)?;
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '.' && c != '_')?;
                Some(rest[..end].to_owned())
            };
            let package = text.lines().find_map(|line| word(line, "package ")).unwrap();
            let service = text.lines().find_map(|line| word(line, "service ")).unwrap();
            let methods = text.lines().filter_map(|line| word(line, "rpc "));
            found.extend(methods.map(|method| format!("/{package}.{service}/{method}")));
        }
        found
    }

    #[test]
    fn every_method_served_has_a_class_and_no_class_is_for_nothing() {
        let named: BTreeSet<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(named.len(), METHODS.len());
        assert_eq!(named, served());
    }

    #[test]
    fn an_unknown_method_has_no_class() {
        assert_eq!(class("/spire.api.server.agent.v1.Agent/Attest"), None);
        assert_eq!(class("/assay.v1.Admin/AdmitNode/"), None);
        assert_eq!(class("/assay.v1.Admin/AdmitNode"), Some(Class::Local));
    }
}
