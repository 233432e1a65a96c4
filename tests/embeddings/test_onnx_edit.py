"""Reading and editing an ONNX file without its package: against onnx where it is there, and damaged files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.embeddings.onnx_edit import _number, _packed, constants, fields, with_inputs
from carrel.errors import ModelError
from carrel.tokens import model_folder


@pytest.fixture(scope="module")
def model() -> bytes:
    return (model_folder("minilm") / "model.onnx").read_bytes()


def test_constants_are_those_that_onnx_reads(model) -> None:
    onnx = pytest.importorskip("onnx")
    own = {item.name: onnx.numpy_helper.to_array(item) for item in onnx.load_from_string(model).graph.initializer}
    found = constants(model, own)
    assert set(found) == set(own) and len(own) > 50
    for name, value in own.items():
        assert found[name].dtype == value.dtype and np.array_equal(found[name], value), name


def test_an_edit_is_a_sound_graph_that_differs_in_nothing_else(model) -> None:
    onnx = pytest.importorskip("onnx")
    before = onnx.load_from_string(model)
    edited = onnx.load_from_string(with_inputs(model, {"rows": ("batch", 7)}, ["position_ids", "embeddings.sum"]))
    assert [item.name for item in edited.graph.input] == ["input_ids", "attention_mask", "rows"]
    dims = edited.graph.input[-1].type.tensor_type.shape.dim
    assert (dims[0].dim_param, dims[1].dim_value, edited.graph.input[-1].type.tensor_type.elem_type) == ("batch", 7, 1)
    assert edited.graph.initializer == before.graph.initializer and edited.graph.output == before.graph.output
    kept = [node for node in before.graph.node if "embeddings.sum" not in node.output]
    assert list(edited.graph.node) == kept and len(kept) == len(before.graph.node) - 1
    assert edited.opset_import == before.opset_import and edited.ir_version == before.ir_version


def test_a_constant_that_is_not_there_is_named(model) -> None:
    with pytest.raises(ModelError, match="'nowhere'"):
        constants(model, ["segment", "nowhere"])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_cut_short_is_an_error(model, share) -> None:
    with pytest.raises(ModelError, match="damaged"):
        constants(model[: int(len(model) * share)], ["segment"])


def test_what_is_no_model_is_an_error() -> None:
    for data in (b"", b"\xff" * 40, b"\x08\x01", b"\x38\x01"):
        with pytest.raises(ModelError):
            constants(data, ["segment"])


@given(st.integers(1, 1000), st.integers(0, 2**62))
def test_numbers_come_back_as_they_were_written(number, value) -> None:
    (field,) = fields(memoryview(_number(number, value)))
    assert (field.number, field.value) == (number, value)
    with pytest.raises(ModelError, match="damaged"):
        list(fields(memoryview(_number(number, value)[: len(_packed(number << 3))])))
