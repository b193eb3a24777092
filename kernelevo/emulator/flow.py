"""Function -> Program: basic blocks of Operations, with calls inlined, liveness, back edges and divergence regions.

Takes a parsed kernel and the device functions of its file. Every block ends in at most one control operation. Guarded
control operations other than branches become a branch around them. Recursive and indirect calls are not emulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from .check import CARRY, Kind, Operation, Unsupported, classify
from .instruction import Address, Instruction, Operand, Pair, Register, Symbol, Vector
from .ptx import Function, PtxFile, Variable

CONTROL = frozenset((Kind.BARRIER, Kind.ARRIVE, Kind.BRANCH, Kind.INDIRECT_BRANCH, Kind.EXIT, Kind.TRAP))


@dataclass(eq=False, slots=True)
class Block:
    """Straight-line operations, then at most one control operation. successors: fall-through or branch targets."""

    index: int
    operations: list[Operation]
    control: Operation | None
    successors: list[int]
    """BRANCH: [target] or [target, fall-through]; BARRIER and no control: [next]; INDIRECT_BRANCH: all targets."""
    table: list[int] = field(default_factory=list)
    """INDIRECT_BRANCH: the target of each index."""
    continues: bool = False
    """Split off the block before it: entered from there alone, unless lanes wait here."""
    leaves: bool = False
    """Starts with an operation that converged code may have to leave to diverged code."""
    live_in: frozenset[str] = frozenset()
    live_out: frozenset[str] = frozenset()


@dataclass(eq=False, slots=True)
class Program:
    """A kernel ready to be analysed and translated."""

    name: str
    blocks: list[Block]
    registers: dict[str, str]  # name -> PTX type
    variables: list[Variable]  # .shared and .local declared inside, .param of calls as "local"
    parameters: tuple[Variable, ...]

    def operations(self) -> Iterable[Operation]:
        for block in self.blocks:
            yield from block.operations
            if block.control:
                yield block.control


def build_program(file: PtxFile, function: Function) -> Program:
    """Blocks without liveness: call `split` and `find_live` next. Raises Unsupported, PtxError."""
    flat = _Flat(file)
    flat.add(function, "", {}, None, ())
    blocks = _blocks(flat)
    return Program(function.name, blocks, flat.registers, flat.variables, function.parameters)


# --- inlining


class _Flat:
    """A function and all it calls as one list of instructions."""

    def __init__(self, file: PtxFile) -> None:
        self.file = file
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}
        self.targets: dict[str, tuple[str, ...]] = {}
        self.registers: dict[str, str] = {}
        self.variables: list[Variable] = []
        self.inlined = 0
        self.skips = 0

    def add(
        self, function: Function, prefix: str, renames: dict[str, str], leave: str | None, callers: tuple[str, ...]
    ) -> None:
        """Appends a body. renames: formal parameter -> actual; leave: the label that `ret` goes to."""
        if function.name in callers:
            raise Unsupported(function.position, f"recursion ({function.name})")
        body = function.body
        for name, kind in body.registers.items():
            self.registers[prefix + name] = kind
        renames = dict(renames)
        for variable in body.variables:
            if prefix:
                renames[variable.name] = prefix + variable.name
            space = "local" if variable.space == "param" else variable.space
            self.variables.append(replace(variable, name=prefix + variable.name, space=space))
        starts: dict[int, list[str]] = {}
        for label, index in body.labels.items():
            starts.setdefault(index, []).append(label)
            if prefix:
                renames[label] = prefix + label
        for label, targets in body.branch_targets.items():
            self.targets[prefix + label] = tuple(prefix + target for target in targets)
        rename = (lambda operand: _rename(operand, prefix, renames)) if prefix else None
        for index, instruction in enumerate(body.instructions):
            for label in starts.get(index, ()):
                self.labels[prefix + label] = len(self.instructions)
            if rename:
                instruction = replace(
                    instruction,
                    operands=tuple(rename(operand) for operand in instruction.operands),
                    guard=Register(prefix + instruction.guard.name) if instruction.guard else None,
                )
            if instruction.opcode == "ret" and leave:
                instruction = replace(instruction, opcode="bra", modifiers=(), operands=(Symbol(leave),))
            self._add_instruction(instruction, (*callers, function.name))
        for label in starts.get(len(body.instructions), ()):
            self.labels[prefix + label] = len(self.instructions)

    def _add_instruction(self, instruction: Instruction, callers: tuple[str, ...]) -> None:
        guarded = instruction.guard and instruction.opcode in ("ret", "exit", "trap", "bar", "barrier", "call", "brx")
        skip = ""
        if guarded:
            self.skips += 1
            skip = f"skip#{self.skips}"
            around = replace(
                instruction, opcode="bra", modifiers=(), types=(), operands=(Symbol(skip),),
                guard_negated=not instruction.guard_negated,
            )  # fmt: skip
            self.instructions.append(around)
            instruction = replace(instruction, guard=None, guard_negated=False)
        callee = self._callee(instruction)
        if callee:
            self._inline(instruction, callee, callers)
        else:
            self.instructions.append(instruction)
            if instruction.opcode in ("bar", "barrier") and "red" in instruction.modifiers:
                self.instructions.append(replace(instruction, opcode="barrier_result"))
        if guarded:
            self.labels[skip] = len(self.instructions)

    def _callee(self, instruction: Instruction) -> Function | None:
        if instruction.opcode != "call":
            return None
        target = instruction.operands[1]
        if not isinstance(target, Symbol):
            raise Unsupported(instruction.position, "an indirect call", instruction.source_line)
        function = self.file.functions.get(target.name)
        return function if function and function.body_span else None

    def _inline(self, instruction: Instruction, callee: Function, callers: tuple[str, ...]) -> None:
        results, _target, arguments = instruction.operands
        assert isinstance(results, Vector) and isinstance(arguments, Vector)
        formals = (*callee.results, *callee.parameters)
        actuals = (*results.elements, *arguments.elements)
        renames: dict[str, str] = {}
        for formal, actual in zip(formals, actuals, strict=True):
            if not isinstance(actual, Symbol):
                raise Unsupported(instruction.position, "a call with register arguments", instruction.source_line)
            renames[formal.name] = actual.name
        self.inlined += 1
        leave = f"return#{self.inlined}"
        self.add(callee, f"{callee.name}#{self.inlined}:", renames, leave, callers)
        self.labels[leave] = len(self.instructions)


def _rename(operand: Operand | None, prefix: str, renames: dict[str, str]) -> Operand:
    if isinstance(operand, Register):
        return Register(prefix + operand.name)
    if isinstance(operand, Symbol):
        return Symbol(renames.get(operand.name, operand.name), operand.offset)
    if isinstance(operand, Address):
        base = _rename(operand.base, prefix, renames)
        assert isinstance(base, Register | Symbol) or base is operand.base
        return Address(base, operand.offset)
    if isinstance(operand, Vector):
        return Vector(tuple(_rename(each, prefix, renames) if each else None for each in operand.elements))
    if isinstance(operand, Pair):
        return Pair(*(_rename(each, prefix, renames) if each else None for each in (operand.first, operand.second)))
    return operand  # type: ignore[return-value]


# --- blocks


def _blocks(flat: _Flat) -> list[Block]:
    private = {variable.name for variable in flat.variables if variable.space == "local"}
    operations = [_in_call(classify(instruction), private) for instruction in flat.instructions]
    starts = {0, *flat.labels.values()}
    for index, operation in enumerate(operations):
        if operation.kind in CONTROL:
            starts.add(index + 1)
    starts = {start for start in starts if start < len(operations)}
    order = sorted(starts)
    number = {start: k for k, start in enumerate(order)}
    last = len(order)  # a block that only exits, for code that runs off its end
    number[len(operations)] = last

    def target_of(operand: Operand, operation: Operation) -> int:
        if not isinstance(operand, Symbol) or operand.name not in flat.labels:
            raise Unsupported(
                operation.instruction.position, f"a branch to {operand}", operation.instruction.source_line
            )
        return number[flat.labels[operand.name]]

    blocks = []
    for k, start in enumerate(order):
        end = order[k + 1] if k + 1 < len(order) else len(operations)
        own = operations[start:end]
        control = own.pop() if own and own[-1].kind in CONTROL else None
        block = Block(k, own, control, [k + 1])
        if control:
            instruction = control.instruction
            if control.kind in (Kind.EXIT, Kind.TRAP):
                block.successors = []
            elif control.kind is Kind.BRANCH:
                target = target_of(instruction.operands[0], control)
                block.successors = [target, k + 1] if instruction.guard else [target]
            elif control.kind is Kind.INDIRECT_BRANCH:
                labels = instruction.operands[1]
                assert isinstance(labels, Symbol)
                block.table = [number[flat.labels[name]] for name in flat.targets[labels.name]]
                block.successors = sorted(set(block.table))
        blocks.append(block)
    blocks.append(Block(last, [], None, []))
    return blocks


def _in_call(operation: Operation, private: set[str]) -> Operation:
    """Parameters of inlined calls live in local memory."""
    access = operation.access
    if access is None or access.space != "param":
        return operation
    address = operation.instruction.operands[1 if operation.kind is Kind.LOAD else 0]
    if isinstance(address, Address) and isinstance(address.base, Symbol) and address.base.name in private:
        return replace(operation, access=replace(access, space="local"))
    return operation


def split(program: Program, before: Callable[[Operation, list[Operation]], bool], *, leaves: bool) -> None:
    """Starts a new block at every operation that `before` picks, given the operations before it in its block.

    leaves: mark the new blocks so."""
    old = program.blocks
    pieces: list[list[Block]] = []
    for block in old:
        own = [Block(0, [], None, [], continues=block.continues, leaves=block.leaves)]
        for operation in block.operations:
            if before(operation, own[-1].operations):
                if own[-1].operations:
                    own.append(Block(0, [], None, [], continues=True))
                own[-1].leaves = own[-1].leaves or leaves
            own[-1].operations.append(operation)
        pieces.append(own)
    first, total = [], 0
    for own in pieces:
        first.append(total)
        total += len(own)
    blocks: list[Block] = []
    for block, own in zip(old, pieces, strict=True):
        for piece in own:
            piece.index = len(blocks)
            piece.successors = [piece.index + 1]
            blocks.append(piece)
        own[-1].control = block.control
        own[-1].successors = [first[target] for target in block.successors]
        own[-1].table = [first[target] for target in block.table]
    program.blocks = blocks


def find_live(program: Program) -> None:
    """Sets live_in and live_out of every block. A guarded write keeps the old value alive."""
    names = [*program.registers, CARRY]
    bit = {name: 1 << k for k, name in enumerate(names)}
    used, killed = [], []
    for block in program.blocks:
        uses = kills = 0
        for operation in (*block.operations, *((block.control,) if block.control else ())):
            for name in operation.reads:
                uses |= bit[name] & ~kills
            for name in operation.writes:
                if operation.instruction.guard:
                    uses |= bit[name] & ~kills
                kills |= bit[name]
        used.append(uses)
        killed.append(kills)
    live_in = [0] * len(program.blocks)
    live_out = [0] * len(program.blocks)
    changed = True
    while changed:
        changed = False
        for block in reversed(program.blocks):
            k, out = block.index, 0
            for successor in block.successors:
                out |= live_in[successor]
            into = used[k] | (out & ~killed[k])
            if into != live_in[k] or out != live_out[k]:
                live_in[k], live_out[k], changed = into, out, True
    # a register that is only written under guards is live at the entry without meaning: it is undefined there
    for block in program.blocks:
        block.live_in = _unpack(live_in[block.index], names)
        block.live_out = _unpack(live_out[block.index], names)


def _unpack(bits: int, names: list[str]) -> frozenset[str]:
    found = []
    while bits:
        low = bits & -bits
        found.append(names[low.bit_length() - 1])
        bits ^= low
    return frozenset(found)


# --- regions


def joins(program: Program) -> list[int]:
    """For every block its immediate post-dominator; len(blocks) is the common exit."""
    blocks = program.blocks
    end = len(blocks)
    predecessors: list[list[int]] = [[] for _ in range(end + 1)]
    successors: list[list[int]] = []
    for block in blocks:
        targets = block.successors or [end]
        successors.append(targets)
        for target in targets:
            predecessors[target].append(block.index)
    order: list[int] = []  # postorder of the reversed graph from the exit
    seen = {end}
    stack = [(end, iter(predecessors[end]))]
    while stack:
        node, rest = stack[-1]
        for each in rest:
            if each not in seen:
                seen.add(each)
                stack.append((each, iter(predecessors[each])))
                break
        else:
            order.append(node)
            stack.pop()
    rank = {node: k for k, node in enumerate(order)}
    parent: dict[int, int] = {end: end}
    changed = True
    while changed:
        changed = False
        for node in reversed(order[:-1]):
            new = None
            for target in successors[node]:
                if target not in parent:
                    continue
                new = target if new is None else _meet(new, target, parent, rank)
            if new is not None and parent.get(node) != new:
                parent[node] = new
                changed = True
    return [parent.get(k, end) for k in range(end)]


def _meet(a: int, b: int, parent: dict[int, int], rank: dict[int, int]) -> int:
    while a != b:
        while rank[a] < rank[b]:
            a = parent[a]
        while rank[b] < rank[a]:
            b = parent[b]
    return a


def region(program: Program, start: int, join: int) -> set[int]:
    """The blocks reachable from the successors of `start` without passing `join`."""
    found: set[int] = set()
    stack = [target for target in program.blocks[start].successors if target != join]
    while stack:
        node = stack.pop()
        if node in found:
            continue
        found.add(node)
        stack.extend(target for target in program.blocks[node].successors if target != join)
    return found


def spinning(program: Program) -> set[tuple[int, int]]:
    """Back edges (from, to) of loops that read what another thread may write: spin locks, flags, compare-and-swap."""

    def reads_flag(block: Block) -> bool:
        return any(
            (operation.kind is Kind.LOAD and operation.access is not None and operation.access.volatile)
            or (operation.instruction.opcode == "atom" and {"cas", "exch"} & set(operation.instruction.modifiers))
            for operation in block.operations
        )

    flags = {block.index for block in program.blocks if reads_flag(block)}
    found = set()
    if flags:
        for block in program.blocks:
            for target in block.successors:
                if target <= block.index and any(target <= flag <= block.index for flag in flags):
                    found.add((block.index, target))
    return found
