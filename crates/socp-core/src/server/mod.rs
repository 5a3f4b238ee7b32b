//! The server: links, presence, routing, directory, health.
