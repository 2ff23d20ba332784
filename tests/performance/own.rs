//! Figures with a yardstick, which needs the same Postgres without the backend in between.

mod bare_loop;
mod events;
mod idle;
mod listener;
mod listings;
