//! Tests of websockets against a client: what it sends arrives whole, and what it gets is what was meant.

#[cfg(test)]
mod client;
#[cfg(test)]
mod properties;
