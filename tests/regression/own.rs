//! Tests that bring their own backend.

mod lost_answer_of_a_commit;
mod orphan_behind_a_queue;
mod planted;
mod silent_connections_to_postgres;
mod stop_of_a_lost_run;
