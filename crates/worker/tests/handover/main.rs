//! Connections that change workers: several workers in one process, over real sockets.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod world;
