//! The rules of the server as a whole, in a network made in memory.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one kind among many")]

mod faults;
mod health;
mod hello;
mod join;
mod presence;
mod route;
mod world;
