"""OpenVINO without its usage events: `from nasnet_cli.runtime.quiet_openvino import openvino`.

Importing OpenVINO sends an event over the network and writes a file into the home folder, unless
its telemetry package can't be imported; without that package it does neither, and starts faster.
"""

from __future__ import annotations

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino  # noqa: E402

__all__ = ["openvino"]
