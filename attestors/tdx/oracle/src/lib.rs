//! Nothing: this package exists for its tests, which hold our verifier against `dcap-qvl`.
