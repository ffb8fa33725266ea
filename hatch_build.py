"""Builds the kernels of lqrad/native where a C compiler is found; without one lqrad is whole, and slower."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# No sum is reordered and no product is fused into a sum: all machines give the same bits.
FLAGS = ["-std=c99", "-O3", "-ffp-contract=off", "-fPIC", "-shared"]

LIBRARY, LENGTH = "kernels.native", "kernels.length"


def build(folder: Path, compiler: list[str]) -> None:
    """Compile each source in a process of its own, link them beside, and put the library in place whole.

    Its length stands in a file of its own, by which a copy that was cut short is known.
    """
    checksum = zlib.crc32(b"".join(file.read_bytes() for file in sorted(folder.glob("*.[ch]"))))
    command = [*compiler, *FLAGS, f"-DLQRAD_SOURCES={checksum}"]

    def run(*arguments: str) -> None:
        subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)

    with tempfile.TemporaryDirectory(prefix=".kernels", dir=folder) as beside:
        sources = sorted(folder.glob("*.c"))
        objects = [str(Path(beside, f"{source.stem}.o")) for source in sources]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            parts = zip(sources, objects, strict=True)
            list(pool.map(lambda part: run("-c", "-o", part[1], str(part[0])), parts))
        library = Path(beside, LIBRARY)
        run("-o", str(library), *objects, "-lm")
        Path(beside, LENGTH).write_text(f"{library.stat().st_size}\n")
        for name in (LENGTH, LIBRARY):
            Path(beside, name).replace(folder / name)


class NativeHook(BuildHookInterface):
    """Compile the kernels in place, and add them to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or os.environ.get("LQRAD_NATIVE") == "0":
            return
        folder = Path(self.root, "lqrad", "native")
        for name in (LIBRARY, LENGTH):
            (folder / name).unlink(missing_ok=True)
        compiler = shlex.split(os.environ.get("CC") or "cc")
        if shutil.which(compiler[0]) is None:
            self.app.display_warning(
                f"lqrad: found no C compiler {compiler[0]!r}; small problems will take longer"
            )
            return
        try:
            build(folder, compiler)
        except (OSError, subprocess.CalledProcessError) as error:
            words = getattr(error, "stderr", None) or str(error)
            first = next(iter(words.splitlines()), "no message")
            self.app.display_warning(
                f"lqrad: {shlex.join(compiler)} cannot build the kernels ({first}); small problems "
                "will take longer"
            )
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["artifacts"] += [f"lqrad/native/{name}" for name in (LIBRARY, LENGTH)]
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
