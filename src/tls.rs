//! Channels: TLS 1.3 with SPIFFE identities between server and agents, and the private Unix socket
//! of an operator.
//!
//! Only TLS 1.3, only ALPN `h2`, no tickets, no early data, no renegotiated anything: one
//! connection is one handshake, so its exporter names it. A peer is accepted for what its
//! certificate says it is (exactly one SPIFFE ID of our trust domain, under the bundle's present
//! authorities); what it may then call is the face's business.
//!
//! What this deliberately does not do: it knows no RPC, no node, no ban and no rate, and it does
//! not watch what a peer does with its connection.

mod acceptor;
mod client;
mod device_key;
mod identity;
mod peer;
mod private;
mod trust;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use acceptor::AcceptLimits;
pub use acceptor::Accepted;
pub use acceptor::Acceptor;
pub use acceptor::ConnectInfo;
pub use client::ConnectError;
pub use client::Connection;
pub use client::Server;
pub use client::connect;
pub use device_key::DeviceKey;
pub use device_key::Sign;
pub use identity::Identity;
pub use identity::IdentityError;
pub use identity::ServerIdentity;
pub use identity::server_config;
pub use peer::Peer;
pub use peer::PeerError;
pub use private::Operator;
pub use private::PrivateListener;
pub use private::PrivateStream;
pub use trust::Trust;
pub use trust::TrustError;

/// The label of the TLS exporter that evidence is bound to; no context, 32 bytes.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-assay-attestation-1";

/// The one ALPN protocol of both roles.
const ALPN: &[u8] = b"h2";

/// Named each time, because a default provider is whatever another crate switched on.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
