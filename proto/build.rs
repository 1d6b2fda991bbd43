//! Compiles the .proto files of this folder to Rust, into OUT_DIR: a pure Rust compiler reads
//! them, so no `protoc` has to be on the machine.

use std::error::Error;

/// Roots; what they import comes along.
const FILES: [&str; 9] = [
    "spiffe/workload/workload.proto",
    "spire/api/server/agent/v1/agent.proto",
    "spire/api/server/entry/v1/entry.proto",
    "spire/api/server/svid/v1/svid.proto",
    "spire/api/server/bundle/v1/bundle.proto",
    "grpc/health/v1/health.proto",
    "google/rpc/status.proto",
    "assay/v1/node.proto",
    "assay/v1/admin.proto",
];

/// Messages that carry a private key or a bearer token: their `Debug` is written by hand in
/// `src/secret.rs`, so that none of them gets into a log.
const SECRET: [&str; 7] = [
    ".X509SVID",
    ".JWTSVID",
    ".ValidateJWTSVIDRequest",
    ".WITSVID",
    ".spire.api.types.JWTSVID",
    ".spire.api.types.WITSVID",
    ".spire.api.types.JoinToken",
];

fn main() -> Result<(), Box<dyn Error>> {
    for folder in ["assay", "google", "grpc", "spiffe", "spire"] {
        println!("cargo:rerun-if-changed={folder}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = protox::compile(FILES, ["."])?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .emit_rerun_if_changed(false)
        .skip_debug(SECRET)
        .skip_debug([".spire.api.server.agent.v1.CreateJoinTokenRequest"])
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
