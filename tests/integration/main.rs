//! Each part of the contract by itself, over real sockets: frames, upgrade, credentials, handshake, messages, limits,
//! HTTP. What many users do together is in `e2e` and `stress`.
//!
//! `wire` tests need nothing but an address and judge any target; `own` tests choose settings, restart or stop their
//! backend.

mod forged;
mod messages;
mod redaction;

mod own;
mod wire;
