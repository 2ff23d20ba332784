//! stress: many users at once, bursts, connections that come and go, readers that do not read. Every run is judged exactly,
//! as everywhere; only the bounds on time do not hold beyond normal load.

mod own;
mod wire;
