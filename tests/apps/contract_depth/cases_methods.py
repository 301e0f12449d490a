"""Suspensions in special methods: whatever an operator or a statement looks up in a type."""

from __future__ import annotations

import bisect
import collections
import functools
import gc
import heapq
import itertools
import weakref

from cases import case, uncounted


@case
def comparisons(pause, n, size):
    class Number:
        def __init__(self, value):
            self.value = value

        def __eq__(self, other):
            return pause(self.value == other.value)

        def __lt__(self, other):
            return pause(self.value < other.value)

        def __hash__(self):
            return pause(self.value % 3)

    numbers = [Number((k * 7 + n) % (size + 1)) for k in range(size)]
    heap = []
    for number in numbers:
        heapq.heappush(heap, number)
    ordered = sorted(numbers)
    return [
        [number.value for number in ordered],
        [heapq.heappop(heap).value for _ in numbers],
        numbers.index(numbers[-1]),
        numbers.count(numbers[0]),
        [numbers[0] in numbers, [*numbers] == [*numbers]],
        [max(numbers).value, min(numbers).value],
        bisect.bisect(ordered, Number(size // 2)),
        len(set(numbers)),
        len(dict.fromkeys(numbers, 1) | dict.fromkeys(numbers, 2)),
    ]


@case
def attributes(pause, n, size):
    class Thing:
        def __getattr__(self, name):
            return pause(f"{name}{n}")

        def __setattr__(self, name, value):
            pause()
            object.__setattr__(self, name, value)

        def __delattr__(self, name):
            pause()
            object.__delattr__(self, name)

        @property
        def given(self):
            return pause(size)

        @functools.cached_property
        def once(self):
            return pause(n)

    class Strict:
        def __getattribute__(self, name):
            return pause(name)

    thing = Thing()
    thing.known = n
    found = [thing.given, thing.once, thing.once, thing.known, getattr(thing, "x", None)]
    del thing.known
    found += [hasattr(thing, "y"), thing.known, Strict().anything]
    return found + [getattr(thing, f"a{k}") for k in range(size)]


@case
def descriptors(pause, n, size):
    class Field:
        def __set_name__(self, owner, name):
            self.name = pause(name)

        def __get__(self, instance, owner):
            return pause(f"{self.name}{n}")

        def __set__(self, instance, value):
            pause()

    class Record:
        one = Field()
        two = Field()

    record = Record()
    for k in range(size):
        record.one = k
    return [record.one, record.two, Record.one]


@case
def iteration(pause, n, size):
    class Numbers:
        def __iter__(self):
            pause()
            self.at = 0
            return self

        def __next__(self):
            self.at += 1
            if pause(self.at) > size:
                raise StopIteration
            return self.at * n

    class Old:
        def __getitem__(self, k):
            if pause(k) >= size:
                raise IndexError
            return k + n

        def __len__(self):
            return pause(size)

    a, *rest = Old()
    return [
        list(Numbers()),
        tuple(Old()),
        list(reversed(Old())),
        [a, rest],
        list(zip(Numbers(), Old(), strict=True)),
        list(map(pause, Numbers())),
        list(filter(pause, Numbers())),
        list(enumerate(Numbers())),
        [any(Numbers()), all(Numbers()), sum(Numbers()), max(Numbers())],
        dict(zip(Old(), Numbers(), strict=True)) != {},
        "".join(str(number) for number in Numbers()),
        bytes(number % 200 for number in Numbers()).hex(),
        list(itertools.accumulate(Numbers(), lambda x, y: pause(x + y))),
        [[key, list(group)] for key, group in itertools.groupby(Numbers(), lambda x: pause(x % 2))],
        list(itertools.chain.from_iterable([Numbers(), Old()])),
        [list(part) for part in itertools.tee(Numbers())],
        list(itertools.takewhile(lambda x: pause(x) < n, Numbers())),
        collections.Counter(Numbers()).total(),
        list(collections.deque(Numbers(), maxlen=3)),
    ]


@case
def numbers_and_truth(pause, n, size):
    class Value:
        def __bool__(self):
            return pause(n % 2 == 0)

        def __len__(self):
            return pause(size)

        def __index__(self):
            return pause(n)

        def __int__(self):
            return pause(n + 1)

        def __float__(self):
            return pause(n + 0.5)

        def __add__(self, other):
            return pause(n + other)

        __radd__ = __add__

        def __neg__(self):
            return pause(-n)

        def __contains__(self, item):
            return pause(item == n)

        def __call__(self, k):
            return pause(k + n)

    value = Value()
    found = [len(value), int(value), float(value), -value, value + 1, sum([value], 2)]
    found += [hex(value), list(range(20))[value], "abcdefghijklm"[value], n in value]
    found += ["yes" if value else "no", not value, list(filter(None, [value])) == [value]]
    return found + [value(k) for k in range(size)]


@case
def texts(pause, n, size):
    class Word:
        def __format__(self, spec):
            return pause(f"{n}{spec}")

        def __str__(self):
            return pause(f"str{n}")

        def __repr__(self):
            return pause(f"repr{n}")

        def __bytes__(self):
            return pause(b"bytes")

    class Names(dict):
        def __missing__(self, key):
            return pause(f"{key}{n}")

    word = Word()
    table = collections.defaultdict(lambda: pause(n))
    found = [f"{word:a}{word!r}{word!s}", "{:b} {!r}".format(word, word), "%s %r" % (word, word)]  # noqa: UP031, UP032 - each takes another way
    found += [str([word, (word,), {word: word}]), bytes(word).decode(), ascii(word)]
    found += ["{x} {y}".format_map(Names()), "ab".translate(Names()), table["x"] + table["x"]]
    return found + [f"{word}{k}" for k in range(size)]


@case
def classes(pause, n, size):
    class Meta(type):
        def __new__(mcs, name, bases, names, **options):
            pause()
            return super().__new__(mcs, name, bases, names)

        def __call__(cls, *args):
            return [pause(n), super().__call__()]

        def __instancecheck__(cls, instance):
            return pause(instance == n)

        def __prepare__(name, bases, **options):
            return pause({"made": name})

        def __getattr__(cls, name):
            return pause(name)

    class Base:
        def __init_subclass__(cls, **options):
            pause()

        def __class_getitem__(cls, item):
            return pause(item)

        def __new__(cls):
            pause()
            return super().__new__(cls)

        def __init__(self):
            pause()

    found = []
    for k in range(size):
        made = Meta(f"Made{k}", (), {})

        class Child(Base, kind=k):
            pause(k)

        class Cooked(metaclass=Meta):
            inside = pause(n)

        found += [made()[0], isinstance(n, made), made.other, Cooked.made, Cooked.inside]
        found += [Base[k], type(Child()).__name__]
    return found


@case
def finalizers(pause, n, size):
    """`__del__` at the last reference."""
    seen = []

    class Thing:
        def __init__(self, k):
            self.k = k

        def __del__(self):
            seen.append(pause(self.k * n))

    for k in range(size):
        Thing(k)
    things = [Thing(k) for k in range(size)]
    del things[:]
    things = {k: Thing(k) for k in range(size)}
    things = None
    return [len(seen), sum(seen), things]


@uncounted
def finalizers_of_cycles(pause, n, size):
    """Found by the collector; other requests' cycles may be found by the same collection."""
    seen = []

    class Thing:
        def __init__(self, k):
            self.k = k
            self.itself = self

        def __del__(self):
            pause()
            seen.append(self.k + n)

    for k in range(size):
        Thing(k)
    for _ in range(1000):
        gc.collect()
        if len(seen) == size:
            break
        pause()
    return sorted(seen)


@case
def weak_references(pause, n, size):
    class Thing:
        pass

    seen = []
    for k in range(size):
        thing = Thing()
        kept = weakref.ref(thing, lambda ref, k=k: seen.append(pause(k + n)))
        weakref.finalize(thing, lambda k=k: seen.append(pause(-k)))
        table = weakref.WeakValueDictionary({k: thing})
        del thing
        assert kept() is None
        assert len(table) == 0
    return seen
