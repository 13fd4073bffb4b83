# cython: language_level=3, boundscheck=False, wraparound=False
"""The two loops of a copy that touch every field of every record: tuples apart, and tuples together.

A copy is bound by the time its worker spends on a record, and most of that went into the interpreter.
What a field or a value may be is decided elsewhere; here values of the exact types that are written most
often are written, and everything else goes to the codec of its type.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from hal9mig import errors

#: How a value of a type is written here; any other type is ``OTHER``.
KINDS = {
    "text": 1, "smallint": 2, "integer": 4, "bigint": 8, "real": 14, "double precision": 18, "boolean": 21, "uuid": 36,
}
OTHER = 0
#: Results that are kept for each computed column, and the longest field they are kept for.
cdef Py_ssize_t MOST_KEPT = 1000
cdef Py_ssize_t LONGEST_KEPT = 64


cdef inline uint32_t word(const uint8_t* at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


def split(bytes row not None, Py_ssize_t count):
    """Return the fields of one tuple of a binary COPY.

    Raises:
        errors.HAL9Error: the tuple has another number of fields, or is not whole.
    """
    cdef const uint8_t* data = <const uint8_t*>PyBytes_AS_STRING(row)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(row), at = 2, length
    cdef uint32_t found
    cdef list fields = []
    if size >= 2 and ((data[0] << 8) | data[1]) == count:
        while at + 4 <= size:
            found = word(data + at)
            # The first bit is set in the length of NULL only: no field is as long as 2 GB.
            length = 4 if found >> 31 else <Py_ssize_t>found + 4
            if length > size - at:
                break
            fields.append(PyBytes_FromStringAndSize(<const char*>data + at, length))
            at += length
        if at == size and len(fields) == count:
            return fields
    raise errors.HAL9Error(
        f"A row of {int.from_bytes(row[:2])} fields and {size} bytes is not of the {count} columns asked for."
    )


cdef class _Buffer:
    """Bytes that grow."""

    cdef char* data
    cdef Py_ssize_t size
    cdef Py_ssize_t room

    def __dealloc__(self):
        PyMem_Free(self.data)

    cdef int add(self, const char* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t room
        cdef char* grown
        if self.size + size > self.room:
            room = max(2 * self.room, self.size + size, 4096)
            grown = <char*>PyMem_Realloc(self.data, room)
            if grown is NULL:
                raise MemoryError
            self.data, self.room = grown, room
        memcpy(self.data + self.size, data, size)
        self.size += size
        return 0

    cdef int add_bytes(self, bytes data) except -1:
        return self.add(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    cdef bytes taken(self):
        return PyBytes_FromStringAndSize(self.data, self.size)


cdef int add_number(_Buffer out, uint64_t value, int width) except -1:
    """Add a field of so many bytes, the most significant first."""
    cdef char field[12]
    cdef int at
    field[0] = field[1] = field[2] = 0
    field[3] = <char>width
    for at in range(width):
        field[4 + at] = <char>(value >> (8 * (width - 1 - at)))
    return out.add(field, 4 + width)


cdef int nibble(char letter) noexcept nogil:
    if 48 <= letter <= 57:
        return letter - 48
    if 97 <= letter <= 102:
        return letter - 87
    return -1


cdef bint add_uuid(_Buffer out, const char* text) except -1:
    """Add the field of a uuid in its usual spelling; false, and nothing added, where it has another."""
    cdef char field[20]
    cdef int at = 0, place, high, low
    field[0] = field[1] = field[2] = 0
    field[3] = 16
    for place in range(16):
        if place == 4 or place == 6 or place == 8 or place == 10:
            if text[at] != 45:
                return False
            at += 1
        high, low = nibble(text[at]), nibble(text[at + 1])
        if high < 0 or low < 0:
            return False
        field[4 + place] = <char>((high << 4) | low)
        at += 2
    out.add(field, 20)
    return True


cdef int add_value(_Buffer out, int kind, object encode, object value) except -1:
    """Add a value as a field; what is not of the exact type that is written most goes to the codec."""
    cdef const char* text
    cdef Py_ssize_t size
    cdef int64_t number
    cdef double wide
    cdef float narrow
    cdef uint64_t wide_bits
    cdef uint32_t narrow_bits
    cdef char length[4]
    cdef int overflow
    if value is None:
        return out.add(b"\xff\xff\xff\xff", 4)
    if type(value) is str:
        if kind == 1:
            text = PyUnicode_AsUTF8AndSize(value, &size)
            if size < (1 << 30):
                length[0], length[1] = <char>(size >> 24), <char>(size >> 16)
                length[2], length[3] = <char>(size >> 8), <char>size
                out.add(length, 4)
                return out.add(text, size)
        elif kind == 36:
            text = PyUnicode_AsUTF8AndSize(value, &size)
            if size == 36 and add_uuid(out, text):
                return 0
    elif type(value) is float:
        wide = value
        if kind == 18:
            memcpy(&wide_bits, &wide, 8)
            return add_number(out, wide_bits, 8)
        if kind == 14:
            narrow = <float>wide
            # One that is too large for it is the codec's to refuse.
            if narrow - narrow == 0:
                memcpy(&narrow_bits, &narrow, 4)
                return add_number(out, narrow_bits, 4)
    elif type(value) is int:
        if kind == 2 or kind == 4 or kind == 8:
            number = PyLong_AsLongLongAndOverflow(value, &overflow)
            # One that is too large for its column is the codec's to refuse.
            if not overflow and (kind == 8 or number == (<int32_t>number if kind == 4 else <int16_t>number)):
                return add_number(out, <uint64_t>number, kind)
    elif kind == 21 and type(value) is bool:
        return add_number(out, 1 if value is True else 0, 1)
    return out.add_bytes(encode(value))


cdef class Source:
    """A source column as a function gets it: its place, the bytes before its data, how it is decoded (None: as bytes)."""

    cdef Py_ssize_t place, skip
    cdef object decode

    def __init__(self, Py_ssize_t place, Py_ssize_t skip, object decode):
        self.place, self.skip, self.decode = place, skip, decode

    cdef object value(self, list fields):
        cdef bytes field = <bytes?>fields[self.place]
        if PyBytes_GET_SIZE(field) == 4 and PyBytes_AS_STRING(field)[0] == <char>0xff:
            return None
        data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(field) + self.skip, PyBytes_GET_SIZE(field) - self.skip)
        return data if self.decode is None else self.decode(data)


cdef object called(object function, tuple sources, list fields):
    cdef Source source
    if len(sources) == 1:
        source = <Source>sources[0]
        return function(source.value(fields))
    return function(*[(<Source>source).value(fields) for source in sources])


cdef class Computed:
    """A column that a function computes: the function, what it takes, and how its value is written."""

    cdef object function, encode
    cdef tuple sources
    cdef int kind
    cdef dict kept

    def __init__(self, object function, tuple sources, int kind, object encode):
        self.function, self.sources, self.kind, self.encode = function, sources, kind, encode
        self.kept = {}

    cdef bytes field(self, list fields):
        cdef bytes given = None
        cdef PyObject* found
        cdef _Buffer out
        if len(self.sources) == 1:
            # Most columns that are computed of one short field have few different values.
            given = <bytes?>fields[(<Source>self.sources[0]).place]
            found = PyDict_GetItem(self.kept, given)
            if found is not NULL:
                return <bytes>found
        out = _Buffer()
        add_value(out, self.kind, self.encode, called(self.function, self.sources, fields))
        field = out.taken()
        if given is not None and PyBytes_GET_SIZE(given) <= LONGEST_KEPT and len(self.kept) < MOST_KEPT:
            self.kept[given] = field
        return field


cdef class Target:
    """A target table.

    Args:
        header: the number of its columns, as a tuple begins.
        when: the place of a source column and the field it must have; None for every record.
        root: whether a record has to be taken by one such table.
        shared: whether its rows are those of many records.
        leading: what each tuple begins with; a source column's place, or below zero -1 less a computed column's.
        explode: the function that gives a tuple's other values, row by row, and what it takes; or None.
        elements: of each of those values how it is written.
    """

    cdef bytes header
    cdef object when_field
    cdef Py_ssize_t when_place
    cdef bint root, shared
    cdef list leading
    cdef object explode
    cdef tuple sources
    cdef list kinds, encoders

    def __init__(self, bytes header, object when, bint root, bint shared, list leading, object explode, list elements):
        self.header, self.root, self.shared, self.leading = header, root, shared, leading
        self.when_place, self.when_field = when if when is not None else (0, None)
        self.explode, self.sources = explode if explode is not None else (None, ())
        self.kinds, self.encoders = [kind for kind, _ in elements], [encode for _, encode in elements]

    cdef int lead(self, _Buffer out, list fields, list computed) except -1:
        cdef Py_ssize_t place
        out.add_bytes(self.header)
        for place in self.leading:
            out.add_bytes(<bytes?>(fields[place] if place >= 0 else computed[-1 - place]))
        return 0

    cdef Py_ssize_t add(self, _Buffer out, dict shared, list fields, list computed) except -1:
        """Add a record's tuples and return how many."""
        cdef _Buffer one
        cdef Py_ssize_t began, leads, at, rows = 0
        if self.explode is None:
            if not self.shared:
                self.lead(out, fields, computed)
                return 1
            one = _Buffer()
            self.lead(one, fields, computed)
            shared[one.taken()] = None
            return 0
        one = _Buffer()
        self.lead(one, fields, computed)
        leads = one.size
        for values in called(self.explode, self.sources, fields):
            row = values if type(values) is tuple else tuple(values)
            if len(row) != len(self.kinds):
                raise ValueError(f"{len(row)} values came where {len(self.kinds)} were declared")
            one.size = leads
            for at in range(len(row)):
                add_value(one, self.kinds[at], self.encoders[at], row[at])
            if self.shared:
                shared[one.taken()] = None
            else:
                out.add(one.data, one.size)
                rows += 1
        return rows


