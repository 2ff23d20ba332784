//! e2e: whole conversations over real sockets. `wire` needs nothing but an address; `own` brings settings, faults and a
//! scripted model of its own. What the numbers must be is computed in [`expected`], from the rows and nothing else.

mod expected;
mod own;
mod people;
mod wire;
