"""Which part of a training step each operation of its compiled program belongs to.

Networks name their operations by themselves; the others are known by the files of this
package that they were traced from. Compilers merge operations: what is merged counts as
the part of its result.
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

RANDOM, NETWORK = "sampling", "activations and skips"
BY_FILE = (
    ("marssep_jax/encoders/", "reward's ear"),
    ("marssep_jax/update/gradients.py", "optimiser"),
    ("marssep_jax/features.py", "STFT and resynthesis"),
    ("marssep_jax/fourier.py", "STFT and resynthesis"),
    ("marssep_jax/reconstruct.py", "STFT and resynthesis"),
    ("marssep_jax/beta.py", "log-densities"),
    ("marssep_jax/special.py", "log-densities"),
    ("marssep_jax/surrogates.py", "log-densities"),
    ("marssep_jax/sampling.py", RANDOM),
    ("marssep_jax/quantiles.py", RANDOM),
    ("marssep_jax/rewards.py", "rewards and loss"),
    ("marssep_jax/metrics/", "rewards and loss"),
    ("marssep_jax/advantages.py", "rewards and loss"),
    ("marssep_jax/objectives.py", "rewards and loss"),
    ("marssep_jax/update/policy_loss.py", "rewards and loss"),
    ("marssep_jax/rollout.py", "rewards and loss"),
    ("marssep_jax/models/", NETWORK),
)
"""Files to parts: of all that an operation was traced through, the first of these."""

OTHER = "other"
CONTROL = ("while", "conditional", "call")
# Of these programs, libraries are called for nothing else.
PRODUCTS = ("dot", "convolution", "custom-call")

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%?([\w.\-]+) = (?:\(.*?\)|\S+) ([a-z][\w\-]*)\((.*)$"
)
_CALLS = re.compile(r"\b(?:calls|to_apply|body)=%?([\w.\-]+)")
_OPERAND = re.compile(r"%([\w.\-]+)")
_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_FRAME = re.compile(r"stack_frame_id=(\d+)")
_FILE_ROW = re.compile(r'^(\d+) "(.*)"$')
_PLACE_ROW = re.compile(r"^(\d+) \{file_name_id=(\d+) ")
_FRAME_ROW = re.compile(r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?")
_LAYER = re.compile(r"\b(?:down|up)_\d+\b")
_NORM = re.compile(r"\b(?:entry|down|up)_norm")
_DRAWS = re.compile(r"threefry|random_bits|\(_uniform\)")
# How far around an operation without a name one that has a name is looked for.
_MAX_STEPS = 8


class Part(NamedTuple):
    """A part of a step, and whether it is on the way back."""

    name: str
    is_backward: bool


class Program(NamedTuple):
    """A compiled program: its name, and the part of each of its operations."""

    module: str
    parts: dict[str, Part]
    control: frozenset[str]
    """Loops and calls, whose own operations count instead of them."""
    products: frozenset[str] = frozenset()
    """Matrix products and convolutions, also those that others are merged into."""


class _Instruction(NamedTuple):
    opcode: str
    rest: str
    computation: str


def find_part(op_name: str, files: frozenset[str] = frozenset()) -> Part:
    """Return the part of an operation.

    Args:
      op_name: what it was traced in, as the compiler's metadata has it.
      files: source files on the way to it.
    """
    return Part(_part_name(op_name, files), "transpose(" in op_name)


def _part_name(op_name: str, files: frozenset[str]) -> str:
    if _DRAWS.search(op_name):  # traced once for all callers: their files mislead
        return RANDOM
    if "QueriedUNet" in op_name or op_name.startswith("state.params"):
        layer = _LAYER.search(op_name)
        if layer:
            return layer.group()
        if _NORM.search(op_name):
            return "norms"
        return "gates" if re.search(r"\bgate\b", op_name) else NETWORK
    for path, part in BY_FILE:
        if any(path in file for file in files):
            return part
    return OTHER


def read_program(text: str) -> Program:
    """Return the parts of a program.

    Args:
      text: of the compiled program, with its metadata.

    Raises:
      ValueError: it is not the text of a program.
    """
    head = re.match(r"HloModule ([\w.\-]+)", text)
    if head is None:
        raise ValueError(f"text is {text[:40]!r}, expected that of a compiled program")
    instructions = _read_instructions(text)
    named = _named_parts(instructions, _frame_files(text))
    users: dict[str, list[str]] = {name: [] for name in instructions}
    operands: dict[str, list[str]] = {name: [] for name in instructions}
    for name, instruction in instructions.items():
        for operand in _OPERAND.findall(instruction.rest.partition(")")[0]):
            if operand in instructions:
                users[operand].append(name)
                operands[name].append(operand)
    other = Part(OTHER, False)
    parts = {
        # What has no name, such as a copy, is there for the sake of what reads it.
        name: _nearest(name, named, users) or _nearest(name, named, operands) or other
        for name in instructions
    }
    control = _of_opcode(instructions, CONTROL)
    return Program(head.group(1), parts, control, _products(instructions))


def _read_instructions(text: str) -> dict[str, _Instruction]:
    """Return a program's instructions by name, each with its computation."""
    found: dict[str, _Instruction] = {}
    computation = ""
    for line in text.splitlines():
        match = _INSTRUCTION.match(line)
        if match:
            name, opcode, rest = match.groups()
            found[name] = _Instruction(opcode, rest, computation)
        elif (start := _COMPUTATION.match(line)) is not None:
            computation = start.group(1)
    return found


