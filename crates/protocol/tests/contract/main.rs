//! The wire types as a whole: how each looks, that each is read as it was written, and what reading refuses.

mod bodies;
mod decode;
mod fields;
mod hostile;
mod round_trip;
mod samples;
mod schemas;
mod shapes;
mod strategies;
