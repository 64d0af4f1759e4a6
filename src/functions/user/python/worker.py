"""Evaluates one function of the user for tidelake: requests on stdin, answers on stdout.

request:  kind (1 byte), number of parts (1 byte), and of each part length (8 bytes, little endian) and bytes
answer:   0 or 1 (1 byte), length (8 bytes), an Arrow stream or the text of an error
"""
import ctypes
import json
import operator
import os
import struct
import sys
import textwrap
import traceback

# What the function prints goes to stderr: stdout is the engine's.
answers = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
requests = sys.stdin.buffer
sys.stdin = open(os.devnull)
try:
    # The process ends with the engine, also in the midst of a loop.
    ctypes.CDLL(None).prctl(1, 9)
except (AttributeError, OSError):
    pass


class Failed(Exception):
    """A failure with all that is known of it."""


def read(n):
    data = requests.read(n)
    if len(data) < n:
        sys.exit(0)
    return data


def request():
    kind, count = read(2)
    return kind, [read(struct.unpack("<Q", read(8))[0]) for _ in range(count)]


def answer(status, data):
    answers.write(struct.pack("<BQ", status, len(data)))
    answers.write(data)
    answers.flush()


try:
    import pyarrow as pa
except ImportError as e:
    request()
    answer(1, f"{sys.executable} has no pyarrow ({e})\0run {sys.executable} -m pip install pyarrow, or name another interpreter with the option 'python' or TIDELAKE_PYTHON".encode())
    sys.exit(0)


def columns(data):
    with pa.ipc.open_stream(data) as reader:
        return reader.schema, [c.combine_chunks() for c in reader.read_all().columns]


def stream(array):
    sink = pa.BufferOutputStream()
    batch = pa.record_batch([array], names=["result"])
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def has_maps(t):
    if pa.types.is_map(t):
        return True
    return any(has_maps(t.field(i).type) for i in range(t.num_fields))


def from_maps(t, v):
    """Maps as dicts."""
    if v is None or not has_maps(t):
        return v
    if pa.types.is_map(t):
        return {from_maps(t.key_type, k): from_maps(t.item_type, x) for k, x in v}
    if pa.types.is_list(t):
        return [from_maps(t.value_type, x) for x in v]
    return {t.field(i).name: from_maps(t.field(i).type, v[t.field(i).name]) for i in range(t.num_fields)}


def is_plain(t):
    """Whether pyarrow takes values of the type as they are, and no others."""
    return not t.num_fields and not pa.types.is_integer(t)


def conform(t, v):
    """Dicts as lists of pairs where maps are meant, rows by position as rows by name, and no fractions for whole numbers."""
    if v is None or is_plain(t):
        return v
    if pa.types.is_integer(t):
        return operator.index(v)
    if pa.types.is_map(t):
        pairs = v.items() if isinstance(v, dict) else v
        return [(conform(t.key_type, k), conform(t.item_type, x)) for k, x in pairs]
    if pa.types.is_list(t):
        return [conform(t.value_type, x) for x in v]
    fields = [t.field(i) for i in range(t.num_fields)]
    if not isinstance(v, dict):
        if len(v) != len(fields):
            raise TypeError(f"a row has {len(fields)} fields, not {len(v)}")
        v = dict(zip((f.name for f in fields), v))
    missing = [f.name for f in fields if f.name not in v]
    if missing:
        raise TypeError(f"the row {v!r} has no field {missing[0]}; a field without a value is None")
    return {f.name: conform(f.type, v[f.name]) for f in fields}


def values(column):
    # A datetime has no nanoseconds.
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    out = column.to_pylist()
    return [from_maps(column.type, v) for v in out] if has_maps(column.type) else out


def short(v):
    text = repr(v)
    return text if len(text) <= 40 else text[:40] + "…"


def failure(e, place):
    lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == "<body>"]
    line = f" in line {lines[-1]} of its body" if lines else ""
    return Failed(f"{type(e).__name__}: {e}{line}; {place}")