cdef class Step:
    """What a category makes of a step's records, each of at least so many fields."""

    cdef Py_ssize_t width
    cdef list computed, targets

    def __init__(self, Py_ssize_t width, list computed, list targets):
        self.width, self.computed, self.targets = width, computed, targets

    def __call__(self, object records, list pieces, list rows, list shared):
        """Add each target's tuples to its pieces and their number to its rows; raise at the first record refused."""
        cdef Py_ssize_t at, count = len(self.targets), roots
        cdef list outs = [_Buffer() for _ in range(count)], counts = [0] * count, ready, fields
        cdef bint routed = any([(<Target>target).root and (<Target>target).when_field is not None for target in self.targets])
        cdef Target target
        cdef list matches
        for record in records:
            fields = record if type(record) is list else list(record)
            if len(fields) < self.width:
                raise ValueError(f"a record of {len(fields)} fields came where {self.width} were declared")
            ready = [(<Computed>computed).field(fields) for computed in self.computed]
            roots = 0
            matches = []
            for at in range(count):
                target = <Target>self.targets[at]
                match = target.when_field is None or fields[target.when_place] == target.when_field
                matches.append(match)
                if target.root and target.when_field is not None and match:
                    roots += 1
            if routed and roots != 1:
                raise errors.RecordRejected("No target table is declared for a record of this kind.")
            for at in range(count):
                if matches[at]:
                    counts[at] += (<Target>self.targets[at]).add(outs[at], shared[at], fields, ready)
        for at in range(count):
            if (<_Buffer>outs[at]).size:
                pieces[at].append((<_Buffer>outs[at]).taken())
            rows[at] += counts[at]
