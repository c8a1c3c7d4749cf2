"""Machine code read from stored text: instructions, loops and their source, and what fits on a device."""

from __future__ import annotations

import pytest

from bslang.gpu.machine import amdgcn, sass
from bslang.gpu.machine.code import Instruction, Loops, counts
from bslang.gpu.machine.devices import DEVICES
from bslang.gpu.machine.origin import origin
from bslang.gpu.machine.report import loops

SOURCE = '''"""A module."""


def _kernel(k, runs):
    # Full blocks:
    # every pair belongs.
    for run in range(runs):
        for _ in range(run):
            k = other(k)

    # Partial blocks
    for run in range(runs):
        k += 1

    while k:
        k -= 1


def other(k):
    for _ in range(9):
        k += 1
    return k
'''

# Two loops over runs, the first with tiles inside; a wait that is no loop of its own; spills; a trap.
SASS = """
	.section	.text.helper,"ax",@progbits
        /*0000*/                   HMMA.16816.F32 R4, R8, R12, R4 ;
	.section	.text._kernel,"ax",@progbits
	.sectioninfo	@"SHI_REGISTERS=32"
_kernel:
.text._kernel:
	//## File "/made/layout.py", line 4
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/              @!P0 EXIT ;
.L_x_0:
	//## File "/made/layout.py", line 7
        /*0020*/                   LDG.E R24, [R24.64+0x8] ;
        /*0030*/               @P0 BRA `(.L_x_2) ;
.L_x_1:
	//## File "/made/layout.py", line 19 inlined at "/made/layout.py", line 9
	//## File "/made/layout.py", line 9
        /*0040*/                   LDGSTS.E.BYPASS.128 [R5], [R6.64] ;
	//## File "/triton/standard.py", line 13
        /*0050*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24 ;
.L_x_9:
        /*0060*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P1, [UR4], R7 ;
        /*0070*/              @!P1 BRA `(.L_x_9) ;
        /*0080*/                   MUFU.EX2 R4, R4 ;
        /*0090*/                   STL [R1], R4 ;
        /*00a0*/               @P4 CALL.REL.NOINC `(.L_x_2) ;
        /*00b0*/                   BRA `(.L_x_1) ;
.L_x_2:
	//## File "/made/layout.py", line 7
        /*00c0*/                   BRA.U UP0, `(.L_x_0) ;
.L_x_3:
	//## File "/made/layout.py", line 13
        /*00d0*/                   UTCHMMA gdesc[UR6], gdesc[UR8], tmem[UR10] ;
        /*00e0*/               @P2 BRA `(.L_x_3) ;
        /*00f0*/                   EXIT ;
.L_x_4:
        /*0100*/                   BRA `(.L_x_4);
        /*0110*/                   NOP;
"""

AMD = """
_kernel:                                ; @_kernel
.Lfunc_begin0:
	.loc	1 4 0 prologue_end              ; layout.py:4:0
	s_load_dwordx2 s[0:1], s[4:5], 0x0      ; a comment
	s_branch .LBB0_2
.LBB0_1:                                ;   in Loop: Header=BB0_2 Depth=1
	.loc	1 19 5                          ; layout.py:19:5 @[ layout.py:9:20 ]
	s_cbranch_scc0 .LBB0_3
.LBB0_2:                                ; =>This Inner Loop Header: Depth=1
	global_load_dwordx4 v[0:3], v[4:5], off
	buffer_load_dword v1, s[8:11], 0 offen lds
	v_mfma_f32_32x32x8_bf16_1k a[0:15], v[0:1], v[2:3], a[0:15]
	v_exp_f32_e32 v9, v9
	scratch_store_dword off, v9, s32
	s_branch .LBB0_1
.LBB0_3:
	s_endpgm
.Lfunc_end0:
	.amdgpu_metadata
amdhsa.kernels:
  - .agpr_count:     16
    .name:           _kernel
    .private_segment_fixed_size: 8
    .vgpr_count:     249
	.end_amdgpu_metadata
"""


def test_loops_of_sass() -> None:
    code = sass.read(SASS, "_kernel")
    assert counts(code) == {"matrix": 2, "exp2": 1, "copy": 1, "load": 1, "local": 1}
    first, second = Loops(code).inner()
    assert [each.text.split()[0] for each in first] == [
        "LDGSTS.E.BYPASS.128",
        "HGMMA.64x64x16.F32.BF16",
        "SYNCS.PHASECHK.TRANS64.TRYWAIT",
        "BRA",
        "MUFU.EX2",
        "STL",
        "CALL.REL.NOINC",
        "BRA",
    ]
    assert [each.line for each in first] == [9, 0, 0, 0, 0, 0, 0, 0]
    assert [each.line for each in second] == [13, 13]


