//! The server and client state machines of SOCP v1.3: no clock, no I/O, no RSA.
