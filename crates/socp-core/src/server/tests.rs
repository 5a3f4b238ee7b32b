//! The rules of the server as a whole, in a network made in memory.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind among many")]

mod bootstrap;
mod channel;
mod claims;
mod delegate;
mod faults;
mod forward;
mod health;
mod hello;
mod join;
mod passed;
mod presence;
mod quota;
mod roster;
mod route;
mod table;
mod table_channel;
mod table_direct;
mod table_errors;
mod table_fields;
mod table_files;
mod table_frames;
mod table_health;
mod table_hello;
mod table_join;
mod table_presence;
mod world;
