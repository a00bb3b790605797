"""A task for Windows' Task Scheduler. Not run by any test: there is no Windows there.

https://learn.microsoft.com/windows/win32/taskschd/task-scheduler-schema
"""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from credentials_provider.schedule import Plan

_NAMESPACE = "http://schemas.microsoft.com/windows/2004/02/mit/task"
_START = "2026-01-01T00:00:00"  # any time that is past


def task(plan: Plan) -> str:
    """The XML for `schtasks /Create /XML`: while the user is signed in, and never two at once."""
    program, *arguments = plan.command
    ET.register_namespace("", _NAMESPACE)
    root = ET.Element(f"{{{_NAMESPACE}}}Task", version="1.2")
    parts: dict[str, str] = {
        "RegistrationInfo/Description": plan.purpose,
        "Triggers/TimeTrigger/Repetition/Interval": f"PT{plan.every}M",
        "Triggers/TimeTrigger/StartBoundary": _START,
        "Principals/Principal/LogonType": "InteractiveToken",
        "Principals/Principal/RunLevel": "LeastPrivilege",
        "Settings/MultipleInstancesPolicy": "IgnoreNew",
        "Settings/DisallowStartIfOnBatteries": "false",
        "Settings/StopIfGoingOnBatteries": "false",
        "Settings/StartWhenAvailable": "true",
        "Settings/RunOnlyIfNetworkAvailable": "false",
        "Settings/Hidden": "true",
        "Settings/ExecutionTimeLimit": "PT1H" if plan.rotates else "PT5M",
        "Actions/Exec/Command": program,
        "Actions/Exec/Arguments": subprocess.list2cmdline(arguments),
    }
    for path, text in parts.items():
        node = root
        for name in path.split("/"):
            child = node.find(f"{{{_NAMESPACE}}}{name}")
            node = ET.SubElement(node, f"{{{_NAMESPACE}}}{name}") if child is None else child
        node.text = text
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-16"?>\n{ET.tostring(root, encoding="unicode")}\n'
