"""The protobuf messages of SavedModels and ONNX files, without TensorFlow and the onnx package.

The table holds the fields that nasnet uses, with the numbers of TensorFlow's saved_model.proto and
what it includes, tensorflow-hub's image_module_info.proto and ONNX's onnx.proto. The classes are
made from it at run time, in a pool of their own, so they never conflict with those that TensorFlow
registers in the same process. Parsing and writing preserve fields that are not in the table.
"""

from __future__ import annotations

import functools
import re
from typing import Any

# "MESSAGE: FIELD=NUMBER:TYPE ...". "*T" is repeated, "{T}" a map from string to T, "T|name" a member
# of the oneof called name. Enums are int32, which is the same on the wire. Unused strings are here
# too: TensorFlow and OpenVINO refuse a file with a string that is not UTF-8, and OpenVINO's protobuf
# complains about it on standard error.
_TABLE = """
# A SavedModel.
SavedModel: saved_model_schema_version=1:int64 meta_graphs=2:*MetaGraphDef
MetaGraphDef: meta_info_def=1:MetaInfoDef graph_def=2:GraphDef saver_def=3:SaverDef
    collection_def=4:{CollectionDef} signature_def=5:{SignatureDef}
    asset_file_def=6:*AssetFileDef object_graph_def=7:SavedObjectGraph
MetaInfoDef: meta_graph_version=1:string stripped_op_list=2:OpList tags=4:*string
    tensorflow_version=5:string tensorflow_git_version=6:string
OpList: op=1:*OpDef
SaverDef: filename_tensor_name=1:string save_tensor_name=2:string restore_op_name=3:string
AssetFileDef: tensor_info=1:TensorInfo filename=2:string
# The graph and its functions.
GraphDef: node=1:*NodeDef library=2:FunctionDefLibrary
NodeDef: name=1:string op=2:string input=3:*string device=4:string attr=5:{AttrValue}
    experimental_debug_info=6:DebugInfo
DebugInfo: original_node_names=1:*string original_func_names=2:*string
AttrValue: list=1:ListValue|value s=2:bytes|value i=3:int64|value f=4:float|value b=5:bool|value
    type=6:int32|value shape=7:TensorShapeProto|value tensor=8:TensorProto|value
    placeholder=9:string|value func=10:NameAttrList|value
ListValue: s=2:*bytes i=3:*int64 f=4:*float b=5:*bool type=6:*int32 shape=7:*TensorShapeProto
    tensor=8:*TensorProto func=9:*NameAttrList
NameAttrList: name=1:string attr=2:{AttrValue}
TensorShapeProto: dim=2:*Dim unknown_rank=3:bool
Dim: size=1:int64 name=2:string
TensorProto: dtype=1:int32 tensor_shape=2:TensorShapeProto tensor_content=4:bytes half_val=13:*int32
    float_val=5:*float double_val=6:*double int_val=7:*int32 string_val=8:*bytes
    scomplex_val=9:*float int64_val=10:*int64 bool_val=11:*bool dcomplex_val=12:*double
    uint32_val=16:*uint32 uint64_val=17:*uint64 float8_val=18:bytes
FunctionDefLibrary: function=1:*FunctionDef gradient=2:*GradientDef
    registered_gradients=3:*RegisteredGradient
FunctionDef: signature=1:OpDef node_def=3:*NodeDef ret=4:{string} attr=5:{AttrValue}
    control_ret=6:{string}
OpDef: name=1:string input_arg=2:*ArgDef output_arg=3:*ArgDef attr=4:*AttrDef summary=5:string
    description=6:string
AttrDef: name=1:string type=2:string default_value=3:AttrValue description=4:string
ArgDef: name=1:string description=2:string type=3:int32 type_attr=4:string number_attr=5:string
    type_list_attr=6:string
GradientDef: function_name=1:string gradient_func=2:string
RegisteredGradient: gradient_func=1:string registered_op_type=2:string
# Signatures and collections.
SignatureDef: inputs=1:{TensorInfo} outputs=2:{TensorInfo} method_name=3:string
TensorInfo: name=1:string|encoding coo_sparse=4:CooSparse|encoding
    composite_tensor=5:CompositeTensor|encoding dtype=2:int32 tensor_shape=3:TensorShapeProto
CooSparse: values_tensor_name=1:string indices_tensor_name=2:string
    dense_shape_tensor_name=3:string
CompositeTensor: components=2:*TensorInfo
CollectionDef: node_list=1:NodeList|kind bytes_list=2:BytesList|kind
NodeList: value=1:*string
BytesList: value=1:*bytes
VariableDef: variable_name=1:string initializer_name=2:string snapshot_name=3:string
    initial_value_name=6:string
# The objects of a TensorFlow 2 SavedModel.
SavedObjectGraph: nodes=1:*SavedObject concrete_functions=2:{SavedConcreteFunction}
SavedObject: children=1:*ObjectReference slot_variables=3:*SlotVariableReference
    asset=5:SavedAsset|kind variable=7:SavedVariable|kind
ObjectReference: node_id=1:int32 local_name=2:string
SlotVariableReference: slot_variable_node_id=3:int32
SavedAsset: asset_file_def_index=1:int32
SavedVariable: dtype=1:int32 shape=2:TensorShapeProto trainable=3:bool name=6:string
SavedConcreteFunction: bound_inputs=2:*int32
# The index of a checkpoint.
BundleHeaderProto: num_shards=1:int32 endianness=2:int32
BundleEntryProto: dtype=1:int32 shape=2:TensorShapeProto shard_id=3:int32 offset=4:int64
    size=5:int64 crc32c=6:fixed32 slices=7:*TensorSliceProto
TensorSliceProto:
# The objects in a checkpoint of TensorFlow 2.
TrackableObjectGraph: nodes=1:*TrackableObject
TrackableObject: children=1:*ObjectReference attributes=2:*SerializedTensor
SerializedTensor: name=1:string checkpoint_key=3:string
# tensorflow-hub's image_module_info.proto.
ModuleAttachment: key=1:string value=2:bytes
ImageModuleInfo: default_image_size=1:ImageSize
ImageSize: height=1:int32 width=2:int32
# ONNX (onnx.proto).
OnnxModel: ir_version=1:int64 graph=7:OnnxGraph metadata_props=14:*OnnxEntry
    functions=25:*OnnxFunction
OnnxEntry: key=1:string value=2:string
OnnxGraph: node=1:*OnnxNode initializer=5:*OnnxTensor sparse_initializer=15:*OnnxSparseTensor
OnnxNode: op_type=4:string attribute=5:*OnnxAttribute
OnnxAttribute: t=5:OnnxTensor g=6:OnnxGraph tensors=10:*OnnxTensor graphs=11:*OnnxGraph
    sparse_tensor=22:OnnxSparseTensor sparse_tensors=23:*OnnxSparseTensor
OnnxSparseTensor: values=1:OnnxTensor indices=2:OnnxTensor dims=3:*int64
OnnxFunction: node=7:*OnnxNode attribute_proto=11:*OnnxAttribute
OnnxTensor: dims=1:*int64 data_type=2:int32 float_data=4:*float int32_data=5:*int32
    string_data=6:*bytes int64_data=7:*int64 name=8:string raw_data=9:bytes
    double_data=10:*double uint64_data=11:*uint64
    external_data=13:*OnnxEntry data_location=14:int32
"""