def test_a_wait_that_a_loop_has_a_way_past_is_no_part_of_it() -> None:
    text = """
	.section	.text._kernel,"ax",@progbits
.L_x_0:
        /*0000*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R0 ;
        /*0010*/              @!P0 BRA `(.L_x_2) ;
.L_x_1:
        /*0020*/                   HGMMA.64x64x16.F32.BF16 R24, gdesc[UR4], R24 ;
        /*0030*/               @P1 BRA `(.L_x_0) ;
        /*0040*/                   EXIT ;
.L_x_2:
        /*0050*/                   SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R0 ;
        /*0060*/              @!P0 BRA `(.L_x_2) ;
        /*0070*/                   BRA `(.L_x_1) ;
"""
    (found,) = Loops(sass.read(text, "_kernel")).inner()
    assert [each.text.split()[0].split(".")[0] for each in found] == [
        "SYNCS",
        "BRA",
        "HGMMA",
        "BRA",
    ]


def test_loops_are_named_by_the_source() -> None:
    first, second = loops(Loops(sass.read(SASS, "_kernel")), SOURCE, "_kernel")
    assert (first.line, first.comment) == (8, "Full blocks: every pair belongs.")
    assert (first.instructions, first.matrix, first.exp2, first.copies, first.local) == (
        8,
        1,
        1,
        1,
        1,
    )
    assert (second.line, second.comment, second.instructions) == (12, "Partial blocks", 2)
    assert origin(SOURCE, "_kernel", [0, 4]) is None  # in no loop
    inlined = origin(SOURCE, "_kernel", [9, 19, 19, 19])  # lines of another function say nothing
    assert inlined is not None and inlined.line == 8
    alone = origin(SOURCE, "_kernel", [16, 16, 4])
    assert alone is not None and (alone.line, alone.comment) == (15, "while k")


def test_loops_of_a_function_that_is_a_partition() -> None:
    """Where none of the kernel's own loops is it: by the lines on the way to the instructions."""
    assert sass.read(SASS, "_kernel")[4].inlined == (19, 9)
    called = [(21, 4), (21, 4), (20, 4), (19, 4)]
    found = origin(SOURCE, "_kernel", [4, 4, 4, 4], called)
    assert found is not None and (found.line, found.comment) == (20, "for _ in range(9)")
    assert origin(SOURCE, "_kernel", [4, 4], [(21, 4), (22, 4)]) is None
    own = origin(SOURCE, "_kernel", [9, 9], [(21, 9), (21, 9)])
    assert own is not None and own.line == 8


def test_the_nearest_comment_names_a_loop() -> None:
    lines = ("# Set up", "a = 0", "# Full", "# tiles", "b = n", "for _ in b:", "    a += 1")
    found = origin("def _k(n):\n" + "".join(f"    {x}\n" for x in lines), "_k", [8])
    assert found is not None and found.comment == "Full tiles"


def test_loops_of_amdgcn() -> None:
    """Entered in the middle, and repeated by falling through to its head."""
    code = amdgcn.read(AMD, "_kernel")
    assert code[0].text == "s_load_dwordx2 s[0:1], s[4:5], 0x0" and len(code) == 10
    (loop,) = Loops(code).inner()
    assert counts(loop) == {"load": 1, "copy": 1, "matrix": 1, "exp2": 1, "local": 1}
    assert len(loop) == 7 and {each.line for each in loop} == {9}
    assert amdgcn.numbers(AMD)["vgpr_count"] == 249
    assert amdgcn.numbers(AMD)["private_segment_fixed_size"] == 8


def test_code_that_comes_back_by_a_jump_is_no_loop_yet() -> None:
    """A cold block at the end that jumps back to where it was left."""
    code = [
        Instruction("a", target=3),
        Instruction("b"),
        Instruction("EXIT", falls_through=False),
        Instruction("cold", target=1, falls_through=False),
    ]
    assert Loops(code).inner() == []


@pytest.mark.parametrize(
    ("architecture", "registers", "shared", "warps", "columns", "programs", "limit"),
    [
        # As NVIDIA's occupancy calculator has it.
        ("cuda:80", 168, 0, 4, 0, 3, "registers"),
        ("cuda:80", 255, 48 * 1024, 4, 0, 2, "registers"),
        ("cuda:80", 32, 48 * 1024, 4, 0, 3, "shared memory"),
        ("cuda:80", 32, 0, 4, 0, 16, "registers"),
        ("cuda:86", 32, 0, 4, 0, 12, "warps"),
        ("cuda:86", 32, 0, 1, 0, 16, "programs"),
        ("cuda:90", 168, 114688, 8, 0, 1, "registers"),
        ("cuda:90", 64, 65536, 4, 0, 3, "shared memory"),
        ("cuda:100", 64, 0, 4, 256, 2, "tensor memory"),
        ("hip:gfx942", 249, 0, 4, 0, 2, "registers"),
        ("hip:gfx942", 64, 65536, 4, 0, 1, "shared memory"),
    ],
)
def test_occupancy(
    architecture: str,
    registers: int,
    shared: int,
    warps: int,
    columns: int,
    programs: int,
    limit: str,
) -> None:
    found = DEVICES[architecture].occupancy(registers, shared, warps, columns)
    assert found == (programs, limit)
