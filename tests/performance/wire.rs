//! Figures that need nothing but a target's address.

mod connecting;
