//! The messages and services that Assay speaks, generated from the .proto files of this crate:
//! the SPIFFE Workload API, the parts of SPIRE's server API that a server, an agent and their
//! tools need, and what SPIRE has no words for under `assay.*`.
//!
//! The files are our own; field numbers and names are the interface, and the tests hold them
//! against hand-written bytes. Nothing here verifies or decides: a decoded message is as
//! untrusted as the bytes it came from.

// What the generator writes is not ours to polish.
#![allow(rust_2018_idioms, clippy::all, clippy::unwrap_used, clippy::expect_used)]

pub mod details;
mod secret;

/// SPIFFE Workload API (`SpiffeWorkloadAPI`, a service without package).
pub mod workload {
    tonic::include_proto!("_");
}

// The tree below mirrors the packages: the generated paths between them are relative.
/// SPIRE's API.
pub mod spire {
    pub mod api {
        pub mod types {
            tonic::include_proto!("spire.api.types");
        }
        pub mod server {
            pub mod agent {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.agent.v1");
                }
            }
            pub mod bundle {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.bundle.v1");
                }
            }
            pub mod entry {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.entry.v1");
                }
            }
            pub mod svid {
                pub mod v1 {
                    tonic::include_proto!("spire.api.server.svid.v1");
                }
            }
        }
    }
}

/// Our own services.
pub mod assay {
    pub mod attestation {
        pub mod v1 {
            tonic::include_proto!("assay.attestation.v1");
        }
    }
    pub mod v1 {
        tonic::include_proto!("assay.v1");
    }
}

/// gRPC's own services.
pub mod grpc {
    pub mod health {
        pub mod v1 {
            tonic::include_proto!("grpc.health.v1");
        }
    }
}

/// Google's status with details.
pub mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }
}

/// The attestation exchange, by its short name.
pub use assay::attestation::v1 as attestation;
pub use grpc::health;