def _named_parts(
    instructions: Mapping[str, _Instruction], frames: dict[str, frozenset[str]]
) -> dict[str, Part | None]:
    """Return the part of every instruction that has a name, or calls what has.

    A call without one counts as what is named most in the computation that it calls.
    """
    named = {
        name: _own_part(instruction.rest, frames)
        for name, instruction in instructions.items()
    }
    inside: dict[str, Counter[Part]] = {}
    for name, part in named.items():
        if part is not None:
            counts = inside.setdefault(instructions[name].computation, Counter())
            counts[part] += 1
    for name, instruction in instructions.items():
        called = _CALLS.search(instruction.rest)
        if named[name] is None and called and called.group(1) in inside:
            named[name] = inside[called.group(1)].most_common(1)[0][0]
    return named


def _of_opcode(
    instructions: Mapping[str, _Instruction], opcodes: tuple[str, ...]
) -> frozenset[str]:
    return frozenset(
        name
        for name, instruction in instructions.items()
        if instruction.opcode in opcodes
    )


def _products(instructions: Mapping[str, _Instruction]) -> frozenset[str]:
    own = _of_opcode(instructions, PRODUCTS)
    around = {instructions[name].computation for name in own}
    return own | {
        name
        for name, instruction in instructions.items()
        if instruction.opcode == "fusion"
        and not around.isdisjoint(_CALLS.findall(instruction.rest))
    }


def _own_part(rest: str, frames: dict[str, frozenset[str]]) -> Part | None:
    name, frame = _NAME.search(rest), _FRAME.search(rest)
    if name is None:
        return None
    files = frames.get(frame.group(1), frozenset()) if frame else frozenset()
    return find_part(name.group(1), files)


def _nearest(
    name: str, named: Mapping[str, Part | None], linked: Mapping[str, list[str]]
) -> Part | None:
    """Return the part of the nearest named operation along some links."""
    reached = [name]
    for _ in range(_MAX_STEPS):
        for found in reached:
            part = named[found]
            if part is not None:
                return part
        reached = list(dict.fromkeys(link for at in reached for link in linked[at]))
    return None


def _frame_files(text: str) -> dict[str, frozenset[str]]:
    """Return the files of every stack frame and of those that it was called from."""
    files: dict[str, str] = {}
    places: dict[str, str] = {}
    frames: list[tuple[int, str, int]] = []
    section = ""
    for line in text.splitlines():
        if line.endswith(("Names", "Locations", "Frames")):
            section = line
        elif section == "FileNames" and (match := _FILE_ROW.match(line)):
            files[match.group(1)] = match.group(2).replace("\\", "/")
        elif section == "FileLocations" and (match := _PLACE_ROW.match(line)):
            places[match.group(1)] = match.group(2)
        elif section == "StackFrames" and (match := _FRAME_ROW.match(line)):
            number, place, parent = match.groups()
            frames.append((int(number), place, int(parent or 0)))
    # Parents are printed one too high by some versions: no frame is its own parent.
    offset = int(any(number == parent for number, _, parent in frames))
    found: dict[str, frozenset[str]] = {}
    for number, place, parent in frames:
        above = found.get(str(parent - offset), frozenset())
        found[str(number)] = above | {files.get(places.get(place, ""), "")}
    return found
