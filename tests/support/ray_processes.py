"""Find the processes that a Ray job has started, to kill some and to see that all are gone."""

from __future__ import annotations

from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """The processes below one, with their command lines."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            name = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if status[0] != "Z":
            parents[int(folder.name)] = int(status[1])
            names[int(folder.name)] = name
    found: dict[int, str] = {}
    waiting = [pid]
    while waiting:
        above = waiting.pop()
        for child in [child for child, parent in parents.items() if parent == above]:
            found[child] = names[child]
            waiting.append(child)
    return found


def workers(pid: int) -> list[int]:
    """The actors that do shards, below a driver."""
    return [child for child, name in descendants(pid).items() if name.startswith("ray::Shard")]


def essential(pid: int) -> list[int]:
    """Return what must end with a killed driver: all but Ray's agents, which take their time to notice."""
    return [child for child, name in descendants(pid).items() if "Agent" not in name]


def runs(pid: int) -> bool:
    """Tell whether a process runs and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
