//! The agent: proves the host it runs on to the server, again and again, and gives the workloads
//! on that host their identities over the SPIFFE Workload API.

mod bundle;
mod caller;
mod config;
mod health;
mod host;
mod identities;
mod listener;
mod rotation;
mod socket;
mod tokens;
mod upstream;
mod workload_api;

pub use config::Bootstrap;
pub use config::Config;
pub use config::ConfigError;
pub use config::Intervals;
pub use config::Limits;
pub use config::Log;
pub use config::LogFormat;

#[cfg(test)]
mod tests;
