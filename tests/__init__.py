"""The test suite, and the small applications that the documentation's commands name.

`tests.cpubound_async`, `tests.sleeping_async` and `tests.fileserve_async` are applications: they
import nothing but what a server gives them, so that `greenloom -w tests.cpubound_async` works where
pytest is not installed.
"""
