//! Wire types, canonical JSON, limits and capabilities of SOCP v1.3.
