"""A process whose Triton interprets kernels on the CPU, with what its interpreter lacks."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from typing import Any

import pytest
import torch


@contextmanager
def interpreting() -> Iterator[Executor]:
    """A process of its own, since Triton chooses between interpreter and compiler when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        pool = ProcessPoolExecutor(1, get_context("spawn"), prepare)
        pool.submit(os.getpid).result()  # it has started, with that variable
    yield pool
    pool.shutdown(cancel_futures=True)


def prepare() -> None:
    """Repair the interpreter of this process: products of bf16, scalars as bounds of loops, and its speed."""
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder, TensorHandle

    from bslang.runtime import capacity

    torch.set_num_threads(1)
    capacity.LEAST = 64  # as in conftest.py
    np.seterr(divide="ignore", over="ignore")  # the logarithm of 0 in a query without keys
    dot, truncate = InterpreterBuilder.create_dot, InterpreterBuilder.create_fp_trunc
    patch_tensor, patch_lang = interpreter._patch_lang_tensor, interpreter._patch_lang
    launch, patched = GridExecutor.__call__, set[int]()
    get_dtype, dtypes = interpreter._get_np_dtype, dict[str, Any]()

    def single(x: Any) -> Any:
        bits = x.data.astype(np.uint32) << 16
        return (
            TensorHandle(bits.view(np.float32), tl.float32) if x.dtype.scalar == tl.bfloat16 else x
        )

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, single(a), single(b), *rest)

    def create_fp_trunc(self: Any, x: Any, kind: Any) -> Any:
        if x.dtype.scalar != tl.float32 or kind.scalar != tl.bfloat16:
            return truncate(self, x, kind)
        rounded = torch.from_numpy(np.ascontiguousarray(x.data)).to(torch.bfloat16)
        return TensorHandle(rounded.view(torch.int16).numpy().view(np.uint16), kind.scalar)

    def patch_lang_tensor(tensor: Any, scope: Any) -> None:
        # Triton 3.6 asks numpy for the number of an array of one element, which numpy 2.4 refuses.
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    def launched(self: Any, *given: Any, **named: Any) -> None:
        patched.clear()
        launch(self, *given, **named)

    def patch_lang_once(function: Any) -> Any:
        # Triton replaces its own functions again at every call of a function in a kernel, although they
        # stay replaced until the kernel ends: a third of the interpreter's time.
        if id(function.__globals__) in patched:
            return interpreter._LangPatchScope()
        patched.add(id(function.__globals__))
        return patch_lang(function)

    def dtype_once(kind: Any) -> Any:
        scalar = kind.scalar
        if scalar.name not in dtypes:  # Triton makes its table of them at every call
            dtypes[scalar.name] = get_dtype(scalar)
        return dtypes[scalar.name]

    InterpreterBuilder.create_dot = create_dot
    InterpreterBuilder.create_fp_trunc = create_fp_trunc
    interpreter._patch_lang_tensor = patch_lang_tensor
    interpreter._patch_lang = patch_lang_once
    interpreter._get_np_dtype = dtype_once
    # Sums and products are computed again in 64 bits, and what is found is dropped: debug is off.
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)
    gc.freeze()  # as in conftest.py
    gc.set_threshold(20_000)
    GridExecutor.__call__ = launched
    _quicken()


def _quicken() -> None:
    """Make once what Triton makes at every operation: more than half of the interpreter's time.

    Types of tiles by their shapes, types of operands that are alike, and numbers of lines.
    """
    import ast

    import triton.language as tl
    from triton.runtime import interpreter

    semantic = interpreter.interpreter_semantic
    operands = type(semantic).binary_op_type_checking_impl
    broadcast = type(semantic).broadcast_impl_value
    validate, equal = tl.core.validate_block_shape, tl.dtype.__eq__

    @cache
    def made(sizes: tuple[int, ...]) -> tuple[Any, Any, str, int, Any]:
        """A shape; the same in types, and as their text; its product, as a number and as a constant."""
        shape, many = tl.tuple([tl.constexpr(size) for size in sizes]), validate(sizes)
        return shape, tl.tuple(list(sizes)), str(sizes), many, tl.constexpr(many)

    def new_type(self: Any, element_ty: Any, shape: Any) -> None:
        assert len(shape), "a tile without dimensions"
        sizes = tuple(x if type(x) is int else x.value for x in shape)
        _, self.shape, text, self.numel, _ = made(sizes)
        self.element_ty, self.name = element_ty, f"<{text}, {element_ty.name}>"

    def new_tensor(self: Any, handle: Any, kind: Any) -> None:
        self.shape, _, _, _, self.numel = made(tuple(kind.shape) if kind.is_block() else ())
        self.handle, self.type, self.dtype = handle, kind, kind.scalar

    def operands_alike(
        self: Any, left: Any, right: Any, allow_lhs_ptr: bool = False, allow_rhs_ptr: bool = False,
        arithmetic_check: bool = True, div_or_mod: bool = False,
    ) -> Any:  # fmt: skip
        alike = type(left) is type(right) is tl.tensor and left.shape is right.shape
        if alike and left.dtype is right.dtype and not left.dtype.is_ptr() and not div_or_mod:
            return left, right
        return operands(
            self, left, right, allow_lhs_ptr, allow_rhs_ptr, arithmetic_check, div_or_mod
        )

    def broadcast_unequal(self: Any, left: Any, right: Any) -> Any:
        return (left, right) if left.shape is right.shape else broadcast(self, left, right)

    def same(self: Any, other: Any) -> Any:
        return self is other or equal(self, other)

    def file_line(self: Any) -> tuple[str, int]:
        return self.fn.__code__.co_filename, self.fn.__code__.co_firstlineno

    def transform(self: Any, source: str) -> Any:
        """At its lines of the file, where Triton moves every node there."""
        above = "\n" * (self.def_file_lineno + self.def_lineno - 2)
        return ast.fix_missing_locations(self.ast_transformer.visit(ast.parse(above + source)))

    def patch_attr(object: Any, name: str, member: Any, builder: Any, scope: Any) -> None:
        def new_member(*args: Any, **named: Any) -> Any:
            named["_semantic"] = semantic
            return member(*args, **named)

        scope.set_attr(object, name, new_member)

    tl.block_type.__init__ = new_type
    tl.tensor.__init__ = new_tensor
    tl.dtype.__eq__ = same
    type(semantic).binary_op_type_checking_impl = operands_alike
    type(semantic).broadcast_impl_value = broadcast_unequal
    interpreter.FunctionRewriter._get_jit_fn_file_line = file_line
    interpreter.FunctionRewriter._transform_ast = transform
    interpreter._patch_attr = patch_attr
