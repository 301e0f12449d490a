//! Names of uWSGI's module that this version of greenloom does not have.
//!
//! Owns their list and, for each family, what to do instead. They exist so that `from uwsgi import name` works
//! and code that never calls them runs unchanged; the call raises. A name leaves this list in the same change
//! that adds the function.

use std::ffi::CStr;

use pyo3::exceptions::PyNotImplementedError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyTuple};

use super::info::require_server;

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for (remedy, names) in FAMILIES {
        for name in *names {
            let function = PyCFunction::new_closure(module.py(), Some(name), None, raiser(name, remedy))?;
            module.add(name.to_string_lossy().as_ref(), function)?;
        }
    }
    Ok(())
}

fn raiser(
    name: &'static CStr,
    remedy: &'static str,
) -> impl Fn(&Bound<'_, PyTuple>, Option<&Bound<'_, PyDict>>) -> PyResult<()> + Send + Sync + 'static {
    move |_, _| {
        let name = name.to_string_lossy();
        require_server(&name)?;
        Err(PyNotImplementedError::new_err(format!(
            "uwsgi.{name} is not available in this version of greenloom: {remedy}"
        )))
    }
}

type Family = (&'static str, &'static [&'static CStr]);

/// What to do instead, and the names it is true of.
const FAMILIES: &[Family] = &[
    (
        "it comes with the websocket support; until then use a websocket library on uwsgi.connection_fd(), \
         or an ASGI server",
        &[
            c"websocket_handshake",
            c"websocket_recv",
            c"websocket_recv_nb",
            c"websocket_send",
            c"websocket_send_binary",
            c"websocket_send_from_sharedarea",
            c"websocket_send_binary_from_sharedarea",
        ],
    ),
    ("workers accept connections by themselves as soon as they are ready", &[c"accepting"]),
    ("write it with uwsgi.log() and let the log's reader raise the alarm", &[c"alarm"]),
    ("nothing of the server shows it; write it with uwsgi.log()", &[c"set_warning_message"]),
    ("put the value into environ, or into the log line with uwsgi.set_logvar()", &[c"add_var"]),
    ("return the file through environ['wsgi.file_wrapper'], or use uwsgi.sendfile()", &[c"offload"]),
    ("send the request on with an HTTP client, or route it in the web server in front", &[c"route"]),
    ("read the file with Python's own modules", &[c"parsefile", c"extract", c"embedded_data"]),
    (
        "greenloom has no cache; use Redis, memcached or your framework's cache",
        &[
            c"cache_get",
            c"cache_set",
            c"cache_update",
            c"cache_del",
            c"cache_exists",
            c"cache_clear",
            c"cache_inc",
            c"cache_dec",
            c"cache_mul",
            c"cache_div",
            c"cache_num",
            c"cache_keys",
        ],
    ),
    (
        "greenloom has no shared queue; use multiprocessing.Queue made before the workers fork, or Redis",
        &[
            c"queue_push",
            c"queue_set",
            c"queue_pop",
            c"queue_pull",
            c"queue_get",
            c"queue_last",
            c"queue_slot",
            c"queue_pull_slot",
        ],
    ),
    (
        "greenloom has no shared areas; use multiprocessing.shared_memory, or mmap made before the workers fork",
        &[
            c"sharedarea_read",
            c"sharedarea_write",
            c"sharedarea_readbyte",
            c"sharedarea_writebyte",
            c"sharedarea_readlong",
            c"sharedarea_writelong",
            c"sharedarea_read8",
            c"sharedarea_read16",
            c"sharedarea_read32",
            c"sharedarea_read64",
            c"sharedarea_write8",
            c"sharedarea_write16",
            c"sharedarea_write32",
            c"sharedarea_write64",
            c"sharedarea_inclong",
            c"sharedarea_inc32",
            c"sharedarea_inc64",
            c"sharedarea_dec32",
            c"sharedarea_dec64",
            c"sharedarea_rlock",
            c"sharedarea_wlock",
            c"sharedarea_unlock",
            c"sharedarea_memoryview",
            c"sharedarea_object",
        ],
    ),
    (
        "greenloom keeps no metrics of applications; use a client of your metrics system",
        &[
            c"metric_get",
            c"metric_set",
            c"metric_inc",
            c"metric_dec",
            c"metric_mul",
            c"metric_div",
            c"metric_set_max",
            c"metric_set_min",
        ],
    ),
    (
        "greenloom has no mules; run background work in a process of its own, or with a task queue such as \
         Celery or RQ",
        &[c"mule_msg", c"mule_get_msg", c"farm_msg", c"farm_get_msg", c"in_farm"],
    ),
    (
        "greenloom has no spooler; use a task queue such as Celery or RQ",
        &[
            c"spool",
            c"send_to_spooler",
            c"set_spooler_frequency",
            c"spooler_jobs",
            c"spooler_pid",
            c"spooler_pids",
            c"spooler_get_task",
        ],
    ),
    (
        "greenloom has no RPC; call the other service over HTTP, or the function itself",
        &[c"register_rpc", c"rpc", c"call", c"rpc_list"],
    ),
    (
        "greenloom has no legion; ask your cluster's own leader election",
        &[c"i_am_the_lord", c"lord_scroll", c"scrolls"],
    ),
];