class Function:
    def __init__(self, spec, result):
        self.name, self.table, self.aggregate, self.type = spec["name"], spec["table"], spec["aggregate"], result.type
        self.nullable, self.shown = result.nullable, spec["returns"]
        scope = {"__name__": "__tidelake__"}
        try:
            exec(compile(textwrap.dedent(spec["body"]), "<body>", "exec"), scope)
        except SyntaxError as e:
            raise Failed(f"line {e.lineno or 1}: SyntaxError: {e.msg}")
        except BaseException as e:
            lines = [f.lineno for f in traceback.extract_tb(e.__traceback__) if f.filename == "<body>"]
            raise Failed(f"line {lines[-1] if lines else 1}: {type(e).__name__}: {e}")
        find = lambda name: scope[name] if callable(scope.get(name)) else None
        if self.aggregate:
            for name in ("create_state", "accumulate", "retract", "merge", "finish"):
                setattr(self, name, find(name))
            for name in ("create_state", "accumulate"):
                if not getattr(self, name):
                    raise Failed(f"the body defines no function {name}\0an aggregate has create_state(), accumulate(state, …) and, as far as they are needed, retract(state, …), merge(state, other) and finish(state)")
        else:
            self.function = find(self.name) or find(self.name.lower())
            if not self.function:
                raise Failed(f"the body defines no function {self.name}\0write def {self.name}({', '.join(spec['parameters'])}):")

    def rows(self, args, n):
        return zip(*args) if args else (() for _ in range(n))

    def place(self, i, row, called=None):
        return f"row {i + 1} of its batch: {called or self.name + '('}{', '.join(map(short, row))})"

    def column(self, out, place):
        """The values in the type of the result."""
        t = self.type
        if not self.nullable and any(v is None for v in out):
            i = next(i for i, v in enumerate(out) if v is None)
            raise Failed(f"its result is None, where NOT NULL is declared; {place(i)}")
        try:
            return pa.array(out if is_plain(t) else [conform(t, v) for v in out], type=t)
        except Exception as e:
            for i, v in enumerate(out):
                try:
                    pa.array([conform(t, v)], type=t)
                except Exception as e:
                    raise Failed(f"its result {short(v)} is no {self.shown}: {e}; {place(i)}")
            raise Failed(f"its results are no {self.shown}: {e}")

    def call(self, parts):
        n = struct.unpack("<Q", parts[0])[0]
        args = [values(c) for c in columns(parts[1])[1]] if len(parts) > 1 else []
        f, out, i, row = self.function, [], 0, ()
        try:
            if self.table:
                single = self.type.value_type.num_fields == 1
                for i, row in enumerate(self.rows(args, n)):
                    got = f(*row)
                    got = [] if got is None else list(got)
                    out.append([(x,) for x in got] if single else got)
            else:
                for i, row in enumerate(self.rows(args, n)):
                    out.append(f(*row))
        except BaseException as e:
            raise failure(e, self.place(i, row))
        return self.column(out, lambda i: self.place(i, [a[i] for a in args]))

    def states(self, column):
        try:
            return [self.create_state() if t is None else json.loads(t) for t in column.to_pylist()]
        except BaseException as e:
            raise failure(e, "create_state()")

    def dumped(self, states):
        try:
            return pa.array([json.dumps(s, ensure_ascii=False) for s in states], type=pa.string())
        except BaseException as e:
            raise Failed(f"its state is no JSON: {e}\0a state is made of dicts, lists, numbers, strings, bools and None")

    def accumulate_rows(self, parts):
        states = self.states(columns(parts[0])[1][0])
        groups, signs, *args = columns(parts[1])[1]
        args = [values(c) for c in args]
        groups, signs = groups.to_pylist(), signs.to_pylist()
        i, row, called = 0, (), ""
        try:
            for i, (group, sign, row) in enumerate(zip(groups, signs, zip(*args))):
                called = "retract(state, " if sign < 0 else "accumulate(state, "
                state = (self.retract if sign < 0 else self.accumulate)(states[group], *row)
                # A state that was changed in its place need not be returned.
                if state is not None:
                    states[group] = state
        except BaseException as e:
            raise failure(e, self.place(i, row, called))
        return self.dumped(states)

    def merge_states(self, parts):
        states = self.states(columns(parts[0])[1][0])
        groups, others = columns(parts[1])[1]
        others = self.states(others)
        try:
            for group, other in zip(groups.to_pylist(), others):
                state = self.merge(states[group], other)
                if state is not None:
                    states[group] = state
        except BaseException as e:
            raise failure(e, "merge(state, other)")
        return self.dumped(states)

    def results(self, parts):
        states = self.states(columns(parts[0])[1][0])
        try:
            out = [self.finish(s) for s in states] if self.finish else states
        except BaseException as e:
            raise failure(e, "finish(state)")
        return self.column(out, lambda i: "finish(state)")


def main():
    function = None
    while True:
        kind, parts = request()
        try:
            if kind == 0:
                spec = json.loads(parts[0])
                function = Function(spec, columns(parts[1])[0].field("result"))
                if spec["memory"]:
                    import resource

                    resource.setrlimit(resource.RLIMIT_AS, (spec["memory"], spec["memory"]))
                has = lambda name: b"1" if getattr(function, name, None) else b"0"
                answer(0, has("retract") + has("merge"))
                continue
            calls = {1: function.call, 2: function.accumulate_rows, 3: function.merge_states, 4: function.results}
            answer(0, stream(calls[kind](parts)))
        except Failed as e:
            answer(1, str(e).encode())
        except MemoryError:
            answer(1, "MemoryError\0the option 'memory' = '2 gb' allows more".encode())


main()
