//! Whether a callable is what it was loaded as: a WSGI application would take an ASGI call for a strange environ, and the
//! other way round, and say so with every request.

use std::ffi::c_int;

use greenloom_worker::config::Interface;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::failure::LoadFailure;

/// Refuses a callable that shows that it has the other interface. One that shows nothing is let through.
pub(super) fn check(
    callable: &Bound<'_, PyAny>,
    interface: Interface,
    label: &str,
) -> Result<(), LoadFailure> {
    let py = callable.py();
    let refusal =
        |reason, remedy| Err(LoadFailure::WrongInterface { label: label.to_owned(), reason, remedy });
    match interface {
        Interface::Wsgi if is_asgi(callable).map_err(|error| LoadFailure::interpreter(py, &error))? => {
            refusal(
                "it is a coroutine function: an ASGI application, and was loaded as a WSGI one",
                "serve it with --asyncio N and --asgi MODULE:CALLABLE (or --asgi /PREFIX=APP instead of --mount)",
            )
        }
        Interface::Asgi
            if !takes_three(callable).map_err(|error| LoadFailure::interpreter(py, &error))? =>
        {
            refusal(
                "it cannot be called with (scope, receive, send): no ASGI 3.0 application",
                "serve a WSGI application with --module or --mount /PREFIX=APP, beside ASGI ones if you like",
            )
        }
        Interface::Wsgi | Interface::Asgi => Ok(()),
    }
}

/// Whether calling it makes a coroutine. (Without `inspect`, which most WSGI applications do not need.)
fn is_asgi(callable: &Bound<'_, PyAny>) -> PyResult<bool> {
    let mut callable = callable.clone();
    // functools.partial
    while callable.get_type().name()? == "partial" {
        callable = callable.getattr("func")?;
    }
    // Of the class: that is what a call looks for.
    Ok(is_coroutine_function(&callable)?
        || match callable.get_type().getattr_opt("__call__")? {
            Some(call) => is_coroutine_function(&call)?,
            None => false,
        })
}

/// Whether a function, or a method, was defined by `async def`.
fn is_coroutine_function(function: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(code) = function.getattr_opt("__code__")? else { return Ok(false) };
    let flags: Option<c_int> = code.getattr_opt("co_flags")?.and_then(|flags| flags.extract().ok());
    Ok(flags.is_some_and(|flags| flags & ffi::CO_COROUTINE != 0))
}

/// Whether it can be called with three arguments, as far as is known.
fn takes_three(callable: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = callable.py();
    let Ok(signature) = py.import("inspect")?.call_method1("signature", (callable,)) else { return Ok(true) };
    match signature.call_method1("bind", (py.None(), py.None(), py.None())) {
        Ok(_) => Ok(true),
        Err(error) if error.is_instance_of::<PyTypeError>(py) => Ok(false),
        Err(error) => Err(error),
    }
}
