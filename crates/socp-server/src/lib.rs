//! A SOCP server: sockets, signing pool, store.
