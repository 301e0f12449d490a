//! The WSGI gateway (PEP 3333): from a request to the application and back.

pub(crate) mod environ;
pub(crate) mod errors;
pub(crate) mod file_wrapper;
pub(crate) mod gateway;
pub(crate) mod incoming;
pub(crate) mod input;
pub(crate) mod response;
