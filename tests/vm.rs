//! The real thing: machines that boot OVMF, a kernel and our agent on a TPM, and a server that
//! grants identities to the one whose boot fits its profile and to no other.
//!
//! `make test-vm` installs what this needs and runs it; without that everything here is skipped.
//! QEMU computes the machines in software (TCG): they need no privilege and no hardware, and are
//! slow. What they cannot prove: their TPM is a process of this host, so whoever owns the host can
//! forge everything.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "vm/house.rs"]
mod house;
#[path = "vm/image.rs"]
mod image;
#[path = "vm/machine.rs"]
mod machine;
#[path = "vm/newc.rs"]
mod newc;
#[path = "vm/parts.rs"]
mod parts;
#[path = "vm/shipped.rs"]
mod shipped;
#[path = "vm/story.rs"]
mod story;

use crate::parts::Parts;

#[test]
#[ignore = "boots real machines: make test-vm"]
fn machines_are_granted_after_a_good_boot_and_refused_with_the_reason_after_any_other() {
    let Some(parts) = Parts::find() else { return };
    story::tell(&parts).unwrap_or_else(|error| panic!("{error:?}"));
}

#[test]
#[ignore = "boots real machines and writes firmware-profiles: make vm-profiles"]
fn the_shipped_profiles_are_made_anew() {
    let Some(parts) = Parts::find() else { return };
    shipped::make(&parts).unwrap_or_else(|error| panic!("{error:?}"));
}