_MESSAGES = dict(re.findall(r"^(\w+):(.*(?:\n .*)*)", _TABLE, re.MULTILINE))

# In the order of their numbers; a dash where nasnet has no use for one.
_DTYPES = [
    "-", "float32", "float64", "int32", "uint8", "int16", "int8", "string", "complex64", "int64",
    "bool", "-", "-", "-", "bfloat16", "-", "-", "uint16", "complex128", "float16", "resource",
    "variant", "uint32", "uint64",
]  # fmt: skip
DTYPES: dict[int, str] = {number: name for number, name in enumerate(_DTYPES) if name != "-"}
"""Names of TensorFlow's DataType numbers, NumPy's where it has the type."""

_PACKAGE = "nasnet_cli.protos"


@functools.cache
def message(name: str) -> Any:
    """Return the class of a message in the table, such as message("SavedModel")."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def parse(name: str, data: bytes) -> Any:
    """Parse a message from its bytes. Raises ValueError when they are not one."""
    from google.protobuf.message import DecodeError

    try:
        return message(name).FromString(data)
    except (DecodeError, UnicodeDecodeError, RuntimeError) as error:
        raise ValueError(str(error)) from None


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return the number at an offset and the offset after it. Raises ValueError where it has no end."""
    value = 0
    for shift in range(0, 64, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it has an endless number")


def dtype_name(number: int) -> str:
    """Return the name of a DataType number; for reference types that of the value type."""
    return DTYPES.get(number % 100, f"type {number}")


def attribute(node: Any, name: str) -> Any:
    """Return a node's AttrValue, an empty one if it is missing: TensorFlow strips defaults."""
    # Indexing a map of messages would add the missing one to the node.
    value = node.attr.get(name)
    return message("AttrValue")() if value is None else value


def node_name(tensor: str) -> str:
    """Return the node of "node:0", "node:output:0" or the control input "^node"."""
    return tensor.removeprefix("^").partition(":")[0]


def data_inputs(node: Any) -> list[str]:
    """Return a node's inputs without its control inputs."""
    return [tensor for tensor in node.input if not tensor.startswith("^")]


def shape_of(proto: Any) -> tuple[int | None, ...] | None:
    """Return a TensorShapeProto's sizes, None for an unknown one; None for an unknown rank."""
    if proto.unknown_rank:
        return None
    return tuple(dim.size if dim.size >= 0 else None for dim in proto.dim)


@functools.cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(
        name="nasnet_cli/protos.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        _describe(file.message_type.add(name=name), fields.split())
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _describe(descriptor: Any, fields: list[str]) -> None:
    oneofs: list[str] = []
    for text in fields:
        name, number, kind, oneof = re.split("[=:|]", f"{text}|")[:4]
        field = descriptor.field.add(name=name, number=int(number))
        if kind.startswith("{"):
            entry = name.title().replace("_", "") + "Entry"
            nested = descriptor.nested_type.add(name=entry)
            nested.options.map_entry = True
            _describe(nested, ["key=1:string", f"value=2:{kind.strip('{}')}"])
            kind = f"*{descriptor.name}.{entry}"
        field.label = field.LABEL_REPEATED if kind.startswith("*") else field.LABEL_OPTIONAL
        kind = kind.lstrip("*")
        if kind[0].islower():
            field.type = field.Type.Value(f"TYPE_{kind.upper()}")
        else:
            field.type = field.TYPE_MESSAGE
            field.type_name = f".{_PACKAGE}.{kind}"
        if oneof:
            if oneof not in oneofs:
                oneofs.append(oneof)
                descriptor.oneof_decl.add(name=oneof)
            field.oneof_index = oneofs.index(oneof)
