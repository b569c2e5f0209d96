"""The instructions of Python, carried out on symbols: arrays are Tensors, modules are Names.

There is one table, `INSTRUCTIONS`, for every Python from 2.7 to 3.13: what is not in it is refused.
Where versions mean different things by the same instruction, its function asks for the version.
They were written after the documentation of the module dis of each version, and Python/ceval.c.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_files.code_object import Code, CodeError
from keras_files.lambda_constants import SIGNS, compare_constants, is_none, truth
from keras_files.lambda_functions import CONSTANTS, FUNCTIONS, call_function
from keras_files.network import Tensor
from keras_files.symbols import MAX_VALUES, TOO_LARGE, Graph, Name, as_operand, describe

MAX_STACK = 500
MAX_INTEGER = 2**60
MAX_PATH = 200  # characters in the name of a function with all its modules

# The modules that are known by these names, and what they are called in FUNCTIONS.
MODULES = {
    "K": "K",
    "backend": "K",
    "keras": "keras",
    "math": "math",
    "np": "np",
    "numpy": "np",
    "ops": "ops",
    "tensorflow": "tf",
    "tf": "tf",
}
ALIASES = {"keras.backend": "K", "keras.ops": "ops", "tf.keras": "keras"}
IMPORTS = {"keras", "keras.backend", "math", "numpy", "tensorflow", "tensorflow.keras"}
IMPORTS |= {"tensorflow.keras.backend"}

NULL = Name("NULL")  # what Python 3.11 on pushes beside a function


class Machine:
    """The interpreter of a function without loops, on symbols.

    Args:
        graph: takes the operations.
        variables: the values of the parameters, by name.
        closure: the values of the free variables, in their order.
    """

    def __init__(
        self, code: Code, graph: Graph, variables: dict[str, Any], closure: list[Any]
    ) -> None:
        self.code = code
        self.graph = graph
        self.variables = variables
        self.stack: list[Any] = []
        self.at = 0  # the number of the next instruction
        self.keywords: tuple[str, ...] = ()
        if len(closure) != len(code.free):
            raise CodeError("the file has other values for its closure than it uses")
        self.closure = dict(zip(code.free, closure, strict=True))

    def run(self) -> Any:
        """Return what the function gives.

        Raises:
            CodeError: it needs what is in no table, or no Python wrote it.
        """
        begin = [name for name, _ in self.code.instructions[:2] if name != "COPY_FREE_VARS"]
        if self.code.version >= (3, 11) and begin[:1] != ["RESUME"]:
            raise CodeError("its code is damaged, or of no Python from 2.7 to 3.13")
        if self.code.catches:
            raise CodeError("it catches errors, or loops in a comprehension")
        try:
            while True:
                name, argument = self.code.instructions[self.at]
                self.at += 1
                if name == "RETURN_VALUE":
                    return self.pop()
                if name == "RETURN_CONST":
                    return self.code.constants[argument]
                if name not in INSTRUCTIONS:
                    raise CodeError(
                        f"it needs Python's instruction {name}, which no formula without "
                        "loop and method does"
                    )
                INSTRUCTIONS[name](self, argument)
                if len(self.stack) > MAX_STACK:
                    raise CodeError("it is longer than plain arithmetic needs")
        except (IndexError, KeyError) as error:  # of the stack, the names, the constants
            raise CodeError("its code is damaged") from error

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_several(self, count: int) -> list[Any]:
        """Take the last values of the stack, in their order."""
        if count > len(self.stack):
            raise IndexError("the stack is too short")
        return [self.stack.pop() for _ in range(count)][::-1]

    def look_up(self, name: str) -> Any:
        """Return what a global name stands for."""
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in FUNCTIONS:
            return Name(name)
        if name not in MODULES or (name == "ops" and self.graph.era.keras < 3):
            raise CodeError(
                f"it uses the name '{name}', which is neither in the file nor one of "
                "K, keras, math, np, tf"
            )
        return Name(MODULES[name])

    def attribute(self, name: str) -> Any:
        """Return what stands under a name in the module on the stack."""
        owner = self.pop()
        if not isinstance(owner, Name) or owner.path in FUNCTIONS:
            raise CodeError(f"it uses '.{name}' of an array or a function")
        path = f"{owner.path}.{name}"
        if len(path) > MAX_PATH:
            raise CodeError("it uses a name that is too long")
        path = ALIASES.get(path, path)
        return CONSTANTS[path] if path in CONSTANTS else Name(path)

    def jump(self, target: int) -> None:
        if target < self.at:
            raise CodeError("it has a loop")
        self.at = target

    def call(self, args: list[Any], kwargs: dict[str, Any], function: Any) -> None:
        if not isinstance(function, Name):
            raise CodeError("it calls something that is no function by its name")
        self.push(call_function(self.graph, function.path, args, kwargs))


# Arithmetic


def _power(base: Any, exponent: Any) -> Any:
    """Return a power of numbers, none of more bits than MAX_INTEGER has."""
    whole = isinstance(base, int) and isinstance(exponent, int) and exponent > 0
    if whole and base.bit_length() * exponent > MAX_INTEGER.bit_length():
        raise CodeError("it computes an integer of more than 60 bits")
    result = base**exponent
    if isinstance(result, complex):
        raise CodeError("it computes a complex number")
    return result


@dataclass(frozen=True)
class _Operator:
    """An operator on arrays: a function of OPERATIONS; and on numbers."""

    sign: str
    operation: str
    compute: Callable[[Any, Any], Any]


OPERATORS = {
    "ADD": _Operator("+", "math.add", operator.add),
    "FLOOR_DIVIDE": _Operator("//", "math.floordiv", operator.floordiv),
    "MODULO": _Operator("%", "math.floormod", operator.mod),
    "MULTIPLY": _Operator("*", "math.multiply", operator.mul),
    "POWER": _Operator("**", "math.pow", _power),
    "SUBTRACT": _Operator("-", "math.subtract", operator.sub),
    "TRUE_DIVIDE": _Operator("/", "math.truediv", operator.truediv),
}
# Arguments of BINARY_OP (3.11 on), 13 more for those in place: Include/opcode.h.
BINARY_OPERATORS = {
    0: "ADD",
    2: "FLOOR_DIVIDE",
    5: "MULTIPLY",
    6: "MODULO",
    8: "POWER",
    10: "SUBTRACT",
    11: "TRUE_DIVIDE",
}
COMPARISONS = {
    "<": "math.less",
    "<=": "math.less_equal",
    ">": "math.greater",
    ">=": "math.greater_equal",
}


def _binary(name: str) -> Callable[[Machine, int], None]:
    def compute(machine: Machine, _: int) -> None:
        left, right = machine.pop_several(2)
        machine.push(_combine(machine.graph, OPERATORS[name], left, right))

    return compute


def _in_place(compute: Callable[[Machine, int], None]) -> Callable[[Machine, int], None]:
    """Return the same instruction for += and its like, which change an array of NumPy itself."""

    def guarded(machine: Machine, argument: int) -> None:
        if isinstance(machine.stack[-2], np.ndarray):  # another name may stand for it as well
            raise CodeError("it changes an array of NumPy in place")
        compute(machine, argument)

    return guarded


def _combine(graph: Graph, how: _Operator, left: Any, right: Any) -> Any:
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return graph.add(how.operation, as_operand(left), as_operand(right))
    for value in (left, right):
        if not isinstance(value, (int, float, np.ndarray)):
            raise CodeError(f"it computes {how.sign} with {describe(value)}")
    try:
        if isinstance(left, np.ndarray) or isinstance(right, np.ndarray):
            return _combine_arrays(how, left, right)
        result = how.compute(left, right)
    except (ArithmeticError, ValueError) as error:
        raise CodeError(f"it computes a number that is none ({error})") from error
    if isinstance(result, int) and abs(result) > MAX_INTEGER:
        raise CodeError("it computes an integer of more than 60 bits")
    return result


def _combine_arrays(how: _Operator, left: Any, right: Any) -> np.ndarray:
    """Combine constants of NumPy: integers stay such, which counts for a / of Python 2."""
    if how.sign not in ("+", "-", "*", "/"):
        # in float32 or float64, as the version of NumPy has it: a whole number may jump by one
        raise CodeError(f"it computes {how.sign} with an array of NumPy")
    if int(np.prod(np.broadcast_shapes(np.shape(left), np.shape(right)))) > MAX_VALUES:
        raise CodeError(TOO_LARGE)
    with np.errstate(all="ignore"):
        return np.asarray(how.compute(left, right))


def _divide_python2(machine: Machine, _: int) -> None:
    """Divide as Python 2 does, where 1/2 is 0; an array of floats is divided as ever."""
    left, right = machine.pop_several(2)
    if any(isinstance(v, np.ndarray) and v.dtype.kind == "i" for v in (left, right)):
        raise CodeError("it divides arrays of integers in Python 2")
    whole = isinstance(left, int) and isinstance(right, int)
    how = OPERATORS["FLOOR_DIVIDE" if whole else "TRUE_DIVIDE"]
    machine.push(_combine(machine.graph, how, left, right))


def _binary_op(machine: Machine, argument: int) -> None:
    name = BINARY_OPERATORS.get(argument % 13)
    if name is None or argument >= 26:
        raise CodeError("it needs an operator other than + - * / // % **")
    compute = _binary(name)
    (compute if argument < 13 else _in_place(compute))(machine, 0)


def _compare(machine: Machine, argument: int) -> None:
    """Compare arrays by <, <=, >, >=; from 3.12 on other bits come before their number."""
    shift = {(3, 12): 4, (3, 13): 5}.get(machine.code.version, 0)
    number = argument >> shift
    sign = SIGNS[number]
    left, right = machine.pop_several(2)
    if not (isinstance(left, Tensor) or isinstance(right, Tensor)):
        machine.push(compare_constants(sign, left, right))
        return
    if sign not in COMPARISONS:
        raise CodeError("it compares in another way than < <= > >= with an array")
    machine.push(machine.graph.add(COMPARISONS[sign], as_operand(left), as_operand(right)))


def _compare_by(signs: tuple[str, str]) -> Callable[[Machine, int], None]:
    """Return the instruction for `is` or `in` of Python 3.9 on, of which 1 is the contrary."""
    return lambda machine, argument: machine.push(
        compare_constants(signs[argument], *machine.pop_several(2))
    )


# Jumps, which are decided by constants alone


def _jump_if(wanted: Callable[[Any], bool]) -> Callable[[Machine, int], None]:
    def jump(machine: Machine, target: int) -> None:
        if wanted(machine.pop()):
            machine.jump(target)

    return jump


def _negate(machine: Machine, _: int) -> None:
    value = machine.pop()
    if isinstance(value, Tensor):
        machine.push(machine.graph.add("math.negative", value))
    else:
        machine.push(_combine(machine.graph, OPERATORS["MULTIPLY"], -1, value))


def _plus(machine: Machine, _: int) -> None:
    if not isinstance(machine.stack[-1], (int, float, np.ndarray)):
        raise CodeError(f"it computes + with {describe(machine.stack[-1])}")


def _subscript(machine: Machine, _: int) -> None:
    value, index = machine.pop_several(2)
    machine.push(_part(machine.graph, value, index))


def _part(graph: Graph, value: Any, index: Any) -> Any:
    """Return value[index] of an array, a list of arrays or a constant."""
    if isinstance(value, Tensor):
        spec = list(index) if isinstance(index, (list, tuple)) else [index]
        for item in spec:
            ends = (item.start, item.stop, item.step) if isinstance(item, slice) else (item,)
            if isinstance(index, list) or not all(
                end is None or end is Ellipsis or type(end) is int for end in ends
            ):
                raise CodeError("it takes a part of an array by something else than integers")
        return graph.add("getitem", value, spec)
    if isinstance(value, np.ndarray):
        value = None if isinstance(index, bool) else value.tolist()  # array[True] has an axis more
    if not isinstance(value, (list, tuple)) or not isinstance(index, (int, slice)):
        raise CodeError(f"it takes a part of {describe(value)}")
    try:
        return value[index]
    except (IndexError, TypeError, ValueError) as error:
        raise CodeError(f"it takes a part that there is not ({error})") from error


def _binary_slice(machine: Machine, _: int) -> None:
    value, start, stop = machine.pop_several(3)
    machine.push(_part(machine.graph, value, slice(start, stop)))


def _build_slice(machine: Machine, argument: int) -> None:
    if argument not in (2, 3):
        raise IndexError("no such slice")
    machine.push(slice(*machine.pop_several(argument)))


# Names


def _load_fast(machine: Machine, place: int) -> None:
    machine.push(machine.variables[machine.code.variables[place]])


def _store_fast(machine: Machine, place: int) -> None:
    machine.variables[machine.code.variables[place]] = machine.pop()


def _load_fast_twice(machine: Machine, argument: int) -> None:
    _load_fast(machine, argument >> 4)
    _load_fast(machine, argument & 15)


def _store_load_fast(machine: Machine, argument: int) -> None:
    _store_fast(machine, argument >> 4)
    _load_fast(machine, argument & 15)


def _store_fast_twice(machine: Machine, argument: int) -> None:
    _store_fast(machine, argument >> 4)
    _store_fast(machine, argument & 15)


def _load_deref(machine: Machine, place: int) -> None:
    """Push a free variable; from 3.11 on they are counted after the local ones."""
    place -= len(machine.code.variables) if machine.code.version >= (3, 11) else 0
    if place < 0:
        raise IndexError("no free variable")
    machine.push(machine.closure[machine.code.free[place]])


def _push_beside_null(machine: Machine, value: Any, null: int) -> None:
    """Push a function; from 3.13 on the NULL comes after it."""
    values = [value, NULL] if machine.code.version >= (3, 13) else [NULL, value]
    machine.stack += values if null else [value]


def _load_global(machine: Machine, argument: int) -> None:
    shift = 1 if machine.code.version >= (3, 11) else 0
    value = machine.look_up(machine.code.names[argument >> shift])
    _push_beside_null(machine, value, argument & shift)


def _load_attribute(machine: Machine, argument: int) -> None:
    shift = 1 if machine.code.version >= (3, 12) else 0
    value = machine.attribute(machine.code.names[argument >> shift])
    _push_beside_null(machine, value, argument & shift)


def _load_method(machine: Machine, argument: int) -> None:
    _push_beside_null(machine, machine.attribute(machine.code.names[argument]), 1)


def _import_name(machine: Machine, argument: int) -> None:
    """Push a module, which is a name here: nothing is imported."""
    level, wanted = machine.pop_several(2)
    name = machine.code.names[argument]
    if type(level) is not int or level not in (0, -1) or name not in IMPORTS:
        raise CodeError(f"it imports '{name}'")
    top, *parts = (name.split(".")[0] if wanted is None else name).split(".")
    machine.push(Name(MODULES[top]))
    for part in parts:
        machine.push(machine.attribute(part))


def _import_from(machine: Machine, argument: int) -> None:
    machine.push(machine.stack[-1])
    machine.push(machine.attribute(machine.code.names[argument]))


# Calls


def _call_function(machine: Machine, argument: int) -> None:
    """Call a function; before 3.6 with keywords on the stack, their number in the high byte."""
    old = machine.code.version < (3, 6)
    pairs = machine.pop_several(2 * (argument >> 8)) if old else []
    args = machine.pop_several(argument & 255 if old else argument)
    names = tuple(pairs[::2])
    machine.call(*_split_keywords([*args, *pairs[1::2]], names), machine.pop())


def _split_keywords(values: list[Any], names: tuple[str, ...]) -> tuple[list[Any], dict[str, Any]]:
    named = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
    if not named or len(names) > len(values):
        raise IndexError("no names of arguments")
    count = len(values) - len(names)
    return values[:count], dict(zip(names, values[count:], strict=True))


def _call_function_kw(machine: Machine, argument: int) -> None:
    if machine.code.version < (3, 6):
        raise CodeError("it calls a function with **arguments")
    names = machine.pop()
    machine.call(*_split_keywords(machine.pop_several(argument), names), machine.pop())


def _call_method(machine: Machine, argument: int) -> None:
    args = machine.pop_several(argument)
    _, function = machine.pop_several(2)
    machine.call(args, {}, function)


def _keyword_names(machine: Machine, argument: int) -> None:
    machine.keywords = machine.code.constants[argument]


def _call(machine: Machine, argument: int) -> None:
    names, machine.keywords = machine.keywords, ()
    values = machine.pop_several(argument)
    pair = machine.pop_several(2)
    function = pair[0] if machine.code.version >= (3, 13) else pair[1]
    if pair.count(NULL) != 1 or function is NULL:
        raise IndexError("no function to call")
    machine.call(*_split_keywords(values, names), function)


def _call_kw(machine: Machine, argument: int) -> None:
    machine.keywords = machine.pop()
    _call(machine, argument)


# The stack, tuples and lists


def _copy(machine: Machine, place: int) -> None:
    """Push the value at a place counted from the top, which is 1."""
    if place < 1:
        raise IndexError("no such place")
    machine.push(machine.stack[-place])


def _rotate(count: int) -> Callable[[Machine, int], None]:
    """Return an instruction that puts the last value below the others."""

    def rotate(machine: Machine, _: int) -> None:
        *others, last = machine.pop_several(count)
        machine.stack += [last, *others]

    return rotate


def _swap(machine: Machine, argument: int) -> None:
    if not 2 <= argument <= len(machine.stack):
        raise IndexError("the stack is too short")
    stack = machine.stack
    stack[-1], stack[-argument] = stack[-argument], stack[-1]


def _copy_two(machine: Machine, _: int) -> None:
    values = machine.pop_several(2)
    machine.stack += values + values


def _extend_list(machine: Machine, argument: int) -> None:
    values = machine.pop()
    _copy(machine, argument)
    target = machine.pop()
    if not isinstance(target, list) or not isinstance(values, tuple):
        raise CodeError("it puts something else than constants into a list")
    if len(target) + len(values) > MAX_VALUES:
        raise CodeError(TOO_LARGE)
    target.extend(values)


def _unpack(machine: Machine, argument: int) -> None:
    value = machine.pop()
    if not isinstance(value, (list, tuple)) or len(value) != argument:
        raise CodeError(f"it unpacks {describe(value)} into {argument} names")
    machine.stack += value[::-1]


def _intrinsic(machine: Machine, argument: int) -> None:
    if argument != 5:  # INTRINSIC_UNARY_POSITIVE
        raise CodeError("it needs an instruction CALL_INTRINSIC_1 of Python")
    _plus(machine, 0)


def _pop_top(machine: Machine, _: int) -> None:
    machine.pop()


def _nothing(machine: Machine, argument: int) -> None:
    pass


# All instructions that are understood, of any Python from 2.7 to 3.13.
INSTRUCTIONS: dict[str, Callable[[Machine, int], None]] = {
    **{f"BINARY_{name}": _binary(name) for name in OPERATORS},
    **{f"INPLACE_{name}": _in_place(_binary(name)) for name in OPERATORS},
    "BINARY_DIVIDE": _divide_python2,
    "BINARY_OP": _binary_op,
    "BINARY_SLICE": _binary_slice,
    "BINARY_SUBSCR": _subscript,
    "BUILD_LIST": lambda machine, count: machine.push(machine.pop_several(count)),
    "BUILD_SLICE": _build_slice,
    "BUILD_TUPLE": lambda machine, count: machine.push(tuple(machine.pop_several(count))),
    "CALL": _call,
    "CALL_FUNCTION": _call_function,
    "CALL_FUNCTION_KW": _call_function_kw,
    "CALL_INTRINSIC_1": _intrinsic,
    "CALL_KW": _call_kw,
    "CALL_METHOD": _call_method,
    "COMPARE_OP": _compare,
    "CONTAINS_OP": _compare_by(("in", "not in")),
    "COPY": _copy,
    "COPY_FREE_VARS": _nothing,
    "DUP_TOP": lambda machine, _: _copy(machine, 1),
    "DUP_TOP_TWO": _copy_two,
    "IMPORT_FROM": _import_from,
    "IMPORT_NAME": _import_name,
    "INPLACE_DIVIDE": _in_place(_divide_python2),
    "IS_OP": _compare_by(("is", "is not")),
    "JUMP_FORWARD": Machine.jump,
    "KW_NAMES": _keyword_names,
    "LIST_EXTEND": _extend_list,
    "LOAD_ATTR": _load_attribute,
    "LOAD_CONST": lambda machine, place: machine.push(machine.code.constants[place]),
    "LOAD_DEREF": _load_deref,
    "LOAD_FAST": _load_fast,
    "LOAD_FAST_CHECK": _load_fast,
    "LOAD_FAST_LOAD_FAST": _load_fast_twice,
    "LOAD_GLOBAL": _load_global,
    "LOAD_METHOD": _load_method,
    "NOP": _nothing,
    **{
        f"POP_JUMP_{direction}IF_{name}": _jump_if(wanted)
        for direction in ("", "FORWARD_")
        for name, wanted in {
            "FALSE": lambda value: not truth(value),
            "NONE": is_none,
            "NOT_NONE": lambda value: not is_none(value),
            "TRUE": truth,
        }.items()
    },
    "POP_TOP": _pop_top,
    "PRECALL": _nothing,
    "PUSH_NULL": lambda machine, _: machine.push(NULL),
    "RESUME": _nothing,
    "ROT_FOUR": _rotate(4),
    "ROT_THREE": _rotate(3),
    "ROT_TWO": _rotate(2),
    "STORE_FAST": _store_fast,
    "STORE_FAST_LOAD_FAST": _store_load_fast,
    "STORE_FAST_STORE_FAST": _store_fast_twice,
    "SWAP": _swap,
    "TO_BOOL": lambda machine, _: machine.push(truth(machine.pop())),
    "UNARY_NEGATIVE": _negate,
    "UNARY_NOT": lambda machine, _: machine.push(not truth(machine.pop())),
    "UNARY_POSITIVE": _plus,
    "UNPACK_SEQUENCE": _unpack,
}
