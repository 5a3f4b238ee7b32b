//! The client: session, direct messages, first-use pins.
