//! Bodies that are read while they come: what an application reads is what was sent, however the bytes are cut, whenever
//! it reads, and whoever leaves; and nothing behind a body is lost or misread.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod world;
