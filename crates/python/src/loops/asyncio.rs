//! Loops of asyncio's interface (its own, uvloop, Tornado's), as far as they are called from here. The rest is
//! `greenloom/engines/asyncio.py`.

use greenloom_worker::config::LoopEngine;
use pyo3::prelude::*;

use super::{Turns, missing};
use crate::traceback::format_exception;

fn module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("greenloom.engines.asyncio")
}

/// Finds out that a package is missing before the loading of the application takes long.
pub(super) fn before_loading(py: Python<'_>, engine: LoopEngine) -> Result<(), String> {
    let found = module(py).and_then(|module| module.call_method1("require", (engine.name(),)));
    found.map(drop).map_err(|error| missing(py, option(engine), engine.name(), engine.name(), &error))
}

/// Makes the loop of this process.
pub(super) fn make(py: Python<'_>, engine: LoopEngine) -> Result<(), String> {
    let made = module(py).and_then(|module| module.call_method1("make", (engine.name(),)));
    made.map(drop).map_err(|error| {
        format!("the {} loop cannot be made: {}", engine.name(), format_exception(py, &error))
    })
}

/// What the log says of it.
pub(super) fn describe(py: Python<'_>, engine: LoopEngine) -> PyResult<String> {
    module(py)?.call_method1("describe", (engine.name(),))?.extract()
}

/// Lets the loop run until the worker leaves.
pub(super) fn run(turns: &Bound<'_, Turns>) -> PyResult<()> {
    module(turns.py())?.call_method1("run", (turns,)).map(drop)
}

/// What asks for the engine.
pub(super) fn option(engine: LoopEngine) -> &'static str {
    match engine {
        LoopEngine::Uvloop => "--asyncio-loop uvloop",
        LoopEngine::Tornado => "--tornado",
        _ => "--asyncio",
    }
}
