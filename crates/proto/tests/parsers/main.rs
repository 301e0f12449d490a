//! Tests of all parsers over generated input and over the corpus of the fuzzers.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod small_parsers;
