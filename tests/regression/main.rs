//! Faults that were made once, by the suite that this one replaces or by us, and are not made again. Each test names the
//! fault that it guards against; it is seen red on a backend that makes the fault.

mod own;
mod wire;
