//! A SOCP client: connection, pins, profile.
