//! unit: what needs neither a backend nor a service. The validators' own tests stand beside them; here they judge what was
//! really recorded and stored, as `replay` does.

mod corpus;
mod resume_model;
mod stored_recordings;
