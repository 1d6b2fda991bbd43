//! Attacks on a real server, by a hostile agent with real software TPMs: each is refused with its
//! reason, and beside each stands what is accepted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod custody;
mod device;
mod evidence;
mod host;
mod house;
mod identity;
mod registry;
mod standing;
