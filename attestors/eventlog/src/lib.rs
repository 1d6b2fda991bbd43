//! Measured state: what a machine booted and ran, read from its logs and tied to its registers.
//!
//! A log is only text until it leads to values that somebody signed. This crate parses logs
//! strictly, replays them, and says of each event how much of its text its digest really binds.
//!
//! It deliberately does no I/O, and it judges nothing: which firmware, boot loader or file is
//! acceptable is the business of a profile.
