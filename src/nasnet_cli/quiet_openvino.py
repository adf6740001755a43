"""OpenVINO without its usage events: `from nasnet_cli.quiet_openvino import openvino`.

Importing OpenVINO sends an event over the network and writes a file into the home folder, unless
its telemetry package can't be imported. Its converter, which we don't use, takes as long to import
as all the rest, and OpenVINO does without it when it isn't there.
"""

from __future__ import annotations

import sys

_CONVERTER = "openvino.tools.ovc"

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
_converter_is_hidden = _CONVERTER not in sys.modules
if _converter_is_hidden:
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]

import openvino  # noqa: E402

if _converter_is_hidden:
    del sys.modules[_CONVERTER]

__all__ = ["openvino"]
