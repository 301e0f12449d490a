"""Suspensions in callbacks of libraries with C code of their own: cffi and numpy."""

from __future__ import annotations

import sys
from pathlib import Path

import cffi
import numpy

sys.path.insert(0, str(Path(__file__).parent.parent / "contract_support"))

from contract_support import application_of

ffi = cffi.FFI()
ffi.cdef("void qsort(void *, size_t, size_t, int (*)(const void *, const void *));")
libc = ffi.dlopen(None)


def sorted_by_libc(request):
    """cffi's callbacks take the interpreter by `PyGILState_Ensure`."""
    request.meet()
    numbers = [(k * 7 + request.number) % 13 for k in range(6 + request.number)]
    array = ffi.new("int[]", numbers)

    @ffi.callback("int(const void *, const void *)")
    def order(left, right):
        request.suspend()
        return ffi.cast("int *", left)[0] - ffi.cast("int *", right)[0]

    libc.qsort(array, len(numbers), ffi.sizeof("int"), order)
    return [list(array), sorted(numbers)]


def computed_by_numpy(request):
    """Universal functions over Python functions, and a sort of objects."""
    request.meet()
    numbers = numpy.arange(4 + request.number, dtype=object)
    add = numpy.frompyfunc(lambda x, y: request.pause(x + y), 2, 1)
    square = numpy.vectorize(lambda x: request.pause(x * x), otypes=[object])

    class Backwards(int):
        def __lt__(self, other):
            return request.pause(int(self) > int(other))

    backwards = numpy.array([Backwards(x) for x in numbers], dtype=object)
    backwards.sort()
    found = [add(numbers, request.number), add.reduce(numbers), square(numbers), backwards]
    plain = range(4 + request.number)
    expected = [
        [x + request.number for x in plain],
        sum(plain),
        [x * x for x in plain],
        list(reversed(plain)),
    ]
    return [[numpy.asarray(part).tolist() for part in found], expected]


application = application_of({"cffi": sorted_by_libc, "numpy": computed_by_numpy})
