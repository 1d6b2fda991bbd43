//! Holds the SNP verifier and the launch measurement against another implementation, the crate
//! `sev`: the same verdict on everything genuine, and on what differs the list below.
//!
//! Where ours is stricter, with the reason:
//!
//! | input | ours | `sev` 8 | why |
//! |---|---|---|---|
//! | reserved bytes of a TCB, 368 bytes behind the signature, top of r and s | refused | read and dropped, or cut | what is not zero is not understood |
//! | certificate of another TCB | refused | not compared | a rolled-back key signs for old firmware |
//! | reported above committed, committed above current | refused | not compared | no firmware says so |
//! | chain under dates of another time | refused | dates are not asked | evidence is judged at a time |
//! | an unknown signature algorithm, a reserved kind of key | refused | not asked | another signature may follow |
